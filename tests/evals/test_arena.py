"""Scores from votes against cases solved by hand, and what bootstrap and side check say of skewed votes."""

import random

import numpy as np
import pytest

from smelt.core.errors import UsageError
from smelt.evals.arena import BOTH_BAD, TIE, Ballot, scores, side_bias, strengths, table_of, wins_of


def test_two_models_solved_by_hand():
    # 3 of 4 won: p / (p + q) = 3/4 and p q = 1, so p = sqrt(3), q = 1 / sqrt(3).
    assert strengths(np.array([[0.0, 3.0], [1.0, 0.0]])) == pytest.approx([3**0.5, 3**-0.5], abs=1e-6)


def test_three_models_solved_by_hand():
    # With p = (4, 2, 1) each pair's expected wins are those it has, so nothing is likelier: 6 * 4/6 = 4, 5 * 4/5 = 4
    # and 3 * 2/3 = 2. The geometric mean is 2.
    wins = np.array([[0.0, 4.0, 4.0], [2.0, 0.0, 2.0], [1.0, 1.0, 0.0]])
    assert strengths(wins) == pytest.approx([2, 1, 0.5], abs=1e-6)
    assert strengths(np.stack([wins, wins.T]))[1] == pytest.approx([0.5, 1, 2], abs=1e-6)


def test_who_never_lost_has_a_score_by_an_imagined_draw_alone():
    with pytest.raises(UsageError, match="have won or lost all their games"):
        strengths(np.array([[0.0, 2.0], [0.0, 0.0]]))
    # 2.5 wins of 3: a ratio of 5, and 200 log10(5) on both sides of 1000.
    assert scores(np.array([[0.0, 2.0], [0.0, 0.0]])) == pytest.approx([1139.794, 860.206], abs=1e-3)


def test_what_a_vote_counts_for():
    names = ["x", "y", "z"]
    assert wins_of(Ballot(("z", "x", "y"), 0), names).tolist() == [[0, 0, 0], [0, 0, 0], [1, 1, 0]]
    assert wins_of(Ballot(("x", "y"), TIE), names).tolist() == [[0, 0.5, 0], [0.5, 0, 0], [0, 0, 0]]
    assert not wins_of(Ballot(("x", "y"), BOTH_BAD), names).any()


def test_a_table_counts_all_and_scores_what_says_something():
    ballots = [Ballot(("x", "y"), 0)] * 3 + [
        Ballot(("y", "x"), 0),
        Ballot(("x", "y"), TIE),
        Ballot(("x", "y"), BOTH_BAD),
    ]
    table = table_of(ballots)
    assert table.counts == {"votes": 6, "decided": 4, "ties": 1, "both_bad": 1}
    x, y = table.standings
    assert (x.name, x.rounds, x.wins, x.ties, x.losses) == ("x", 5, 3, 1, 1)
    assert x.score + y.score == pytest.approx(2000) and x.score > y.score
    assert table.wins == [[0, 3.5], [1.5, 0]]
    assert x.low < x.score < x.high
    assert table_of(ballots) == table
    assert table_of([]).standings == table_of([Ballot(("x", "y"), BOTH_BAD)]).standings == []


def test_an_interval_holds_the_true_difference_and_shrinks():
    chance = random.Random(0)
    true = {"a": 1200.0, "b": 1000.0, "c": 800.0}

    def vote() -> Ballot:
        one, other = chance.sample(sorted(true), 2)
        wins = chance.random() < 1 / (1 + 10 ** ((true[other] - true[one]) / 400))
        return Ballot((one, other), 0 if wins else 1)

    few, many = table_of([vote() for _ in range(40)]), table_of([vote() for _ in range(2000)])
    assert [one.name for one in many.standings] == ["a", "b", "c"]
    assert all(one.low < true[one.name] < one.high for one in many.standings)
    widths = [table.standings[0].high - table.standings[0].low for table in (few, many)]
    assert widths[1] < widths[0] / 3


def test_a_hundred_wins_in_a_row_are_a_finite_score():
    best, last = table_of([Ballot(("x", "y"), 0)] * 100).standings
    assert np.isfinite([best.score, best.high, last.low]).all()
    assert best.score - last.score == pytest.approx(400 * np.log10(100.5 / 0.5))


@pytest.mark.parametrize(("winners", "leans"), [([0] * 9 + [1], "first"), ([1] * 9 + [0], "other"), ([0, 1, 1, 0], "")])
def test_side_bias(winners, leans):
    found = side_bias([Ballot(("x", "y"), winner) for winner in winners] + [Ballot(("x", "y"), TIE)])
    assert (found.leans, found.chance, found.first.total) == (leans, 0.5, len(winners))


def test_chance_of_the_first_of_four_is_a_quarter():
    found = side_bias([Ballot(tuple("wxyz"), 0), Ballot(("x", "y"), 1)])
    assert found.chance == pytest.approx(0.375) and found.leans == ""
    assert side_bias([]).leans == ""
