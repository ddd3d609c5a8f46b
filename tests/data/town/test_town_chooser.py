"""The chooser's bits against values worked out by hand, and against the frequencies of what it draws."""

from collections import Counter
from math import log2

import pytest

from smelt.data.town.chooser import Chooser


def test_bits_of_each_draw_by_hand():
    chooser = Chooser("hand")
    chooser.choose(("a", "b"))
    assert chooser.bits == 1.0
    chooser.choose(("a", "b", "c", "d"), (1, 1, 2, 4))
    chooser.integer(3, 10)
    assert chooser.bits in (1 + 3 + 3, 1 + 2 + 3, 1 + 1 + 3)
    before = chooser.bits
    chooser.choose(("only",))
    assert chooser.bits == before


def test_a_sample_costs_the_falling_factorial():
    chooser = Chooser("sample")
    drawn = chooser.sample("abcde", 3)
    assert len(set(drawn)) == 3
    assert chooser.bits == pytest.approx(log2(5 * 4 * 3))


def test_the_stream_is_a_function_of_the_key():
    def draws(*key: object) -> list[int]:
        chooser = Chooser(*key)
        return [chooser.index(1000) for _ in range(20)]

    assert draws("a", 1) == draws("a", 1)
    assert draws("a", 1) != draws("a", 2)
    assert draws("a", 11) != draws("a1", 1)


def test_weights_are_respected_and_zero_is_never_drawn():
    chooser = Chooser("weights")
    counts = Counter(chooser.weighted((3, 0, 1)) for _ in range(8000))
    assert set(counts) == {0, 2}
    assert counts[0] / 8000 == pytest.approx(0.75, abs=0.03)
    # The mean of minus log2 p is the entropy: 2 - 0.75 log2 3.
    assert chooser.bits / 8000 == pytest.approx(2 - 0.75 * log2(3), abs=0.04)


def test_integers_reach_both_ends():
    chooser = Chooser("ends")
    assert {chooser.integer(2, 4) for _ in range(200)} == {2, 3, 4}


def test_nothing_to_draw_from_is_a_bug():
    with pytest.raises(AssertionError, match="no weight"):
        Chooser("none").weighted((0, 0))
