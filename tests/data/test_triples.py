"""Triples of records: what is read, and every piece that does not stand where it says in one message."""

import json
from pathlib import Path

import pytest

from smelt.core.errors import DataError
from smelt.data.records import Piece, Triple, TripleRow
from smelt.data.triples import read_triples

PUMP = {"h": {"name": "泵", "pos": [0, 1]}, "relation": "故障", "t": {"name": "漏油", "pos": [1, 3]}}


def written(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return path


def test_rows_become_triples_and_a_repeated_one_is_one(tmp_path: Path) -> None:
    path = written(tmp_path / "a.jsonl", {"text": "泵漏油", "spo_list": [PUMP, PUMP]}, {"text": "好", "spo_list": []})
    triple = Triple(Piece("泵", 0, 1), "故障", Piece("漏油", 1, 3))
    assert read_triples(path) == [TripleRow("泵漏油", (triple,), f"{path}:1"), TripleRow("好", (), f"{path}:2")]
    assert triple.pieces == (triple.subject, triple.object)


def test_pieces_at_wrong_places_are_listed_together(tmp_path: Path) -> None:
    late = {**PUMP, "t": {"name": "漏油", "pos": [2, 4]}}
    before = {**PUMP, "h": {"name": "油", "pos": [-1, 3]}}
    path = written(tmp_path / "a.jsonl", *({"text": "泵漏油", "spo_list": [late, before]} for _ in range(3)))
    with pytest.raises(DataError) as error:
        read_triples(path)
    told = str(error.value)
    assert f"6 pieces do not stand where they should: {path}:1: '漏油' at 2 to 4, where the text has '油'" in told
    assert told.count("where the text has") == 5 and "; and 1 more" in told


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"text": "x"}, "no row of triples, but text"),
        ({"text": "x", "spo_list": [{"h": {}}]}, "a triple that is an object"),
        ({"text": "x", "spo_list": [{**PUMP, "relation": " "}]}, "relation has no name"),
        ({"text": "x", "spo_list": [{**PUMP, "h": {"name": "x"}}]}, "'h' is an object"),
        ({"text": "x", "spo_list": [{**PUMP, "h": {"name": "x", "pos": [0, True]}}]}, "has the position [0, True]"),
    ],
)
def test_rows_of_another_shape_are_refused(tmp_path: Path, row: object, message: str) -> None:
    with pytest.raises(DataError) as error:
        read_triples(written(tmp_path / "a.jsonl", row))
    assert message in str(error.value)


def test_the_shared_rows_stand_where_they_say(shared_data: Path) -> None:
    rows = read_triples(shared_data / "extract" / "vehicle-faults-zh.jsonl")
    assert len(rows) == 1491 and sum(len(row.triples) for row in rows) == 6690  # 11 are repeated
