"""A changed data set is a new file: the source stays as it is, and a small file beside the new one says what was done.

    chats.jsonl  ->  chats.v2.jsonl and chats.v2.yaml: the source and its SHA-256, each edit, the filters, the counts

So a result can be traced to its source and made again. Rows that nobody touched keep their very bytes where the source
is .jsonl; of any other format they become lines of JSON. The new file is whole or absent, and never takes the name of
one that is there. Both are written by going through the source once.
"""

from __future__ import annotations

import copy
import json
import re
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any, BinaryIO

from pydantic import Field

from smelt.core.config import Config, read_yaml, to_yaml
from smelt.core.errors import DataError, UsageError
from smelt.core.storage import atomic_file, atomic_write_text, sha256_file
from smelt.data.clean.filters import Filter, FilterRecipe
from smelt.data.formats import parse_row
from smelt.data.paging import LINE_BYTES, WHOLE_BYTES
from smelt.data.readers import Value, decode, kind_of, open_checked, parse_json_row, scan_file

MOST_BYTES = 2 << 30  # of a source: a minute of writing
VERSION = re.compile(r"\.v(\d+)$")
STREAMED = (".jsonl", ".csv", ".tsv", ".parquet")
_one_at_a_time = threading.Lock()


class Edit(Config):
    """A change of one row."""

    row: int = Field(ge=1)
    """Its number."""
    path: tuple[str | int, ...] = ()
    """Where in it the changed text stands: keys, and places in lists from 0."""
    text: str | None = None
    """What stands there now; without it the row is left out."""


class Version(Config):
    """What made a file: the content of the .yaml beside it."""

    id: str
    """A name of this change; the same change sent again finds what it made."""
    source: str
    """The file that it was made from."""
    source_sha256: str
    """That file's content."""
    made: str
    """When, in UTC."""
    edits: tuple[Edit, ...] = ()
    """What a person changed."""
    filters: FilterRecipe | None = None
    """What was left out by rule, after the edits."""
    rows_before: int
    """In the source."""
    rows_after: int
    """In this file."""
    left_out: dict[str, int] = Field(default_factory=dict)
    """How many rows each reason left out."""


def make_version(
    source: Path, folder: Path, *, id: str, name: str, edits: Sequence[Edit] = (), filters: FilterRecipe | None = None
) -> Path:
    """Write a changed copy of `source` into `folder` and return its path; the source is only read.

    `name` is what the source is called in errors and in the record. The same `id` again returns what it made.

    Raises:
        UsageError: nothing is changed, or an edit means no row.
        DataError: the source is too large, or an edited row could not be trained on.
    """
    if not edits and filters is None:
        raise UsageError(f"{name}: a new version without a change", accepted="edits, filters or both")
    size, streamed = source.stat().st_size, kind_of(source) in STREAMED
    if size > (limit := MOST_BYTES if streamed else WHOLE_BYTES):
        raise DataError(f"{name}: {size:,} bytes are too many to be written anew here", accepted=f"up to {limit:,}")
    with _one_at_a_time:
        folder.mkdir(parents=True, exist_ok=True)
        if (made := already_made(folder, id)) is not None:
            return made
        target = free_name(source, folder)
        digest = sha256_file(source)
        with atomic_file(target) as handle:
            counts = write_rows(handle, source, name, edits, filters)
            rows_after = counts.pop("after", 0)
            version = Version(
                id=id,
                source=name,
                source_sha256=digest,
                made=datetime.now(UTC).isoformat(timespec="seconds"),
                edits=tuple(edits),
                filters=filters,
                rows_before=rows_after + counts.total(),
                rows_after=rows_after,
                left_out=dict(counts),
            )
            if not rows_after:
                raise DataError(f"{name}: no row would be left of {version.rows_before:,}", fix="leave out less")
            atomic_write_text(target.with_suffix(".yaml"), to_yaml(version))
    return target


def version_of(path: Path) -> Version | None:
    """Return what made a file, None for one that is no version."""
    record = path.with_suffix(".yaml")
    if not VERSION.search(path.stem) or not record.is_file():
        return None
    return Version.model_validate(read_yaml(record))


def already_made(folder: Path, id: str) -> Path | None:
    """Return the file that a change with this id made before."""
    for record in sorted(folder.glob("*.v*.yaml")):
        made = record.with_suffix(".jsonl")
        if made.is_file() and f"id: {id}\n" in record.read_text(encoding="utf-8", errors="replace"):
            return made
    return None


def free_name(source: Path, folder: Path) -> Path:
    """Return the name of the next version of a file: NAME.v2.jsonl, or a higher number where that is taken."""
    stem = source.name.removesuffix(".gz").removesuffix(".GZ")
    stem = VERSION.sub("", Path(stem).stem)
    number = 2
    while any((folder / f"{stem}.v{number}{suffix}").exists() for suffix in (".jsonl", ".yaml")):
        number += 1
    return folder / f"{stem}.v{number}.jsonl"


def write_rows(
    handle: BinaryIO, source: Path, name: str, edits: Sequence[Edit], filters: FilterRecipe | None
) -> Counter[str]:
    """Write the rows that stay, and return how many did as "after", and how many each reason left out."""
    of_row: dict[int, list[Edit]] = {}
    for edit in edits:
        of_row.setdefault(edit.row, []).append(edit)
    judge = Filter(filters) if filters is not None else None
    counts = Counter[str]()
    for number, raw, value in raw_rows(source, name):
        mine = of_row.pop(number, [])
        if any(edit.text is None for edit in mine):
            counts["removed by hand"] += 1
            continue
        if mine:
            value = changed(value, mine, f"{name}:{number}")
            raw = None
        if judge is not None:
            _, row = parse_row(value, f"{name}:{number}")
            if reason := judge.reason(None if isinstance(row, DataError) else row):
                counts[reason] += 1
                continue
        if raw is None and isinstance(value, DataError):
            counts["unreadable"] += 1  # there is nothing of it that could be written
            continue
        handle.write(raw if raw is not None else line_of(value, f"{name}:{number}"))
        counts["after"] += 1
    if of_row:
        raise UsageError(f"{name}: there is no row {min(of_row)} to change")
    return counts


def raw_rows(source: Path, name: str) -> Iterator[tuple[int, bytes | None, Value | DataError]]:
    """Yield the number, the line where the source is one of lines, and the value of each row.

    Raises:
        DataError: the file cannot be read to its end.
    """
    if kind_of(source) != ".jsonl":
        for number, (where, value) in enumerate(scan_file(source), start=1):
            if isinstance(value, DataError) and where == str(source):
                raise value  # the file itself: what stands behind the fault would be lost
            yield number, None, value
        return
    offset = 0
    with open_checked(source) as handle:
        for number, raw in enumerate(handle, start=1):
            if raw.strip():
                yield number, raw if raw.endswith(b"\n") else raw + b"\n", line_value(raw, name, number, offset)
            offset += len(raw)


def line_value(raw: bytes, name: str, number: int, offset: int) -> Value | DataError:
    """Return what a line holds, or why it holds nothing."""
    where = f"{name}:{number}"
    if len(raw) > LINE_BYTES:
        return DataError(f"{where}: a line of {len(raw):,} bytes", accepted=f"lines of at most {LINE_BYTES:,} bytes")
    try:
        return parse_json_row(decode(raw, Path(name), offset), where)
    except DataError as error:
        return error


def changed(value: Value | DataError, edits: Sequence[Edit], where: str) -> Value:
    """Return a row with some of its texts replaced.

    Raises:
        DataError: the row cannot be read, there is no text at a path, or it could not be trained on afterwards.
    """
    if isinstance(value, DataError):
        raise DataError(f"{where}: a row that cannot be read cannot be edited", fix="remove it")
    holder: Any = {"row": copy.deepcopy(value)}
    for edit in edits:
        keys: list[str | int] = ["row", *edit.path]
        place: Any = holder
        for key in keys[:-1]:
            place = child(place, key, where)
        if not isinstance(child(place, keys[-1], where), str):
            raise DataError(f"{where}: there is no text at {shown_path(edit.path)}")
        place[keys[-1]] = edit.text
    made: Value = holder["row"]
    _, row = parse_row(made, where)
    if isinstance(row, DataError):
        raise DataError(f"as it was edited, {row.what}", accepted=row.accepted, fix=row.fix)
    return made


def child(place: Any, key: str | int, where: str) -> Any:
    """Return what stands under a key or at a place of a list; raises DataError where nothing does."""
    fits = isinstance(place, dict) and key in place
    fits = fits or (isinstance(place, list) and isinstance(key, int) and 0 <= key < len(place))
    if not fits:
        raise DataError(f"{where}: there is nothing at {str(key)[:80]!r}")
    return place[key]


def shown_path(path: Sequence[str | int]) -> str:
    """Return a path as people write it: messages[1].content."""
    parts = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in path)
    return parts.removeprefix(".") or "the row"


def texts_in(value: object, path: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """Yield each text of a row and where it stands: what an edit can change."""
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from texts_in(inner, (*path, str(key)))
    elif isinstance(value, list):
        for place, inner in enumerate(value):
            yield from texts_in(inner, (*path, place))


def line_of(value: Value | DataError, where: str) -> bytes:
    """Return a row as a line of JSON; a document becomes a row with its text."""
    row = {"text": value} if isinstance(value, str) else value
    try:
        return (json.dumps(row, ensure_ascii=False, default=plain_value) + "\n").encode("utf-8")
    except UnicodeEncodeError as error:
        raise DataError(f"{where}: half a character, which no file can hold ({error.reason})") from None
    except TypeError as error:
        raise DataError(f"{where}: {error}", accepted="texts, numbers, dates, lists and objects") from None


def plain_value(value: object) -> str:
    """Return what JSON has no word for as a text; raises TypeError for bytes and the like."""
    if isinstance(value, (date, datetime, time, Decimal)):
        return str(value)
    raise TypeError(f"a value of type {type(value).__name__}, which JSON cannot hold")
