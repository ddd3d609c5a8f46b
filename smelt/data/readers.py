"""Read whatever file a user has, one document or row at a time, and say exactly where a bad one is.

A `scan` yields (where, value) and, for a row that cannot be read, (where, error) in its place: one generator then
serves both the reader that stops at the first fault and the inspector that counts them. A txt or md file is one
document; a row of any other format is a dict. Line endings become "\\n" and a byte-order mark is dropped, so the same
text gives the same tokens on every system. Text is UTF-8 and nothing else: guessing an encoding would train on
garbage without a word, so another one is an error with the byte and the likely name. jsonl, csv and parquet are
streamed; txt, md and json cost the size of the file in memory.
"""

from __future__ import annotations

import csv
import glob
import gzip
import io
import json
import os
import re
import sys
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import BinaryIO, Literal, TypedDict, cast

from smelt.core.errors import DataError, nearest

Value = str | dict[str, object]
Scanned = tuple[str, Value | DataError]

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
BINARY_STARTS = (  # the longer of two that begin alike comes first
    (b"\xff\xfe\x00\x00", "UTF-32"),
    (b"\xff\xfe", "UTF-16"),
    (b"\xfe\xff", "UTF-16"),
    (b"%PDF", "a PDF"),
    (b"PK\x03\x04", "a zip archive (docx, xlsx and epub are zip files too)"),
    (b"\x1f\x8b", "a gzip file without .gz in its name"),
    (b"\x28\xb5\x2f\xfd", "a zstd file"),
    (b"PAR1", "a parquet file"),
)
LEGACY_ENCODINGS = (  # which byte pairs make up nearly all non-ASCII bytes of a text in that encoding
    ("GBK", re.compile(rb"[\xa1-\xa9\xb0-\xf7][\xa1-\xfe]")),
    ("Big5", re.compile(rb"[\xa1-\xc6\xc9-\xf9][\x40-\x7e\xa1-\xfe]")),
)


def read_documents(spec: str | Path) -> Iterator[tuple[str, Value]]:
    """Yield (where, value) for every document or row of a file, folder or glob.

    Raises:
        DataError: at the first file or row that cannot be read.
    """
    for path in expand_paths(spec):
        for where, value in scan_file(path):
            if isinstance(value, DataError):
                raise value
            yield where, value


def expand_paths(spec: str | Path) -> list[Path]:
    """Return the files that a path, folder (recursive) or glob stands for, sorted by name.

    A folder or glob gives only files with a known extension; hidden files are left out.

    Raises:
        DataError: nothing is there, nothing there is readable, or a link leads out of the folder.
    """
    path = Path(spec).expanduser()
    if path.is_file():
        kind_of(path)
        return [path]
    if path.is_dir():
        found = list(files_below(path))
    elif any(letter in str(spec) for letter in "*?["):
        found = [Path(name) for name in glob.glob(str(path), recursive=True) if Path(name).is_file()]
    else:
        siblings = os.listdir(path.parent) if path.parent.is_dir() else []
        raise DataError(f"{spec}: no such file.{nearest(path.name, siblings)}", fix="check the path")
    readable = sorted((name for name in found if suffix_of(name) in SCANNERS), key=lambda name: name.as_posix())
    if not readable:
        raise DataError(f"{spec}: no readable file among {len(found)} found", accepted=ACCEPTED, fix="check the path")
    return readable


def files_below(folder: Path) -> Iterator[Path]:
    """Yield every file below a folder that is not hidden.

    Raises:
        DataError: a link points outside the folder, which could bring in files that nobody meant to train on.
    """
    root = folder.resolve()
    for parent, folders, names in os.walk(folder, onerror=refuse_folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            path = Path(parent, name)
            if name.startswith(".") or not path.is_file():
                continue
            if path.is_symlink() and not path.resolve().is_relative_to(root):
                raise DataError(f"{path}: a link that leads out of {folder}", fix="name the file it points to instead")
            yield path


def refuse_folder(error: OSError) -> None:
    """Raise the error for a folder that cannot be listed, which `os.walk` would pass over.

    Raises:
        DataError: always.
    """
    raise DataError(f"{error.filename}: cannot be listed ({error.strerror})", fix="check the permissions")


def suffix_of(path: Path) -> str:
    """Return the extension that decides the format, in lower case and without ".gz"."""
    return Path(path.name.lower().removesuffix(".gz")).suffix


def kind_of(path: Path) -> str:
    """Return a file's extension if it is a known one.

    Raises:
        DataError: it is not.
    """
    suffix = suffix_of(path)
    if suffix not in SCANNERS:
        hint = nearest(suffix, SCANNERS)
        shown = f"unknown extension '{suffix}'.{hint}" if suffix else "no extension to tell its format by"
        raise DataError(f"{path}: {shown}", accepted=ACCEPTED, fix="convert or rename the file")
    return suffix


def scan_file(path: Path, *, header: bool = True) -> Iterator[Scanned]:
    """Yield (where, value or error) for each document or row of one file; a fault of the file itself ends it.

    Columns of a table without a `header` are called "1", "2" and so on.
    """
    num_rows = 0
    kind = kind_of(path)
    scanner = SCANNERS[kind] if header or kind not in TABLES else partial(scan_table, header=False, **TABLES[kind])
    try:
        for scanned in scanner(path):
            num_rows += 1
            yield scanned
        if num_rows == 0:
            raise DataError(f"{path}: holds no rows", fix="check that the file was written completely")
    except DataError as error:
        yield str(path), error
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        yield str(path), DataError(f"{path}: broken gzip data ({error})", fix="copy or download the file again")
    except OSError as error:
        yield str(path), DataError(f"{path}: cannot be read ({error.strerror or error})", fix="check the permissions")


def scan_text(path: Path) -> Iterator[Scanned]:
    """Yield a whole text file as one document."""
    with open_checked(path) as handle:
        text = decode(handle.read(), path)
    if not text.strip():
        raise DataError(f"{path}: holds only white space", fix="check that the file was written completely")
    yield str(path), text.replace("\r\n", "\n").replace("\r", "\n")


def scan_code(path: Path) -> Iterator[Scanned]:
    """Yield a whole file of source code as one document; an empty one, as packages have, is a document without text."""
    yield from scan_text(path) if path.stat().st_size else [(str(path), "")]


def scan_json_lines(path: Path) -> Iterator[Scanned]:
    """Yield one row a line; blank lines are passed over."""
    for number, line in enumerate(scan_lines(path), start=1):
        where = f"{path}:{number}"
        if line.strip():
            yield where, parse_json_row(line, where)


def parse_json_row(line: str, where: str) -> Value | DataError:
    """Parse one line of JSON, or return the error that tells what is wrong with it."""
    try:
        value = json.loads(line)
    except json.JSONDecodeError as error:
        fix = "the last line is cut off: write it again" if not line.endswith("\n") else "one JSON object on each line"
        if where.endswith(":1") and line.lstrip().startswith("["):
            fix = "a list over several lines is JSON: rename the file to .json"
        return DataError(f"{where}: broken JSON at column {error.colno} ({error.msg})", fix=fix)
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, nesting of thousands of levels
        return DataError(f"{where}: JSON that cannot be read ({error})", accepted="one JSON object on each line")
    return require_row(value, where)


def require_row(value: object, where: str) -> Value | DataError:
    """Return the value if it is an object, else the error that says what it is."""
    if isinstance(value, dict):
        return cast(dict[str, object], value)
    return DataError(f"{where}: a row that is {describe(value)}", accepted='an object such as {"text": "..."}')


def scan_json(path: Path) -> Iterator[Scanned]:
    """Yield the rows of a JSON list, or the one record that the file is; rows are numbered from 1."""
    with open_checked(path) as handle:
        text = decode(handle.read(), path)
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        fix = "several values in a row are JSON Lines: rename the file to .jsonl" if error.msg == "Extra data" else ""
        raise DataError(f"{path}:{error.lineno}: broken JSON at column {error.colno} ({error.msg})", fix=fix) from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: JSON that cannot be read ({error})", accepted="a list of records") from None
    for number, row in enumerate(value if isinstance(value, list) else [value], start=1):
        where = f"{path}:{number}"
        yield where, require_row(row, where)


def scan_csv(path: Path) -> Iterator[Scanned]:
    """Yield the rows of a comma-separated table with a header."""
    return scan_table(path, **TABLES[".csv"])


def scan_tsv(path: Path) -> Iterator[Scanned]:
    """Yield the rows of a tab-separated table with a header; quotes are plain letters there."""
    return scan_table(path, **TABLES[".tsv"])


def scan_table(path: Path, *, delimiter: str, quoted: bool, header: bool = True) -> Iterator[Scanned]:
    """Yield each record of a table as a dict, under the number of the line it begins on.

    Without a `header` the columns are numbered, as many as the first record has.
    """
    csv.field_size_limit(sys.maxsize)  # the default of 128 KiB refuses a book chapter
    quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE
    reader = csv.reader(scan_lines(path), delimiter=delimiter, quoting=quoting, strict=True)
    line = 1
    try:
        first = next(reader, [])
        columns = first if header else [str(number) for number in range(1, len(first) + 1)]
        if len(set(columns)) < len(columns):
            raise DataError(f"{path}:1: a column name stands twice in {columns}", fix="give each column its own name")
        if not header and first:
            yield f"{path}:1", dict(zip(columns, first, strict=True))
        line = reader.line_num + 1
        for fields in reader:
            where = f"{path}:{line}"
            line = reader.line_num + 1
            if len(fields) == len(columns):
                yield where, dict(zip(columns, fields, strict=True))
            elif fields:
                whose = "the header names" if header else "the first row has"
                yield where, DataError(f"{where}: {len(fields)} fields, but {whose} {len(columns)}")
    except csv.Error as error:
        raise DataError(f"{path}:{line}: broken table ({error})", fix="check the quotes of that row") from None


def scan_parquet(path: Path) -> Iterator[Scanned]:
    """Yield the rows of a parquet file, read by row group; rows are numbered from 1."""
    import pyarrow as arrow
    import pyarrow.parquet as parquet

    number = 0
    try:
        with open_file(path) as handle:  # parquet seeks, which a gzip stream does by starting over: unpack it first
            source = io.BytesIO(handle.read()) if path.name.lower().endswith(".gz") else handle
            table = parquet.ParquetFile(source)
            for group in range(table.num_row_groups):
                for batch in table.iter_batches(batch_size=1024, row_groups=[group]):
                    for row in batch.to_pylist():
                        number += 1
                        yield f"{path}:{number}", row
    except (arrow.ArrowException, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())[:120]
        raise DataError(f"{path}: not a readable parquet file, after row {number} ({reason})") from None


def scan_lines(path: Path) -> Iterator[str]:
    """Yield the lines of a file, each ending in "\\n" except perhaps the last."""
    start_bytes = 0
    with open_checked(path) as handle:
        for raw in handle:
            line = decode(raw, path, start_bytes)
            start_bytes += len(raw)
            yield line[:-2] + "\n" if line.endswith("\r\n") else line


def open_file(path: Path) -> BinaryIO:
    """Open a file for bytes, unpacking .gz."""
    return cast(BinaryIO, gzip.open(path, "rb")) if path.name.lower().endswith(".gz") else open(path, "rb")


def open_checked(path: Path) -> BinaryIO:
    """Open a text file after a look at its first bytes.

    Raises:
        DataError: it is empty, or its first bytes belong to something that is not UTF-8 text.
    """
    handle = open_file(path)
    head = cast(io.BufferedReader, handle).peek(4096)[:4096]
    looks_like = next((name for start, name in BINARY_STARTS if head.startswith(start)), "")
    if not looks_like and head.count(0) > len(head) // 4:  # ASCII in UTF-16 without a mark: every second byte is 0
        looks_like = "UTF-16 or another binary format"
    if not head or looks_like:
        handle.close()
        if not head:
            raise DataError(f"{path}: empty (0 bytes)", fix="check that the file was written completely")
        raise not_utf8(path, 0, looks_like)
    return handle


def decode(data: bytes, path: Path, start_bytes: int = 0) -> str:
    """Decode UTF-8 bytes that begin `start_bytes` into the file; a byte-order mark at the start is dropped.

    Raises:
        DataError: they are not UTF-8; the message holds the offset of the first bad byte.
    """
    if start_bytes == 0 and data.startswith(BYTE_ORDER_MARK):
        start_bytes = len(BYTE_ORDER_MARK)
        data = data[start_bytes:]
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise not_utf8(path, start_bytes + error.start, guess_encoding(data, error.start)) from None


def guess_encoding(data: bytes, bad_byte: int) -> str:
    """Name the encoding that bytes which are not UTF-8 are most likely in."""
    num_valid = sum(letter > "\x7f" for letter in data[:bad_byte].decode("utf-8"))
    if num_valid >= 3:  # other encodings rarely form even three valid characters
        return "UTF-8 with a broken character (a file cut in the middle, or two joined)"
    sample = data[: bad_byte + 4096]
    num_high = sum(byte > 0x7F for byte in sample)
    for name, pairs in LEGACY_ENCODINGS:
        if sum(byte > 0x7F for pair in pairs.findall(sample) for byte in pair) > 0.9 * num_high and num_high > 1:
            return name
    return "Windows-1252 or another one-byte encoding"


def not_utf8(path: Path, offset_bytes: int, looks_like: str) -> DataError:
    """Return the error for bytes that are not UTF-8 text."""
    name = looks_like.split()[0]
    is_encoding = name in ("UTF-16", "UTF-32", "GBK", "Big5", "Windows-1252")
    fix = f"iconv -f {name} -t UTF-8 {path.name} > utf8-{path.name}" if is_encoding else "save it as UTF-8 text"
    return DataError(f"{path}: byte {offset_bytes} is not UTF-8; it looks like {looks_like}", accepted="UTF-8", fix=fix)


def describe(value: object) -> str:
    """Name a value in JSON's words, with a glimpse of it: "the number 5"."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return f"the number {value}"[:40]
    if isinstance(value, str):
        return f"the text {value[:40]!r}"
    return "a list" if isinstance(value, list) else "an object" if isinstance(value, dict) else type(value).__name__


class Table(TypedDict):
    """How a table is cut: what stands between fields, and whether quotes are signs."""

    delimiter: str
    quoted: bool


TABLES: dict[str, Table] = {
    ".csv": {"delimiter": ",", "quoted": True},
    ".tsv": {"delimiter": "\t", "quoted": False},
}
SCANNERS: dict[str, Callable[[Path], Iterator[Scanned]]] = {
    ".txt": scan_text,
    ".md": scan_text,
    ".py": scan_code,
    ".jsonl": scan_json_lines,
    ".json": scan_json,
    ".csv": scan_csv,
    ".tsv": scan_tsv,
    ".parquet": scan_parquet,
}
ACCEPTED = f"{', '.join(SCANNERS)}, each also as .gz"
