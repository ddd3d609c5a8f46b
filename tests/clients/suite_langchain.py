"""LangChain's classes with their default settings: chat, completions, embeddings, tools, structured answers."""

from typing import Any, Literal

import pytest
from conftest import Address, run_example
from langchain.agents import create_agent
from langchain_core.callbacks import get_usage_metadata_callback
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAI, OpenAIEmbeddings
from pydantic import BaseModel

ROOM = 600  # for JSON in which a model that has learned nothing writes every space that it may
MESSAGES = [SystemMessage("Answer in one word."), HumanMessage("Where is the mill?")]


class Sky(BaseModel):
    """What a structured answer must be."""

    colour: Literal["blue", "grey"]
    clear: bool


@tool
def weather(town: Literal["Paris", "Rome"]) -> str:
    """Tell the weather of a town."""
    return f"rain in {town}"


@pytest.fixture
def chat(address: Address) -> Any:
    def make(**more: Any) -> ChatOpenAI:
        given = {"temperature": 0, "max_tokens": 12, **more}
        return ChatOpenAI(model=address.model, base_url=address.v1, api_key=address.key, **given)

    return make


def test_invoke(chat: Any) -> None:
    made = chat().invoke(MESSAGES)
    assert isinstance(made, AIMessage) and made.content
    assert made.usage_metadata["output_tokens"] <= 12
    assert made.response_metadata["finish_reason"] in ("stop", "length")


def test_stream(chat: Any) -> None:
    whole = chat().invoke(MESSAGES)
    chunks = list(chat(stream_usage=True).stream(MESSAGES))
    total: AIMessageChunk = chunks[0]
    for chunk in chunks[1:]:
        total = total + chunk
    assert total.content == whole.content and total.usage_metadata == whole.usage_metadata


def test_batch_and_its_usage(chat: Any) -> None:
    with get_usage_metadata_callback() as told:
        made = chat().batch(["one", "two", "three"])
    (usage,) = told.usage_metadata.values()
    assert usage["output_tokens"] == sum(message.usage_metadata["output_tokens"] for message in made)


def test_logprobs_seed_stop(chat: Any) -> None:
    made = chat(logprobs=True, top_logprobs=2).invoke(MESSAGES)
    assert made.response_metadata["logprobs"]["content"]
    hot = {"temperature": 1, "seed": 3}
    assert chat(**hot).invoke(MESSAGES).content == chat(**hot).invoke(MESSAGES).content
    assert chat().invoke(MESSAGES, stop=[made.content[-2:]]).response_metadata["finish_reason"] == "stop"


def test_the_completion_endpoint(address: Address) -> None:
    model = OpenAI(model=address.model, base_url=address.v1, api_key=address.key, temperature=0, max_tokens=8)
    whole = model.invoke("The mill")
    assert whole and "".join(model.stream("The mill")) == whole
    made = model.generate(["The mill", "A cat"])
    assert made.generations[0][0].text == whole and made.llm_output["token_usage"]["completion_tokens"] > 0


def test_a_conversation_with_tools_in_it(chat: Any) -> None:
    """What a tool said earlier can be read whether or not new calls are possible."""
    made = chat().invoke([*MESSAGES, AIMessage("The clock says:"), ToolMessage("noon", tool_call_id="call_1")])
    assert made.content


def test_the_example(address: Address) -> None:
    shown = run_example("serve_langchain.py", address, address.model)
    assert "asked: " in shown and "streamed: " in shown and "the inn: " in shown


def test_embeddings(address: Address) -> None:
    """Texts are sent: the ids that are the default are those of a tokenizer of OpenAI, which would be downloaded."""
    model = OpenAIEmbeddings(
        model=address.model, base_url=address.v1, api_key=address.key, check_embedding_ctx_length=False
    )
    one, other = model.embed_documents(["The mill", "A cat"])
    assert len(one) == len(other) and model.embed_query("The mill") == pytest.approx(one, abs=1e-6)


def test_bound_tools(chat: Any) -> None:
    made = chat(max_tokens=ROOM).bind_tools([weather], tool_choice="any", parallel_tool_calls=False).invoke(MESSAGES)
    assert made.tool_calls[0]["name"] == "weather" and made.tool_calls[0]["args"]["town"] in ("Paris", "Rome")


@pytest.mark.parametrize("method", ["json_schema", "function_calling"])
def test_structured_answers(chat: Any, method: str) -> None:
    model = chat(max_tokens=ROOM).with_structured_output(Sky, method=method)
    assert isinstance(model.invoke(MESSAGES), Sky)


def test_an_agent(chat: Any) -> None:
    """Three rounds of calls and answers, each call forced, as this model would never make one by itself."""
    messages: list[Any] = [*MESSAGES]
    model = chat(max_tokens=ROOM).bind_tools([weather], tool_choice="weather", parallel_tool_calls=False)
    for _ in range(3):
        made = model.invoke(messages)
        results = [weather.invoke(call) for call in made.tool_calls]
        assert results and all(result.content.startswith("rain in") for result in results)
        messages += [made, *results]
    ended = create_agent(chat(max_tokens=64), [weather]).invoke({"messages": messages}, {"recursion_limit": 30})
    assert isinstance(ended["messages"][-1], AIMessage)
