"""Any page of a file: the same rows as reading it from its beginning gives, however large and however damaged it is."""

import gzip
import json

import pyarrow as arrow
import pyarrow.parquet as parquet
import pytest

from smelt.core.errors import DataError
from smelt.data import paging
from smelt.data.paging import EVERY, open_paged
from smelt.data.readers import scan_file

NUM = 3 * EVERY + 7


def write(path, kind):
    texts = [f"row {number}\nand more é" if number % 5 == 0 else f"row {number}" for number in range(NUM)]
    if kind == ".parquet":
        parquet.write_table(arrow.table({"text": texts}), path, row_group_size=100)
    elif kind == ".csv":
        path.write_text("text,label\n" + "".join(f'"{text}",x\n' for text in texts))
    elif kind == ".tsv":
        path.write_text("text\n" + "".join(text.replace("\n", " ") + "\n" for text in texts))
    elif kind == ".json":
        path.write_text(json.dumps([{"text": text} for text in texts]))
    else:
        data = "".join(json.dumps({"text": text}) + "\n" for text in texts).encode()
        path.write_bytes(gzip.compress(data) if kind.endswith(".gz") else data)


@pytest.mark.parametrize("kind", [".jsonl", ".jsonl.gz", ".csv", ".tsv", ".json", ".parquet"])
def test_every_page_holds_what_the_reader_finds_there(tmp_path, kind):
    path = tmp_path / f"a{kind}"
    write(path, kind)
    wanted = [value for _, value in scan_file(path)]
    for start in (1, 2, EVERY, EVERY + 1, 2 * EVERY + 5, NUM - 3, NUM):
        rows = open_paged(path).page(start, 10).rows  # each by a reader that knows nothing
        assert [row.number for row in rows] == list(range(start, min(start + 10, NUM + 1)))
        assert [row.value for row in rows] == wanted[start - 1 : start + 9]
    file = open_paged(path)
    assert file.page(NUM + 1, 10).rows == () and file.page(NUM + 1, 10).ready
    assert file.total == file.estimate == NUM
    assert [row.value for row in file.head(NUM + 50)] == wanted
    spread = [row.number for row in file.spread(64)]
    assert len(spread) == 64 and spread[0] == 1 and spread[-1] > 0.7 * NUM


def test_the_first_page_of_a_long_file_reads_its_beginning_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(paging, "BLOCK_BYTES", 1000)
    monkeypatch.setattr(paging, "SCANNED_BYTES", 5000)
    path = tmp_path / "a.jsonl"
    write(path, ".jsonl")
    file = open_paged(path)
    assert [row.number for row in file.page(1, 5).rows] == [1, 2, 3, 4, 5]
    assert file.total is None and file.scanned <= 1000 and abs(file.estimate - NUM) < 0.2 * NUM
    asked = 0
    while not (page := file.page(NUM, 5)).ready:
        asked += 1
        assert page.rows == ()
    assert asked > 1 and [row.number for row in page.rows] == [NUM] and file.total == NUM


def test_bad_rows_keep_their_place_and_those_behind_are_read(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"text": "a"}\n\n{broken\n{"text": "caf\xe9"}\n[1]\n{"text": "z"}')
    rows = open_paged(path, "its name").page(1, 10).rows
    assert [row.number for row in rows] == [1, 3, 4, 5, 6]
    faults = [str(row.value) if isinstance(row.value, DataError) else "" for row in rows]
    assert "its name:3: broken JSON at column 2" in faults[1] and rows[1].raw == "{broken\n"
    assert "its name: byte 36 is not UTF-8" in faults[2] and r"caf\xe9" in rows[2].raw
    assert "a row that is a list" in faults[3] and faults[4] == ""


def test_a_line_without_end_is_a_bad_row_and_not_a_full_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(paging, "LINE_BYTES", 100)
    monkeypatch.setattr(paging, "BLOCK_BYTES", 50)
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "a"}\n{"text": "' + "x" * 5000 + '"}\n{"text": "z"}\n')
    first, long, last = open_paged(path).page(1, 10).rows
    assert first.value == {"text": "a"} and last.value == {"text": "z"}
    assert "a line of more than 100 bytes" in str(long.value)


def test_a_damaged_table_ends_where_it_is_damaged(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(b'text,label\na,x\nshort\nb,y\n"no end,z\n')
    rows = open_paged(path, "t").page(1, 10).rows
    assert rows[0].value == {"text": "a", "label": "x"} and rows[2].value == {"text": "b", "label": "y"}
    assert "t:3: 1 fields, but the header names 2" in str(rows[1].value) and rows[1].raw == "short"
    assert "t:5: broken table" in str(rows[3].value) and len(rows) == 4
    path.write_text("text,text\na,b\n")
    with pytest.raises(DataError, match="t:1: a column name stands twice"):
        open_paged(path, "t").page(1, 1)


@pytest.mark.parametrize(
    ("name", "data", "fault"),
    [
        ("a.jsonl", b"", "its name: empty"),
        ("a.jsonl", b"\xff\xfea\0", "its name: byte 0 is not UTF-8; it looks like UTF-16"),
        ("a.jsonl.gz", gzip.compress(b'{"text": "a"}\n' * 99, mtime=0)[:-9], "its name: broken gzip data"),
        ("a.jsonl.gz", b"no gzip", "its name: broken gzip data"),
        ("a.parquet", b"PAR1 and no more", "its name: not a readable parquet file"),
        ("a.parquet.gz", b"", "its name: packed parquet has no index"),
        ("a.xyz", b"", "unknown extension '.xyz'"),
    ],
)
def test_a_file_that_cannot_be_read_is_one_error_with_its_name(tmp_path, name, data, fault):
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(DataError) as caught:
        open_paged(path, "its name").page(1, 5)
    assert fault in str(caught.value)
    assert ".xyz" in name or str(tmp_path) not in str(caught.value)


def test_of_a_long_document_the_beginning_is_shown_and_no_character_is_cut(tmp_path, monkeypatch):
    path = tmp_path / "a.txt"
    path.write_text("aé" * 50)
    monkeypatch.setattr(paging, "DOCUMENT_BYTES", 80)  # in the middle of the é that stands at bytes 79 and 80
    (row,) = open_paged(path).page(1, 5).rows
    assert row.value == "aé" * 26 + "a" and row.cut
    monkeypatch.setattr(paging, "DOCUMENT_BYTES", 150)
    assert not open_paged(path).page(1, 5).rows[0].cut
    (tmp_path / "b.json").write_text("[" + " " * 100 + "]")
    monkeypatch.setattr(paging, "WHOLE_BYTES", 100)
    with pytest.raises(DataError, match="can only be read whole"):
        open_paged(tmp_path / "b.json").page(1, 5)
