"""Wilson intervals against values worked out by hand."""

import pytest

from smelt.core.errors import UsageError
from smelt.evals import Rate, wilson_interval


@pytest.mark.parametrize(
    ("correct", "total", "expected"),
    [
        # 9 of 10: middle 1.09208, half 1.96 sqrt(0.009 + 0.009604) = 0.26734, both over 1.38416.
        (9, 10, (0.59584, 0.98212)),
        (5, 10, (0.23659, 0.76341)),
        # None of 10: high = 3.8416 / 13.8416.
        (0, 10, (0.0, 0.27754)),
        (10, 10, (0.72246, 1.0)),
        (1, 1, (0.20654, 1.0)),
        (900, 1000, (0.87985, 0.91709)),
        (0, 0, (0.0, 1.0)),
    ],
)
def test_wilson_interval(correct, total, expected):
    assert wilson_interval(correct, total) == pytest.approx(expected, abs=1e-5)


def test_another_level():
    # 5 of 10 at z = 1: middle 0.55, half sqrt(0.025 + 0.025) = 0.16583... over 1.1.
    assert wilson_interval(5, 10, z=1.0) == pytest.approx((0.5 - 0.15076, 0.5 + 0.15076), abs=1e-5)


def test_the_interval_holds_the_rate_and_stays_in_range():
    for total in range(1, 40):
        for correct in range(total + 1):
            low, high = wilson_interval(correct, total)
            assert 0 <= low <= correct / total <= high <= 1


@pytest.mark.parametrize(("correct", "total"), [(3, 2), (-1, 2)])
def test_an_impossible_count_is_refused(correct, total):
    with pytest.raises(UsageError) as error:
        wilson_interval(correct, total)
    assert str(error.value) == f"{correct} correct of {total} is not a rate\naccepted: 0 <= correct <= total"


def test_a_rate_reads_well():
    assert str(Rate.of(9, 10)) == "90.0 % (9/10, 59.6-98.2 %)"
    assert Rate.of(0, 0).value == 0.0
