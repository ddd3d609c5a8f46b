"""Named entities from every shape of file: the same rows, and each fault in one message."""

import json
from pathlib import Path

import pytest

from smelt.core.errors import DataError
from smelt.data.entities import read_entities
from smelt.data.records import Entity
from smelt.data.spans import mark_names, marks_of, without_overlaps

TEXT = "Ada lives in New York"
GIVEN = [("Ada", "PER"), ("New York", "LOC")]
PLACES = [(0, 3), (13, 21)]
SAID = [Entity("PER", 0, 3), Entity("LOC", 13, 21)]
BIO = "Ada NNP B-PER\nlives VBZ O\nin IN O\nNew NNP B-LOC\nYork NNP I-LOC\n"


def spans(start: str, stop: str, label: str) -> list[dict[str, object]]:
    return [{start: a, stop: b, label: name} for (a, b), (_, name) in zip(PLACES, GIVEN, strict=True)]


SHOWN = spans("start", "end", "x")
SPANS = spans("start", "stop", "label")
RECORDS: dict[str, object] = {
    "plain": {"text": TEXT, "entities": spans("start", "end", "label")},
    "stop": {"text": TEXT, "spans": [{**one, "text": name} for one, (name, _) in zip(SPANS, GIVEN, strict=True)]},
    "doccano": {"text": TEXT, "label": [[*place, name] for place, (_, name) in zip(PLACES, GIVEN, strict=True)]},
    "doccano-offsets": {"text": TEXT, "entities": spans("start_offset", "end_offset", "label"), "relations": []},
    "label-studio": {
        "data": {"text": TEXT},
        "annotations": [
            {"result": [{"value": {**one, "labels": [one["x"]]}, "type": "labels"} for one in SHOWN]},
        ],
    },
    "tokens": {"tokens": TEXT.split(), "ner_tags": ["B-PER", "O", "O", "B-LOC", "I-LOC"]},
    "triples": {
        "text": TEXT,
        "spo_list": [
            {"h": {"name": "Ada", "pos": [0, 3]}, "relation": "in", "t": {"name": "New York", "pos": [13, 21]}},
        ],
    },
}  # fmt: skip


@pytest.mark.parametrize("shape", RECORDS)
def test_records_of_every_shape_say_the_same(tmp_path: Path, shape: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps(RECORDS[shape]) + "\n")
    [row] = read_entities(path, {"in.h": "PER", "in.t": "LOC"} if shape == "triples" else None)
    assert (row.text, list(row.entities), row.where) == (TEXT, SAID, f"{path}:1")


@pytest.mark.parametrize("suffix", ["txt", "tsv", "conll", "bio"])
@pytest.mark.parametrize(
    "tags", ["B-PER O O B-LOC I-LOC", "I-PER O O I-LOC I-LOC", "S-PER O O B-LOC E-LOC", "U-PER O O B-LOC L-LOC"]
)
def test_columns_of_every_scheme_say_the_same(tmp_path: Path, tags: str, suffix: str) -> None:
    words = [f"{word}\t_\t{tag}" for word, tag in zip(TEXT.split(), tags.split(), strict=True)]
    path = tmp_path / f"a.{suffix}"
    path.write_text("-DOCSTART- -X- O\r\n\r\n" + "\r\n".join(words) + "\r\n\r\n" + BIO)
    one, other = read_entities(path)
    assert (one.text, list(one.entities), one.where) == (TEXT, SAID, f"{path}:3")
    assert (other.text, other.entities, other.where) == (one.text, one.entities, f"{path}:9")


def test_in_the_first_scheme_b_stands_between_neighbours_of_one_label(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("a I-X\nb B-X\nc I-X\nd I-Y\n")
    assert [(e.label, e.start, e.stop) for e in read_entities(path)[0].entities] == [
        ("X", 0, 1), ("X", 2, 5), ("Y", 6, 7)
    ]  # fmt: skip


def test_letters_written_without_spaces_become_a_text_without(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("\n".join(f"{word} O" for word in ["SOC", "误", "差", "，", "用", "OTS", "test", "car"]))
    assert read_entities(path)[0].text == "SOC误差，用OTS test car"


def test_entities_are_one_each_and_without_white_space_at_the_edges(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"text": "in  Rome ", "entities": [[2, 9, "L"], [4, 8, "L"], [4, 8, "C"], [2, 4, "L"]]}))
    assert list(read_entities(path)[0].entities) == [Entity("C", 4, 8), Entity("L", 4, 8)]
    assert list(read_entities(path, {"C": "L"})[0].entities) == [Entity("L", 4, 8)]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.jsonl", '{"text": "x", "b": 1}', "no text with entities, but text, b"),
        ("a.jsonl", '{"text": "x", "entities": [[0, "1", "L"]]}', "an entity that is [0, '1', 'L']"),
        ("a.jsonl", '{"text": "x", "entities": [{"start": 0, "label": "L"}]}', "an entity that is {'start': 0"),
        ("a.jsonl", '{"text": "x", "entities": [[0, 2, "L"]]}', "an entity from 0 to 2 of a text of 1 characters"),
        ("a.jsonl", '{"text": "x", "entities": [[0, 1, ""]]}', "the label of an entity is the text ''"),
        ("a.jsonl", '{"text": "x", "entities": [[0, 1, "O"]]}', "the label O, which stands for none"),
        ("a.jsonl", '{"text": "xy", "entities": [{"start": 0, "end": 1, "label": "L", "text": "y"}]}', "'y' at 0 to 1"),
        ("a.jsonl", '{"tokens": ["x"], "tags": []}', "1 words and 0 tags"),
        ("a.jsonl", '{"tokens": ["x"], "tags": [3]}', "'tags' is the number 3"),
        ("a.jsonl", '{"data": {"text": "x"}, "annotations": [{"result": 1}]}', "annotations that are a list"),
        ("a.conll", "x\n", "a.conll:1: 'x' is one column"),
        ("a.conll", "x O\ny PER\n", "a.conll:1: the tag 'PER'"),
        ("a.conll", "x B-\n", "the tag 'B-'"),
    ],
)
def test_faults_are_said(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError) as error:
        read_entities(tmp_path / name)
    assert message in str(error.value)


def test_a_label_to_rename_must_be_there(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(BIO)
    with pytest.raises(DataError, match=r"no entity is called 'PRE'\. Did you mean 'PER'\?"):
        read_entities(tmp_path / "a.txt", {"PRE": "P"})


def test_marks_say_entities_that_begin_and_end_with_words() -> None:
    places = [(0, 3), (4, 9), (10, 12)]
    inside, cut = [Entity("L", 0, 3), Entity("M", 4, 12)], [Entity("L", 0, 2), Entity("L", 5, 9)]
    assert marks_of(places, inside) == (["B-L", "B-M", "I-M"], inside)
    assert marks_of(places, cut) == (["O", "O", "O"], [])
    assert mark_names(["L", "M"]) == ("O", "B-L", "I-L", "B-M", "I-M")


def test_of_overlapping_entities_the_longest_stay() -> None:
    long, inner, behind, crossing = Entity("A", 2, 8), Entity("B", 3, 5), Entity("C", 8, 9), Entity("D", 0, 4)
    assert without_overlaps([inner, behind, crossing, long]) == [long, behind]
    assert without_overlaps([Entity("A", 0, 2), Entity("B", 0, 2)]) == [Entity("A", 0, 2)]


def test_the_shared_faults_are_of_four_kinds(shared_data: Path) -> None:
    rows = read_entities(shared_data / "extract" / "vehicle-faults-zh.jsonl")
    labels = {entity.label for row in rows for entity in row.entities}
    assert len(labels) == 8 and {"部件故障.h", "部件故障.t"} <= labels
