"""Texts with triples of subject, relation and object, as files write them: who relates to what, and where both stand.

    {"text": "发动机熄火。", "spo_list": [{"h": {"name": "发动机", "pos": [0, 3]},
                                          "t": {"name": "熄火", "pos": [3, 5]}, "relation": "部件故障"}]}
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from smelt.core.errors import DataError
from smelt.data.formats import as_text
from smelt.data.readers import describe, read_documents

KEY = "spo_list"
ACCEPTED = '{"text": ..., "spo_list": [{"h": {"name", "pos": [start, stop]}, "t": {...}, "relation"}]}'


@dataclass(frozen=True, slots=True)
class Mention:
    """Hold a name and where it stands in its text: text[start:stop]."""

    name: str
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class Triple:
    """Hold one fact that a text states."""

    subject: Mention
    relation: str
    object: Mention

    @property
    def names(self) -> tuple[str, str, str]:
        """Return what it says without the places: subject, relation, object."""
        return self.subject.name, self.relation, self.object.name


@dataclass(frozen=True, slots=True)
class TripleRow:
    """Hold a text and the facts that it states."""

    text: str
    triples: tuple[Triple, ...]
    where: str


def read_triples(spec: str | Path) -> Iterator[TripleRow]:
    """Yield the texts of a file, folder or glob with their triples.

    Raises:
        DataError: a row that cannot be read, or a name that does not stand where the row says.
    """
    for where, row in read_documents(spec):
        if isinstance(row, str) or KEY not in row:
            raise DataError(f"{where}: no triples ({KEY})", accepted=ACCEPTED)
        yield parse_triples(row, where)


def parse_triples(row: Mapping[str, object], where: str) -> TripleRow:
    """Read the text and the triples of one row."""
    text, found = as_text(row.get("text"), f"{where}: 'text'"), row[KEY]
    if not isinstance(found, list):
        raise DataError(f"{where}: '{KEY}' is {describe(found)}", accepted="a list of triples")
    triples = []
    for number, item in enumerate(found):
        place = f"{where}: {KEY}[{number}]"
        if not isinstance(item, dict):
            raise DataError(f"{place} is {describe(item)}", accepted=ACCEPTED)
        relation = as_text(item.get("relation"), f"{place}.relation")
        ends = [mention(item.get(key), text, f"{place}.{key}") for key in ("h", "t")]
        triples.append(Triple(ends[0], relation, ends[1]))
    return TripleRow(text, tuple(triples), where)


def mention(value: object, text: str, place: str) -> Mention:
    """Read a name with its place, which must be where the text has it."""
    if not isinstance(value, dict):
        raise DataError(f"{place} is {describe(value)}", accepted='{"name": "pump", "pos": [4, 8]}')
    name, pos = as_text(value.get("name"), f"{place}.name"), value.get("pos")
    if not (isinstance(pos, list) and len(pos) == 2 and all(type(number) is int for number in pos)):
        raise DataError(f"{place}.pos is {pos!r:.80}", accepted="[start, stop], in characters of the text")
    if not name or pos[0] < 0 or text[pos[0] : pos[1]] != name:
        raise DataError(
            f"{place}: text[{pos[0]}:{pos[1]}] is {text[max(pos[0], 0) : pos[1]]!r:.80}, not {name!r:.80}",
            accepted="the name where the text has it",
            fix="count characters from 0, not bytes",
        )
    return Mention(name, pos[0], pos[1])
