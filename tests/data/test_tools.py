"""Tools and calls: every way of writing them ends as the same row, and what is no call is named."""

import json

import pytest

from smelt.core.errors import DataError
from smelt.data.formats import read_chats, summarize
from smelt.data.records import ChatRow, Message

BARE = {"name": "find", "description": "Find it", "parameters": {"type": "object"}}
TOOL = {"type": "function", "function": BARE}
FUNCTION = {"name": "find", "arguments": {"what": "mill"}}
CALL = {"id": "call00001", "type": "function", "function": FUNCTION}
TURNS = (
    Message("user", "Where is the mill?"),
    Message("assistant", "", None, (CALL,)),
    Message("tool", "river", None, None, "call00001"),
    Message("assistant", "By the river.", "So it says."),
)


def openai(call: dict, answer: dict) -> list[dict]:
    return [
        {"role": "user", "content": "Where is the mill?"},
        {"role": "assistant", "content": None, **call},
        {"content": "river", **answer},
        {"role": "assistant", "content": "By the river.", "reasoning_content": "So it says."},
    ]


WAYS = {
    "messages": {
        "messages": openai(
            {"tool_calls": [{"id": "call_Zx9", "type": "function", "function": FUNCTION}]},
            {"role": "tool", "tool_call_id": "call_Zx9"},
        ),
        "tools": [TOOL],
    },
    "arguments in a text": {
        "messages": openai(
            {"tool_calls": [{"function": FUNCTION | {"arguments": '{"what": "mill"}'}}]}, {"role": "tool"}
        ),
        "tools": json.dumps([BARE]),
    },
    "the older call": {
        "messages": openai({"function_call": FUNCTION}, {"role": "function", "name": "find"}),
        "tools": [json.dumps(TOOL)],
    },
    "sharegpt": {
        "conversations": [
            {"from": "human", "value": "Where is the mill?"},
            {"from": "function_call", "value": json.dumps(FUNCTION)},
            {"from": "observation", "value": "river"},
            {"from": "gpt", "value": "By the river.", "reasoning_content": "So it says."},
        ],
        "tools": json.dumps([BARE]),
    },
    "a list of one call": {
        "messages": [
            {"role": "user", "content": "Where is the mill?"},
            {"role": "function_call", "content": json.dumps([FUNCTION])},
            {"role": "observation", "content": "river"},
            {"role": "assistant", "content": "By the river.", "reasoning_content": "So it says."},
        ],
        "tools": [BARE],
    },
}


def rows_of(tmp_path, *rows):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return list(read_chats(path))


@pytest.mark.parametrize("way", WAYS)
def test_one_row_in_every_way(tmp_path, way):
    assert rows_of(tmp_path, WAYS[way]) == [ChatRow(TURNS, f"{tmp_path / 'rows.jsonl'}:1", tools=(TOOL,))]


@pytest.mark.parametrize("tools", [None, "", "[]", []])
def test_no_tools(tmp_path, tools):
    (row,) = rows_of(tmp_path, {"instruction": "Hi", "output": "Hello", "tools": tools})
    assert row.tools == () and row.messages[1] == Message("assistant", "Hello")


def test_answers_find_their_calls(tmp_path):
    calls = [{"id": name, "function": FUNCTION} for name in ("b", "a")]
    turns = [
        {"role": "user", "content": "x"},
        {"role": "assistant", "tool_calls": calls},
        {"role": "tool", "content": "of a", "tool_call_id": "a"},
        {"role": "tool", "content": "of b"},
        {"role": "assistant", "content": "y", "tool_calls": calls},
        {"role": "tool", "content": "of b", "tool_call_id": "b"},
        {"role": "tool", "content": "of a"},
        {"role": "tool", "content": "of nothing"},
    ]
    (row,) = rows_of(tmp_path, {"messages": turns})
    answers = [message.tool_call_id for message in row.messages if message.role == "tool"]
    assert answers == ["call00002", "call00001", "call00003", "call00004", None]


CALLING = {"role": "assistant", "tool_calls": [{"id": "a", "function": FUNCTION}]}


@pytest.mark.parametrize(
    ("turn", "what"),
    [
        ({"role": "function_call", "content": "find(mill)"}, "message 2: its call is not JSON: the text 'find(mill)'"),
        ({"role": "assistant", "tool_calls": [{}]}, "message 2: its call is no call of a tool"),
        ({"role": "assistant", "tool_calls": [{"function": {"name": ""}}]}, "message 2: its call is no call of a tool"),
        (
            {"role": "assistant", "tool_calls": [{"name": "f", "arguments": [1]}]},
            "message 2: its call: 'arguments' is a list\naccepted: an object",
        ),
        (
            {"role": "assistant", "tool_calls": [{"name": "f", "arguments": "{x"}]},
            "message 2: its call: 'arguments' is not JSON: the text '{x'",
        ),
        (
            {"role": "user", "content": "x", "tool_calls": [FUNCTION]},
            "message 2: user message with calls of tools\naccepted: calls by the assistant",
        ),
        ({"role": "assistant", "content": None, "tool_calls": []}, "message 2: assistant message without content"),
        (
            {"role": "tool", "content": "x", "tool_call_id": "b"},
            "message 3: an answer to the call 'b', which no message before it makes\naccepted: one of a",
        ),
    ],
)
def test_bad_calls(tmp_path, turn, what):
    turns = [{"role": "user", "content": "Hi"}, *([CALLING] if turn["role"] == "tool" else []), turn]
    with pytest.raises(DataError) as caught:
        rows_of(tmp_path, {"messages": turns})
    text = str(caught.value)
    assert text.removeprefix(f"{tmp_path}/").startswith(f"rows.jsonl:1, {what}") and len(text.splitlines()) <= 3


@pytest.mark.parametrize(
    ("tools", "what"),
    [
        ("[{", "'tools' is not JSON: the text '[{'"),
        ({"name": "f"}, "'tools' is an object\naccepted: a list of"),
        ([{"description": "x"}], "'tools' item 1 is no tool with a name"),
        ([BARE, 5], "'tools' item 2 is no tool with a name"),
    ],
)
def test_bad_tools(tmp_path, tools, what):
    with pytest.raises(DataError) as caught:
        rows_of(tmp_path, {"prompt": "Hi", "completion": "x", "tools": tools})
    assert str(caught.value).removeprefix(f"{tmp_path}/").startswith(f"rows.jsonl:1: {what}")


def test_real_calls(shared_data):
    path = shared_data / "tools" / "glaive_toolcall_en_demo.json"
    rows = list(read_chats(path))
    assert len(rows) == 300 and summarize(path).num_bad == 0
    assert sum(bool(row.tools) for row in rows) == 191
    calls = [call for row in rows for message in row.messages for call in message.tool_calls or ()]
    answers = [message for row in rows for message in row.messages if message.role == "tool"]
    assert len(calls) == len(answers) == 211 and all(answer.tool_call_id for answer in answers)
    assert all(isinstance(call["function"]["arguments"], dict) for call in calls)
