"""Tools and formats in responses, through OpenAI's client: whole, streamed, cut short, and the way there and back."""

import json
from collections.abc import Callable, Iterator
from typing import Any, Literal

import pytest
from pydantic import BaseModel

from smelt.serve.response_items import WrittenCall
from smelt.serve.store.database import Store

from .conftest import NAME, Live, Watched, eventually, start_with_tools

openai = pytest.importorskip("openai")
pytest.importorskip("llguidance")

WEATHER: dict[str, Any] = {
    "type": "function",
    "name": "weather",
    "description": "Tell the weather.",
    "parameters": {
        "type": "object",
        "properties": {"city": {"enum": ["Arles", "Bern"]}},
        "required": ["city"],
        "additionalProperties": False,
    },
}
STOP: dict[str, Any] = {"type": "function", "name": "stop"}
TOOLS = [WEATHER, STOP]
QUESTION = {"role": "user", "content": "Hi"}
ASKED: dict[str, Any] = {"model": NAME, "input": "Hi", "tools": TOOLS, "temperature": 0}
ONE: dict[str, Any] = {**ASKED, "tool_choice": "required", "parallel_tool_calls": False}
CALL = '\n<tool_call>\n{"name": "weather", "arguments": {"city": "Bern"}}\n</tool_call>'


@pytest.fixture(scope="module")
def serving(start: Callable[..., Live], tmp_path_factory: pytest.TempPathFactory) -> Live:
    return start_with_tools(start, "qwen", store=Store.open(tmp_path_factory.mktemp("store") / "a.db"))


@pytest.fixture
def live(serving: Live) -> Iterator[Live]:
    Watched.spaces = False
    yield serving
    Watched.spaces, Watched.says = True, None
    assert eventually(serving.idle)


@pytest.fixture
def client(live: Live) -> Iterator[Any]:
    with openai.OpenAI(base_url=f"{live.url}/v1", api_key="none", max_retries=0) as made:
        yield made


def names_of(events: list[Any]) -> list[str]:
    """Return the names of events, those of pieces once."""
    names = [event.type.removeprefix("response.") for event in events]
    return [name for name, before in zip(names, ["", *names], strict=False) if name != before or "delta" not in name]


def test_a_required_call(client: Any) -> None:
    made = client.responses.create(**ONE)
    (call,) = made.output
    assert call.type == "function_call" and call.id.startswith("fc_") and call.call_id and call.call_id != call.id
    assert made.status == call.status == "completed" and made.output_text == ""
    assert call.name in ("weather", "stop") and isinstance(json.loads(call.arguments), dict)


@pytest.mark.parametrize("name", ["weather", "stop"])
def test_a_named_call(client: Any, name: str) -> None:
    made = client.responses.create(**{**ONE, "tool_choice": {"type": "function", "name": name}})
    assert [call.name for call in made.output] == [name]
    assert json.loads(made.output[0].arguments) in ([{}] if name == "stop" else [{"city": "Arles"}, {"city": "Bern"}])


def test_a_response_tells_what_was_asked(client: Any) -> None:
    schema = {"type": "json_schema", "name": "a", "schema": {"const": None}, "strict": True}
    named = {"type": "function", "name": "weather"}
    made = client.responses.create(**{**ONE, "tool_choice": named, "text": {"format": schema}}).to_dict()
    assert made["tools"][0] == {**WEATHER, "strict": None}
    assert made["tools"][1] == {**STOP, "strict": None, "description": None, "parameters": None}
    assert made["tool_choice"] == named and made["parallel_tool_calls"] is False and made["text"] == {"format": schema}
    plain = client.responses.create(model=NAME, input="Hi", max_output_tokens=1).to_dict()
    assert plain["tools"] == [] and plain["tool_choice"] == "auto" and plain["parallel_tool_calls"] is True
    assert plain["text"] == {"format": {"type": "text"}}


def test_the_model_reads_what_it_reads_in_a_chat(client: Any) -> None:
    nested = [
        {"type": "function", "function": {key: tool[key] for key in tool if key != "type"}} for tool in (WEATHER, STOP)
    ]
    chat = client.chat.completions.create(model=NAME, messages=[QUESTION], tools=nested, max_tokens=1)
    lengths = {
        choice: client.responses.create(**ASKED, tool_choice=choice, max_output_tokens=16).usage.input_tokens
        for choice in ("auto", "none")
    }
    assert lengths["auto"] == chat.usage.prompt_tokens > lengths["none"]


def test_text_and_calls_are_items_in_their_order(client: Any) -> None:
    Watched.says = f"Well.{CALL}{CALL} Done."
    made = client.responses.create(**ASKED)
    assert [item.type for item in made.output] == ["message", "function_call", "function_call", "message"]
    assert made.output_text.startswith("Well.") and made.output_text.endswith("Done.")
    assert made.output[1].arguments == made.output[2].arguments == '{"city": "Bern"}'
    assert len({item.id for item in made.output}) == 4 and {item.status for item in made.output} == {"completed"}
    events = list(client.responses.create(**ASKED, stream=True))
    call = [f"function_call_arguments.{end}" for end in ("delta", "done")]
    message = ["content_part.added", "output_text.delta", "output_text.done", "content_part.done"]
    items = [["output_item.added", *inner, "output_item.done"] for inner in (message, call, call, message)]
    assert names_of(events) == ["created", "in_progress", *(name for item in items for name in item), "completed"]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    places = [event.output_index for event in events if hasattr(event, "output_index")]
    assert places == sorted(places) and set(places) == {0, 1, 2, 3}
    done = [event.item for event in events if event.type == "response.output_item.done"]
    assert done == events[-1].response.output
    assert [(item.type, getattr(item, "arguments", None)) for item in done] == [
        (item.type, getattr(item, "arguments", None)) for item in made.output
    ]


def test_a_stream_of_a_call_alone_has_no_message(client: Any) -> None:
    (call,) = client.responses.create(**ONE).output
    events = list(client.responses.create(**ONE, stream=True))
    assert names_of(events) == [
        *("created", "in_progress", "output_item.added", "function_call_arguments.delta"),
        *("function_call_arguments.done", "output_item.done", "completed"),
    ]
    assert events[2].item.arguments == "" and events[2].item.status == "in_progress"
    deltas = [event for event in events if event.type == "response.function_call_arguments.delta"]
    assert len(deltas) > 1 and {event.item_id for event in deltas} == {events[2].item.id}
    assert "".join(event.delta for event in deltas) == events[-3].arguments == call.arguments
    assert events[-2].item == events[-1].response.output[0]


def test_the_client_puts_calls_together(client: Any) -> None:
    class Arguments(BaseModel):
        city: Literal["Arles"]

    tool = openai.pydantic_function_tool(Arguments, name="weather")
    with client.responses.stream(**{**ONE, "tools": [tool]}) as stream:
        (streamed,) = stream.get_final_response().output
    (parsed,) = client.responses.parse(**{**ONE, "tools": [tool]}).output
    assert streamed.parsed_arguments == parsed.parsed_arguments == Arguments(city="Arles")


@pytest.mark.parametrize("tools", [TOOLS, []], ids=["tools", "none"])
def test_an_answer_of_nothing_is_an_empty_message(client: Any, tools: Any) -> None:
    Watched.says = ""
    asked = {**ASKED, "tools": tools}
    (message,) = client.responses.create(**asked).output
    assert message.type == "message" and message.content[0].text == "" and message.status == "completed"
    with client.responses.stream(**asked) as stream:
        assert stream.get_final_response().output_text == ""


def test_a_class_is_parsed(client: Any) -> None:
    class Place(BaseModel):
        name: Literal["mill", "bridge"]
        old: bool

    asked: dict[str, Any] = {"model": NAME, "input": "Hi", "temperature": 0, "text_format": Place}
    made = client.responses.parse(**asked)
    assert isinstance(made.output_parsed, Place) and made.status == "completed"
    with client.responses.stream(**asked) as stream:
        assert stream.get_final_response().output_parsed == made.output_parsed


def test_any_object(client: Any) -> None:
    made = client.responses.create(
        model=NAME, input="Hi", text={"format": {"type": "json_object"}}, max_output_tokens=16
    )
    assert made.output_text.startswith("{")


def test_there_and_back(client: Any) -> None:
    """By the whole conversation or by the response before, the model reads the same."""
    first = client.responses.create(**ONE)
    (call,) = first.output
    result = {"type": "function_call_output", "call_id": call.call_id, "output": '{"sky": "blue"}'}
    asked = {**ASKED, "tool_choice": "none", "max_output_tokens": 16}
    whole = client.responses.create(**{**asked, "input": [QUESTION, *first.output, result]})
    behind = client.responses.create(**{**asked, "input": [result], "previous_response_id": first.id})
    assert behind.output_text == whole.output_text and behind.previous_response_id == first.id
    function = {"name": call.name, "arguments": call.arguments}
    called = {"role": "assistant", "tool_calls": [{"id": call.call_id, "type": "function", "function": function}]}
    returned = {"role": "tool", "tool_call_id": call.call_id, "content": result["output"]}
    chat = client.chat.completions.create(model=NAME, messages=[QUESTION, called, returned], max_tokens=1)
    assert behind.usage.input_tokens == whole.usage.input_tokens == chat.usage.prompt_tokens


def test_half_a_call_says_so_and_is_not_carried_on(client: Any) -> None:
    asked = {**ONE, "tool_choice": {"type": "function", "name": "weather"}, "max_output_tokens": 52}
    first = client.responses.create(**asked)
    (call,) = first.output
    assert first.status == call.status == "incomplete" and first.incomplete_details.reason == "max_output_tokens"
    assert call.name == "weather" and not call.arguments.endswith("}")
    again = {"model": NAME, "max_output_tokens": 16}
    behind = client.responses.create(**again, input="And?", previous_response_id=first.id)
    alone = client.responses.create(**again, input=[QUESTION, {"role": "user", "content": "And?"}])
    assert behind.usage.input_tokens == alone.usage.input_tokens


@pytest.mark.parametrize(("arguments", "status"), [("", "incomplete"), ('{"a"', "incomplete"), ("{}", "completed")])
def test_a_call_is_complete_when_its_arguments_are(arguments: str, status: str) -> None:
    call = WrittenCall("c1", "f")
    call.add(arguments)
    assert call.end(cut=True)[-1][1]["item"]["status"] == status


def form_of(**form: Any) -> dict[str, Any]:
    return {"text": {"format": {"type": "json_schema", **form}}}


REFUSED: list[tuple[dict[str, Any], str, str]] = [
    ({"tools": [{"type": "web_search"}]}, "tools[0].type", "should be 'function'"),
    ({"tools": [STOP, {**STOP, "name": "f g"}]}, "tools[1].name", "pattern"),
    ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools[0].name", "field required"),
    ({"tools": [{**STOP, "parameters": {"type": "array"}}]}, "tools[0].parameters", "type 'object'"),
    ({"tools": [STOP, STOP]}, "tools", "two functions have the name 'stop'"),
    ({"tools": [{**STOP, "name": f"f{n}"} for n in range(129)]}, "tools", "at most 128 items"),
    ({"tools": [{**STOP, "strict": True, "parameters": {"not": {}}}]}, "tools", "Unimplemented"),
    ({"tools": []}, "tool_choice", "without tools to choose from"),
    ({"tool_choice": "sometimes"}, "tool_choice", "{'type': 'function', 'name': ...}"),
    ({"tool_choice": {"type": "function", "function": {"name": "stop"}}}, "tool_choice", "'name': ...}"),
    ({"tool_choice": {"type": "function", "name": "stob"}}, "tool_choice", "Did you mean 'stop'"),
    ({"parallel_tool_calls": "no"}, "parallel_tool_calls", "boolean"),
    ({"text": {"format": {"type": "xml"}}}, "text.format.type", "'json_schema'"),
    (form_of(name="a"), "text.format.schema", "text.format.schema: field required"),
    (form_of(schema={}), "text.format.name", "text.format.name: field required"),
    (form_of(name="a", schema={"const": "x" * 5000}), "text.format.schema", "at most 4,096 characters"),
    (
        {**form_of(name="a", schema={"not": {}}, strict=True), "tool_choice": "none"},
        "text.format",
        "text.format: no answer can be held to this",
    ),
    (
        {"input": [QUESTION, {"type": "function_call", "call_id": "a", "name": "f", "arguments": "[]"}]},
        "input[1].arguments",
        "an object of JSON",
    ),
]


@pytest.mark.parametrize(("change", "param", "words"), REFUSED, ids=range(len(REFUSED)))
def test_what_cannot_be_is_refused_with_its_place(live: Live, change: dict[str, Any], param: str, words: str) -> None:
    reply = live.post("/v1/responses", **{**ONE, **change})
    assert reply.status == 400 and reply.error["param"] == param and words in reply.error["message"]


def test_a_template_without_a_place_for_tools(shared_live: Live) -> None:
    reply = shared_live.post("/v1/responses", **ASKED)
    assert reply.status == 400 and reply.error["param"] == "tools"
    assert reply.error["message"] == "tools: the chat template of this model has no place for tools"
