"""A chat as a file: JSON with every branch, or Markdown of the branch that is shown."""

from __future__ import annotations

import json
from typing import Any

from smelt.serve.store.database import NotFound

FORMS = {"json": ("json", "application/json"), "markdown": ("md", "text/markdown; charset=utf-8")}
Json = dict[str, Any]


def transcript(chat: Json, form: str, leaf: str) -> str:
    """Return a chat as a text; Markdown holds the messages down to `leaf`, or to the newest one."""
    return json.dumps(chat, ensure_ascii=False, indent=2) + "\n" if form == "json" else markdown(chat, leaf)


def markdown(chat: Json, leaf: str) -> str:
    """Return one branch as Markdown: a heading a message, its text as it is."""
    parts = [f"# {' '.join(chat['title'].split())}"]
    parts += [f"**system**\n\n{chat['system']}"] if chat["system"] else []
    for message in branch(chat["messages"], leaf):
        who = message["role"] + (f" ({message['model']})" if message["model"] else "")
        calls = [
            f"```json\n{json.dumps(call['function'], ensure_ascii=False)}\n```"
            for call in message["details"].get("tool_calls", ())
        ]
        parts.append("\n\n".join([f"## {who}", *([message["content"]] if message["content"] else []), *calls]))
    return "\n\n".join(parts) + "\n"


def branch(messages: list[Json], leaf: str) -> list[Json]:
    """Return the messages down to a leaf, by default the newest; raises NotFound."""
    if not messages:
        return []
    by_id = {message["id"]: message for message in messages}
    at = leaf or messages[-1]["id"]
    if at not in by_id:
        raise NotFound(f"there is no message {at}")
    found = [by_id[at]]
    while (parent := found[-1]["parent"]) in by_id:
        found.append(by_id[parent])
    return found[::-1]
