"""Any page of a file's rows, without reading what stands before it where the file's format allows that.

`readers` goes through a file from its beginning, as training does. Here a reader asks for rows 1 to 25 of ten gigabytes
and has them at once. Lines and tables keep the byte offset of every 256th row, found when it is first needed and at
most `SCANNED_BYTES` a request, so no request takes long: a page that is not reached yet comes back with `ready` false,
and asking again goes on. Parquet has its own index, its row groups. Rows have the numbers that `readers` gives them in
their order, from 1; in .jsonl the number of the line, where blank lines count and are not shown. A row that cannot be
read is an error in its place, and here the rows behind it can be read nevertheless.
"""

from __future__ import annotations

import csv
import gzip
import sys
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np

from smelt.core.errors import DataError
from smelt.data.readers import (
    TABLES,
    Scanned,
    Value,
    decode,
    kind_of,
    open_checked,
    open_file,
    parse_json_row,
    scan_file,
)

EVERY = 256  # rows between two that are remembered
BLOCK_BYTES = 4 << 20
SCANNED_BYTES = 256 << 20  # of one request that looks for a row: a fraction of a second
PAGE_BYTES = 32 << 20  # of one page
LINE_BYTES = 8 << 20  # of one row
WHOLE_BYTES = 64 << 20  # of a .json, which can only be read whole
DOCUMENT_BYTES = 1 << 20  # of a text that is one document
BATCH_ROWS = 32
RAW_BYTES = 4096  # of a line that could not be read


@dataclass(frozen=True)
class Numbered:
    """Hold one row as it stands in its file.

    `where` is the place that errors name; `cut` says that the value is only the beginning of a document; `raw` is the
    beginning of a line that could not be read.
    """

    number: int
    where: str
    value: Value | DataError
    cut: bool = False
    raw: str = ""


@dataclass(frozen=True)
class Page:
    """Hold some rows; where `ready` is false the file was not read that far yet, and asking again goes on."""

    rows: tuple[Numbered, ...]
    ready: bool = True


class PagedFile:
    """The rows of one file, which must not change meanwhile.

    Args:
        path: the file.
        name: what it is called in errors.

    Raises:
        DataError: its extension is not a known one.
    """

    def __init__(self, path: Path, name: str = "") -> None:
        self.path, self.name, self.kind = path, Path(name or path), kind_of(path)
        self.known = 0  # rows that are known to be there
        self.total: int | None = None
        self.lock = threading.Lock()

    @property
    def estimate(self) -> int | None:
        """Return about how many rows there are, None where nothing tells."""
        return self.total

    def page(self, start: int, count: int) -> Page:
        """Return up to `count` rows from number `start` on (1 or more); none behind the last.

        Raises:
            DataError: the file as a whole cannot be read.
        """
        with self.lock, faults_of(self.path, self.name):
            return self._page(start, count)

    def head(self, count: int) -> Iterator[Numbered]:
        """Yield the first rows, at most `count` and about `SCANNED_BYTES` of them."""
        start, left = 1, count
        while left > 0:
            page = self.page(start, min(left, EVERY))
            yield from page.rows
            if not page.rows or not page.ready:
                return
            left -= len(page.rows)
            start = page.rows[-1].number + 1

    def spread(self, count: int) -> Iterator[Numbered]:
        """Yield about `count` rows in runs of 16, spread evenly over as much of the file as one request may scan."""
        with self.lock, faults_of(self.path, self.name):
            self._reach(sys.maxsize)
        if self.known <= count:
            yield from self.head(count)
            return
        runs = max(1, count // 16)
        for run in range(runs):
            yield from self.page(1 + run * self.known // runs, 16).rows

    def _page(self, start: int, count: int) -> Page:
        raise NotImplementedError

    def _reach(self, number: int) -> None:
        """Learn where rows are up to `number`, as far as one request may."""


@contextmanager
def faults_of(path: Path, name: Path) -> Iterator[None]:
    """Turn what a damaged file causes into a DataError, which calls the file by its name."""
    try:
        yield
    except DataError as error:
        raise DataError(
            error.what.replace(str(path), str(name)), accepted=error.accepted, fix=error.fix
        ) from error.__cause__
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{name}: broken gzip data ({error})", fix="copy or download the file again") from None
    except OSError as error:
        what = f"{name}: cannot be read ({error.strerror or error})"
        raise DataError(what, fix="check the permissions") from None


class PagedLines(PagedFile):
    """The rows of a .jsonl: an index of line ends, found by looking at bytes alone."""

    def __init__(self, path: Path, name: str = "") -> None:
        super().__init__(path, name)
        self.marks = [0]  # where line 1 + EVERY * place begins
        self.scanned = 0

    @property
    def estimate(self) -> int | None:
        """Return about how many rows there are, judged by the length of those that were seen."""
        if self.total is not None or not self.known or self.path.suffix == ".gz":
            return self.total
        return round(self.known * self.path.stat().st_size / self.scanned)

    def _reach(self, number: int) -> None:
        left = SCANNED_BYTES
        with open_checked(self.path) as handle:
            handle.seek(self.scanned)
            while self.total is None and self.known < number and left > 0:
                block = handle.read(BLOCK_BYTES)
                left -= len(block)
                if block:
                    self._note(block)
                else:
                    handle.seek(self.scanned - 1)
                    self.known += handle.read(1) != b"\n"  # a last line without an end
                    self.total = self.known

    def _note(self, block: bytes) -> None:
        ends = np.flatnonzero(np.frombuffer(block, dtype=np.uint8) == 10)
        first = EVERY - self.known % EVERY - 1  # the end after which the next remembered line begins
        self.marks += (ends[first::EVERY] + (self.scanned + 1)).tolist()
        self.known += len(ends)
        self.scanned += len(block)

    def _page(self, start: int, count: int) -> Page:
        self._reach(start + count)
        if start > self.known and self.total is None:
            return Page((), ready=False)
        rows: list[Numbered] = []
        place = min((start - 1) // EVERY, len(self.marks) - 1)
        number, offset = place * EVERY + 1, self.marks[place]
        end = offset + PAGE_BYTES
        with open_file(self.path) as handle:
            handle.seek(offset)
            while len(rows) < count and offset < end:
                raw, size = read_line(handle)
                if not size:
                    break
                if number >= start and (raw is None or raw.strip()):
                    rows.append(self._row(raw, number, offset))
                number, offset = number + 1, offset + size
        return Page(tuple(rows))

    def _row(self, raw: bytes | None, number: int, offset: int) -> Numbered:
        where = f"{self.name}:{number}"
        value: Value | DataError = DataError(
            f"{where}: a line of more than {LINE_BYTES:,} bytes", fix="one JSON object on each line"
        )
        try:
            value = value if raw is None else parse_json_row(decode(raw, self.name, offset), where)
        except DataError as error:
            value = error
        broken = (raw or b"")[:RAW_BYTES].decode("utf-8", "backslashreplace") if isinstance(value, DataError) else ""
        return Numbered(number, where, value, raw=broken)


def read_line(handle: BinaryIO) -> tuple[bytes | None, int]:
    """Return the next line, None in place of one that is too long, and its size, of which 0 is the end."""
    raw = handle.readline(LINE_BYTES + 1)
    if len(raw) <= LINE_BYTES:
        return raw, len(raw)
    size = len(raw)
    while raw and not raw.endswith(b"\n") and size < PAGE_BYTES:
        raw = handle.readline(BLOCK_BYTES)
        size += len(raw)
    return None, size


class PagedTable(PagedFile):
    """The rows of a .csv or .tsv, whose records may go over several lines, so that finding them is reading them."""

    def __init__(self, path: Path, name: str = "") -> None:
        super().__init__(path, name)
        self.marks: list[tuple[int, int]] = []  # byte and line where record 1 + EVERY * place begins
        self.columns: list[str] = []

    def _reach(self, number: int) -> None:
        for _ in self._from(len(self.marks) - 1):
            if self.known >= number:
                return

    def _page(self, start: int, count: int) -> Page:
        rows: list[Numbered] = []
        for row in self._from((start - 1) // EVERY):
            if row.number >= start:
                rows.append(row)
            if len(rows) == count:
                break
        behind = self.total is not None and start > self.total
        return Page(tuple(rows), ready=bool(rows) or behind)

    def _from(self, place: int) -> Iterator[Numbered]:
        """Yield the records from a remembered place on, or the last before it, remembering more on the way."""
        if not self.marks:
            self._open()
        place = min(max(place, 0), len(self.marks) - 1)
        begin, line = self.marks[place]
        with open_file(self.path) as handle:
            handle.seek(begin)
            lines = _Lines(handle, self.name, begin)
            reader = self._reader(lines)
            number, at = place * EVERY, line
            try:
                for fields in reader:
                    where = f"{self.name}:{at}"
                    at = line + reader.line_num
                    if not fields:
                        continue
                    number += 1
                    self.known = max(self.known, number)
                    if number == EVERY * len(self.marks):
                        self.marks.append((lines.offset, at))
                    value = self._value(fields, where)
                    raw = " | ".join(fields)[:RAW_BYTES] if isinstance(value, DataError) else ""
                    yield Numbered(number, where, value, raw=raw)
                    if lines.offset - begin > PAGE_BYTES:
                        return
            except (csv.Error, DataError) as error:
                broken = DataError(f"{self.name}:{at}: broken table ({error})", fix="check the quotes of that row")
                number += 1
                yield Numbered(number, f"{self.name}:{at}", error if isinstance(error, DataError) else broken)
            self.total = self.known = number

    def _open(self) -> None:
        with open_checked(self.path) as handle:
            lines = _Lines(handle, self.name, 0)
            reader = self._reader(lines)
            try:
                self.columns = next(reader, [])
            except csv.Error as error:
                raise DataError(f"{self.name}:1: broken table ({error})", fix="check the quotes of that row") from None
            if len(set(self.columns)) < len(self.columns):
                what = f"{self.name}:1: a column name stands twice in {self.columns}"
                raise DataError(what, fix="give each column its own name")
            self.marks = [(lines.offset, reader.line_num + 1)]

    def _reader(self, lines: Iterator[str]) -> Any:
        csv.field_size_limit(sys.maxsize)  # the default of 128 KiB refuses a book chapter
        table = TABLES[self.kind]
        quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if table["quoted"] else csv.QUOTE_NONE
        return csv.reader(lines, delimiter=table["delimiter"], quoting=quoting, strict=True)

    def _value(self, fields: list[str], where: str) -> Value | DataError:
        if len(fields) == len(self.columns):
            return dict(zip(self.columns, fields, strict=True))
        return DataError(f"{where}: {len(fields)} fields, but the header names {len(self.columns)}")


class _Lines:
    """The lines of a file as text, and how many bytes of it were read."""

    def __init__(self, handle: BinaryIO, name: Path, offset: int) -> None:
        self.handle, self.name, self.offset = handle, name, offset

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        raw = self.handle.readline(LINE_BYTES + 1)
        if not raw:
            raise StopIteration
        if len(raw) > LINE_BYTES:
            raise DataError(f"{self.name}: byte {self.offset:,}: a line of more than {LINE_BYTES:,} bytes")
        line = decode(raw, self.name, self.offset)
        self.offset += len(raw)
        return line[:-2] + "\n" if line.endswith("\r\n") else line


class PagedParquet(PagedFile):
    """The rows of a parquet file: its footer says where each row group is, and only the one that is asked is read."""

    def _reach(self, number: int) -> None:
        self._page(1, 0)

    def _page(self, start: int, count: int) -> Page:
        import pyarrow as arrow
        import pyarrow.parquet as parquet

        if self.path.name.lower().endswith(".gz"):
            raise DataError(f"{self.name}: packed parquet has no index", fix=f"gunzip {self.name}")
        rows: list[Numbered] = []
        try:
            with open(self.path, "rb") as handle:
                table = parquet.ParquetFile(
                    handle, buffer_size=BLOCK_BYTES, pre_buffer=False
                )  # else all of a row group
                self.total = self.known = table.metadata.num_rows
                for number, value in self._values(table, start):
                    if len(rows) == count:
                        break
                    rows.append(Numbered(number, f"{self.name}:{number}", value))
        except (arrow.ArrowException, UnicodeDecodeError) as error:
            reason = " ".join(str(error).split())[:120]
            what = f"{self.name}: not a readable parquet file, after row {start + len(rows) - 1} ({reason})"
            raise DataError(what) from None
        return Page(tuple(rows))

    def _values(self, table: Any, start: int) -> Iterator[tuple[int, dict[str, object]]]:
        number = 1
        for group in range(table.num_row_groups):
            size = table.metadata.row_group(group).num_rows
            if number + size <= start:
                number += size
                continue
            for batch in table.iter_batches(batch_size=BATCH_ROWS, row_groups=[group]):
                if number + len(batch) > start:
                    skipped = max(0, start - number)
                    yield from enumerate(batch.slice(skipped).to_pylist(), start=number + skipped)
                number += len(batch)


class PagedWhole(PagedFile):
    """The rows of a .json, or the one document of a text file, of which a long one is only begun."""

    cut = False

    def _reach(self, number: int) -> None:
        self._page(1, 0)

    def _page(self, start: int, count: int) -> Page:
        document, size = self.kind != ".json", self.path.stat().st_size
        if not document and size > WHOLE_BYTES:
            what = f"{self.name}: {size:,} bytes of .json, which can only be read whole"
            raise DataError(what, accepted=f"up to {WHOLE_BYTES:,} bytes", fix="write it as .jsonl, one row a line")
        found = self._document() if document else list(scan_file(self.path))
        self.total = self.known = len(found)
        rows = enumerate(found[start - 1 : start - 1 + count], start=start)
        return Page(tuple(self._row(number, value) for number, (_, value) in rows))

    def _document(self) -> list[Scanned]:
        """Return the document, or as much of it as is shown."""
        with open_checked(self.path) as handle:
            data = handle.read(DOCUMENT_BYTES + 1)
        self.cut, stop = len(data) > DOCUMENT_BYTES, DOCUMENT_BYTES
        while self.cut and stop > DOCUMENT_BYTES - 4 and data[stop] & 0xC0 == 0x80:
            stop -= 1  # a character is not cut in two
        text = decode(data[:stop], self.name)
        return [(str(self.path), text.replace("\r\n", "\n").replace("\r", "\n"))]

    def _row(self, number: int, value: Value | DataError) -> Numbered:
        where = f"{self.name}:{number}"
        if not isinstance(value, DataError):
            return Numbered(number, where, value, cut=self.cut)
        what = value.what.replace(str(self.path), str(self.name))
        return Numbered(number, where, DataError(what, accepted=value.accepted, fix=value.fix))


KINDS: dict[str, type[PagedFile]] = {
    ".jsonl": PagedLines,
    ".csv": PagedTable,
    ".tsv": PagedTable,
    ".parquet": PagedParquet,
}


def open_paged(path: Path, name: str = "") -> PagedFile:
    """Return the rows of a file; `name` is what errors call it.

    Raises:
        DataError: its extension is not a known one.
    """
    return KINDS.get(kind_of(path), PagedWhole)(path, name)
