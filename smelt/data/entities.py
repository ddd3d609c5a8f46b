"""Texts with the things that they name, from records, columns or triples: whichever a file holds is told by its looks.

A record has a `text` and a list of entities, each an object or [start, end, label]; or Label Studio's `data` and
`annotations`; or `tokens` with `tags`; or triples (`spo_list`), whose pieces are entities by the relation and the side
of it on which they stand: "relation.h" and "relation.t". Positions count characters, the end not included. Where a file
also says what stands there, it is compared; what stands elsewhere is listed in one error.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from smelt.core.errors import DataError, nearest
from smelt.data.conll import from_words, parse_conll
from smelt.data.formats import TEXT_KEYS, as_text
from smelt.data.labels import label_name
from smelt.data.readers import describe, expand_paths, scan_file, scan_text, suffix_of
from smelt.data.records import Entity, EntityRow, Piece
from smelt.data.triples import parse_triples, refuse_misplaced

COLUMNS = (".txt", ".tsv", ".conll", ".bio", ".iob")
"""Extensions of files with a word a line."""
LISTS = ("entities", "spans", "labels", "label")
STARTS, STOPS, NAMES = ("start", "start_offset"), ("end", "stop", "end_offset"), ("label", "labels", "type")
SHAPE = '{"start": 0, "end": 3, "label": "PER"} or [0, 3, "PER"]'
Found = tuple[EntityRow, list[Piece]]
"""A row, and its pieces as the file says that they read."""


def read_entities(spec: str | Path, rename: Mapping[str, str] | None = None) -> list[EntityRow]:
    """Return the rows of a file, folder or glob, labels called as in `rename`; repeated entities are one.

    White space at an entity's edges is no part of it.

    Raises:
        DataError: a row of another shape, entities that do not stand where they say, a label to rename that is not
            there.
    """
    found = list(_scan(spec))
    refuse_misplaced([(row.where, row.text, piece) for row, pieces in found for piece in pieces])
    labels = {entity.label for row, _ in found for entity in row.entities}
    for name in rename or {}:
        if name not in labels:
            raise DataError(
                f"{spec}: rename: no entity is called '{name}'.{nearest(name, labels)}",
                accepted=", ".join(sorted(labels)[:12]),
            )
    return [renamed(row, rename or {}) for row, _ in found]


def entity_files(spec: str | Path) -> list[Path]:
    """Return the files that a path, folder or glob stands for; one with an extension of COLUMNS is named by itself."""
    path = Path(spec).expanduser()
    return [path] if path.is_file() and suffix_of(path) in COLUMNS else expand_paths(spec)


def _scan(spec: str | Path) -> Iterator[Found]:
    for path in entity_files(spec):
        is_columns = suffix_of(path) in COLUMNS
        for where, value in scan_text(path) if is_columns else scan_file(path):
            if isinstance(value, DataError):
                raise value
            if isinstance(value, str):
                yield from ((row, []) for row in parse_conll(value, where))
            else:
                yield parse_record(value, where)


def renamed(row: EntityRow, rename: Mapping[str, str]) -> EntityRow:
    """Return a row whose entities are in order, each once, by their new names and without white space at the edges."""
    found = set[Entity]()
    for entity in row.entities:
        inside = row.text[entity.start : entity.stop]
        start = entity.start + len(inside) - len(inside.lstrip())
        stop = entity.stop - len(inside) + len(inside.rstrip())
        if start < stop:
            found.add(Entity(rename.get(entity.label, entity.label), start, stop))
    return replace(row, entities=tuple(sorted(found, key=lambda one: (one.start, one.stop, one.label))))


def parse_record(row: Mapping[str, object], where: str) -> Found:
    """Read one record, of whichever shape; raises DataError for one of another shape."""
    if "spo_list" in row:
        return _from_triples(row, where)
    if "tokens" in row:
        words = _texts(row["tokens"], f"{where}: 'tokens'")
        name = next((name for name in ("tags", "ner_tags", "labels") if name in row), "tags")
        return from_words(words, _texts(row.get(name), f"{where}: '{name}'"), where), []
    if "annotations" in row and isinstance(row.get("data"), dict):
        row = _from_label_studio(row, where)
    key = next((name for name in TEXT_KEYS if name in row), None)
    listed = next((row[name] for name in LISTS if isinstance(row.get(name), list)), None)
    if key is None or not isinstance(listed, list):
        shown = ", ".join(f"{name!s:.40}" for name in list(row)[:12])
        raise DataError(
            f"{where}: no text with entities, but {shown}",
            accepted="text and entities (spans, labels), tokens and tags, text and spo_list",
        )
    text = as_text(row[key], f"{where}: '{key}'")
    entities, pieces = list[Entity](), list[Piece]()
    for value in listed:
        entity, piece = _entity(value, text, where)
        entities.append(entity)
        pieces.append(piece)
    return EntityRow(text, tuple(entities), where), pieces


def _from_triples(row: Mapping[str, object], where: str) -> Found:
    read, found = parse_triples(row, where), list[tuple[str, Piece]]()
    for triple in read.triples:
        found += [(f"{triple.relation}.h", triple.subject), (f"{triple.relation}.t", triple.object)]
    entities = tuple(Entity(label, piece.start, piece.stop) for label, piece in found)
    return EntityRow(read.text, entities, where), [piece for _, piece in found]


def _from_label_studio(row: Mapping[str, object], where: str) -> Mapping[str, object]:
    """Return the text of a task and the spans of its first annotation as a plain record."""
    data, annotations = row["data"], row["annotations"]
    first = annotations[0] if isinstance(annotations, list) and annotations else {}
    results = first.get("result", []) if isinstance(first, dict) else None
    if not isinstance(results, list) or not all(isinstance(result, dict) for result in results):
        raise DataError(f"{where}: annotations that are {describe(annotations)}", accepted='[{"result": [..]}]')
    values = [result.get("value") for result in results if result.get("type", "labels") == "labels"]
    assert isinstance(data, dict)
    return {**{name: value for name, value in data.items() if name in TEXT_KEYS}, "entities": values}


def _entity(value: object, text: str, where: str) -> tuple[Entity, Piece]:
    """Return an entity, and what the file says, or else the text has, at its place."""
    said: object = None
    if isinstance(value, dict):
        keys = [next((name for name in names if name in value), "") for names in (STARTS, STOPS, NAMES)]
        parts = [value.get(key) for key in keys]
        said = value.get("text")
    else:
        parts = list(value) if isinstance(value, list | tuple) else []
    if len(parts) != 3 or any(type(part) is not int for part in parts[:2]):
        raise DataError(f"{where}: an entity that is {value!r:.80}", accepted=SHAPE)
    start, stop, label = parts
    if isinstance(label, list) and len(label) == 1:
        [label] = label
    name = label_name(label, f"{where}: the label of an entity")
    if name == "O":
        raise DataError(f"{where}: an entity with the label O, which stands for none", fix="call it otherwise")
    assert isinstance(start, int) and isinstance(stop, int)
    if not 0 <= start < stop <= len(text):
        raise DataError(f"{where}: an entity from {start} to {stop} of a text of {len(text)} characters")
    return Entity(name, start, stop), Piece(said if isinstance(said, str) else text[start:stop], start, stop)


def _texts(value: object, place: str) -> Sequence[str]:
    if not isinstance(value, list):
        raise DataError(f"{place} is {describe(value)}", accepted="a list of texts")
    return [as_text(item, place) for item in value]
