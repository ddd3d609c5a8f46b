"""Chat completions through OpenAI's own client: whole, streamed, several, with log-probabilities, refused."""

import asyncio
from typing import Any

import pytest

from .conftest import NAME, Live

openai = pytest.importorskip("openai")
ASKED: dict[str, Any] = {"model": NAME, "messages": [{"role": "user", "content": "Hi there"}], "max_tokens": 8}


@pytest.fixture
def client(live: Live) -> Any:
    with openai.OpenAI(base_url=f"{live.url}/v1", api_key="none", max_retries=0) as made:
        yield made


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
    assert len({(part.id, part.created, part.model, part.object) for part in chunks}) == 1
    assert all(part.usage is None for part in parts) and last.choices == []
    assert last.usage == whole.usage.model_copy(update={"prompt_tokens_details": last.usage.prompt_tokens_details})
