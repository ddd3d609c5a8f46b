"""Labelled rows: columns by name or number, parts by class, and errors that name row, column and label."""

import json
from collections import Counter

import numpy as np
import pytest

from smelt.core.errors import DataError
from smelt.data.label_rows import LabelledRows, class_numbers
from smelt.data.labels import Columns, balance, check_parts, read_labels, split_labelled
from smelt.data.records import LabelRow


def rows_of(path, columns=Columns()):
    return [(row.text, row.labels) for row in read_labels(path, columns)]


def made(**counts):
    return [LabelRow(f"{name} {i}", (name,), f"rows.tsv:{name}{i}") for name, num in counts.items() for i in range(num)]


def test_a_table_is_read_by_usual_names_by_given_ones_and_by_numbers(tmp_path):
    path = tmp_path / "rows.tsv"
    path.write_text('Label\tSMS\nham\tGo "now"\nspam\tWin\n')
    expected = [('Go "now"', ("ham",)), ("Win", ("spam",))]
    assert rows_of(path) == expected == rows_of(path, Columns("SMS", "Label"))
    path.write_text('ham\tGo "now"\nspam\tWin\n')
    assert rows_of(path, Columns("2", "1")) == expected
    path = tmp_path / "rows.csv"
    path.write_text('review,stars,label\n"good, very",5,1\n ,1,0\n')
    assert rows_of(path) == [("good, very", ("1",)), ("", ("0",))]
    assert rows_of(path, Columns(label="stars"))[0] == ("good, very", ("5",))
    path.write_text("1,good\n0,bad\n")
    assert rows_of(path, Columns("2", "1")) == [("good", ("1",)), ("bad", ("0",))]


def test_a_record_may_have_a_number_several_labels_or_a_second_text(tmp_path):
    path = tmp_path / "rows.jsonl"
    given = [{"text": "a", "label": 1, "b": "x"}, {"text": "c", "labels": ["p", "q", "p"], "b": "y"}]
    path.write_text("".join(json.dumps(row) + "\n" for row in given))
    found = list(read_labels(path, Columns(second="b")))
    assert [(row.labels, row.second) for row in found] == [(("1",), "x"), (("p", "q"), "y")]
    assert found[1].where.endswith("rows.jsonl:2")


@pytest.mark.parametrize(
    ("row", "columns", "message"),
    [
        ({"txt": "a", "label": "x", "n": 1}, Columns("text"), "no column 'text'. Did you mean 'txt'"),
        ({"txt": "a", "label": "x", "n": 1}, Columns(), "no column that is usually the text"),
        ({"text": "a", "kind": "x"}, Columns(), "no column that is usually the label"),
        ({"text": "a", "label": "x"}, Columns(second="other"), "no column 'other'"),
        ({"text": "a", "label": None}, Columns(), "'label' is null"),
        ({"text": "a", "label": " "}, Columns(), "'label' is the text ' '"),
        ({"text": "a", "label": 0.5}, Columns(), "'label' is the number 0.5"),
        ({"text": 7, "label": "x"}, Columns(), "'text' is the number 7"),
    ],
)
def test_what_is_missing_is_named_with_row_and_columns(tmp_path, row, columns, message):
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(row) + "\n")
    with pytest.raises(DataError) as error:
        list(read_labels(path, columns))
    assert f"rows.jsonl:1: {message}" in str(error.value)


def test_columns_are_listed_and_plain_text_has_none(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("ham,Go now\n")
    with pytest.raises(DataError, match="no rows"):
        list(read_labels(path))
    path.write_text("ham,Go now\nspam,Win\n")
    with pytest.raises(DataError, match=r"one of ham, Go now\ntry: text_column=2 label_column=1"):
        list(read_labels(path))
    (tmp_path / "a.txt").write_text("words")
    with pytest.raises(DataError, match="plain text, which has no labels"):
        list(read_labels(tmp_path / "a.txt"))


def test_balance_takes_as_many_of_each_class():
    rows = made(a=30, b=7)
    found = balance(rows, seed=0)
    assert Counter(row.labels[0] for row in found) == {"a": 7, "b": 7}
    assert found == balance(rows, seed=0) != balance(rows, seed=1)
    assert found == sorted(found, key=rows.index)


def test_parts_have_the_classes_in_the_same_shares_and_nothing_twice():
    rows = made(a=100, b=20)
    parts = split_labelled(rows, (0.7, 0.1, 0.2), seed=0)
    assert [Counter(row.labels[0] for row in part) for part in parts] == [
        {"a": 70, "b": 14},
        {"a": 10, "b": 2},
        {"a": 20, "b": 4},
    ]
    assert sorted(row.where for part in parts for row in part) == sorted(row.where for row in rows)
    assert parts == split_labelled(rows, (0.7, 0.1, 0.2), seed=0) != split_labelled(rows, (0.7, 0.1, 0.2), seed=1)
    assert {row.where for row in parts[0]} != {row.where for row in made(a=70, b=14)}  # not just the first ones
    assert [row.labels for row in parts[0]] != sorted(row.labels for row in parts[0])
    assert check_parts(parts) == ("a", "b")


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ((made(a=2, b=2), [], made(a=1)), "the validation part has no row"),
        ((made(spam=2, b=2), made(b=1), made(spma=1)), "rows.tsv:spma0: the label 'spma' of the test part is in no"),
        ((made(a=2, b=1), made(a=1), made(a=1)), "the label 'b' has 1 training row"),
        ((made(a=4), made(a=1), made(a=1)), "every row has the label 'a'"),
    ],
)
def test_parts_that_cannot_be_used_are_refused(parts, message):
    with pytest.raises(DataError) as error:
        check_parts(parts)
    assert message in str(error.value)
    assert "spma" not in message or "Did you mean 'spam'" in str(error.value)


def test_rows_are_padded_on_the_right_to_the_longest_or_a_length():
    ids = [np.array(row, np.int32) for row in ([5, 6], [7], [8, 9, 3])]
    types = [np.array(row, np.int32) for row in ([0, 1], [0], [0, 0, 1])]
    rows = LabelledRows(ids, types, np.array([1, 0, 1], np.int32), pad_id=2)
    found = rows.take([1, 0])
    assert found.packed.ids.tolist() == [[7, 2], [5, 6]] and found.packed.segments.tolist() == [[1, 0], [1, 1]]
    assert found.types.tolist() == [[0, 0], [0, 1]] and found.row_labels.tolist() == [0, 1]
    fixed = LabelledRows(ids, types, rows.targets, 2, length=4).take([2])
    assert fixed.packed.ids.tolist() == [[8, 9, 3, 2]] and fixed.packed.positions.tolist() == [[0, 1, 2, 3]]


def test_labels_become_numbers():
    names = ("ham", "spam", "todo")
    assert class_numbers([("spam",), ("ham",)], names, several=False).tolist() == [1, 0]
    assert class_numbers([("spam", "ham"), ()], names, several=True).tolist() == [[1, 1, 0], [0, 0, 0]]
