"""Facts found in texts and answers to questions: both measures on counts made by hand, and their intervals."""

import pytest

from smelt.core.errors import UsageError
from smelt.evals.extraction import compare_facts
from smelt.evals.reading import cmrc_exact, cmrc_f1, cmrc_units, compare_answers, is_chinese, squad_exact, squad_f1


def test_facts_are_counted_over_all_texts() -> None:
    found = compare_facts([{"a", "b"}, {"c"}], [{"a"}, {"d"}])
    assert (found.right, found.claimed, found.there) == (1, 3, 2)
    assert (found.precision, found.recall, found.f1) == pytest.approx((1 / 3, 1 / 2, 0.4))
    low, high = found.f1_interval
    assert (low, high) == (0.0, pytest.approx(2 / 3))  # both draws of the second text, both of the first
    assert str(found).startswith("F1 40.0 % (0.0-66.7 %), precision 33.3 %")


def test_nothing_of_nothing_is_nothing() -> None:
    found = compare_facts([set(), set()], [set(), set()])
    assert (found.precision, found.recall, found.f1, found.f1_interval) == (0, 0, 0, (0, 0))
    with pytest.raises(UsageError, match="1 answers for 2 texts"):
        compare_facts([set()], [set(), set()])
    with pytest.raises(UsageError, match="0 answers for 0 texts"):
        compare_facts([], [])


def test_an_interval_narrows_with_texts() -> None:
    claimed, there = [{1}, {2}] * 50, [{1}, {3}] * 50
    low, high = compare_facts(claimed, there).f1_interval
    assert 0.38 < low < 0.43 and 0.57 < high < 0.62
    assert compare_facts(claimed, there, seed=1).f1_interval != (low, high) == compare_facts(claimed, there).f1_interval


@pytest.mark.parametrize(
    ("given", "right", "f1"),
    [
        ("北京大学", "在北京大", 3 / 4),
        ("北京大学", "北京，大学。", 1.0),  # the marks of CMRC's list do not count
        ("ABC公司", "abc 公司", 1.0),
        ("1998年5月", "1998年", 2 * 2 / (4 + 2)),
        ("大学北京", "北京大学", 2 * 2 / 8),  # the longest run, not a bag
        ("甲", "乙", 0.0),
        ("", "乙", 0.0),
    ],
)
def test_the_overlap_of_chinese_answers(given: str, right: str, f1: float) -> None:
    assert cmrc_f1(given, right) == pytest.approx(f1)


def test_exact_chinese_answers_and_their_units() -> None:
    assert cmrc_units("共5个，ABC-1") == ["共", "5", "个", "abc1"]
    assert cmrc_exact("《红楼梦》", "红楼梦") == 1 and cmrc_exact("红楼", "红楼梦") == 0
    assert is_chinese(["红楼梦", "2"] * 2) is False and is_chinese(["红楼梦", "2", "a梦"])


@pytest.mark.parametrize(
    ("given", "right", "exact", "f1"),
    [
        ("the U.S. flag", "US flag", 1, 1.0),
        ("a red flag", "the flag", 0, 2 / 3),
        ("An", "the", 1, 1.0),
        ("", "flag", 0, 0.0),
        ("flag flag", "flag", 0, 2 / 3),
    ],
)
def test_english_answers(given: str, right: str, exact: float, f1: float) -> None:
    assert squad_exact(given, right) == exact and squad_f1(given, right) == pytest.approx(f1)


def test_the_best_of_several_right_answers_counts_and_texts_are_drawn() -> None:
    right = [["红", "蓝色"], ["大门"], ["大门"]]
    found = compare_answers(["蓝", "大门", "小门"], right, ["a", "b", "b"], chinese=True)
    assert (found.exact_match, found.questions) == (pytest.approx(1 / 3), 3)
    assert found.f1 == pytest.approx((2 / 3 + 1 + 1 / 2) / 3)
    assert found.exact_match_interval == (0.0, 0.5)
    assert "exact match 33.3 % (0.0-50.0 %), F1 72.2 %" in str(found)
    with pytest.raises(UsageError, match="1 answers to 1 questions"):
        compare_answers(["a"], [[]], ["t"], chinese=False)
