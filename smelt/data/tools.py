"""Read tools and calls of them, in the several ways in which datasets write them, into the one way of chat templates.

Tools come as a list or as the text of one (LLaMA-Factory), each bare or wrapped as {"type": "function", "function":
...}; calls as OpenAI's `tool_calls` with arguments in a text or an object, as the older `function_call`, or as a turn
of their own whose text is the call (ShareGPT). Templates get all of them wrapped, with arguments as objects, so that
each format decides itself how they are written. The ids of calls are given anew, call00001 and so on: only what belongs
together matters, random letters teach nothing, and Mistral's format asks for nine characters.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from smelt.core.errors import DataError
from smelt.data.readers import describe
from smelt.data.records import Message

TOOL_SHAPE = '{"name", "description", "parameters"}, alone or under "function"'
CALL_SHAPE = '{"name": text, "arguments": object}'


def parse_tools(value: object, where: str) -> tuple[dict[str, Any], ...]:
    """Return the tools of a row, each as {"type": "function", "function": ...}; none for null, "" and [].

    Raises:
        DataError: they are no list of objects with names.
    """
    if value is None or value == "":
        return ()
    tools = from_json(value, f"{where}: 'tools'", f"a list of {TOOL_SHAPE}") if isinstance(value, str) else value
    if not isinstance(tools, list):
        raise DataError(f"{where}: 'tools' is {describe(tools)}", accepted=f"a list of {TOOL_SHAPE}")
    found = []
    for number, tool in enumerate(tools, start=1):
        place = f"{where}: 'tools' item {number}"
        tool = from_json(tool, place, TOOL_SHAPE) if isinstance(tool, str) else tool
        inner = tool.get("function", tool) if isinstance(tool, dict) else tool
        if not isinstance(inner, dict) or not isinstance(inner.get("name"), str) or not inner["name"]:
            raise DataError(f"{place} is no tool with a name", accepted=TOOL_SHAPE)
        found.append({"type": "function", "function": inner})
    return tuple(found)


def parse_calls(value: object, place: str) -> tuple[dict[str, Any], ...]:
    """Return calls, given as one, as a list or as the text of either, each as {"id", "function": ...}.

    Raises:
        DataError: one is no call with a name and arguments.
    """
    calls = from_json(value, place, CALL_SHAPE) if isinstance(value, str) else value
    found = []
    every: list[Any] = calls if isinstance(calls, list) else [calls]
    for call in every:
        inner = call.get("function", call) if isinstance(call, dict) else call
        if not isinstance(inner, dict) or not isinstance(inner.get("name"), str) or not inner["name"]:
            raise DataError(f"{place} is no call of a tool", accepted=CALL_SHAPE)
        arguments = inner.get("arguments", inner.get("parameters", {}))
        if isinstance(arguments, str):
            arguments = from_json(arguments or "{}", f"{place}: 'arguments'", "an object")
        if not isinstance(arguments, dict):
            raise DataError(f"{place}: 'arguments' is {describe(arguments)}", accepted="an object")
        found.append({"id": call.get("id"), "function": {"name": inner["name"], "arguments": arguments}})
    return tuple(found)


def from_json(text: str, place: str, accepted: str) -> Any:
    """Return what a text says as JSON.

    Raises:
        DataError: it is not JSON.
    """
    try:
        return json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise DataError(f"{place} is not JSON: {describe(text)} ({error})", accepted=accepted) from None


def link_calls(messages: Sequence[Message], where: str) -> list[Message]:
    """Return messages whose calls are numbered and whose answers name the call that each is for.

    An answer without an id is for the first call that has none yet; where no calls are written apart (a dataset may
    write them into the text) it stays without.

    Raises:
        DataError: an answer names a call that nobody made.
    """
    names: dict[str, str] = {}
    waiting = deque[str]()
    linked, total = [], 0
    for number, message in enumerate(messages, start=1):
        if message.tool_calls:
            waiting.clear()
            calls = []
            for call in message.tool_calls:
                total += 1
                name = f"call{total:05d}"
                if call["id"]:
                    names[str(call["id"])] = name
                waiting.append(name)
                calls.append({"id": name, "type": "function", "function": call["function"]})
            message = replace(message, tool_calls=tuple(calls))
        elif message.role == "tool":
            given = message.tool_call_id
            if given and given not in names:
                what = f"{where}, message {number}: an answer to the call '{given}', which no message before it makes"
                raise DataError(what, accepted=f"one of {', '.join(names)}" if names else "", fix="remove the row")
            name = names[given] if given else waiting[0] if waiting else ""
            if name in waiting:
                waiting.remove(name)
            message = replace(message, tool_call_id=name or None)
        linked.append(message)
    return linked
