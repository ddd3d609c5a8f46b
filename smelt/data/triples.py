"""Texts with what they say as triples: one piece of the text, a relation, another piece.

    {"text": "泵漏油。", "spo_list": [{"h": {"name": "泵", "pos": [0, 1]}, "relation": "故障",
                                      "t": {"name": "漏油", "pos": [1, 3]}}]}

A position counts characters, its end not included, and is believed only where the text has the name there: what stands
somewhere else would teach a wrong place, so all such pieces of a file are listed in one error.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from smelt.core.errors import DataError
from smelt.data.formats import as_text
from smelt.data.readers import describe, read_documents
from smelt.data.records import Piece, Triple, TripleRow

SHAPE = '{"h": {"name": "A", "pos": [0, 1]}, "relation": "R", "t": {"name": "B", "pos": [2, 3]}}'
MOST_SHOWN = 5


def read_triples(spec: str | Path) -> list[TripleRow]:
    """Return the rows of a file, folder or glob of records with `text` and `spo_list`, which may be empty.

    Raises:
        DataError: a row of another shape, or pieces that do not stand where their positions say.
    """
    rows = [parse_triples(value, where) for where, value in read_documents(spec)]
    refuse_misplaced(
        [(row.where, row.text, piece) for row in rows for triple in row.triples for piece in triple.pieces]
    )
    return rows


def parse_triples(row: object, where: str) -> TripleRow:
    """Read one record; its positions are looked at by `refuse_misplaced`."""
    listed = row.get("spo_list") if isinstance(row, dict) else None
    if not isinstance(row, dict) or not isinstance(listed, list) or "text" not in row:
        shown = ", ".join(f"{name!s:.40}" for name in list(row)[:12]) if isinstance(row, dict) else describe(row)
        raise DataError(f"{where}: no row of triples, but {shown}", accepted="a record with text and spo_list, a list")
    text = as_text(row["text"], f"{where}: 'text'")
    return TripleRow(text, tuple(dict.fromkeys(_triple(value, where) for value in listed)), where)


def _triple(value: object, where: str) -> Triple:
    if not isinstance(value, dict) or not {"h", "relation", "t"} <= value.keys():
        raise DataError(f"{where}: a triple that is {describe(value)}", accepted=SHAPE)
    relation = as_text(value["relation"], f"{where}: 'relation'").strip()
    if not relation:
        raise DataError(f"{where}: a triple whose relation has no name", accepted=SHAPE)
    return Triple(_piece(value["h"], f"{where}: 'h'"), relation, _piece(value["t"], f"{where}: 't'"))


def _piece(value: object, place: str) -> Piece:
    position = value.get("pos") if isinstance(value, Mapping) else None
    if not isinstance(value, Mapping) or not isinstance(position, list) or "name" not in value:
        raise DataError(f"{place} is {describe(value)}", accepted=SHAPE)
    if len(position) != 2 or any(type(number) is not int for number in position):
        raise DataError(f"{place} has the position {position}", accepted="[START, END], two whole numbers")
    return Piece(as_text(value["name"], f"{place}: 'name'"), *position)


def refuse_misplaced(found: Sequence[tuple[str, str, Piece]]) -> None:
    """Refuse pieces that are not what their text has at their places; given are (where, text, piece).

    Raises:
        DataError: there are such; the first few are named.
    """
    wrong = [
        (where, piece, text[max(piece.start, 0) : max(piece.stop, 0)])
        for where, text, piece in found
        if not 0 <= piece.start < piece.stop or text[piece.start : piece.stop] != piece.text
    ]
    if not wrong:
        return
    shown = "; ".join(
        f"{where}: {piece.text!r} at {piece.start} to {piece.stop}, where the text has {there[:40]!r}"
        for where, piece, there in wrong[:MOST_SHOWN]
    )
    more = f"; and {len(wrong) - MOST_SHOWN:,} more" if len(wrong) > MOST_SHOWN else ""
    raise DataError(
        f"{len(wrong):,} pieces do not stand where they should: {shown}{more}",
        accepted="positions in characters from 0, the end not included",
        fix="correct these rows, or leave them out",
    )
