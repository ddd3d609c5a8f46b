"""Every format ends as the same typed row, and a bad row is named to the message."""

import dataclasses
import json

import pytest

from smelt.core.errors import DataError
from smelt.data.formats import detect_format, read_chats, read_text, scan_rows, summarize
from smelt.data.records import ChatRow, Message, TextRow

TURNS = (Message("system", "Be brief."), Message("user", "Hi"), Message("assistant", "Hello"))
SAME_CHAT = {
    "messages": {
        "messages": [
            {"role": "developer", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "H"}, {"type": "text", "text": "i"}]},
            {"role": "assistant", "content": "Hello"},
        ]
    },
    "sharegpt": {
        "conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}],
        "system": "Be brief.",
    },
    "alpaca": {"instruction": "Hi", "input": "", "output": "Hello", "system": "Be brief.", "history": None},
    "prompt-completion": {
        "prompt": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}],
        "completion": [{"role": "assistant", "content": "Hello"}],
    },
}


def rows_file(tmp_path, *rows):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def fault(tmp_path, *rows, read=read_chats):
    with pytest.raises(DataError) as caught:
        list(read(rows_file(tmp_path, *rows)))
    assert len(str(caught.value).splitlines()) <= 3
    return str(caught.value).removeprefix(str(tmp_path) + "/")


@pytest.mark.parametrize("name", SAME_CHAT)
def test_one_chat_in_every_format(tmp_path, name):
    path = rows_file(tmp_path, SAME_CHAT[name])
    assert detect_format(SAME_CHAT[name]) == name
    assert list(read_chats(path)) == [ChatRow(TURNS, f"{path}:1")]


def test_kind_and_gold_are_kept(tmp_path):
    rows = [
        {"prompt": "2+2", "completion": "4", "kind": "arithmetic", "gold": "4"},
        {"prompt": "Hi", "completion": "Yo"},
    ]
    read = list(read_chats(rows_file(tmp_path, *rows)))
    assert [(row.kind, row.gold) for row in read] == [("arithmetic", "4"), ("", "")]


def test_alpaca_with_input_and_history(tmp_path):
    row = {
        "instruction": "Translate",
        "input": "Katze",
        "output": "cat",
        "history": [["Hi", "Hello"], ["Ready?", "Yes"]],
    }
    (read,) = read_chats(rows_file(tmp_path, row))
    assert [message.content for message in read.messages] == ["Hi", "Hello", "Ready?", "Yes", "Translate\nKatze", "cat"]
    assert [message.role for message in read.messages] == ["user", "assistant"] * 3


def test_sharegpt_roles_and_openai_keys_under_its_name(tmp_path):
    turns = [("human", "a"), ("function_call", '{"name": "b"}'), ("observation", "c"), ("gpt", "d")]
    path = rows_file(tmp_path, {"conversations": [{"from": role, "value": text} for role, text in turns]})
    (read,) = read_chats(path)
    assert [message.role for message in read.messages] == ["user", "assistant", "tool", "assistant"]
    (read,) = read_chats(rows_file(tmp_path, {"conversations": [{"role": "assistant", "content": "d"}]}))
    assert read.messages == (Message("assistant", "d"),)


@pytest.mark.parametrize("key", ["text", "content", "body", "paragraphs"])
@pytest.mark.parametrize("value", ["one\ntwo", ["one", "two"]])
def test_text_keys(tmp_path, key, value):
    path = rows_file(tmp_path, {"title": "x", key: value})
    assert list(read_text(path)) == [TextRow("one\ntwo", f"{path}:1")]


def test_text_file_and_rows_without_text(tmp_path):
    book = tmp_path / "book.txt"
    book.write_text("Once.\n", encoding="utf-8")
    assert list(read_text(book)) == [TextRow("Once.\n", str(book))]
    path = rows_file(tmp_path, {"text": ""}, {"text": []}, {"text": "x"}, {"text": " "})
    assert [row.where for row in read_text(path)] == [f"{path}:3"]
    assert "rows.jsonl: no row holds any text" in fault(tmp_path, {"text": ""}, read=read_text)


def test_unknown_format(tmp_path):
    text = fault(tmp_path, {"instruction": "a", "response": "b"})
    assert "rows.jsonl:1: unknown row format with keys 'instruction', 'response'\n" in text
    assert "alpaca {instruction, output}" in text and "text {text|content|body|paragraphs}" in text
    assert "nearest is 'alpaca', which lacks 'output'" in text
    assert "nearest is 'text', which lacks 'text|content|body|paragraphs'" in fault(tmp_path, {"texts": "a"})
    assert fault(tmp_path, {"q": "a"}).endswith("try: rename the columns")


@pytest.mark.parametrize(
    ("turns", "what"),
    [
        (
            [{"from": "human", "value": "Hi"}, {"from": "bot", "value": "x"}],
            "message 2: role 'bot' unknown; did you mean 'gpt'?",
        ),
        ([{"from": "humn", "value": "Hi"}], "message 1: role 'humn' unknown; did you mean 'human'?"),
        ([{"from": "zzz", "value": "Hi"}], "message 1: role 'zzz' unknown\naccepted: human, gpt, system, observation"),
        ([{"value": "Hi"}], "message 1: no 'from'\naccepted: an object {from, value}"),
        ([{"from": "human"}], "message 1: human message without content\naccepted: text under 'value'"),
        ([{"from": "human", "value": None}], "message 1: human message without content"),
        ([{"from": "human", "value": 5}], "message 1: 'value' is the number 5\naccepted: text"),
        ([{"from": "human", "value": " "}, {"from": "gpt", "value": "x"}], "message 1: empty user turn"),
        ([{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "\n"}], "message 2: empty assistant turn"),
        (["Hi"], "message 1: the text 'Hi'\naccepted: an object {from, value}"),
    ],
)
def test_bad_message(tmp_path, turns, what):
    good = SAME_CHAT["sharegpt"]
    assert fault(tmp_path, good, {"conversations": turns}).startswith(f"rows.jsonl:2, {what}")


@pytest.mark.parametrize(
    ("row", "what"),
    [
        ({"messages": [{"role": "user", "content": "Hi"}]}, "rows.jsonl:1: no assistant turn among 1 messages"),
        ({"messages": []}, "rows.jsonl:1: no assistant turn among 0 messages"),
        (
            {"messages": "Hi"},
            "rows.jsonl:1: the text 'Hi' in place of the messages\naccepted: a list of {role, content}",
        ),
        (
            {"messages": [{"role": "bot", "content": "Hi"}]},
            "rows.jsonl:1, message 1: role 'bot' unknown; did you mean 'assistant'?",
        ),
        (
            {"messages": [{"role": "assistant", "content": None}]},
            "rows.jsonl:1, message 1: assistant message without content",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
            "rows.jsonl:1, message 1: 'content' part 1 is not text",
        ),
        ({"instruction": "Hi", "output": ""}, "rows.jsonl:1, message 2: empty assistant turn"),
        ({"instruction": "Hi", "output": None}, "rows.jsonl:1, message 2: empty assistant turn"),
        ({"instruction": ["Hi"], "output": "x"}, "rows.jsonl:1: 'instruction' is a list\naccepted: text"),
        (
            {"instruction": "Hi", "output": "x", "history": [["a"]]},
            "rows.jsonl:1: 'history' item 1 is a list\naccepted: [question,",
        ),
        ({"instruction": "Hi", "output": "x", "history": "a"}, "rows.jsonl:1: 'history' item 1 is the text 'a'"),
        ({"prompt": "Hi", "completion": True}, "rows.jsonl:1: 'completion' is true\naccepted: text"),
        ({"prompt": "Hi", "completion": "x", "gold": 4}, "rows.jsonl:1: 'gold' is the number 4\naccepted: text"),
        ({"prompt": "Hi", "completion": "x", "label": False}, "rows.jsonl:1: a row with a thumbs up or down"),
        (
            {"prompt": "Hi", "chosen": "x", "rejected": "y"},
            "rows.jsonl:1: preference data (chosen and rejected), not a chat",
        ),
        ({"prompt": "Hi", "completion": "\ud83d!"}, "rows.jsonl:1: 'completion' holds half a character (\\ud83d at 0)"),
        ({"text": "x"}, "rows.jsonl:1: plain text, not a chat"),
    ],
)
def test_bad_row(tmp_path, row, what):
    assert fault(tmp_path, row).startswith(what)


def test_messages_are_counted_through_prompt_and_completion(tmp_path):
    row = {"prompt": [{"role": "user", "content": "Hi"}], "completion": [{"role": "bot", "content": "x"}]}
    assert fault(tmp_path, row).startswith("rows.jsonl:1, message 2: role 'bot' unknown")


def test_read_text_refuses_chats_and_wrong_types(tmp_path):
    assert fault(tmp_path, SAME_CHAT["alpaca"], read=read_text).startswith("rows.jsonl:1: a chat, not plain text\n")
    assert fault(tmp_path, {"text": ["a", 5]}, read=read_text).startswith("rows.jsonl:1: 'text' item 2 is the number 5")
    assert fault(tmp_path, {"text": None}, read=read_text).startswith("rows.jsonl:1: 'text' is null")


def test_one_format_a_file(tmp_path):
    rows = [SAME_CHAT["alpaca"], SAME_CHAT["messages"]]
    assert fault(tmp_path, *rows).startswith("rows.jsonl:2: a row of format 'messages' in a file of 'alpaca'\n")
    for number, row in enumerate(rows):  # a folder may mix formats, file by file
        (tmp_path / f"{number}.json").write_text(json.dumps([row]), encoding="utf-8")
    assert len(list(read_chats(f"{tmp_path}/?.json"))) == 2


def test_summarize(tmp_path):
    rows = [
        {"prompt": "Hi", "completion": "你好", "kind": "small talk"},
        {"prompt": "Hi"},
        {"prompt": "Hi", "completion": ""},
        {"prompt": "Hi", "completion": "Yo"},
    ]
    path = rows_file(tmp_path, *rows)
    with path.open("a", encoding="utf-8") as handle:
        handle.write("{oops\n")
    summary = dataclasses.asdict(summarize(path, max_bad=2))
    bad = summary.pop("first_bad")
    assert summary == {
        "num_files": 1,
        "num_ok": 2,
        "num_bad": 3,
        "num_empty": 0,
        "num_bytes": 2 + 6 + 2 + 2,
        "formats": {"prompt-completion": 2},
        "roles": {"user": 2, "assistant": 2},
        "kinds": {"small talk": 1},
    }
    assert len(bad) == 2 and f"{path}:2: unknown row format" in bad[0] and f"{path}:3, message 2: empty" in bad[1]


def test_summarize_goes_on_behind_a_bad_file(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"")
    (tmp_path / "b.txt").write_text("two", encoding="utf-8")
    summary = summarize(tmp_path)
    assert (summary.num_files, summary.num_ok, summary.num_bad) == (2, 1, 1)
    assert summary.first_bad[0].startswith(f"{tmp_path / 'a.txt'}: empty (0 bytes)")


def test_real_instructions(shared_data):
    rows = list(read_chats(shared_data / "instruct" / "raschka-1100.json"))
    assert len(rows) == 1100 and rows[0].messages[0].content.endswith("\nfreind --> friend")
    assert "{{name}}" in next(read_chats(shared_data / "instruct" / "identity.json")).messages[1].content


def test_real_text(shared_data):
    poems = list(read_text(shared_data / "text" / "poetry-zh"))
    assert len(poems) == 45_300 and all(row.text for row in poems)
    assert sum(1 for _ in scan_rows(shared_data / "text" / "poetry-zh")) == 45_443  # 143 plays have no lines
    assert len(list(read_text(shared_data / "text" / "c4_demo.jsonl"))) == 300
