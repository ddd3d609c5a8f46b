"""Open WebUI: requests in the form in which it sends them, and of the answers the parts that it reads.

Of the endpoints that are not OpenAI's own it asks with `max_tokens`; titles, tags and questions are background tasks
that it reads whole.
"""

import json
from pathlib import Path
from typing import Any

import pytest
from conftest import Address
from wire import Reply, call

REQUESTS = {row["name"]: row for row in json.loads((Path(__file__).parent / "open_webui.json").read_text("utf-8"))}
HEADERS = {
    "User-Agent": "Open-WebUI",
    "Accept": "*/*",
    "Accept-Encoding": "gzip, deflate",
    "X-OpenWebUI-User-Name": "Guest",
    "X-OpenWebUI-User-Role": "user",
}


def replay(address: Address, name: str) -> Reply:
    row = REQUESTS[name]
    body = row.get("body") and {**row["body"], "model": address.model}
    reply = call(address, row["method"], row["path"], body, **HEADERS)
    assert reply.status == 200, reply.body
    return reply


def test_the_list_of_models_is_not_empty(address: Address) -> None:
    (card,) = replay(address, "models").json["data"]
    assert card["id"] == address.model and card["object"] == "model" and card["owned_by"]


@pytest.mark.parametrize("name", ["a chat", "a chat with its defaults"])
def test_a_chat(address: Address, name: str) -> None:
    *chunks, last = replay(address, name).events
    assert last == "[DONE]"
    text, usage = "", None
    for chunk in map(json.loads, chunks):
        usage = chunk.get("usage") or usage
        for choice in chunk["choices"]:
            text += choice["delta"].get("content") or ""
    assert text
    assert (usage is not None) == ("stream_options" in REQUESTS[name]["body"])


@pytest.mark.parametrize("name", ["a title", "tags", "what to ask next"])
def test_a_background_task(address: Address, name: str) -> None:
    made = replay(address, name).json
    assert isinstance(made["choices"][0]["message"]["content"], str) and made["usage"]["completion_tokens"] <= 60


def test_embeddings(address: Address) -> None:
    rows: Any = replay(address, "embeddings").json["data"]
    assert len(rows) == 2 and all(isinstance(value, float) for row in rows for value in row["embedding"])
