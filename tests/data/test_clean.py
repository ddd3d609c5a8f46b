"""Duplicates, traces of people and scripts, against answers written by hand."""

import pytest

from smelt.data.clean.duplicates import exact_duplicates, near_duplicates
from smelt.data.clean.languages import language_of
from smelt.data.clean.scripts import script_of
from smelt.data.clean.traces import traces

LONG = " ".join(f"word{number}" for number in range(200))


def test_exact_duplicates_do_not_mind_case_and_white_space():
    texts = ["a b", "c", "A  b\n", "d", "c", " a B"]
    assert exact_duplicates(texts) == [[0, 2, 5], [1, 4]]


def test_near_duplicates_overlap_by_four_fifths():
    changed = LONG.replace("word7 ", "else ")  # 5 of 196 runs differ
    half = LONG.replace("word1", "other")  # 111 words differ
    chinese = "河边有一座老磨坊，磨坊里住着一位老人和他的猫。" * 2
    assert near_duplicates([LONG, "other text", changed, half, chinese, "啊" + chinese]) == [[0, 2], [4, 5]]
    assert near_duplicates([LONG, LONG], stop=lambda: True) == []
    assert near_duplicates(["", "", "x"]) == [[0, 1]]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("write to ann.lee+x@mail.example.org now", [("e-mail", "ann.lee+x@mail.example.org")]),
        ("card 4111 1111 1111 1111.", [("card number", "4111 1111 1111 1111")]),
        ("card 4111 1111 1111 1112.", []),
        ("call +44 20 7946 0958 or 555-123-4567", [("telephone", "+44 20 7946 0958"), ("telephone", "555-123-4567")]),
        ("电话13800138000。", [("telephone", "13800138000")]),
        ("身份证11010519491231002X号", [("identity number", "11010519491231002X")]),
        ("身份证110105194912310021号", []),
        ("from 192.0.2.7, not 999.1.1.1 or 1.2.3.4.5", [("IP address", "192.0.2.7")]),
        ("in 1984 there were 12,500 of 3.14 @ 5", []),
    ],
)
def test_traces_of_people_by_their_form(text, found):
    assert [(trace.kind, text[trace.start : trace.stop]) for trace in traces(text)] == found


def test_traces_take_no_longer_for_text_made_to_be_slow():
    for text in ("1" * 100_000, "a@" * 50_000, "+1 (" * 25_000, "1.1.1." * 20_000, "a." * 50_000 + "@"):
        assert list(traces(text)) == []


@pytest.mark.parametrize(
    ("text", "script"),
    [("The mill. 磨", "Latin"), ("磨坊在河边 ok", "Han"), ("水車は川のそばにある", "Japanese"),
     ("мельница", "Cyrillic"), ("ᚠᚢᚦ", "another"), ("12 + 3 = 15", "no letters")],
)  # fmt: skip
def test_script_of_most_letters(text, script):
    assert script_of(text) == script


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("The mill stands by the river, and nobody works there.", "en"),
        ("Die Mühle steht am Fluss, und niemand arbeitet dort.", "de"),
        ("水车在河边，没有人在那里工作。", "zh"),
        ("12 + 30 = 42", "unsure"),
        ("", "unsure"),
    ],
)
def test_a_language_is_told_or_not(text: str, language: str) -> None:
    pytest.importorskip("py3langid")
    assert language_of(text) == language
