"""Tools through OpenAI's own client: required, named, several, free, streamed, and the way there and back."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pydantic import BaseModel

from .conftest import NAME, SPACES, Live, Watched, eventually, start_with_tools

openai = pytest.importorskip("openai")
pytest.importorskip("llguidance")

WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Tell the weather.",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"enum": ["Arles", "Bern"]},
                "days": {"type": "integer", "minimum": 1, "maximum": 9},
            },
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}
STOP = {"type": "function", "function": {"name": "stop"}}
QUESTION = {"role": "user", "content": "Hi"}
ASKED: dict[str, Any] = {"model": NAME, "messages": [QUESTION], "tools": [WEATHER, STOP], "logit_bias": SPACES}


@pytest.fixture(scope="module")
def servers(start: Callable[..., Live]) -> Callable[[str], Live]:
    known: dict[str, Live] = {}

    def get(name: str) -> Live:
        if name not in known:
            known[name] = start_with_tools(start, name)
        return known[name]

    return get


@pytest.fixture(params=["qwen"])
def live(servers: Callable[[str], Live], request: Any) -> Iterator[Live]:
    found = servers(request.param)
    yield found
    Watched.says = None
    assert eventually(found.idle)


@pytest.fixture
def client(live: Live) -> Iterator[Any]:
    with openai.OpenAI(base_url=f"{live.url}/v1", api_key="none", max_retries=0) as made:
        yield made


def check_calls(calls: Any) -> None:
    for call in calls:
        assert call.type == "function" and call.function.name in ("weather", "stop")
        arguments = json.loads(call.function.arguments)
        if call.function.name == "stop":
            assert arguments == {}
        else:
            assert arguments["city"] in ("Arles", "Bern") and set(arguments) <= {"city", "days"}
            assert arguments.get("days", 1) in range(1, 10)
    assert len({call.id for call in calls}) == len(calls)


every = pytest.mark.parametrize("live", ["qwen", "mistral", "glm4"], indirect=True)


@every
@pytest.mark.parametrize("seed", range(3))
def test_a_required_call(client: Any, seed: int) -> None:
    (choice,) = client.chat.completions.create(
        **ASKED, tool_choice="required", parallel_tool_calls=False, seed=seed
    ).choices
    assert choice.finish_reason == "tool_calls" and choice.message.content is None
    assert len(choice.message.tool_calls) == 1
    check_calls(choice.message.tool_calls)


@every
def test_several_calls(client: Any, live: Live) -> None:
    """A model that does not like to end calls again and again."""
    endless = {**SPACES, **{str(id_): -90 for id_ in live.engine.stop_ids}}
    asked = {**ASKED, "logit_bias": endless, "tool_choice": "required", "max_tokens": 400}
    for seed in range(3):
        (choice,) = client.chat.completions.create(**asked, seed=seed).choices
        whole = choice.message.tool_calls[: -1 if choice.finish_reason == "length" else None]
        check_calls(whole)
        assert len(whole) > 1


def test_a_named_call(client: Any) -> None:
    for name in ("weather", "stop"):
        named = {"type": "function", "function": {"name": name}}
        (choice,) = client.chat.completions.create(
            **ASKED, tool_choice=named, parallel_tool_calls=False, n=1, seed=3
        ).choices
        assert [call.function.name for call in choice.message.tool_calls] == [name]
        assert choice.finish_reason == "tool_calls"
        check_calls(choice.message.tool_calls)


@every
def test_a_stream_says_what_a_whole_answer_says(client: Any) -> None:
    asked = {**ASKED, "tool_choice": "required", "seed": 5, "max_tokens": 300}
    (choice,) = client.chat.completions.create(**asked).choices
    chunks = list(client.chat.completions.create(**asked, stream=True))
    deltas = [call for chunk in chunks for call in chunk.choices[0].delta.tool_calls or ()]
    calls: list[list[str]] = []
    for delta in deltas:
        if delta.index == len(calls):
            assert delta.id and delta.type == "function" and delta.function.arguments == ""
            calls.append([delta.function.name, ""])
        else:
            assert delta.id is None and delta.type is None and delta.function.name is None
        calls[delta.index][1] += delta.function.arguments
    assert calls == [[call.function.name, call.function.arguments] for call in choice.message.tool_calls]
    assert len(deltas) > 2 * len(calls), "arguments come in pieces"
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-1].choices[0].finish_reason == choice.finish_reason


def test_the_stream_helper_puts_calls_together(client: Any) -> None:
    class Arguments(BaseModel):
        city: str
        days: int

    tool = openai.pydantic_function_tool(Arguments, name="weather")
    tool["function"]["parameters"]["properties"]["city"] = {"enum": ["Arles"]}
    tool["function"]["parameters"]["properties"]["days"] = {"enum": [3]}
    asked = {**ASKED, "tools": [tool], "tool_choice": "required", "parallel_tool_calls": False}
    with client.chat.completions.stream(**asked) as stream:
        (choice,) = stream.get_final_completion().choices
    (call,) = choice.message.tool_calls
    assert call.function.parsed_arguments == Arguments(city="Arles", days=3)
    (choice,) = client.chat.completions.parse(**asked).choices
    assert choice.message.tool_calls[0].function.parsed_arguments == Arguments(city="Arles", days=3)


WRITTEN = {
    "qwen": 'Well.\n<tool_call>\n{"name": "weather", "arguments": {"city": "Bern"}}\n</tool_call>',
    "mistral": '[TOOL_CALLS] [{"name": "weather", "arguments": {"city": "Bern"}}]',
    "glm4": '\nWell.<|assistant|>weather\n{"city": "Bern"}',
}


@every
def test_a_call_of_a_free_answer_is_found(client: Any, request: Any) -> None:
    """The model writes what it likes, here what the test lets it like."""
    name = request.node.callspec.params["live"]
    Watched.says = WRITTEN[name]
    for choice in ("auto", None):
        asked = {**ASKED, **({"tool_choice": choice} if choice else {})}
        (found,) = client.chat.completions.create(**asked).choices
        (call,) = found.message.tool_calls
        assert (call.function.name, call.function.arguments) == ("weather", '{"city": "Bern"}')
        assert found.finish_reason == "tool_calls"
        assert (found.message.content or "").strip() == ("" if name == "mistral" else "Well.")
    with client.chat.completions.stream(**ASKED) as stream:
        (streamed,) = stream.get_final_completion().choices
    assert streamed.message.tool_calls[0].function.arguments == '{"city": "Bern"}'


def test_what_is_no_call_stays_as_it_was_written(client: Any) -> None:
    for text in (
        '<tool_call>\n{"name": "thunder", "arguments": {}}\n</tool_call>',
        '<tool_call>\n{"name": "stop", "arguments": {oh}}\n</tool_call>',
        '<tool_call>\n{"name": "stop", "arg',
    ):
        Watched.says = text
        (choice,) = client.chat.completions.create(**ASKED).choices
        assert choice.message.content == text and choice.message.tool_calls is None
        assert choice.finish_reason == "stop"
        chunks = client.chat.completions.create(**ASKED, stream=True)
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == text


def test_a_call_where_none_is_wanted_is_text(client: Any) -> None:
    Watched.says = WRITTEN["qwen"]
    (choice,) = client.chat.completions.create(**ASKED, tool_choice="none").choices
    assert choice.message.content == WRITTEN["qwen"] and choice.message.tool_calls is None
    lengths = [
        client.chat.completions.create(**{**ASKED, **change}).usage.prompt_tokens
        for change in ({"tool_choice": "none"}, {"tools": []}, {})
    ]
    assert lengths[0] == lengths[1] < lengths[2], "tools that nobody may call are not told"


def test_a_call_that_is_cut_says_so(client: Any) -> None:
    asked = {**ASKED, "tools": [STOP], "tool_choice": "required", "max_tokens": 45, "seed": 1}
    (choice,) = client.chat.completions.create(**asked).choices
    assert choice.finish_reason == "length"
    (call,) = choice.message.tool_calls
    assert call.function.name == "stop" and "{}".startswith("".join(call.function.arguments.split()))


def test_logprobs_tell_every_token(client: Any) -> None:
    asked = {**ASKED, "tools": [STOP], "tool_choice": "required", "parallel_tool_calls": False, "logprobs": True}
    answer = client.chat.completions.create(**asked)
    entries = answer.choices[0].logprobs.content
    assert len(entries) == answer.usage.completion_tokens
    text = b"".join(bytes(entry.bytes) for entry in entries).decode()
    assert text.startswith('<tool_call>\n{"name": "stop", "arguments": {') and text.endswith("</tool_call>")


def test_n_answers_call_each_for_itself(client: Any) -> None:
    asked = {**ASKED, "tool_choice": "required", "parallel_tool_calls": False, "n": 3, "seed": 1}
    choices = client.chat.completions.create(**asked).choices
    for choice in choices:
        check_calls(choice.message.tool_calls)
    assert len({choice.message.tool_calls[0].id for choice in choices}) == 3
    alone = client.chat.completions.create(**{**asked, "n": 1, "seed": 2}).choices[0]
    assert alone.message.tool_calls[0].function == choices[1].message.tool_calls[0].function


@every
def test_there_and_back(client: Any) -> None:
    """What the client got it sends back with the result, and the next answer follows."""
    first = client.chat.completions.create(**ASKED, tool_choice="required", parallel_tool_calls=False, seed=1)
    message = first.choices[0].message
    (call,) = message.tool_calls
    result = {"role": "tool", "tool_call_id": call.id, "content": '{"sky": "blue"}'}
    asked = {**ASKED, "messages": [QUESTION, message.model_dump(exclude_none=True), result], "max_tokens": 5}
    then = client.chat.completions.create(**asked)
    assert then.usage.prompt_tokens > first.usage.prompt_tokens + len(call.function.arguments)
    without = {**message.model_dump(exclude_none=True), "content": None}
    again = client.chat.completions.create(**{**asked, "messages": [QUESTION, without, result]})
    assert again.usage.prompt_tokens == then.usage.prompt_tokens


def test_json_and_tools_together_are_either(client: Any) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "a", "schema": {"const": 7}, "strict": True}}
    asked = {**ASKED, "tools": [STOP], "response_format": form, "parallel_tool_calls": False}
    kinds = set()
    for seed in range(12):
        (choice,) = client.chat.completions.create(**asked, seed=seed, temperature=2).choices
        if choice.message.tool_calls:
            check_calls(choice.message.tool_calls)
        else:
            assert choice.message.content == "7"
        kinds.add(choice.finish_reason)
    assert kinds <= {"stop", "tool_calls"}
    (choice,) = client.chat.completions.create(**asked, tool_choice="required").choices
    assert choice.message.tool_calls[0].function.name == "stop"


def tool_of(**function: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": "f", **function}}


CALL = {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}
REFUSED: list[tuple[dict[str, Any], str, str]] = [
    ({"tools": [{"type": "retrieval"}]}, "tools[0].type", "should be 'function'"),
    ({"tools": [tool_of(name="f g")]}, "tools[0].function.name", "pattern"),
    ({"tools": [tool_of(name="f" * 65)]}, "tools[0].function.name", "pattern"),
    ({"tools": [tool_of(), tool_of()]}, "tools", "two functions have the name 'f'"),
    ({"tools": [tool_of(name=f"f{n}") for n in range(129)]}, "tools", "at most 128 items"),
    ({"tools": [tool_of(parameters={"type": "array"})]}, "tools[0].function.parameters", "type 'object'"),
    ({"tools": [tool_of(parameters={"a": "x" * 5000})]}, "tools[0].function.parameters", "at most 4,096 characters"),
    ({"tools": [tool_of(parameters={"enum": ["x" * 999] * 99})]}, "tools[0].function.parameters", "65,536 characters"),
    ({"tools": [tool_of(strict=True, parameters={"not": {}})], "tool_choice": "required"}, "tools", "Unimplemented"),
    ({"tool_choice": "sometimes"}, "tool_choice", "'none', 'auto', 'required' or"),
    ({"tool_choice": {"type": "function"}}, "tool_choice", "'none', 'auto', 'required' or"),
    ({"tool_choice": {"type": "function", "function": {"name": "wether"}}}, "tool_choice", "Did you mean 'weather'"),
    ({"tools": [], "tool_choice": "required"}, "tool_choice", "without tools to choose from"),
    ({"parallel_tool_calls": "no"}, "parallel_tool_calls", "boolean"),
    ({"functions": [{"name": "f"}]}, "functions", "not served yet"),
    ({"messages": [QUESTION, {"role": "assistant"}]}, "messages[1].content", "field required"),
    ({"messages": [{**QUESTION, "tool_calls": [CALL]}]}, "messages[0].tool_calls", "only the assistant"),
    (
        {"messages": [QUESTION, {"role": "assistant", "tool_calls": [{**CALL, "type": "x"}]}]},
        "messages[1].tool_calls[0].type",
        "should be 'function'",
    ),
    (
        {"messages": [{"role": "assistant", "tool_calls": [{**CALL, "function": {"name": "f", "arguments": "[]"}}]}]},
        "messages[0].tool_calls[0].function.arguments",
        "an object of JSON",
    ),
]


@pytest.mark.parametrize(("change", "param", "words"), REFUSED, ids=range(len(REFUSED)))
def test_what_cannot_be_is_refused_with_its_place(live: Live, change: dict[str, Any], param: str, words: str) -> None:
    reply = live.post("/v1/chat/completions", **{**ASKED, **change})
    assert reply.status == 400 and reply.error["param"] == param and words in reply.error["message"]


def test_a_template_without_a_place_for_tools(shared_live: Live) -> None:
    reply = shared_live.post("/v1/chat/completions", **ASKED)
    assert reply.status == 400 and reply.error["param"] == "tools"
    assert reply.error["message"] == "tools: the chat template of this model has no place for tools"
    told = [QUESTION, {"role": "assistant", "tool_calls": [CALL]}]
    reply = shared_live.post("/v1/chat/completions", model=NAME, messages=told)
    assert reply.status == 400 and "tool_calls, for which this chat template has no place" in reply.error["message"]
    reply = shared_live.post("/v1/chat/completions", **{**ASKED, "tool_choice": "none", "max_tokens": 1})
    assert reply.status == 200, "tools that nobody may call need no place"


def test_the_most_tools_that_there_may_be(live: Live) -> None:
    many = {"type": "object", "properties": {f"k{n}": {"type": "string", "pattern": "(a+)+$"} for n in range(150)}}
    tools = [tool_of(name=f"f{n}", parameters=many) for n in range(128)]
    reply = live.post("/v1/chat/completions", **{**ASKED, "tools": tools, "tool_choice": "required"})
    assert reply.status == 400 and reply.error["code"] == "context_length_exceeded", "told before anything is compiled"
