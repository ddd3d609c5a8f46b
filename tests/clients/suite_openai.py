"""openai-python, 2.x and 3.x with one and the same file: what it sends is understood, what it reads is there."""

import asyncio
import base64
import json
import struct
from collections.abc import Iterator
from typing import Any, Literal

import openai
import pytest
from conftest import Address, run_example
from pydantic import BaseModel

ROOM = 600  # for JSON in which a model that has learned nothing writes every space that it may
QUESTION: list[Any] = [
    {"role": "developer", "content": "Answer in one word."},
    {"role": "user", "content": [{"type": "text", "text": "Where is the mill?"}]},
]
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Tell the weather of a town.",
        "parameters": {
            "type": "object",
            "properties": {"town": {"enum": ["Paris", "Rome"]}, "celsius": {"type": "boolean"}},
            "required": ["town", "celsius"],
            "additionalProperties": False,
        },
    },
}
CLOCK = {
    "type": "function",
    "function": {
        "name": "clock",
        "parameters": {
            "type": "object",
            "properties": {"zone": {"enum": ["utc", "cet"]}},
            "required": ["zone"],
            "additionalProperties": False,
        },
    },
}


class Sky(BaseModel):
    """What a structured answer must be."""

    colour: Literal["blue", "grey"]
    clear: bool


@pytest.fixture(scope="module")
def client(address: Address) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=address.v1, api_key=address.key, max_retries=0) as client:
        yield client


@pytest.fixture
def ask(client: openai.OpenAI, address: Address) -> Any:
    """Ask the question, 12 tokens long unless told otherwise."""

    def call(**more: Any) -> Any:
        given = {"model": address.model, "messages": QUESTION, "max_completion_tokens": 12, **more}
        return client.chat.completions.create(**given)

    return call


def test_models(client: openai.OpenAI, address: Address) -> None:
    (card,) = client.models.list().data
    assert (card.id, card.object, card.owned_by) == (address.model, "model", "smelt") and card.created > 0
    assert client.models.retrieve(address.model) == card


def test_a_whole_answer(ask: Any, address: Address) -> None:
    made = ask(temperature=0)
    (choice,) = made.choices
    assert made.object == "chat.completion" and made.model == address.model and made.id.startswith("chatcmpl-")
    assert choice.message.role == "assistant" and choice.message.content and choice.finish_reason in ("stop", "length")
    assert made.usage.completion_tokens <= 12
    assert made.usage.total_tokens == made.usage.prompt_tokens + made.usage.completion_tokens
    older = ask(temperature=0, max_completion_tokens=openai.NOT_GIVEN, max_tokens=12)
    assert older.choices[0].message == choice.message


def test_a_stream_says_what_the_whole_answer_says(ask: Any) -> None:
    whole = ask(temperature=0)
    chunks = list(ask(temperature=0, stream=True, stream_options={"include_usage": True}))
    assert len({chunk.id for chunk in chunks}) == 1 and len({chunk.created for chunk in chunks}) == 1
    assert all(chunk.object == "chat.completion.chunk" and chunk.system_fingerprint for chunk in chunks)
    *spoken, last = chunks
    assert last.choices == [] and last.usage == whole.usage
    assert all(len(chunk.choices) == 1 and chunk.usage is None for chunk in spoken)
    assert spoken[0].choices[0].delta.role == "assistant"
    assert "".join(chunk.choices[0].delta.content or "" for chunk in spoken) == whole.choices[0].message.content
    reasons = [chunk.choices[0].finish_reason for chunk in spoken]
    assert reasons[-1] == whole.choices[0].finish_reason and set(reasons[:-1]) <= {None}
    assert all(chunk.choices for chunk in ask(temperature=0, stream=True)), "without usage no chunk is empty"


def test_seeds_and_several_answers(ask: Any) -> None:
    texts = [[choice.message.content for choice in ask(seed=seed, n=2).choices] for seed in (7, 7, 8)]
    assert texts[0] == texts[1] and texts[0][0] != texts[0][1] and texts[0] != texts[2]
    assert texts[0][1] == texts[2][0], "answer i has the seed + i"
    found: dict[int, str] = {}
    for chunk in ask(seed=7, n=2, stream=True):
        (choice,) = chunk.choices
        found[choice.index] = found.get(choice.index, "") + (choice.delta.content or "")
    assert [found[0], found[1]] == texts[0]


def test_stops(ask: Any) -> None:
    text = ask(temperature=0).choices[0].message.content
    stop = text[len(text) // 2 : len(text) // 2 + 2]
    for form in (stop, [stop, "never said"]):
        choice = ask(temperature=0, stop=form).choices[0]
        assert choice.message.content == text[: text.index(stop)] and choice.finish_reason == "stop"
    pieces = [chunk.choices[0].delta.content or "" for chunk in ask(temperature=0, stop=stop, stream=True)]
    assert "".join(pieces) == text[: text.index(stop)]


def test_logprobs(ask: Any) -> None:
    choice = ask(temperature=0, logprobs=True, top_logprobs=3).choices[0]
    assert choice.logprobs.content
    for entry in choice.logprobs.content:
        assert entry.logprob <= 0 and len(entry.top_logprobs) == 3
        assert entry.logprob == max(top.logprob for top in entry.top_logprobs), "the likeliest is what greedy chose"
    data = b"".join(bytes(entry.bytes) for entry in choice.logprobs.content)
    assert data.decode("utf-8", "replace").startswith(choice.message.content.rstrip("\ufffd"))
    bare = ask(temperature=0, logprobs=True).choices[0]
    assert bare.logprobs.content and all(entry.top_logprobs == [] for entry in bare.logprobs.content)


def test_bias_and_penalties(ask: Any, client: openai.OpenAI, address: Address) -> None:
    forced = client.completions.create(model=address.model, prompt="x", max_tokens=5, logit_bias={"65": 100})
    assert len(forced.choices[0].text) == 5 and len(set(forced.choices[0].text)) == 1
    made = ask(presence_penalty=1.5, frequency_penalty=0.5, top_p=0.9, user="me", metadata={"a": "b"}, store=False)
    assert made.usage.completion_tokens > 0


def test_the_stream_helper(ask: Any, client: openai.OpenAI, address: Address) -> None:
    text = ask(temperature=0).choices[0].message.content
    asked: Any = {"model": address.model, "messages": QUESTION, "temperature": 0, "stop": text[-2:]}
    with client.chat.completions.stream(**asked) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_completion()
    assert "content.delta" in kinds and "content.done" in kinds
    assert final.choices[0].message.content == text[: text.index(text[-2:])]


def test_async(address: Address) -> None:
    async def work() -> list[str]:
        async with openai.AsyncOpenAI(base_url=address.v1, api_key=address.key) as client:
            asked = {"model": address.model, "messages": QUESTION, "max_tokens": 12, "temperature": 0}
            wholes = await asyncio.gather(*(client.chat.completions.create(**asked) for _ in range(4)))
            stream = await client.chat.completions.create(**asked, stream=True)
            pieces = [chunk.choices[0].delta.content or "" async for chunk in stream]
            return [*(whole.choices[0].message.content for whole in wholes), "".join(pieces)]

    assert len(set(asyncio.run(work()))) == 1


def test_completions(client: openai.OpenAI, address: Address) -> None:
    asked: Any = {"model": address.model, "max_tokens": 5, "temperature": 0}
    alone = client.completions.create(prompt="The mill", **asked)
    assert alone.object == "text_completion" and alone.id.startswith("cmpl-")
    echoed = client.completions.create(prompt="The mill", echo=True, logprobs=2, **asked).choices[0]
    assert echoed.text == "The mill" + alone.choices[0].text
    told = echoed.logprobs
    assert len(told.tokens) == len(told.token_logprobs) == len(told.top_logprobs) == len(told.text_offset)
    assert told.token_logprobs[0] is None and max(told.token_logprobs[1:]) <= 0
    both = client.completions.create(prompt=["The mill", "A cat"], **asked).choices
    assert [choice.index for choice in both] == [0, 1] and both[0].text == alone.choices[0].text
    streamed = client.completions.create(prompt="The mill", stream=True, **asked)
    assert "".join(chunk.choices[0].text for chunk in streamed) == alone.choices[0].text
    ids = client.completions.create(prompt=[[70, 71], [72]], **asked)
    assert ids.usage.prompt_tokens == 3 and len(ids.choices) == 2


def test_the_example(address: Address) -> None:
    shown = run_example("serve_openai.py", address)
    assert shown.startswith(f"{address.model} says: ") and "written)" in shown and "answer 2: " in shown


def test_headers(client: openai.OpenAI, address: Address) -> None:
    asked: Any = {"model": address.model, "prompt": "x", "max_tokens": 1}
    raw = client.completions.with_raw_response.create(
        **asked, extra_headers={"X-Request-Id": "mine"}, extra_body={"unheard_of": 1}
    )
    assert raw.headers["x-request-id"] == "mine" and "unheard_of" in raw.headers["warning"]
    assert raw.parse().choices
    assert client.completions.create(**asked)._request_id


@pytest.mark.parametrize(
    ("given", "kind", "code", "param"),
    [
        ({"temperature": 5}, openai.BadRequestError, None, "temperature"),
        ({"messages": []}, openai.BadRequestError, None, "messages"),
        ({"messages": [{"role": "nobody", "content": "x"}]}, openai.BadRequestError, None, "messages[0].role"),
        ({"n": 10**9}, openai.BadRequestError, None, "n"),
        ({"messages": [{"role": "user", "content": "x " * 9000}]}, openai.BadRequestError, "context_length_exceeded",
         "messages"),
        ({"model": "tinny"}, openai.NotFoundError, "model_not_found", "model"),
    ],
)  # fmt: skip
def test_errors_have_their_class(ask: Any, given: Any, kind: Any, code: Any, param: Any) -> None:
    with pytest.raises(kind) as caught:
        ask(**given)
    error = caught.value
    assert (error.code, error.param, error.type) == (code, param, "invalid_request_error")
    assert error.body["message"] and error.request_id


def test_a_wrong_key(address: Address) -> None:
    stranger = openai.OpenAI(base_url=address.v1, api_key="wrong")
    with stranger, pytest.raises(openai.AuthenticationError) as caught:
        stranger.models.list()
    assert caught.value.code == "invalid_api_key" and caught.value.type == "authentication_error"


def test_a_timeout(ask: Any) -> None:
    with pytest.raises(openai.APITimeoutError):
        ask(max_completion_tokens=1500, timeout=0.02)


def test_a_full_server_and_a_retry(client: openai.OpenAI, ask: Any) -> None:
    """Sixteen answers that do not end are all that the server takes; when they are closed, a patient client gets in."""
    held = [ask(n=8, max_completion_tokens=1900, stream=True, logit_bias=never_ends(client)) for _ in range(2)]
    try:
        with pytest.raises(openai.RateLimitError) as caught:
            ask()
        assert caught.value.code == "server_overloaded" and int(caught.value.response.headers["retry-after"]) >= 1
    finally:
        for stream in held:
            stream.close()
    assert client.with_options(max_retries=4).completions.create(model="tiny", prompt="x", max_tokens=1).choices


def never_ends(client: openai.OpenAI) -> dict[str, int]:
    """Return the bias against what ends an answer."""
    root = str(client.base_url).removesuffix("v1/")
    marks = ["<|endoftext|>", "<|im_end|>"]
    return {str(client.post(f"{root}tokenize", cast_to=object, body={"prompt": m})["tokens"][0]): -100 for m in marks}


def test_parse(client: openai.OpenAI, address: Address) -> None:
    made = client.chat.completions.parse(model=address.model, messages=QUESTION, response_format=Sky)
    assert isinstance(made.choices[0].message.parsed, Sky)


def test_a_json_object(ask: Any) -> None:
    choice = ask(response_format={"type": "json_object"}, max_completion_tokens=ROOM).choices[0]
    assert choice.finish_reason == "length" or isinstance(json.loads(choice.message.content), dict)


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "weather"}}])
def test_a_tool_and_back(ask: Any, choice: Any) -> None:
    made = ask(tools=[WEATHER], tool_choice=choice, parallel_tool_calls=False, max_completion_tokens=ROOM).choices[0]
    (call,) = made.message.tool_calls
    arguments = json.loads(call.function.arguments)
    assert call.type == "function" and call.id and call.function.name == "weather"
    assert arguments["town"] in ("Paris", "Rome") and isinstance(arguments["celsius"], bool)
    answered = [*QUESTION, made.message, {"role": "tool", "tool_call_id": call.id, "content": "rain"}]
    assert ask(messages=answered, tools=[WEATHER], tool_choice="none").choices[0].message.tool_calls is None


def test_tools_as_the_model_likes(ask: Any) -> None:
    choice = ask(tools=[WEATHER, CLOCK], tool_choice="auto", max_completion_tokens=64).choices[0]
    assert (choice.finish_reason == "tool_calls") == bool(choice.message.tool_calls)


def test_tools_in_a_stream(ask: Any) -> None:
    asked = {"tools": [WEATHER, CLOCK], "tool_choice": "required", "max_completion_tokens": ROOM}
    calls: dict[int, dict[str, str]] = {}
    for chunk in ask(**asked, stream=True):
        for delta in chunk.choices[0].delta.tool_calls or []:
            call = calls.setdefault(delta.index, {"name": "", "arguments": "", "id": ""})
            call["id"] += delta.id or ""
            call["name"] += delta.function.name or ""
            call["arguments"] += delta.function.arguments or ""
    assert calls and sorted(calls) == list(range(len(calls)))
    assert all(call["id"] and call["name"] in ("weather", "clock") for call in calls.values())
    assert isinstance(json.loads(calls[0]["arguments"]), dict)


def test_embeddings(client: openai.OpenAI, address: Address) -> None:
    texts = ["The mill", "A cat"]
    made = client.embeddings.create(model=address.model, input=texts)  # the client asks for base64 by itself
    plain = client.embeddings.create(model=address.model, input=texts, encoding_format="float")
    assert [item.index for item in made.data] == [0, 1] and made.usage.prompt_tokens > 0
    for one, other in zip(made.data, plain.data, strict=True):
        assert one.embedding == pytest.approx(other.embedding, abs=1e-6)
    coded: Any = client.embeddings.with_raw_response.create(
        model=address.model, input=[[70, 71], [72]], encoding_format="base64"
    ).http_response.json()
    width = len(plain.data[0].embedding)
    found = [struct.unpack(f"<{width}f", base64.b64decode(row["embedding"])) for row in coded["data"]]
    assert len(found) == 2


def test_responses(client: openai.OpenAI, address: Address) -> None:
    asked: Any = {"model": address.model, "instructions": "Be brief.", "input": "Where is the mill?", "temperature": 0}
    made = client.responses.create(**asked, max_output_tokens=16)
    assert made.object == "response" and made.output_text and made.usage.output_tokens <= 16
    kinds, text = [], ""
    for event in client.responses.create(**asked, max_output_tokens=16, stream=True):
        kinds.append(event.type)
        text += event.delta if event.type == "response.output_text.delta" else ""
    assert kinds[0] == "response.created" and kinds[-1] in ("response.completed", "response.incomplete")
    assert text == made.output_text
