"""Responses through OpenAI's client: whole, streamed, behind earlier ones, cut short, failed, refused."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smelt.core.errors import ResourceError
from smelt.serve.errors import ApiError
from smelt.serve.keys import Keys
from smelt.serve.protocol import parse
from smelt.serve.responses import ResponseRequest, add_item, chat_of, kept_form, read_item
from smelt.serve.store.database import Store
from smelt.serve.store.keys import create_key, valid_keys

from .conftest import NAME, Live, Watched, eventually

openai = pytest.importorskip("openai")
ASKED: dict[str, Any] = {"model": NAME, "input": "Hi there", "max_output_tokens": 8, "temperature": 0}


@pytest.fixture
def client(live: Live) -> Any:
    with openai.OpenAI(base_url=f"{live.url}/v1", api_key="none", max_retries=0) as made:
        yield made


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store.open(tmp_path_factory.mktemp("store") / "a.db")


@pytest.fixture(scope="module")
def keeping(start: Callable[..., Live], store: Store) -> Live:
    create_key(store, "first")  # so that the server asks for one
    return start(keys=Keys([], partial(valid_keys, store)), store=store)


@pytest.fixture
def ann(keeping: Live, store: Store, tmp_path: Path) -> Any:
    key = create_key(store, f"ann-{tmp_path.name}"[:60])
    with openai.OpenAI(base_url=f"{keeping.url}/v1", api_key=key, max_retries=0) as made:
        yield made


def chat_text(client: Any, *messages: tuple[str, str]) -> str:
    """Return what a chat says after some messages."""
    asked = [{"role": role, "content": text} for role, text in messages]
    answer = client.chat.completions.create(model=NAME, messages=asked, max_tokens=8, temperature=0)
    return str(answer.choices[0].message.content)


def test_a_response_says_what_a_chat_says(client: Any) -> None:
    made = client.responses.create(**ASKED, instructions="Be brief.", metadata={"a": "b"})
    assert made.output_text == chat_text(client, ("system", "Be brief."), ("user", "Hi there")) != ""
    assert made.object == "response" and made.id.startswith("resp_") and made.model == NAME and made.error is None
    (message,) = made.output
    assert message.role == "assistant" and message.type == "message" and message.id.startswith("msg_")
    assert made.status == message.status == "incomplete" and made.incomplete_details.reason == "max_output_tokens"
    assert made.instructions == "Be brief." and made.metadata == {"a": "b"} and made.max_output_tokens == 8
    assert made.temperature == 0 and made.top_p == 1 and made.store is False
    usage = made.usage
    assert usage.output_tokens == 8 and usage.total_tokens == usage.input_tokens + 8
    assert usage.input_tokens_details.cached_tokens >= 0 and usage.output_tokens_details.reasoning_tokens == 0


def test_input_of_every_form(client: Any) -> None:
    forms = [
        [{"role": "user", "content": "Hi there"}],
        [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hi there"}]}],
    ]
    for form in forms:
        assert client.responses.create(**{**ASKED, "input": form}).output_text == chat_text(
            client, ("user", "Hi there")
        )
    first = client.responses.create(**ASKED)
    several = [*forms[0], *(item.to_dict() for item in first.output), {"role": "user", "content": "And?"}]
    expected = chat_text(client, ("user", "Hi there"), ("assistant", first.output_text), ("user", "And?"))
    assert client.responses.create(**{**ASKED, "input": several}).output_text == expected


def test_a_stream_says_what_a_whole_one_says(client: Any) -> None:
    whole = client.responses.create(**ASKED)
    events = list(client.responses.create(**ASKED, stream=True))
    names = [event.type.removeprefix("response.") for event in events]
    deltas = names.count("output_text.delta")
    assert deltas > 1 and names == [
        *("created", "in_progress", "output_item.added", "content_part.added", *["output_text.delta"] * deltas),
        *("output_text.done", "content_part.done", "output_item.done", "incomplete"),
    ]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert text == events[-4].text == events[-3].part.text == events[-1].response.output_text == whole.output_text
    assert events[0].response.status == "in_progress" and events[0].response.output == []
    last = events[-1].response
    assert last.usage.output_tokens == whole.usage.output_tokens and last.id == events[0].response.id
    assert last.output[0] == events[-2].item and last.status == whole.status


def test_the_client_puts_a_stream_together(live: Live, client: Any) -> None:
    text = chat_text(client, ("user", "Hi there"))
    with client.responses.stream(**ASKED) as stream:
        events = list(stream)
    assert events[-1].response.output_text == text
    assert [event.snapshot for event in events if event.type == "response.output_text.delta"][-1] == text


def test_each_event_has_its_name_before_its_data(live: Live) -> None:
    reply = live.post("/v1/responses", **ASKED, stream=True)
    assert reply.headers["content-type"] == "text/event-stream; charset=utf-8"
    for block in reply.body.decode().removesuffix("\n\n").split("\n\n"):
        name, data = block.split("\n")
        assert name == f"event: {json.loads(data.removeprefix('data: '))['type']}"


def test_one_that_ends_by_itself_is_complete(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from smelt.serve.answers import ChatChoice

    plain = ChatChoice.pieces

    def stopping(self: ChatChoice, update: Any) -> list[dict[str, Any]]:
        found = plain(self, update)
        return [{**piece, "finish_reason": piece["finish_reason"] and "stop"} for piece in found]

    monkeypatch.setattr(ChatChoice, "pieces", stopping)
    made = client.responses.create(**ASKED)
    assert made.status == made.output[0].status == "completed" and made.incomplete_details is None
    with client.responses.stream(**ASKED) as stream:
        assert stream.get_final_response().output_text == made.output_text


def test_one_goes_on_from_another(ann: Any) -> None:
    first = ann.responses.create(**ASKED, instructions="Be brief.")
    assert first.store is True
    for stream in (False, True):
        asked = {**ASKED, "input": "And?", "previous_response_id": first.id, "stream": stream}
        made = ann.responses.create(**asked)
        second = list(made)[-1].response if stream else made
        turns = ("user", "Hi there"), ("assistant", first.output_text), ("user", "And?")
        assert second.output_text == chat_text(ann, *turns), "the instructions were of the first alone"
        assert second.previous_response_id == first.id
        third = ann.responses.create(**{**ASKED, "input": "So?", "previous_response_id": second.id})
        assert third.output_text == chat_text(ann, *turns, ("assistant", second.output_text), ("user", "So?"))


def test_one_that_was_not_kept_or_is_anothers_is_not_there(ann: Any, client: Any, keeping: Live, store: Store) -> None:
    def refusal(who: Any, previous: str) -> Any:
        with pytest.raises(openai.BadRequestError) as caught:
            who.responses.create(**ASKED, previous_response_id=previous)
        assert caught.value.param == "previous_response_id"
        return caught.value

    forgotten = ann.responses.create(**ASKED, store=False)
    assert forgotten.store is False
    assert refusal(ann, forgotten.id).code == refusal(ann, "resp_x").code == "previous_response_not_found"
    mine = ann.responses.create(**ASKED)
    with openai.OpenAI(base_url=f"{keeping.url}/v1", api_key=create_key(store, "eve"), max_retries=0) as eve:
        assert refusal(eve, mine.id).code == "previous_response_not_found"
    assert "this server keeps no responses" in str(refusal(client, mine.id))


def test_a_store_that_fails_is_no_success(ann: Any, monkeypatch: pytest.MonkeyPatch, capfd: Any) -> None:
    def full(*_: Any) -> None:
        raise ResourceError("a.db: disk is full")

    monkeypatch.setattr("smelt.serve.kept.keep_response", full)
    with pytest.raises(openai.InternalServerError) as caught:
        ann.responses.create(**ASKED)
    assert caught.value.status_code == 503 and caught.value.code == "store_unavailable"
    last = list(ann.responses.create(**ASKED, stream=True))[-1]
    assert last.type == "response.failed" and last.response.status == "failed"
    assert "disk" not in last.response.error.message and "a.db: disk is full" in capfd.readouterr().err


def test_a_fault_in_a_stream_is_its_last_event(client: Any, live: Live) -> None:
    Watched.seconds = 0.02
    stream = client.responses.create(**{**ASKED, "max_output_tokens": 100}, stream=True)
    first = next(stream)
    Watched.fault = RuntimeError("secret")
    last = list(stream)[-1]
    assert last.type == "response.failed" and last.response.id == first.response.id
    assert last.response.error.code == "server_error" and "secret" not in last.response.error.message


def test_a_fault_of_a_whole_one_is_an_error(client: Any, live: Live) -> None:
    Watched.fault = RuntimeError("secret")
    with pytest.raises(openai.InternalServerError, match="the server failed"):
        client.responses.create(**ASKED)


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_frees_the_engine(live: Live, stream: bool) -> None:
    Watched.seconds = 0.05
    connection = live.open("/v1/responses", {**ASKED, "max_output_tokens": 140, "stream": stream})
    assert eventually(lambda: live.engine.num_running == 1)
    connection.close()
    assert eventually(live.idle) and live.engine.num_free_pages == live.engine.num_pages


REFUSED = [
    ({"input": []}, "input"),
    ({"input": 5}, "input"),
    ({"input": ["x"]}, "input"),
    ({"input": [{"role": "king", "content": "x"}]}, "input[0].role"),
    ({"input": [{"role": "user", "content": [{"type": "input_image"}]}]}, "input[0].content"),
    ({"input": [{"type": "reasoning"}]}, "input[0].type"),
    ({"input": [{"type": 5}]}, "input[0].type"),
    ({"input": "x" * 200}, "input"),
    ({"max_output_tokens": 0}, "max_output_tokens"),
    ({"temperature": 3}, "temperature"),
    ({"metadata": {"a": 1}}, "metadata.a"),
    ({"metadata": {"a" * 65: "b"}}, "metadata"),
    ({"tools": [{"type": "function", "name": "f"}]}, "tools"),
    ({"text": 5}, "text"),
    ({"text": {"format": "json"}}, "text.format"),
    ({"background": True}, "background"),
    ({"truncation": "auto"}, "truncation"),
]


@pytest.mark.parametrize(("change", "param"), REFUSED, ids=[f"{param}-{n}" for n, (_, param) in enumerate(REFUSED)])
def test_what_cannot_be_is_refused_with_its_place(live: Live, change: dict[str, Any], param: str) -> None:
    reply = live.post("/v1/responses", **{**ASKED, **change})
    assert reply.status == 400 and reply.error["param"].startswith(param)
    assert reply.error["type"] == "invalid_request_error" and reply.error["message"]


@pytest.mark.parametrize("text", [None, {}, {"format": None}, {"format": {"type": "text"}}, {"verbosity": "low"}])
def test_plain_text_may_be_asked_for(text: Any) -> None:
    assert parse(ResponseRequest, json.dumps({**ASKED, "text": text}).encode()).form.type == "text"


def test_calls_stand_in_the_message_before_them() -> None:
    messages: list[dict[str, Any]] = []
    for item in (
        {"role": "user", "content": "Sum?"},
        {"type": "function_call", "call_id": "c1", "name": "add", "arguments": "{}"},
        {"type": "function_call", "call_id": "c2", "name": "add", "arguments": ""},
        {"type": "function_call_output", "call_id": "c1", "output": "3"},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Three."}]},
    ):
        add_item(messages, read_item(item, "input[0]"))
    calls = [
        {"id": "c1", "type": "function", "function": {"name": "add", "arguments": "{}"}},
        {"id": "c2", "type": "function", "function": {"name": "add", "arguments": ""}},
    ]
    assert messages == [
        {"role": "user", "content": "Sum?"},
        {"role": "assistant", "content": "", "tool_calls": calls},
        {"role": "tool", "tool_call_id": "c1", "content": "3"},
        {"role": "assistant", "content": "Three."},
    ]


def test_what_is_kept_says_the_same_and_has_nothing_that_is_not_read() -> None:
    items: list[dict[str, Any]] = [
        {"role": "user", "content": [{"type": "input_text", "text": "Sum?"}], "junk": "x" * 1000},
        {"type": "function_call", "call_id": "c1", "name": "add", "arguments": "{}", "id": "fc_1"},
        {"type": "function_call_output", "call_id": "c1", "output": "3"},
    ]
    kept = kept_form(items)
    assert kept == [
        {"type": "message", "role": "user", "content": "Sum?"},
        {"type": "function_call", "call_id": "c1", "name": "add", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c1", "output": "3"},
    ]
    assert kept_form(kept) == kept


VALUES = st.recursive(
    st.none() | st.integers() | st.text(max_size=6) | st.sampled_from(["user", "function_call", "text"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["type", "text"]), inner, max_size=2),
    max_leaves=4,
)
NAMES = st.sampled_from(["type", "role", "content", "call_id", "name", "arguments", "output"])


@given(st.lists(st.dictionaries(NAMES, VALUES, max_size=4), max_size=2))
@settings(max_examples=200, deadline=None)
def test_any_items_are_taken_or_refused_cleanly(items: list[dict[str, Any]]) -> None:
    body = json.dumps({**ASKED, "input": [{"role": "user", "content": "x"}, *items]}).encode()
    try:
        chat = chat_of(parse(ResponseRequest, body), kept_form([{"role": "user", "content": "y"}]))
    except ApiError as error:
        assert error.status == 400 and error.param is not None and error.param.startswith("input")
    else:
        assert len(chat.messages) >= 2


def test_a_conversation_has_a_bound() -> None:
    item = {"role": "user", "content": "x"}
    request = parse(ResponseRequest, json.dumps({**ASKED, "input": [item] * 1025}).encode())
    with pytest.raises(ApiError) as caught:
        chat_of(request, [item] * 1024)
    assert caught.value.param == "input" and "2048" in caught.value.message
