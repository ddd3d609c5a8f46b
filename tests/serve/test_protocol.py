"""What a body may be: strict JSON, known types, bounds; whatever else comes, the answer is a 400 in OpenAI's shape."""

import asyncio
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smelt.serve.app import read_body
from smelt.serve.errors import ApiError
from smelt.serve.protocol import (
    MAX_BODY_BYTES,
    ChatRequest,
    CompletionRequest,
    DetokenizeRequest,
    EmbeddingRequest,
    TokenizeRequest,
    parse,
    unknown_fields,
)
from smelt.serve.responses import ResponseRequest

from .conftest import NAME, Live

JSON = {"content-type": "application/json"}
KINDS = (ChatRequest, CompletionRequest, ResponseRequest, EmbeddingRequest, TokenizeRequest, DetokenizeRequest)
GOOD = {"model": NAME, "messages": [{"role": "user", "content": "x"}], "max_tokens": 1}
BODIES = [
    (b"", "not JSON"),
    (b"null", "must be a JSON object, not null"),
    (b"[]", "must be a JSON object, not an array"),
    (b'"x"', "not a string"),
    (b"{", "not JSON"),
    (b"\xff{}", "not UTF-8"),
    (b'{"model": "a", "model": "b"}', "one key twice"),
    (b'{"temperature": NaN}', "NaN is not a number"),
    (b'{"temperature": -Infinity}', "-Infinity is not a number"),
    (b'{"model": "\\ud800"}', "half of a surrogate pair"),
    (b'{"\\udfff": 1}', "half of a surrogate pair"),
    (b"[" * 200_000, "nested too deeply"),
    (b'{"seed": ' + b"9" * 5000 + b"}", "not JSON"),
    (b'{"model": "m", "messages": [{"role": "user", "content": "x"}], "temperature": 1e999}', "temperature"),
]


@pytest.mark.parametrize(("body", "message"), BODIES, ids=[message for _, message in BODIES])
def test_bodies_that_are_none(live: Live, body: bytes, message: str) -> None:
    reply = live.call("POST", "/v1/chat/completions", body)
    assert reply.status == 400 and message in reply.error["message"]
    assert reply.error["type"] == "invalid_request_error"


def test_a_body_has_a_size_and_a_type(live: Live) -> None:
    assert live.call("POST", "/v1/completions", b" " * (MAX_BODY_BYTES + 1)).error["code"] == "request_too_large"
    reply = live.call("POST", "/v1/completions", b"{}", Content_Type="text/plain")
    assert reply.status == 415 and "application/json" in reply.error["message"]
    assert live.call("POST", "/v1/completions", b"{}", Content_Type="application/json; charset=utf-8").status == 400


def test_a_body_of_unknown_length_is_bounded_too() -> None:
    class Endless:
        headers = JSON
        num_read = 0

        async def receive(self) -> dict[str, Any]:
            self.num_read += 1
            return {"type": "http.request", "body": b" " * 65536, "more_body": True}

    request = Endless()
    with pytest.raises(ApiError) as caught:
        asyncio.run(read_body(request))  # type: ignore[arg-type]
    assert caught.value.status == 413 and request.num_read == MAX_BODY_BYTES // 65536 + 1


def test_a_slow_body_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    class Slow:
        headers = JSON
        receive = staticmethod(lambda: asyncio.sleep(10))

    monkeypatch.setattr("smelt.serve.app.BODY_SECONDS", 0.01)
    with pytest.raises(ApiError) as caught:
        asyncio.run(read_body(Slow()))  # type: ignore[arg-type]
    assert caught.value.status == 408


def test_unknown_fields_are_tolerated_and_named(live: Live) -> None:
    reply = live.post("/v1/chat/completions", **GOOD, top_a=1, user="u", metadata={}, store=False, **{"a\r\nb": 2})
    assert reply.status == 200 and reply.headers["warning"] == '299 smelt "ignored fields: top_a, ?"'
    assert "warning" not in live.post("/v1/chat/completions", **GOOD).headers


def test_paths_and_methods_that_there_are_not(live: Live) -> None:
    assert live.get("/v1/nothing").status == 404 and live.get("/v1/nothing").error["code"] == "not_found"
    assert live.get("/v1/chat/completions").status == 405 and live.get("/v1/chat/completions").error
    assert live.get("/v1/models/").status == 404 and live.post("/v1/edits", input="x").status == 404
    assert live.get("/docs").status == 404, "its page would load scripts from elsewhere"


def test_the_description_of_the_api_needs_no_reference(live: Live) -> None:
    document = live.get("/openapi.json").json
    body = document["paths"]["/v1/chat/completions"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert body["properties"]["messages"]["items"]["properties"]["role"]["enum"][0] == "system"
    assert "$ref" not in json.dumps(body)


def test_the_first_fault_is_named_by_place_and_without_its_value() -> None:
    with pytest.raises(ApiError) as caught:
        parse(ChatRequest, json.dumps({**GOOD, "temperature": "secret", "n": 99}).encode())
    assert caught.value.param == "temperature" and "secret" not in caught.value.message
    assert "(and 1 more)" in caught.value.message


def test_null_is_the_default() -> None:
    fields = {name: None for name in ChatRequest.model_fields if name not in ("model", "messages")}
    asked = parse(ChatRequest, json.dumps({**GOOD, **fields}).encode())
    assert asked.stop == () and asked.logit_bias == () and unknown_fields(asked) == []


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=5,
)


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
@settings(max_examples=50, deadline=None)
def test_any_value_of_any_field_is_taken_or_refused_cleanly(kind: type[Any], data: Any) -> None:
    fields = data.draw(st.dictionaries(st.sampled_from(sorted(kind.model_fields)), VALUES, max_size=4))
    good = {"model": NAME, "prompt": "x", "input": "x", "tokens": [1], "messages": GOOD["messages"]}
    body = json.dumps({**good, **fields}).encode()
    try:
        asked = parse(kind, body)
    except ApiError as error:
        assert error.status == 400 and error.message and json.dumps(error.body)
    else:
        assert isinstance(asked, kind)


@given(st.binary(max_size=40))
@settings(max_examples=200, deadline=None)
def test_any_bytes_are_no_fault_of_ours(body: bytes) -> None:
    with pytest.raises(ApiError):
        parse(CompletionRequest, body)


@given(st.text(max_size=30), st.lists(st.text(max_size=10), max_size=4))
@settings(deadline=None)
def test_every_text_passes_unchanged(text: str, parts: list[str]) -> None:
    try:
        (text + "".join(parts)).encode()
    except UnicodeEncodeError:
        return
    content = [{"type": "text", "text": part} for part in parts]
    messages = [{"role": "user", "content": text}, {"role": "user", "content": content}]
    asked = parse(ChatRequest, json.dumps({"model": NAME, "messages": messages}).encode())
    assert [message.content for message in asked.messages] == [text, "\n".join(parts)]
