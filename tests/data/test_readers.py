"""Every file kind gives the same rows, and every fault names the file, the place and the remedy."""

import gzip
import json
import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from smelt.core.errors import DataError
from smelt.data.readers import expand_paths, guess_encoding, read_documents, scan_file

ROWS = [{"text": "one", "label": "a"}, {"text": "two\nlines, “quoted”", "label": "b"}]
WRITERS = {
    "jsonl": lambda: "".join(json.dumps(row) + "\n" for row in ROWS).encode(),
    "json": lambda: json.dumps(ROWS, ensure_ascii=False).encode(),
    "csv": lambda: 'text,label\none,a\n"two\nlines, “quoted”",b\n'.encode(),
    "parquet": lambda: parquet_bytes(ROWS),
}


def parquet_bytes(rows):
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(rows), sink, row_group_size=1)
    return sink.getvalue().to_pybytes()


def write(path, data):
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


def fault(spec):
    with pytest.raises(DataError) as caught:
        list(read_documents(spec))
    assert len(str(caught.value).splitlines()) <= 3
    return str(caught.value)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("kind", WRITERS)
def test_row_files(tmp_path, kind, packed):
    data = WRITERS[kind]()
    path = write(tmp_path / f"rows.{kind}{'.gz' if packed else ''}", gzip.compress(data) if packed else data)
    read = list(read_documents(path))
    assert [row for _, row in read] == ROWS
    first, second = ("2", "3") if kind == "csv" else ("1", "2")  # a table's rows are named by line, below its header
    assert [where for where, _ in read] == [f"{path}:{first}", f"{path}:{second}"]


@pytest.mark.parametrize("name", ["book.txt", "book.md", "BOOK.TXT", "book.txt.gz"])
def test_text_file_is_one_document(tmp_path, name):
    data = "\ufeffOne.\r\nTwo.\rThree.\n".encode()
    path = write(tmp_path / name, gzip.compress(data) if name.endswith("gz") else data)
    assert list(read_documents(path)) == [(str(path), "One.\nTwo.\nThree.\n")]


def test_byte_order_mark_and_windows_line_ends_in_rows(tmp_path):
    jsonl = write(tmp_path / "a.jsonl", b'\xef\xbb\xbf{"text": "x"}\r\n\r\n{"text": "y"}\r\n')
    table = write(tmp_path / "a.csv", b'\xef\xbb\xbftext\r\n"x\r\ny"\r\nz\r\n')
    assert list(read_documents(jsonl)) == [(f"{jsonl}:1", {"text": "x"}), (f"{jsonl}:3", {"text": "y"})]
    assert list(read_documents(table)) == [(f"{table}:2", {"text": "x\ny"}), (f"{table}:4", {"text": "z"})]


def test_tsv_takes_quotes_as_letters(tmp_path):
    path = write(tmp_path / "a.tsv", 'label\ttext\nham\t"so he said\nspam\twin\n')
    assert [row["text"] for _, row in read_documents(path)] == ['"so he said', "win"]


def test_one_record_json(tmp_path):
    path = write(tmp_path / "a.json", '{"text": "x"}')
    assert list(read_documents(path)) == [(f"{path}:1", {"text": "x"})]


def test_long_table_field(tmp_path):
    path = write(tmp_path / "a.csv", "text\n" + "x" * 200_000 + "\n")
    assert [len(row["text"]) for _, row in read_documents(path)] == [200_000]


def test_folder_is_sorted_recursive_and_ignores_foreign_files(tmp_path):
    for name in ("b.txt", "a/z.txt", "a/b.md", ".hidden.txt", ".git/x.txt", "picture.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write(tmp_path / name, name)
    names = ["a/b.md", "a/z.txt", "b.txt"]
    assert [path.relative_to(tmp_path).as_posix() for path in expand_paths(tmp_path)] == names
    assert [value for _, value in read_documents(f"{tmp_path}/**/*.txt")] == ["a/z.txt", "b.txt"]


def test_link_out_of_folder_is_refused(tmp_path):
    inside, outside = tmp_path / "inside", tmp_path / "outside.txt"
    inside.mkdir()
    write(outside, "secret")
    os.symlink(outside, inside / "link.txt")
    assert "a link that leads out of" in fault(inside)
    assert list(read_documents(inside / "link.txt"))  # named itself, it is what the user asked for


def test_missing_file(tmp_path):
    write(tmp_path / "stories.txt", "x")
    assert f"{tmp_path}/storys.txt: no such file. Did you mean 'stories.txt'?" in fault(tmp_path / "storys.txt")
    assert "no readable file among 0 found" in fault(f"{tmp_path}/*.jsonl")


def test_source_code_is_text_and_may_be_empty(tmp_path):
    (tmp_path / "a").mkdir()
    write(tmp_path / "a" / "__init__.py", "")
    write(tmp_path / "a" / "b.py", "x = 1\r\n")
    found = [value for _, value in read_documents(f"{tmp_path}/**/*.py")]
    assert found == ["", "x = 1\n"]


def test_folder_without_readable_file(tmp_path):
    write(tmp_path / "a.png", "x")
    text = fault(tmp_path)
    assert f"{tmp_path}: no readable file among 1 found" in text
    assert "accepted: .txt, .md, .py, .jsonl, .json, .csv, .tsv, .parquet, each also as .gz" in text


def test_unknown_extension(tmp_path):
    assert "a.jsnl: unknown extension '.jsnl'. Did you mean '.json" in fault(write(tmp_path / "a.jsnl", "x"))
    assert "README: no extension to tell its format by" in fault(write(tmp_path / "README", "x"))


@pytest.mark.parametrize(
    ("name", "data", "what"),
    [
        ("a.txt", b"", "empty (0 bytes)"),
        ("a.txt", b" \n", "holds only white space"),
        ("a.jsonl", b"\n\n", "holds no rows"),
        ("a.json", b"[]", "holds no rows"),
        ("a.csv", b"text\n", "holds no rows"),
        ("a.parquet", b"", "not a readable parquet file"),
        ("a.jsonl.gz", gzip.compress(b"", mtime=0), "empty (0 bytes)"),
    ],
)
def test_files_without_rows(tmp_path, name, data, what):
    assert f"{name}: {what}" in fault(write(tmp_path / name, data))


def test_parquet_without_rows(tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": pa.array([], pa.string())}), path)
    assert "a.parquet: holds no rows" in fault(path)


@pytest.mark.parametrize(
    ("data", "offset", "hint"),
    [
        ("春天来了，花开了。".encode("gbk"), 0, "GBK"),
        (b"plain " + "人工智能可以学习。".encode("gb18030"), 6, "GBK"),
        ("春天來了，花開了，我們去看。".encode("big5"), 0, "Big5"),
        ("Un café crème, s'il vous plaît".encode("latin-1"), 6, "Windows-1252 or another one-byte encoding"),
        ("hello".encode("utf-16"), 0, "UTF-16"),
        ("hello".encode("utf-16-le"), 0, "UTF-16 or another binary format"),
        ("hello".encode("utf-32"), 0, "UTF-32"),
        ("你好世界".encode()[:-1], 9, "UTF-8 with a broken character (a file cut in the middle, or two joined)"),
        (b"%PDF-1.7 \xff", 0, "a PDF"),
        (b"PK\x03\x04\xff", 0, "a zip archive (docx, xlsx and epub are zip files too)"),
    ],
)
def test_not_utf8(tmp_path, data, offset, hint):
    text = fault(write(tmp_path / "a.txt", data))
    assert f"a.txt: byte {offset} is not UTF-8; it looks like {hint}\n" in text
    if hint in ("GBK", "Big5", "UTF-16"):
        assert f"try: iconv -f {hint} -t UTF-8 a.txt > utf8-a.txt" in text


def test_offset_counts_from_the_start_of_the_file(tmp_path):
    rows = b'\xef\xbb\xbf{"text": "a"}\n{"text": "\xb4\xba\xcc\xec"}\n'
    assert f"byte {rows.index(0xB4)} is not UTF-8; it looks like GBK" in fault(write(tmp_path / "a.jsonl", rows))
    assert "byte 4 is not UTF-8" in fault(write(tmp_path / "a.txt", b"\xef\xbb\xbfa\xff"))


def test_guess_of_gbk_is_not_fooled_by_latin_letters():
    assert guess_encoding("été à la plage".encode("latin-1"), 0).startswith("Windows-1252")


def test_broken_json_line(tmp_path):
    path = write(tmp_path / "a.jsonl", '{"text": "x"}\n{"text": oops}\n{"text": "y"}\n')
    assert fault(path).startswith(f"{path}:2: broken JSON at column 10 (Expecting value)\n")
    values = [value for _, value in scan_file(path)]  # a scan goes on behind the broken line
    assert values[0] == {"text": "x"} and isinstance(values[1], DataError) and values[2] == {"text": "y"}
    cut = write(tmp_path / "b.jsonl", '{"text": "x"}\n{"text": "y')
    assert "b.jsonl:2: broken JSON" in fault(cut) and "the last line is cut off" in fault(cut)
    assert "rename the file to .json" in fault(write(tmp_path / "c.jsonl", '[\n{"text": "x"}\n]'))


def test_broken_json_file(tmp_path):
    assert "a.json:2: broken JSON at column 1 " in fault(write(tmp_path / "a.json", '[{"text": "x"},\n'))
    assert "rename the file to .jsonl" in fault(write(tmp_path / "b.json", '{"text": "x"}\n{"text": "y"}\n'))


@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
def test_hostile_json(tmp_path, name):
    assert "JSON that cannot be read" in fault(write(tmp_path / name, "[" * 100_000))
    assert "JSON that cannot be read" in fault(write(tmp_path / name, '{"text": ' + "9" * 10_000 + "}"))


@pytest.mark.parametrize(
    ("value", "words"), [("5", "the number 5"), ('"x"', "the text 'x'"), ("null", "null"), ("[1]", "a list")]
)
def test_row_that_is_no_object(tmp_path, value, words):
    assert f"a.jsonl:2: a row that is {words}\n" in fault(write(tmp_path / "a.jsonl", '{"text": "x"}\n' + value + "\n"))
    assert f"a.json:2: a row that is {words}\n" in fault(write(tmp_path / "a.json", '[{"text": "x"}, ' + value + "]"))


def test_broken_tables(tmp_path):
    assert "a.csv:3: 1 fields, but the header names 2" in fault(write(tmp_path / "a.csv", "a,b\n1,2\n3\n"))
    assert "a.csv:2: broken table (unexpected end of data)" in fault(write(tmp_path / "a.csv", 'a,b\n1,"2\n'))
    assert "a.csv:1: a column name stands twice in ['a', 'a']" in fault(write(tmp_path / "a.csv", "a,a\n1,2\n"))


def test_broken_parquet(tmp_path):
    data = parquet_bytes(ROWS)
    assert "a.parquet: not a readable parquet file, after row 0" in fault(write(tmp_path / "a.parquet", data[:-9]))


def test_broken_gzip(tmp_path):
    packed = gzip.compress(os.urandom(5000).hex().encode())
    assert "a.txt.gz: broken gzip data" in fault(write(tmp_path / "a.txt.gz", packed[:-20]))
    assert "b.txt.gz: broken gzip data" in fault(write(tmp_path / "b.txt.gz", b"not gzip at all"))
    assert "it looks like a gzip file" in fault(write(tmp_path / "c.txt", packed))


def test_no_permission(tmp_path, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    write(tmp_path / "a.txt", "x")
    monkeypatch.setattr("smelt.data.readers.open_file", refuse)
    assert "a.txt: cannot be read (Permission denied)\ntry: check the permissions" in fault(tmp_path / "a.txt")
    monkeypatch.setattr("os.scandir", refuse)  # a folder below that cannot be listed must not be passed over
    assert f"{tmp_path}: cannot be listed (Permission denied)" in fault(tmp_path)


def test_real_files(shared_data):
    books = list(read_documents(shared_data / "text" / "books-en"))
    assert len(books) == 100 and not any("\r" in text for _, text in books)
    spam = [row["Label"] for _, row in read_documents(shared_data / "classify" / "sms-spam.tsv")]
    assert len(spam) == 5574 and set(spam) == {"ham", "spam"}
