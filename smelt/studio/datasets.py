"""Data: the files of the workspace, their rows page by page, and each row as a model sees it.

What a whole file is asked for, its lengths and duplicates, is in `dataset_reports`. A file is never changed here:
edits and filters make a new version of it (`smelt.data.versions`).
"""

from __future__ import annotations

import dataclasses
import json
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

from pydantic import Field, ValidationError

from smelt.core.errors import DataError, SmeltError, UsageError
from smelt.core.log import printable
from smelt.core.storage import checkpoint_at
from smelt.data.clean.filters import FilterRecipe
from smelt.data.formats import Typed, parse_row, texts_of
from smelt.data.looking import learned_part
from smelt.data.paging import Numbered, PagedFile, open_paged
from smelt.data.records import ChatRow, TextRow
from smelt.data.versions import Edit, make_version, shown_path, texts_in, version_of
from smelt.serve.errors import ApiError, invalid
from smelt.serve.protocol import Fields
from smelt.serve.streaming import unless_gone
from smelt.studio import dataset_reports
from smelt.studio.context import Request, Response, Routes, Studio, query, read, reply
from smelt.studio.workspace import Workspace
from smelt.tokenizers.bpe_train import byte_tokenizer
from smelt.tokenizers.chat import ChatTemplate
from smelt.tokenizers.formats import has_tokenizer, load_tokenizer

Result = TypeVar("Result")
PAGE_ROWS = 200  # the most of one request
PREVIEW_CHARACTERS = 240
SHOWN_CHARACTERS = 100_000  # of one row
TOKENIZED_CHARACTERS = 200_000  # of one row
SHOWN_TOKENS = 4096
SAMPLE_ROWS = 100  # by which the format is told
FOLDER_FILES = 200  # whose formats are told at once
OPEN_FILES = 16
BYTES = "bytes"  # the tokenizer that needs no model


class Books:
    """The files that were looked at last, with what is known of where their rows are; a file that changes is new."""

    def __init__(self) -> None:
        self._open: OrderedDict[tuple[str, int, int], PagedFile] = OrderedDict()
        self._lock = threading.Lock()

    def open(self, workspace: Workspace, name: str) -> PagedFile:
        """Return the rows of a file of the workspace; raises SmeltError for none."""
        path = workspace.find(name)
        if not path.is_file():
            raise UsageError(f"{name[:200]} is a folder", accepted="a file")
        about = path.stat()
        key = (str(path), about.st_size, about.st_mtime_ns)
        with self._lock:
            found = self._open.get(key) or open_paged(path, printable(name))
            self._open[key] = found
            self._open.move_to_end(key)
            while len(self._open) > OPEN_FILES:
                self._open.popitem(last=False)
        return found


class EditGiven(Fields):
    """A change of one row; without a text the row goes."""

    row: int = Field(ge=1)
    path: list[str | int] = Field(default_factory=list, max_length=64)
    text: str | None = None


class VersionGiven(Fields):
    """What a new version is to be made of."""

    id: str = Field(pattern=r"^[0-9a-f]{32}$")
    name: str
    stamp: str
    edits: list[EditGiven] = Field(default_factory=list, max_length=10_000)
    filters: dict[str, Any] | None = None


class FiltersGiven(Fields):
    """Filters to be tried."""

    name: str
    filters: dict[str, Any]


def routes(studio: Studio) -> Routes:
    """Return the routes of the page."""
    books, space = Books(), studio.workspace

    def opened(request: Request) -> Callable[[], PagedFile]:
        name = query(request, "name")
        return lambda: books.open(space, name)

    async def files(request: Request) -> Response:
        return reply(await studio.aside(lambda: list_files(space)))

    async def formats(request: Request) -> Response:
        folder = query(request, "folder")
        return reply(await until_gone(studio, request, lambda stop: formats_in(space, books, folder, stop)))

    async def about(request: Request) -> Response:
        file = opened(request)
        return reply(await studio.aside(lambda: describe_file(file(), query(request, "name"))))

    async def rows(request: Request) -> Response:
        file, start, count = opened(request), whole(request, "start", 1), whole(request, "count", 25)
        return reply(await studio.aside(lambda: page_of(file(), start, min(count, PAGE_ROWS))))

    async def row(request: Request) -> Response:
        file, number = opened(request), whole(request, "row", 1)
        return reply(await studio.aside(lambda: show_row(one_row(file(), number))))

    async def tokens(request: Request) -> Response:
        file, number, model = opened(request), whole(request, "row", 1), query(request, "model")
        return reply(await studio.aside(lambda: show_tokens(one_row(file(), number), template_of(space, model))))

    async def report(request: Request) -> Response:
        file, part, model = opened(request), query(request, "part"), query(request, "model")

        def work(stop: Callable[[], bool]) -> dict[str, Any]:
            if part == "lengths":
                return dataset_reports.lengths(file(), template_of(space, model), stop)
            if part not in dataset_reports.PARTS:
                known = ", ".join(("lengths", *dataset_reports.PARTS))
                raise UsageError(f"part={part[:40]!r} of a report", accepted=known)
            return dataset_reports.PARTS[part](file(), stop)

        return reply(await until_gone(studio, request, work))

    return {
        "GET /datasets": files,
        "GET /datasets/formats": formats,
        "GET /datasets/about": about,
        "GET /datasets/rows": rows,
        "GET /datasets/row": row,
        "GET /datasets/tokens": tokens,
        "GET /datasets/report": report,
        **changes(studio, books),
    }


def changes(studio: Studio, books: Books) -> Routes:
    """Return the routes that try and make new versions."""
    space = studio.workspace

    async def tried(request: Request) -> Response:
        given = await read(request, FiltersGiven)
        recipe = recipe_of(given.filters)

        def work(stop: Callable[[], bool]) -> dict[str, Any]:
            return dataset_reports.try_filters(books.open(space, given.name), recipe, stop)

        return reply(await until_gone(studio, request, work))

    async def change(request: Request) -> Response:
        await studio.administer(request)
        given = await read(request, VersionGiven)
        return reply(await studio.aside(lambda: new_version(space, given)), 201)

    return {"POST /datasets/filter": tried, "POST /datasets/versions": change}


async def until_gone(studio: Studio, request: Request, work: Callable[[Callable[[], bool]], Result]) -> Result:
    """Do work in a thread and tell it to stop when nobody waits for it any more."""
    stop = threading.Event()
    try:
        return await unless_gone(request.receive, studio.aside(lambda: work(stop.is_set)))
    finally:
        stop.set()


def whole(request: Request, name: str, default: int) -> int:
    """Return a number of the address, 1 or more; raises ApiError for something else."""
    given = query(request, name) or str(default)
    if not (given.isascii() and given.isdigit() and len(given) < 16 and int(given) > 0):
        raise ApiError(400, f"{name}={given[:40]!r} is no whole number above 0", param=name)
    return int(given)


def list_files(space: Workspace) -> dict[str, Any]:
    """Return the data files of the workspace, and the models whose tokenizers there are."""
    found = []
    for path in space.data_files():
        try:
            about, name = path.stat(), space.name(path)
        except OSError:  # it went away
            continue
        if not can_be_sent(name) or "\n" in name:  # no address can hold it
            continue
        folder = os.path.dirname(name)
        found.append({"name": name, "folder": folder, "bytes": about.st_size, "modified": about.st_mtime})
    models = [space.name(path) for path in space.checkpoints()]
    return {"files": found, "models": [*models, BYTES]}


def formats_in(space: Workspace, books: Books, folder: str, stop: Callable[[], bool]) -> dict[str, str]:
    """Return the format of each file of a folder by its first row, "" for one that is none of the known."""
    told = {}
    mine = [file["name"] for file in list_files(space)["files"] if file["folder"] == folder]
    for name in mine[:FOLDER_FILES]:
        if stop():
            break
        try:
            first = books.open(space, name).page(1, 1).rows
        except SmeltError:
            first = ()  # opening the file says why
        told[name] = parse_row(first[0].value, first[0].where)[0] if first else ""
    return told


def describe_file(file: PagedFile, name: str) -> dict[str, Any]:
    """Return what is known of a file after a look at its first rows."""
    about, fault, expected, fits, seen = file.path.stat(), "", "", 0, 0
    try:
        for row in file.head(SAMPLE_ROWS):
            expected, typed = parse_row(row.value, row.where, expected)
            seen, fits = seen + 1, fits + (not isinstance(typed, DataError))
    except DataError as error:
        fault = safe(str(error))
    made = version_of(file.path)
    return {
        "name": name,
        "bytes": about.st_size,
        "modified": about.st_mtime,
        "stamp": stamp(file.path),
        "kind": file.kind,
        "format": expected,
        "sampled": seen,
        "fits": fits,
        "rows": file.total,
        "about_rows": file.estimate,
        "fault": fault,
        "version": None if made is None else json.loads(made.model_dump_json()),
    }


def stamp(path: Path) -> str:
    """Return what changes with a file's content."""
    about = path.stat()
    return f"{about.st_size}-{about.st_mtime_ns}"


def page_of(file: PagedFile, start: int, count: int) -> dict[str, Any]:
    """Return a page of rows, each with its beginning and what is wrong with it."""
    first = file.page(1, 1).rows
    expected = parse_row(first[0].value, first[0].where)[0] if first else ""
    page = file.page(start, count)
    shown = []
    for row in page.rows:
        _, typed = parse_row(row.value, row.where, expected)
        if isinstance(typed, DataError):
            state, fault = "bad", safe(typed.what)
            text = row.raw if isinstance(row.value, DataError) else raw_text(row.value)
        else:
            texts = texts_of(typed)
            state, fault = "good" if any(text.strip() for text in texts) else "empty", ""
            text = "  ·  ".join(text[:PREVIEW_CHARACTERS] for text in texts[:4])
        shown.append({"row": row.number, "state": state, "fault": fault, "text": shorten(text)})
    return {"rows": shown, "ready": page.ready, "total": file.total, "about": file.estimate, "known": file.known}


def shorten(text: str) -> str:
    """Return the beginning of a text on one line."""
    line = " ".join(text[: 4 * PREVIEW_CHARACTERS].split())
    return safe(line[:PREVIEW_CHARACTERS]) + ("…" if len(line) > PREVIEW_CHARACTERS else "")


def safe(text: str) -> str:
    """Return a text that every browser takes, with a mark in place of what would steer it."""
    return printable(text[:SHOWN_CHARACTERS])


def raw_text(value: object) -> str:
    """Return a row as indented JSON; what JSON has no word for is described."""
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, indent=2, default=lambda other: f"{type(other).__name__}: {other}")


def one_row(file: PagedFile, number: int) -> Numbered:
    """Return one row; raises ApiError where there is none of this number."""
    page = file.page(number, 1)
    if not page.rows or page.rows[0].number != number:
        wait = "" if page.ready else ", as far as the file was read"
        raise ApiError(404, f"{file.name} has no row {number:,}{wait}", code="not_found")
    return page.rows[0]


def show_row(row: Numbered) -> dict[str, Any]:
    """Return a row raw, as the typed record that training reads, and the texts in it that can be edited."""
    name, typed = parse_row(row.value, row.where)
    raw = row.raw if isinstance(row.value, DataError) else raw_text(row.value)
    texts = [] if isinstance(row.value, DataError) or row.cut else list(texts_in(row.value))
    whole = sum(len(text) for _, text in texts) <= SHOWN_CHARACTERS
    return {
        "row": row.number,
        "raw": safe(raw),
        "cut": row.cut or len(raw) > SHOWN_CHARACTERS,
        "format": name,
        "fault": safe(str(typed)) if isinstance(typed, DataError) else "",
        "typed": None if isinstance(typed, DataError) else record(typed),
        "texts": [
            {"path": list(path), "label": safe(shown_path(path)), "text": text}
            for path, text in texts
            if whole and can_be_sent(text, *map(str, path))
        ],
    }


def can_be_sent(*texts: str) -> bool:
    """Tell whether texts hold no half of a character, which JSON can say and UTF-8 cannot."""
    return not any("\ud800" <= letter <= "\udfff" for text in texts for letter in text)


def record(row: Typed) -> dict[str, Any]:
    """Return a typed row as plain values, with its texts made safe to show."""
    values: dict[str, Any] = plain(dataclasses.asdict(row))
    values.pop("where")
    return {"type": type(row).__name__, **values}


def plain(value: Any) -> Any:
    """Return a value as JSON can hold it."""
    if isinstance(value, str):
        return safe(value)
    if isinstance(value, Mapping):
        return {safe(str(key)): plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(inner) for inner in value]
    return value if value is None or isinstance(value, (bool, int)) else str(value)


def template_of(space: Workspace, model: str) -> ChatTemplate:
    """Return what a model of the workspace renders rows with, for "bytes" or "" one that needs no model."""
    if model in ("", BYTES):
        return ChatTemplate(byte_tokenizer())
    found = space.find(model)
    directory = found if found.is_dir() and has_tokenizer(found) else checkpoint_at(found)
    return loaded(directory, directory.stat().st_mtime_ns)


@lru_cache(8)
def loaded(directory: Path, modified: int) -> ChatTemplate:
    """Return the template of a directory, read once until it changes."""
    return ChatTemplate(load_tokenizer(directory))


def show_tokens(row: Numbered, template: ChatTemplate) -> dict[str, Any]:
    """Return the tokens of a row as training has them: ids, the text of each, and whether it is learned."""
    _, typed = parse_row(row.value, row.where)
    if isinstance(typed, DataError):
        raise typed
    cut = row.cut
    size = sum(map(len, texts_of(typed)))
    if isinstance(typed, TextRow) and size > TOKENIZED_CHARACTERS:
        typed, cut = dataclasses.replace(typed, text=typed.text[:TOKENIZED_CHARACTERS]), True
    elif size > TOKENIZED_CHARACTERS:
        what = f"{row.where}: {size:,} characters are too many to be shown as tokens"
        raise DataError(what, accepted=f"up to {TOKENIZED_CHARACTERS:,}")
    ids, mask = learned_part(typed, template)
    special = set(template.tokenizer.special.values())
    shown = ids[:SHOWN_TOKENS]
    pieces = [template.tokenizer.decode_bytes([token], continued=place > 0) for place, token in enumerate(shown)]
    return {
        "ids": shown,
        "texts": [safe(piece.decode("utf-8", "backslashreplace")) for piece in pieces],
        "mask": mask[:SHOWN_TOKENS],
        "special": [int(token in special) for token in shown],
        "total": len(ids),
        "learned": sum(mask),
        "template": template.name if isinstance(typed, ChatRow) else "",
        "cut": cut,
    }


def recipe_of(given: Mapping[str, Any]) -> FilterRecipe:
    """Return filters as a recipe; raises ApiError for some that are none."""
    try:
        return FilterRecipe.model_validate(dict(given))
    except ValidationError as error:
        first = error.errors()[0]
        raise invalid(f"filters.{'.'.join(map(str, first['loc']))[:80]}: {first['msg']}", "filters") from None


def new_version(space: Workspace, given: VersionGiven) -> dict[str, Any]:
    """Write a new version and return its name; raises ApiError (409) where the source is another one by now."""
    source = space.find(given.name)
    beside = source.is_relative_to(space.root) and os.access(source.parent, os.W_OK)
    if given.stamp != stamp(source):
        raise ApiError(409, f"{given.name} has changed since it was opened; open it again", code="conflict")
    made = make_version(
        source,
        source.parent if beside else space.root / "data",
        id=given.id,
        name=given.name,
        edits=[Edit(row=edit.row, path=tuple(edit.path), text=edit.text) for edit in given.edits],
        filters=None if given.filters is None else recipe_of(given.filters),
    )
    version = version_of(made)
    assert version is not None, "it was just written"
    return {"name": space.name(made), "rows": version.rows_after, "left_out": version.left_out}
