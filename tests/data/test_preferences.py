"""Preference data in the forms that it is published in; a row that says nothing about which is better is named."""

import json

import pytest

from smelt.core.errors import DataError
from smelt.data.formats import scan_rows, summarize
from smelt.data.records import Message, PreferenceRow

USER = {"role": "user", "content": "Hi"}
GOOD, BAD = {"role": "assistant", "content": "Hello!"}, {"role": "assistant", "content": "Go."}
SAME_ROW = {
    "texts": {"prompt": "Hi", "chosen": "Hello!", "rejected": "Go."},
    "messages": {"prompt": [USER], "chosen": [GOOD], "rejected": [BAD]},
    "whole conversations": {"chosen": [USER, GOOD], "rejected": [USER, BAD]},
    "a prompt twice": {"prompt": "Hi", "chosen": [USER, GOOD], "rejected": [USER, BAD]},
    "the town's": {"messages": [USER], "chosen": "Hello!", "rejected": "Go."},
}


def rows(tmp_path, *values):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(value) + "\n" for value in values), encoding="utf-8")
    return path


@pytest.mark.parametrize("form", SAME_ROW)
def test_one_row_in_every_form(tmp_path, form):
    path = rows(tmp_path, SAME_ROW[form])
    expected = PreferenceRow((Message("user", "Hi"),), "Hello!", "Go.", f"{path}:1")
    assert list(scan_rows(path)) == [("preferences", expected)]
    assert summarize(path).num_bytes == len("HiHello!Go.")


@pytest.mark.parametrize(
    ("row", "what"),
    [
        ({"prompt": "Hi", "chosen": "", "rejected": "x"}, "'chosen' does not end with what the assistant says"),
        ({"prompt": "Hi", "chosen": "x", "rejected": [USER]}, "'rejected' does not end with what the assistant says"),
        ({"prompt": "Hi", "chosen": "x", "rejected": 4}, "'rejected' is the number 4"),
        ({"chosen": "x", "rejected": "y"}, "no prompt for the two replies"),
        ({"chosen": [USER, GOOD], "rejected": [GOOD, BAD]}, "answer two different conversations"),
    ],
)
def test_a_bad_row(tmp_path, row, what):
    ((_, found),) = scan_rows(rows(tmp_path, row))
    assert isinstance(found, DataError) and what in str(found) and "rows.jsonl:1" in str(found)
