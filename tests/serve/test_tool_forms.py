"""The forms of calls: each known template's own writing is what its grammar allows and its reader reads."""

import json
from typing import Any

import pytest

from smelt.core.errors import UsageError
from smelt.infer.constrain import Grammars
from smelt.serve.protocol import Function
from smelt.serve.tool_calls import Calling, CallReader
from smelt.serve.tool_forms import (
    GLM4,
    HERMES,
    LLAMA3,
    MISTRAL,
    Form,
    arguments_schema,
    calls_grammar,
    form_of,
    literal,
)
from smelt.tokenizers.base import END_OF_TEXT
from smelt.tokenizers.bpe_train import train_bpe
from smelt.tokenizers.chat import ChatTemplate
from smelt.tokenizers.chat_templates import TEMPLATES
from smelt.tokenizers.pipeline import Pipeline, byte_level

pytest.importorskip("llguidance")

KNOWN = {"llama3.1": LLAMA3, "qwen": HERMES, "qwen3": HERMES, "mistral": MISTRAL, "glm4": GLM4}
# As Llama 3.1's card describes it: one call, told in the system's turn.
LLAMA31 = """
{{- bos_token }}{% if tools %}Respond in the format {"name": function name, "parameters": dictionary of arguments}.
{{- tools | tojson }}{% endif %}
{%- for message in messages %}{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' }}
{%- if message.tool_calls %}{% set call = message.tool_calls[0].function %}
{%- generation -%}
{{ '{"name": "' + call.name + '", "parameters": ' + (call.arguments | tojson) + '}' }}{% endgeneration %}
{%- else %}{{ message['content'] }}{% endif %}{{ '<|eot_id|>' }}{% endfor %}
{%- if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"""
WEATHER = Function(
    name="weather",
    parameters={"properties": {"city": {"type": "string"}, "days": {"type": "integer"}}, "required": ["city"]},
)
FUNCTIONS = [WEATHER, Function(name="weather_now"), Function(name="stop")]
CALLS: list[tuple[str, dict[str, Any]]] = [
    ("weather", {"city": 'A "{磨}" \\', "days": 3}),
    ("stop", {}),
    ("weather", {"city": "B"}),
]


def tokenizer_of(*special: str) -> Pipeline:
    special = tuple(dict.fromkeys((END_OF_TEXT, *special)))
    return train_bpe([], vocab_size=256 + len(special), special=special)


def written(
    template: ChatTemplate, calls: list[tuple[str, dict[str, Any]]], content: str = ""
) -> tuple[str, list[int]]:
    """Return what the assistant is trained to write for some calls, as text and as ids."""
    told = [
        {"id": f"call{place:05}", "type": "function", "function": {"name": name, "arguments": arguments}}
        for place, (name, arguments) in enumerate(calls)
    ]
    question: dict[str, Any] = {"role": "user", "content": "How is the weather?"}
    reply: dict[str, Any] = {"role": "assistant", "content": content, "tool_calls": told}
    result = {"role": "tool", "content": "fine", "tool_call_id": "call00000"}
    ids, mask = template.render([question, reply, result])
    own = [id_ for id_, learned in zip(ids, mask, strict=True) if learned and id_ not in template.stop_ids]
    return template.tokenizer.decode(own), own


def read(form: Form, text: str, size: int = 1, **options: Any) -> tuple[str, list[tuple[str, Any]]]:
    """Return content and calls that are read out of a text, in pieces of so many characters."""
    given = {"certain": False, "parallel": True} | options
    reader = CallReader(Calling(form, [function.name for function in FUNCTIONS], **given))
    deltas = [delta for place in range(0, len(text), size) for delta in reader.push(text[place : place + size])]
    content, calls = "", []
    for delta in deltas + reader.push("", last=True):
        content += delta.get("content", "")
        for call in delta.get("tool_calls", ()):
            if call["index"] == len(calls):
                assert call["type"] == "function" and call["id"]
                calls.append([call["function"]["name"], ""])
            calls[call["index"]][1] += call["function"]["arguments"]
    assert reader.num_calls == len(calls)
    return content, [(name, arguments) for name, arguments in calls]


def template_of(name: str) -> ChatTemplate:
    if name == "llama31":
        marks = ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")
        return ChatTemplate(tokenizer_of(*marks), LLAMA31, tokens={"bos_token": END_OF_TEXT})
    published = TEMPLATES[name]
    return ChatTemplate(tokenizer_of(*published.marks), published.jinja)


@pytest.mark.parametrize("name", TEMPLATES)
def test_the_form_of_each_published_template(name: str) -> None:
    assert form_of(TEMPLATES[name].jinja) is KNOWN.get(name)


def test_the_forms_of_other_templates() -> None:
    assert form_of(LLAMA31) is LLAMA3
    assert form_of(r'{{ tools }} "<tool_call>\n{\"name\": 1, \"arguments\": 2}"') is HERMES
    assert form_of("{{ tools }} <tool_call><function=name><parameter=x>") is None, "calls in XML"
    assert form_of("{{ tools }} <my_call>") is None


@pytest.mark.parametrize("name", [*KNOWN, "llama31"])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_what_a_template_writes_is_allowed_and_read(name: str, count: int) -> None:
    template = template_of(name)
    calls = CALLS[: 1 if name in ("llama31", "llama3.1") else count]
    text, ids = written(template, calls)
    form, special = form_of(template.jinja), template.tokenizer.special
    assert form is not None
    grammars = Grammars(template.tokenizer, template.tokenizer.vocab_size, template.stop_ids)
    constraint = grammars.compile("start: calls\n" + calls_grammar(form, FUNCTIONS, special, parallel=True))
    for place, id_ in enumerate(ids):
        assert constraint.allowed[id_], f"{text[:place]!r} may not go on as in {text!r}"
        over = constraint.take(id_)
    assert over or bool(constraint.allowed[list(template.stop_ids)].all())
    for certain in (False, True):
        for size in (1, 2, 5, 1000):
            content, found = read(form, text, size, certain=certain)
            assert content == "" and [(one, json.loads(arguments)) for one, arguments in found] == calls


@pytest.mark.parametrize("name", ["qwen", "qwen3", "glm4"])
def test_text_before_calls_is_content(name: str) -> None:
    text, _ = written(template_of(name), CALLS[:2], content="Let me see: {1}.")
    for size in (1, 3, 1000):
        content, found = read(KNOWN[name], text, size)
        assert content.strip() == "Let me see: {1}." and [one for one, _ in found] == ["weather", "stop"]


def test_without_parallel_a_grammar_has_one_call() -> None:
    tokenizer = tokenizer_of()
    grammars = Grammars(tokenizer, tokenizer.vocab_size, [256])
    for parallel in (True, False):
        rules = calls_grammar(HERMES, [FUNCTIONS[2]], tokenizer.special, parallel=parallel)
        constraint = grammars.compile(f"start: calls\n{rules}")
        ends = [
            constraint.take(id_) for id_ in tokenizer.encode(HERMES.before + 'stop", "arguments": {}}\n</tool_call>')
        ]
        assert ends[-1] is not parallel


def test_arguments_follow_the_parameters() -> None:
    tokenizer = tokenizer_of()
    grammars = Grammars(tokenizer, tokenizer.vocab_size, [256])
    rules = f"start: calls\n{calls_grammar(LLAMA3, FUNCTIONS, {}, parallel=False)}"
    for text, fits in [
        ('{"name": "weather", "parameters": {"city": "B"}}', True),
        ('{"name": "weather", "parameters": {"city": 1}}', False),
        ('{"name": "weather", "parameters": []}', False),
        ('{"name": "weather_now", "parameters": {}}', True),
        ('{"name": "weather_now", "parameters": {"a": 1}}', False),
        ('{"name": "thunder", "parameters": {}}', False),
    ]:
        constraint = grammars.compile(rules)
        taken = 0
        for id_ in tokenizer.encode(text):
            if not constraint.allowed[id_]:
                break
            constraint.take(id_)
            taken += 1
        assert (taken == len(text)) is fits, text


def test_a_mark_that_is_one_token_is_written_as_one() -> None:
    """As Qwen's tokenizers have it: <tool_call> is no special token, but one that plain text has too."""
    single = [bytes([byte]) for byte in range(256)] + [END_OF_TEXT.encode(), b"<tool_call>"]
    tokenizer = byte_level(single, [], pattern="gpt4", special={END_OF_TEXT: 256}, literal={"<tool_call>": 257})
    grammars = Grammars(tokenizer, 258, [256])
    rules = calls_grammar(HERMES, [FUNCTIONS[2]], tokenizer.special, parallel=False)
    assert grammars.compile(f"start: calls\n{rules}").allowed.nonzero().flatten().tolist() == [257]


@pytest.mark.parametrize("form", [HERMES, GLM4])
def test_the_most_functions_with_the_longest_parameters(form: Form) -> None:
    """Compiled, or refused by its length before that is begun."""
    tokenizer = tokenizer_of()
    grammars = Grammars(tokenizer, tokenizer.vocab_size, [256])
    for width in (1, 12, 150):
        keys = {f"k{number}": {"type": "string", "pattern": "(a+)+$"} for number in range(width)}
        functions = [Function(name=f"f{number}", parameters={"properties": keys}) for number in range(128)]
        rules = f"start: calls\n{calls_grammar(form, functions, {}, parallel=True)}"
        if width < 150:
            assert bool(grammars.compile(rules).allowed.any())
        else:
            with pytest.raises(UsageError, match=r"the grammar has [0-9,]+ characters"):
                grammars.compile(rules)


def test_marks_that_are_special_tokens_are_named_by_their_ids() -> None:
    assert literal("[A] b", {"[A]": 7}) == '<[7]> " b"'
    assert literal("<a><a>b", {"<a>": 1, "<a><a>": 2, "c": 3}) == '<[2]> "b"'
    assert literal('say "\n"', {}) == r'"say \"\n\""'
    assert MISTRAL.marks({"[TOOL_CALLS]": 5, "[INST]": 6}) == [5] and HERMES.marks({"[INST]": 6}) == []


def test_ids_are_new_and_of_the_form_that_the_template_takes() -> None:
    assert len({HERMES.new_id() for _ in range(100)}) == 100
    assert HERMES.new_id().startswith("call_") and len(MISTRAL.new_id()) == 9


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        (None, {"type": "object", "additionalProperties": False}),
        ({"type": "object"}, {"type": "object"}),
        ({"properties": {"a": {}}}, {"type": "object", "additionalProperties": False, "properties": {"a": {}}}),
        (
            {"properties": {"a": {}}, "additionalProperties": True},
            {"type": "object", "additionalProperties": True, "properties": {"a": {}}},
        ),
    ],
)
def test_arguments_are_those_that_are_named(parameters: dict[str, Any] | None, expected: dict[str, Any]) -> None:
    assert arguments_schema(parameters) == expected
