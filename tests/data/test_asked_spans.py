"""Questions whose answers stand in a text: three formats, positions that do not agree, parts without a text in two."""

import json
from pathlib import Path

import pytest

from smelt.core.errors import DataError
from smelt.data.asked_spans import holds_triples, read_spans, split_by_text
from smelt.data.records import SpanRow


def squad(*answers: tuple[str, int]) -> dict[str, object]:
    listed = [{"text": text, "answer_start": start} for text, start in answers]
    question = {"id": "q", "question": "who?", "answers": listed}
    return {"version": "v1.0", "data": [{"paragraphs": [{"context": "Ada saw the mill.", "qas": [question]}]}]}


def test_nested_files_and_answers_that_stand_elsewhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "dev.json"
    path.write_text(json.dumps(squad(("Ada", 0), ("mill", 11), ("the mill", -9))))
    where = f"{path}:1: data[0][0]: qas[0]"
    assert read_spans(path) == [SpanRow("who?", "Ada saw the mill.", ((0, 3),), where, ("Ada", "mill", "the mill"))]
    assert "2 of 3 answers do not stand where the file says; they only test" in capsys.readouterr().err
    assert not holds_triples(path)


def test_plain_rows(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    row = {"prompt": "part", "text": "a pump leaks", "spans": [{"start": 2, "end": 6}]}
    path.write_text(json.dumps(row) + "\n" + json.dumps({**row, "spans": []}) + "\n")
    assert read_spans(path) == [
        SpanRow("part", "a pump leaks", ((2, 6),), f"{path}:1", ("pump",)),
        SpanRow("part", "a pump leaks", (), f"{path}:2"),
    ]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"prompt": "p", "text": "abc", "spans": [{"start": 1, "end": 4}]}, "spans[0] is {'start': 1, 'end': 4}"),
        ({"prompt": "p", "text": "abc", "spans": [{"start": 1, "end": 1}]}, "start < end, in characters of the text"),
        ({"prompt": "p", "text": "abc", "spans": [[0, 1]]}, "spans[0] is [0, 1]"),
        ({"prompt": "p", "text": "abc", "spans": "a"}, "'spans' is the text 'a'"),
        ({"question": "p", "text": "abc"}, "no questions with places"),
        ({"context": "abc", "qas": {}}, "'qas' is an object"),
        ({"context": "abc", "qas": [{"question": "q", "answers": [{"text": "a"}]}]}, "answer_start is None"),
        ({"context": "abc", "qas": []}, "no questions"),
    ],
)
def test_what_cannot_be_read_is_said(tmp_path: Path, row: object, message: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(row) + "\n")
    with pytest.raises(DataError) as error:
        read_spans(path)
    assert message in str(error.value)


def test_parts_share_no_text_and_lose_no_row() -> None:
    rows = [SpanRow(f"q{number}", f"text {number // 3}", (), str(number)) for number in range(30)]
    parts = split_by_text(rows, (0.8, 0.1, 0.1), 0)
    assert [len(part) for part in parts] == [24, 3, 3]
    assert sorted(row.where for part in parts for row in part) == sorted(row.where for row in rows)
    texts = [{row.text for row in part} for part in parts]
    assert not texts[0] & texts[1] and not texts[0] & texts[2] and not texts[1] & texts[2]
    assert split_by_text(rows, (0.8, 0.1, 0.1), 1) != parts == split_by_text(rows, (0.8, 0.1, 0.1), 0)


def test_the_shared_questions(shared_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = read_spans(shared_data / "eval" / "cmrc-dev-zh.json")
    assert len(rows) == 3219 and len({row.text for row in rows}) == 848
    assert all(row.text[start:stop] in row.answers for row in rows for start, stop in row.spans)
    assert "answers do not stand where the file says" in capsys.readouterr().err
