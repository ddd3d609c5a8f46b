"""A changed data set is a new file with its record; the source is not touched."""

import hashlib
import json

import pyarrow as arrow
import pyarrow.parquet as parquet
import pytest

from smelt.core.errors import DataError, UsageError
from smelt.data import versions
from smelt.data.clean.filters import FilterRecipe
from smelt.data.versions import Edit, make_version, shown_path, texts_in, version_of

CHAT = {"messages": [{"role": "user", "content": "Hi?"}, {"role": "assistant", "content": "Ho."}]}


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_edits_make_a_new_file_and_leave_the_source_byte_for_byte(tmp_path):
    source = tmp_path / "a.jsonl"
    spaced = b'{"messages":   [{"role": "user", "content": "\\u00e9"}, {"role": "assistant", "content": "b"}]}\n'
    source.write_bytes(json.dumps(CHAT).encode() + b"\n\n{broken\n" + spaced + json.dumps(CHAT).encode())
    before, about = source.read_bytes(), source.stat()
    edits = [Edit(row=1, path=("messages", 1, "content"), text="你好"), Edit(row=5)]
    made = make_version(source, tmp_path, id="1", name="a.jsonl", edits=edits)
    assert made.name == "a.v2.jsonl"
    assert source.read_bytes() == before and source.stat().st_mtime_ns == about.st_mtime_ns
    new = made.read_bytes().splitlines(keepends=True)
    assert json.loads(new[0])["messages"][1]["content"] == "你好" and new[1:] == [b"{broken\n", spaced]
    version = version_of(made)
    assert version.source == "a.jsonl" and version.source_sha256 == hashlib.sha256(before).hexdigest()
    assert list(version.edits) == edits and (version.rows_before, version.rows_after) == (4, 3)
    assert version.left_out == {"removed by hand": 1} and version_of(source) is None
    assert {path.name for path in tmp_path.iterdir()} == {"a.jsonl", "a.v2.jsonl", "a.v2.yaml"}


def test_the_same_change_again_is_the_same_file_and_a_version_has_versions(tmp_path):
    source = tmp_path / "a.jsonl"
    source.write_text('{"text": "a"}\n{"text": "b"}\n')
    for _ in range(2):
        assert make_version(source, tmp_path, id="x1", name="a", edits=[Edit(row=1)]).name == "a.v2.jsonl"
    third = make_version(
        tmp_path / "a.v2.jsonl", tmp_path, id="x2", name="a.v2.jsonl", edits=[Edit(row=1, path=("text",), text="c")]
    )
    assert third.name == "a.v3.jsonl" and lines(third) == [{"text": "c"}]
    assert lines(tmp_path / "a.v2.jsonl") == [{"text": "b"}]


def test_other_formats_become_lines_of_json(tmp_path):
    table = arrow.table({"text": ["a", "b"], "day": arrow.array([0, 1], arrow.date32())})
    parquet.write_table(table, tmp_path / "a.parquet")
    made = make_version(
        tmp_path / "a.parquet", tmp_path, id="1", name="a", edits=[Edit(row=2, path=("text",), text="B")]
    )
    assert lines(made) == [{"text": "a", "day": "1970-01-01"}, {"text": "B", "day": "1970-01-02"}]
    (tmp_path / "b.txt").write_text("a book")
    made = make_version(tmp_path / "b.txt", tmp_path / "new", id="2", name="b", edits=[Edit(row=1, text="a tale")])
    assert lines(made) == [{"text": "a tale"}] and made.parent.name == "new"


def test_filters_are_counted_by_reason_and_recorded(tmp_path):
    source = tmp_path / "a.jsonl"
    rows = ["one text", "One  text", "x", "a text too long to stay", "mail ann@example.org", "bro\x00ken", "fine then"]
    source.write_text("".join(json.dumps({"text": text}) + "\n" for text in rows) + "{bad\n")
    recipe = FilterRecipe(duplicates=True, broken=True, traces=True, min_characters=3, max_characters=20)
    made = make_version(source, tmp_path, id="1", name="a", filters=recipe)
    assert [row["text"] for row in lines(made)] == ["one text", "fine then"]
    version = version_of(made)
    assert version.filters == recipe and version.rows_before == 8
    reasons = ("duplicates", "min_characters", "max_characters", "traces", "broken", "bad")
    assert version.left_out == dict.fromkeys(reasons, 1)


@pytest.mark.parametrize(
    ("edits", "fault"),
    [
        ([Edit(row=9, text="x")], "there is no row 9"),
        ([Edit(row=1, path=("messages", 7, "content"), text="x")], "there is nothing at '7'"),
        ([Edit(row=1, path=("messages",), text="x")], "there is no text at messages"),
        (
            [Edit(row=1, path=("messages", 0, "role"), text="bot")],
            "as it was edited, a:1, message 1: role 'bot' unknown",
        ),
        ([Edit(row=1, path=("messages", 0, "content"), text="\ud83d")], "half a character"),
        ([Edit(row=1), Edit(row=2)], "no row would be left of 2"),
        ([Edit(row=2, path=("text",), text="x")], "cannot be read cannot be edited"),
        ([], "a new version without a change"),
    ],
)
def test_a_change_that_cannot_be_made_makes_nothing(tmp_path, edits, fault):
    source = tmp_path / "a.jsonl"
    source.write_text(json.dumps(CHAT) + "\n{broken\n")
    with pytest.raises((DataError, UsageError)) as caught:
        make_version(source, tmp_path, id="1", name="a", edits=edits)
    assert fault in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["a.jsonl"]


def test_a_file_that_breaks_off_or_is_too_large_makes_nothing(tmp_path, monkeypatch):
    source = tmp_path / "a.csv"
    source.write_bytes(b"text,label\na,x\ncaf\xe9,y\nb,z\n")
    with pytest.raises(DataError, match="is not UTF-8"):
        make_version(source, tmp_path, id="1", name="a", edits=[Edit(row=1)])
    monkeypatch.setattr(versions, "MOST_BYTES", 10)
    with pytest.raises(DataError, match="26 bytes are too many to be written anew here"):
        make_version(source, tmp_path, id="1", name="a", edits=[Edit(row=1)])
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]


def test_the_texts_of_a_row_and_their_places():
    assert [(shown_path(path), text) for path, text in texts_in(CHAT)] == [
        ("messages[0].role", "user"),
        ("messages[0].content", "Hi?"),
        ("messages[1].role", "assistant"),
        ("messages[1].content", "Ho."),
    ]
    assert list(texts_in("a book")) == [((), "a book")] and shown_path(()) == "the row"
