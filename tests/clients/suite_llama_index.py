"""LlamaIndex's OpenAILike, whose default is the completion endpoint, and OpenAIEmbedding."""

from typing import Any, Literal

import pytest
from conftest import Address
from llama_index.core.llms import ChatMessage
from llama_index.core.tools import FunctionTool
from llama_index.embeddings.openai import OpenAIEmbedding
from llama_index.llms.openai_like import OpenAILike
from pydantic import BaseModel

MESSAGES = [ChatMessage(role="system", content="Be brief."), ChatMessage(role="user", content="Where is the mill?")]


class Sky(BaseModel):
    """What a structured answer must be."""

    colour: Literal["blue", "grey"]
    clear: bool


def weather(town: Literal["Paris", "Rome"]) -> str:
    """Tell the weather of a town."""
    return f"rain in {town}"


@pytest.fixture
def model(address: Address) -> Any:
    def make(**more: Any) -> OpenAILike:
        given = {"temperature": 0, "max_tokens": 12, "max_retries": 0, **more}
        return OpenAILike(model=address.model, api_base=address.v1, api_key=address.key, **given)

    return make


def test_complete(model: Any) -> None:
    made = model().complete("The mill")
    assert made.text and "".join(piece.delta for piece in model().stream_complete("The mill")) == made.text


def test_chat_over_the_completion_endpoint(model: Any) -> None:
    assert model().chat(MESSAGES).message.content


def test_chat(model: Any) -> None:
    chat = model(is_chat_model=True)
    made = chat.chat(MESSAGES)
    assert made.message.role == "assistant" and made.message.content and made.raw.usage.completion_tokens <= 12
    assert "".join(piece.delta or "" for piece in chat.stream_chat(MESSAGES)) == made.message.content


def test_a_tool(model: Any) -> None:
    chat = model(is_chat_model=True, is_function_calling_model=True, max_tokens=600)
    made = chat.chat_with_tools([FunctionTool.from_defaults(weather)], "Rain?", tool_required=True)
    (call, *_) = chat.get_tool_calls_from_response(made)
    assert call.tool_name == "weather" and call.tool_kwargs["town"] in ("Paris", "Rome")


@pytest.mark.parametrize("by_schema", [True, False])
def test_structured_answers(model: Any, by_schema: bool) -> None:
    chat = model(
        is_chat_model=True, is_function_calling_model=True, max_tokens=600, should_use_structured_outputs=by_schema
    )
    made = chat.as_structured_llm(Sky).chat(MESSAGES)
    assert isinstance(made.raw, Sky)


def test_embeddings(address: Address) -> None:
    model = OpenAIEmbedding(model_name=address.model, api_base=address.v1, api_key=address.key, max_retries=0)
    one, other = model.get_text_embedding_batch(["The mill", "A cat"])
    assert len(one) == len(other) and model.get_text_embedding("The mill") == pytest.approx(one, abs=1e-6)
