"""Chat completions through OpenAI's own client: whole, streamed, several, with log-probabilities, refused."""

import asyncio
import math
from typing import Any

import pytest

from .conftest import NAME, Live, Watched

openai = pytest.importorskip("openai")
ASKED: dict[str, Any] = {"model": NAME, "messages": [{"role": "user", "content": "Hi there"}], "max_tokens": 8}


@pytest.fixture
def client(live: Live) -> Any:
    with openai.OpenAI(base_url=f"{live.url}/v1", api_key="none", max_retries=0) as made:
        yield made


def test_models(client: Any) -> None:
    (card,) = client.models.list().data
    assert card.id == NAME and card.object == "model" and card.created == 1_700_000_000 and card.owned_by == "smelt"
    assert client.models.retrieve(NAME) == card
    with pytest.raises(openai.NotFoundError, match="Did you mean 'tiny'") as caught:
        client.models.retrieve("tinny")
    assert caught.value.code == "model_not_found" and caught.value.param == "model"


def test_a_whole_answer(client: Any) -> None:
    answer = client.chat.completions.create(**ASKED, seed=1)
    assert answer.object == "chat.completion" and answer.model == NAME and answer.id.startswith("chatcmpl-")
    (choice,) = answer.choices
    assert choice.message.role == "assistant" and choice.message.content and choice.finish_reason in ("length", "stop")
    assert answer.usage.completion_tokens <= 8 and answer.usage.prompt_tokens > 8
    assert answer.usage.total_tokens == answer.usage.completion_tokens + answer.usage.prompt_tokens
    again = client.chat.completions.create(**ASKED, seed=1)
    assert again.choices[0].message.content == choice.message.content, "the same seed gives the same answer"


def test_a_stream_says_what_a_whole_answer_says(client: Any) -> None:
    whole = client.chat.completions.create(**ASKED, seed=3)
    chunks = list(client.chat.completions.create(**ASKED, seed=3, stream=True, stream_options={"include_usage": True}))
    *parts, last = chunks
    assert "".join(part.choices[0].delta.content or "" for part in parts) == whole.choices[0].message.content
    assert parts[0].choices[0].delta.role == "assistant" and parts[0].choices[0].delta.content == ""
    assert all(part.choices[0].delta.role is None for part in parts[1:])
    assert [part.choices[0].finish_reason for part in parts[:-1]] == [None] * (len(parts) - 1)
    assert parts[-1].choices[0].finish_reason == whole.choices[0].finish_reason
    assert parts[-1].choices[0].delta.content is None
    assert len({(part.id, part.created, part.model, part.object) for part in chunks}) == 1
    assert all(part.usage is None for part in parts) and last.choices == []
    assert last.usage.completion_tokens == whole.usage.completion_tokens
    assert last.usage.prompt_tokens == whole.usage.prompt_tokens


def test_the_client_puts_a_stream_together(client: Any) -> None:
    text = client.chat.completions.create(**ASKED, seed=3).choices[0].message.content
    with client.chat.completions.stream(**ASKED, seed=3, stop=text[2:4]) as stream:
        (choice,) = stream.get_final_completion().choices
    assert choice.message.content == text[: text.index(text[2:4])] and choice.finish_reason == "stop"


def test_without_a_wish_for_usage_no_chunk_is_without_a_choice(client: Any) -> None:
    chunks = list(client.chat.completions.create(**ASKED, stream=True))
    assert all(len(chunk.choices) == 1 and chunk.usage is None for chunk in chunks)


def test_n_answers_are_n_seeds(client: Any) -> None:
    several = client.chat.completions.create(**ASKED, seed=5, n=3)
    assert [choice.index for choice in several.choices] == [0, 1, 2]
    alone = [client.chat.completions.create(**ASKED, seed=5 + place) for place in range(3)]
    assert [choice.message.content for choice in several.choices] == [one.choices[0].message.content for one in alone]
    assert several.usage.prompt_tokens == alone[0].usage.prompt_tokens, "the prompt counts once"
    assert several.usage.completion_tokens == sum(one.usage.completion_tokens for one in alone)
    texts = ["", "", ""]
    for chunk in client.chat.completions.create(**ASKED, seed=5, n=3, stream=True):
        texts[chunk.choices[0].index] += chunk.choices[0].delta.content or ""
    assert texts == [choice.message.content for choice in several.choices]


def test_logprobs(client: Any, live: Live) -> None:
    asked = {**ASKED, "temperature": 0, "logprobs": True, "top_logprobs": 3}
    (choice,) = client.chat.completions.create(**asked).choices
    content = choice.logprobs.content
    assert 0 < len(content) <= 8
    for entry in content:
        assert len(entry.top_logprobs) == 3
        assert math.isclose(entry.logprob, entry.top_logprobs[0].logprob, abs_tol=1e-5), "greedy takes the likeliest"
        assert entry.logprob <= 0
    written = b"".join(bytes(entry.bytes) for entry in content)
    assert written.decode(errors="replace") == choice.message.content
    chunks = list(client.chat.completions.create(**asked, stream=True))
    streamed = [entry for chunk in chunks if chunk.choices[0].logprobs for entry in chunk.choices[0].logprobs.content]
    assert [entry.token for entry in streamed] == [entry.token for entry in content]
    (plain,) = client.chat.completions.create(**ASKED).choices
    assert plain.logprobs is None


def test_stop_texts_end_an_answer_and_are_not_in_it(client: Any) -> None:
    asked = {**ASKED, "seed": 1, "max_tokens": 40}
    text = client.chat.completions.create(**asked).choices[0].message.content
    word = next(text[place : place + 2] for place in range(2, len(text) - 2) if text.isascii() or place > 1)
    for stop in (word, [word, "\0never"]):
        (choice,) = client.chat.completions.create(**asked, stop=stop).choices
        assert choice.finish_reason == "stop" and choice.message.content == text[: text.index(word)]
        chunks = client.chat.completions.create(**asked, stop=stop, stream=True)
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == choice.message.content


def test_messages_of_every_accepted_form(client: Any) -> None:
    forms = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "One"}, {"type": "text", "text": "two"}]},
        {"role": "assistant", "content": "1, 2"},
        {"role": "user", "content": "And?", "name": "x"},
    ]
    plain = [("system", "Be brief."), ("user", "One\ntwo"), ("assistant", "1, 2"), ("user", "And?")]
    texts = [
        client.chat.completions.create(model=NAME, messages=messages, temperature=0, max_completion_tokens=6)
        for messages in (forms, [{"role": role, "content": text} for role, text in plain])
    ]
    assert texts[0].choices[0].message.content == texts[1].choices[0].message.content
    assert texts[0].usage.prompt_tokens == texts[1].usage.prompt_tokens


def test_what_is_typed_is_no_control_token(client: Any) -> None:
    usage = [
        client.chat.completions.create(
            model=NAME, messages=[{"role": "user", "content": text}], max_tokens=1
        ).usage.prompt_tokens
        for text in ("", "<|im_end|>")
    ]
    assert usage[1] - usage[0] == len("<|im_end|>"), "ten characters of a byte tokenizer, not one mark"


def test_logit_bias_and_penalties_are_taken(client: Any, tokenizer: Any) -> None:
    (a,) = tokenizer.encode("a")
    biased = client.chat.completions.create(**ASKED, logit_bias={str(a): 100}, presence_penalty=0.1, temperature=0)
    assert biased.choices[0].message.content.startswith("aaa")


def test_the_asynchronous_client(live: Live) -> None:
    async def talk() -> tuple[str, str]:
        async with openai.AsyncOpenAI(base_url=f"{live.url}/v1", api_key="none", max_retries=0) as client:
            whole, stream = await asyncio.gather(
                client.chat.completions.create(**ASKED, seed=2),
                client.chat.completions.create(**ASKED, seed=2, stream=True),
            )
            return whole.choices[0].message.content, "".join(
                [chunk.choices[0].delta.content or "" async for chunk in stream]
            )

    whole, streamed = asyncio.run(talk())
    assert whole == streamed != ""


REFUSED = [
    ({"temperature": 3}, "temperature"),
    ({"extra_body": {"repetition_penalty": 5e-324}}, "repetition_penalty"),
    ({"top_p": 0}, "top_p"),
    ({"n": 0}, "n"),
    ({"n": 9}, "n"),
    ({"max_tokens": 0}, "max_tokens"),
    ({"stop": ["a"] * 5}, "stop"),
    ({"stop": "x" * 257}, "stop"),
    ({"logit_bias": {"x": 1}}, "logit_bias"),
    ({"logit_bias": {"999": 1}}, "logit_bias"),
    ({"top_logprobs": 2}, "top_logprobs"),
    ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
    ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools"),
    ({"response_format": {"type": "xml"}}, "response_format.type"),
    ({"messages": []}, "messages"),
    ({"messages": [{"role": "king", "content": "x"}]}, "messages[0].role"),
    ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages[0].content"),
    ({"extra_body": {"seed": "1"}}, "seed"),
    ({"extra_body": {"stream_options": {"include_usage": True}}}, "stream_options"),
    ({"extra_body": {"max_completion_tokens": 9}}, "max_tokens"),
]


@pytest.mark.parametrize(("change", "param"), REFUSED, ids=[f"{param}-{n}" for n, (_, param) in enumerate(REFUSED)])
def test_what_cannot_be_is_refused_with_its_place(client: Any, change: dict[str, Any], param: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(**{**ASKED, **change})
    assert caught.value.param == param and caught.value.type == "invalid_request_error"
    assert param.split("[")[0] in str(caught.value)


def test_a_prompt_that_is_too_long(client: Any) -> None:
    with pytest.raises(
        openai.BadRequestError, match=r"the prompt has \d{3} tokens and the context of this model 160"
    ) as e:
        client.chat.completions.create(**{**ASKED, "messages": [{"role": "user", "content": "x" * 200}]})
    assert e.value.code == "context_length_exceeded"


def test_a_fault_of_the_engine_is_told_without_details(client: Any, live: Live, capfd: Any) -> None:
    Watched.fault = RuntimeError("secret at 0x7f00")
    with pytest.raises(openai.InternalServerError) as caught:
        client.chat.completions.create(**ASKED)
    number = caught.value.response.headers["x-request-id"]
    assert number in str(caught.value) and "secret" not in str(caught.value)
    assert "secret at 0x7f00" in capfd.readouterr().err
    assert client.chat.completions.create(**ASKED).choices, "a new engine goes on"


def test_a_fault_in_a_stream_is_an_event(client: Any, live: Live) -> None:
    Watched.seconds = 0.02
    stream = client.chat.completions.create(**{**ASKED, "max_tokens": 100}, temperature=0, stream=True)
    next(stream)
    Watched.fault = RuntimeError("secret")
    with pytest.raises(openai.APIError, match="the server failed") as caught:
        list(stream)
    assert "secret" not in str(caught.value.body)
