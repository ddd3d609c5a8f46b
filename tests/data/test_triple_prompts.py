"""Triples as prompts in two hops with negatives at a stated ratio, and as text that is written and read strictly."""

from random import Random

import pytest

from smelt.core.errors import DataError
from smelt.data.records import Piece, SpanRow, Triple, TripleRow
from smelt.data.triple_prompts import Schema, names_of, prompts_of, relations_of
from smelt.data.triple_text import NOTHING, answer_to_write, read_names, triples_to_write, write_names

TEXT = "泵漏油，泵和阀异响"
SCHEMA = Schema(("故障", "组成"), "SUBJECT的RELATION")


def piece(name: str, start: int) -> Piece:
    return Piece(name, start, start + len(name))


ROW = TripleRow(
    TEXT,
    (
        Triple(piece("泵", 4), "故障", piece("异响", 7)),
        Triple(piece("泵", 0), "故障", piece("漏油", 1)),
        Triple(piece("阀", 6), "故障", piece("异响", 7)),
    ),
    "a:1",
)


def test_two_hops_of_what_a_text_states() -> None:
    prompts = {row.prompt: row for row in prompts_of(ROW, SCHEMA, 0.0, Random(0))}
    assert {prompt: row.spans for prompt, row in prompts.items()} == {
        "故障": ((0, 1), (4, 5), (6, 7)),
        "泵的故障": ((1, 3), (7, 9)),  # of both pumps: a prompt cannot tell them apart
        "阀的故障": ((7, 9),),
    }
    assert prompts["泵的故障"].answers == ("漏油", "异响")


@pytest.mark.parametrize(("ratio", "expected"), [(0.0, 0), (0.4, 1), (1.0, 3), (100.0, 1 + 2 + 4)])
def test_negatives_at_a_ratio_and_from_both_hops(ratio: float, expected: int) -> None:
    rows = prompts_of(ROW, SCHEMA, ratio, Random(0))
    negative = [row.prompt for row in rows if not row.spans]
    assert len(negative) == expected and len(set(negative)) == expected
    assert not set(negative) & {"故障", "泵的故障", "阀的故障"}
    assert ratio < 1 or "组成" in negative  # the relation that this text does not state
    assert rows == prompts_of(ROW, SCHEMA, ratio, Random(0))


def test_a_text_without_triples_is_asked_too() -> None:
    rows = prompts_of(TripleRow("好", (), "a:1"), SCHEMA, 1.0, Random(0))
    assert len(rows) == 1 and rows[0].prompt in SCHEMA.relations and rows[0].spans == ()


def test_relations_by_how_often_they_are_stated() -> None:
    rare = TripleRow("ab", (Triple(piece("a", 0), "组成", piece("b", 1)),), "a:2")
    assert relations_of([rare, ROW]) == ("故障", "组成")
    with pytest.raises(DataError, match="no text states a relation"):
        relations_of([TripleRow("好", (), "a:1")])


def test_triples_are_written_in_order_of_places_and_read_back() -> None:
    row = triples_to_write(ROW, "text: {text}")
    assert row == {"prompt": f"text: {TEXT}", "completion": "泵 | 故障 | 漏油\n泵 | 故障 | 异响\n阀 | 故障 | 异响"}
    assert read_names(row["completion"], SCHEMA.relations) == ({names_of(triple) for triple in ROW.triples}, 0)
    assert triples_to_write(TripleRow("好", (), "a:1"))["completion"] == NOTHING
    assert read_names(f" {NOTHING}\n", SCHEMA.relations) == (set(), 0)


@pytest.mark.parametrize("line", ["泵 | 故障", "泵 | 颜色 | 红", " | 故障 | 红", "泵 | 故障 | 红 | x", "no idea"])
def test_a_line_that_is_no_triple_is_counted(line: str) -> None:
    assert read_names(f"阀 | 故障 | 异响\n{line}", SCHEMA.relations) == ({("阀", "故障", "异响")}, 1)


def test_a_name_that_cannot_be_written_is_refused() -> None:
    with pytest.raises(DataError, match=r"a:1: 'a\|b' cannot be written"):
        write_names([("a|b", "r", "c")], "a:1")


def test_questions_are_written_with_the_first_answer() -> None:
    row = SpanRow("who?", "Ada.", ((0, 3),), "a:1", ("Ada", "ada"))
    assert answer_to_write(row) == {"prompt": "Ada.\nwho?", "completion": "Ada"}
