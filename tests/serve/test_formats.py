"""Answers in a form: any object of JSON, what a schema or a class describes, and schemas that are none or too much."""

import json
import time
from typing import Any, Literal

import pytest
from pydantic import BaseModel, Field

from .conftest import NAME, SPACES, Live

openai = pytest.importorskip("openai")
pytest.importorskip("llguidance")

ASKED: dict[str, Any] = {"model": NAME, "messages": [{"role": "user", "content": "Hi"}]}


class Room(BaseModel):
    floor: Literal[0, 1, 2]


class Place(BaseModel):
    name: Literal["mill", "bridge"]
    near: list[Literal["river", "road"]] = Field(max_length=2)
    old: bool
    room: Room | None


@pytest.fixture
def client(live: Live) -> Any:
    with openai.OpenAI(base_url=f"{live.url}/v1", api_key="none", max_retries=0) as made:
        yield made


def format_of(schema: dict[str, Any], strict: bool | None = True) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema, "strict": strict}}


def test_the_spaces_are_spaces(tokenizer: Any) -> None:
    assert {tokenizer.decode([int(id_)]) for id_ in SPACES} == {"\t", "\n", "\r", " "}


@pytest.mark.parametrize("seed", range(4))
def test_a_class_is_parsed(client: Any, seed: int) -> None:
    answer = client.chat.completions.parse(**ASKED, response_format=Place, seed=seed, logit_bias=SPACES)
    (choice,) = answer.choices
    assert isinstance(choice.message.parsed, Place) and choice.finish_reason == "stop"


def test_a_stream_is_parsed(client: Any) -> None:
    with client.chat.completions.stream(**ASKED, response_format=Place, seed=7, logit_bias=SPACES) as stream:
        (choice,) = stream.get_final_completion().choices
    assert isinstance(choice.message.parsed, Place)
    assert json.loads(choice.message.content) == choice.message.parsed.model_dump()


def test_any_object(client: Any) -> None:
    asked = {**ASKED, "response_format": {"type": "json_object"}, "max_tokens": 90, "temperature": 1.5, "n": 4}
    answer = client.chat.completions.create(**asked, seed=1, logit_bias=SPACES)
    assert {choice.finish_reason for choice in answer.choices} <= {"stop", "length"}
    whole = [choice for choice in answer.choices if choice.finish_reason == "stop"]
    assert all(isinstance(json.loads(choice.message.content), dict) for choice in whole)
    assert all(choice.message.content.startswith("{") for choice in answer.choices)


def test_each_of_n_answers_has_its_own_state(client: Any) -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer", "minimum": 0, "maximum": 999}}}
    form = format_of({**schema, "required": ["n"], "additionalProperties": False})
    answer = client.chat.completions.create(**ASKED, response_format=form, n=4, seed=1, logit_bias=SPACES)
    numbers = [json.loads(choice.message.content)["n"] for choice in answer.choices]
    assert len(set(numbers)) > 1 and all(0 <= number <= 999 for number in numbers)


def test_an_answer_that_is_cut_says_so(client: Any) -> None:
    asked = {**ASKED, "response_format": format_of({"const": "a longer text"}), "max_tokens": 5}
    (choice,) = client.chat.completions.create(**asked).choices
    assert choice.message.content == '"a lo' and choice.finish_reason == "length"


def test_logprobs_are_the_models_own(client: Any) -> None:
    asked = {**ASKED, "response_format": format_of({"const": "abc"}), "logprobs": True, "top_logprobs": 1}
    (choice,) = client.chat.completions.create(**asked).choices
    assert choice.message.content == '"abc"' and len(choice.logprobs.content) == 5
    assert any(entry.logprob < entry.top_logprobs[0].logprob for entry in choice.logprobs.content)


def test_plain_text_is_what_it_was(client: Any) -> None:
    asked = {**ASKED, "seed": 1, "max_tokens": 8}
    plain = client.chat.completions.create(**asked, response_format={"type": "text"})
    assert plain.choices[0].message.content == client.chat.completions.create(**asked).choices[0].message.content


def test_keywords_that_are_not_known_are_refused_where_strict(client: Any) -> None:
    schema = {"type": "string", "enum": ["a"], "not": {"const": "b"}}
    for strict in (None, False):
        asked = {**ASKED, "response_format": format_of(schema, strict)}
        assert client.chat.completions.create(**asked).choices[0].message.content == '"a"'
    with pytest.raises(openai.BadRequestError, match="no answer can be held to this: Unimplemented keys: ") as caught:
        client.chat.completions.create(**ASKED, response_format=format_of(schema))
    assert caught.value.param == "response_format" and '"not"' in caught.value.body["message"]


def nested(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "integer"}
    for _ in range(depth):
        schema = {"type": "array", "items": schema}
    return schema


def ladder(steps: int) -> dict[str, Any]:
    """A schema whose references double at every step."""
    names = {f"s{n}": {"allOf": [{"$ref": f"#/$defs/s{n + 1}"}] * 2} for n in range(steps)}
    return {"$ref": "#/$defs/s0", "$defs": {**names, f"s{steps}": {"type": "integer"}}}


def choices(count: int) -> dict[str, Any]:
    own = [{"type": "object", "properties": {f"k{n}": {"type": "string"}}, "required": [f"k{n}"]} for n in range(count)]
    return {"anyOf": own}


PATTERNS = [
    "(", "[", "a**", "(?=a)b", "(?<!a)b", r"(a)\1", "(?P<x>a)(?P=x)", "(a+)+$", "(a|a)*$", "(a|aa)+$", "(.*)*",
    "a{1,1000}", "a{100000}", "(a{1,1000}){1,1000}", "((((((((((a?){30}){30}){30}){30}){30}){30}){30}){30}){30})",
    r"\p{L}{1,500}", r"[\w\W]{5000}", "^(?:a?){200}a{200}$", "(x+x+)+y", ".*.*.*.*.*.*.*=.*", "(?i)ß{50}",
    "^(([a-z])+.)+[A-Z]([a-z])+$", r"\u{110000}", "\\", "(?R)", "[z-a]", "a{2,1}", r"\b\b\b", "(?#", "x" * 4000,
]  # fmt: skip
WIDE: dict[str, Any] = {"type": "object", "properties": {f"k{n}": {"type": "string"} for n in range(1500)}}
SCHEMAS: list[Any] = [
    *({"type": "string", "pattern": pattern} for pattern in PATTERNS),
    {"type": "tree"}, {"type": 3}, {"type": []}, {"type": ["string", "tree"]}, {"enum": []}, {"enum": "a"},
    {"required": "a", "type": "object"}, {"properties": 3}, {"items": 4, "type": "array"}, {"allOf": {}},
    {"$ref": "#"}, {"$ref": "#/nowhere"}, {"$ref": "http://127.0.0.1:1/x"}, {"$ref": "file:///etc/passwd"},
    {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}},
    {"allOf": [{"type": "string"}, {"type": "number"}]}, {"const": None, "type": "string"},
    {"type": "integer", "minimum": 9, "maximum": 1}, {"type": "integer", "minimum": "a"},
    {"type": "number", "multipleOf": 0}, {"type": "number", "multipleOf": 1e-300}, {"type": "integer", "minimum": 1e99},
    {"type": "string", "minLength": 9, "maxLength": 1}, {"type": "string", "minLength": 10**9},
    {"type": "string", "maxLength": 10**12}, {"type": "array", "minItems": 10**9}, {"type": "array", "minItems": -1},
    {"type": "array", "maxItems": 10**12}, {"type": "string", "format": "zzz"}, {"type": "string", "format": "email"},
    {"uniqueItems": True, "type": "array"}, {"if": {}, "then": {}}, {"type": "object", "minProperties": 10**6},
    {"type": "object", "patternProperties": {"(": {}}}, {"type": "object", "patternProperties": {"(a+)+$": {}}},
    {"type": "object", "propertyNames": {"pattern": "("}}, {"x-guidance": {"whitespace_pattern": "("}},
    WIDE, {**WIDE, "required": list(WIDE["properties"])},
    {"enum": list(range(8000))}, {"enum": ["x" * 60000]}, {"const": "x" * 4000}, {"allOf": [choices(5)] * 6},
    {"enum": [f"{n:x}" * 8 for n in range(2000)]},
    choices(400), ladder(16), ladder(200), nested(14), nested(40), {"anyOf": [nested(3)] * 900}, {"a" * 70000: 1},
    {"anyOf": [{"type": "string", "pattern": f"(a|b){{{n}}}c.*"} for n in range(200)]},
    {"oneOf": [{"type": "integer", "minimum": n} for n in range(300)]},
]  # fmt: skip


def test_there_are_many_hostile_schemas() -> None:
    assert len(SCHEMAS) >= 60


@pytest.mark.parametrize("number", range(len(SCHEMAS)))
def test_a_hostile_schema_is_refused_or_compiled_in_a_second(live: Live, number: int) -> None:
    for strict in (True, False):
        begin = time.monotonic()
        form = format_of(SCHEMAS[number], strict)
        reply = live.post("/v1/chat/completions", **ASKED, response_format=form, max_tokens=4)
        took = time.monotonic() - begin
        assert took < 5, "the second that it may take, on a busy machine"
        assert reply.status in (200, 400), reply.body
        if reply.status == 400:
            assert "response_format" in (reply.error["param"] or "response_format")
            assert len(reply.error["message"]) < 400
            assert "\n" not in reply.error["message"] and "0x" not in reply.error["message"]


def test_a_schema_that_leads_too_far_on_the_way_is_an_error_of_that_request_alone(live: Live, client: Any) -> None:
    """Here the limit is met while the answer is written; the engine goes on."""
    engine, asked = live.engine, {**ASKED, "response_format": format_of(WIDE)}
    with pytest.raises(openai.BadRequestError, match="led too far; a simpler one may do"):
        client.chat.completions.create(**asked)
    with pytest.raises(openai.APIError, match="led too far"):
        list(client.chat.completions.create(**asked, stream=True))
    asked["response_format"] = format_of({"const": "abc"})
    assert client.chat.completions.create(**asked).choices[0].message.content == '"abc"'
    assert live.engine is engine
