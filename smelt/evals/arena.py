"""Scores from votes between models: Bradley-Terry strengths, their intervals, and whether the side of an answer counts.

A vote for one answer is a win over each other answer of its round, a tie is half a win each way, and a round in which
all were bad says nothing of who is better, so it is counted and left out. Strengths p are those under which i beats j
with probability p_i / (p_i + p_j), found by minorization-maximization, which needs no step size and rises at each
step. A model that never lost has no largest strength, so scores are those with one imagined game more a model, drawn
and spread over all others: it makes every score finite and hardly moves one that has many votes. Intervals are of
rounds drawn anew, for the pairs of one round are not independent.

Ref: Bradley and Terry, Biometrika 39 (1952). Ref: D. Hunter, MM algorithms for generalized Bradley-Terry models, Annals
of Statistics 32 (2004), eq. 3. Ref: L. Ford, Solution of a ranking problem from binary comparisons (1957).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from smelt.core.errors import UsageError
from smelt.evals.metrics import Rate
from smelt.evals.resampling import LEVELS, Numbers, resampled

TIE, BOTH_BAD = "tie", "both_bad"
MEAN_SCORE, SCORE_OF_TENFOLD = 1000.0, 400.0  # the scale of chess: ten times as strong is 400 more
MOST_STEPS, CLOSE = 10_000, 1e-8


@dataclass(frozen=True)
class Ballot:
    """A round that was voted on: its models in the order of their sides, and the place of the best, TIE or BOTH_BAD."""

    models: tuple[str, ...]
    winner: int | str


@dataclass(frozen=True)
class Standing:
    """A model's score with its 95 % interval, the rounds that counted for it, and how they ended."""

    name: str
    score: float
    low: float
    high: float
    rounds: int
    wins: int
    ties: int
    losses: int


@dataclass(frozen=True)
class Table:
    """All that votes say.

    Args:
        standings: the best first.
        wins: (M, M) in the order of the standings, wins of the row's model over the column's; a tie is half a one.
        counts: votes, decided, ties, both_bad.
    """

    standings: list[Standing]
    wins: list[list[float]]
    counts: dict[str, int]


def strengths(wins: Numbers) -> Numbers:
    """Return the likeliest strengths (..., M), of geometric mean 1, for wins of the row over the column (..., M, M).

    Raises UsageError where there are none: some models have won all their games against all others.
    """
    if not every_one_reaches_every_other(wins):
        raise UsageError("some models have won or lost all their games against the others", fix="imagine a drawn game")
    games, won = wins + np.swapaxes(wins, -1, -2), wins.sum(axis=-1)
    found = np.ones(won.shape)
    for _ in range(MOST_STEPS):
        following = centred(won / (games / (found[..., :, None] + found[..., None, :])).sum(axis=-1))
        moved, found = np.abs(np.log(following / found)).max(), following
        if moved < CLOSE:
            break
    return found


def every_one_reaches_every_other(wins: Numbers) -> bool:
    """Tell whether each model has beaten one that has beaten one ... that has beaten any other (Ford's condition)."""
    reached = wins > 0
    for _ in range(wins.shape[-1]):
        reached = reached | (reached @ reached)
    return bool(reached.all())


def centred(values: Numbers) -> Numbers:
    """Divide by the geometric mean."""
    scaled: Numbers = values / np.exp(np.log(values).mean(axis=-1, keepdims=True))
    return scaled


def scores(wins: Numbers) -> Numbers:
    """Return scores on the scale of chess, with the imagined game."""
    num = wins.shape[-1]
    imagined = (1 - np.eye(num)) / (2 * (num - 1))
    return MEAN_SCORE + SCORE_OF_TENFOLD * np.log10(strengths(wins + imagined))


def wins_of(ballot: Ballot, names: Sequence[str]) -> Numbers:
    """Return the wins (M, M) that a ballot gives."""
    found = np.zeros((len(names), len(names)))
    places = [names.index(name) for name in ballot.models]
    for one in range(len(places)):
        for other in range(len(places)):
            if one != other and ballot.winner in (TIE, one):
                found[places[one], places[other]] += 0.5 if ballot.winner == TIE else 1.0
    return found


def table_of(ballots: Sequence[Ballot], seed: int = 0) -> Table:
    """Return the table of ballots; the same seed gives the same intervals."""
    counted = [ballot for ballot in ballots if ballot.winner != BOTH_BAD]
    names = sorted({name for ballot in counted for name in ballot.models})
    ended = Counter("tie" if ballot.winner == TIE else "decided" for ballot in counted)
    counts = {
        **{"votes": len(ballots), "decided": ended["decided"], "ties": ended["tie"]},
        "both_bad": len(ballots) - len(counted),
    }
    if not counted:
        return Table([], [], counts)
    rows = np.stack([wins_of(ballot, names).ravel() for ballot in counted])  # (R, M M)
    wins = rows.sum(axis=0).reshape(len(names), len(names))
    shape = (-1, len(names), len(names))
    drawn = np.concatenate([scores(sums.reshape(shape)) for sums in resampled(rows, seed)])
    low, high = np.percentile(drawn, LEVELS, axis=0)
    made = [
        Standing(name, float(score), float(low[place]), float(high[place]), **ends_of(counted, name))
        for place, (name, score) in enumerate(zip(names, scores(wins), strict=True))
    ]
    order = sorted(range(len(names)), key=lambda place: (-made[place].score, names[place]))
    return Table([made[place] for place in order], wins[np.ix_(order, order)].tolist(), counts)


def ends_of(ballots: Sequence[Ballot], name: str) -> dict[str, Any]:
    """Count the rounds of a model and how they ended for it."""
    own = [ballot for ballot in ballots if name in ballot.models]
    ties = sum(ballot.winner == TIE for ballot in own)
    wins = sum(isinstance(ballot.winner, int) and ballot.models[ballot.winner] == name for ballot in own)
    return {"rounds": len(own), "wins": wins, "ties": ties, "losses": len(own) - ties - wins}


@dataclass(frozen=True)
class SideBias:
    """How often the first side won, against how often it would by chance, over rounds that somebody won."""

    first: Rate
    chance: float

    @property
    def leans(self) -> str:
        """Return "first" or "other" where chance lies outside of the interval, "" where it does not."""
        return "first" if self.first.low > self.chance else "other" if self.first.high < self.chance else ""


def side_bias(ballots: Sequence[Ballot]) -> SideBias:
    """Look whether voters favour the first side; models are shuffled, so nothing else can make it win more often."""
    decided = [ballot for ballot in ballots if isinstance(ballot.winner, int)]
    chance = sum(1 / len(ballot.models) for ballot in decided) / max(1, len(decided))
    return SideBias(Rate.of(sum(ballot.winner == 0 for ballot in decided), len(decided)), chance)
