"""Which row comes next, when rows come from one set or from several of unlike weight, as pure functions of the place.

An order answers for any place of an endless run without its predecessors, so resuming is one integer. `Shuffled` goes
through all rows once an epoch, each epoch in its own order. `Mixed` draws from several sets by weight: of every
thousand places each set has its share, rounded to a whole number, at places that the seed decides, and each set is gone
through without repetition, then again in another order. So shares are exact over a thousand draws instead of by chance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Protocol

from smelt.core.errors import ConfigError
from smelt.data.order import mix, shuffled_index

BLOCK = 1000  # places over which shares are exact, and so the finest share: one in a thousand


class Order(Protocol):
    """An endless order of rows."""

    def draw(self, places: range) -> list[tuple[int, int]]:
        """Return (row, epoch) of each place; the epoch counts how often the row was drawn before."""
        ...


@dataclass(frozen=True)
class Shuffled:
    """All of `num_rows` rows once an epoch."""

    num_rows: int
    seed: int

    def draw(self, places: range) -> list[tuple[int, int]]:
        """Return (row, epoch) of each place."""
        return [(self._row(place), place // self.num_rows) for place in places]

    def _row(self, place: int) -> int:
        epoch, index = divmod(place, self.num_rows)
        return shuffled_index(index, num_rows=self.num_rows, seed=self.seed, epoch=epoch)


class Mixed:
    """Rows of several sets, which are numbered one set after the other.

    Args:
        sizes: rows of each set.
        weights: how often each is drawn, relative to the others.
        seed: decides everything.

    Raises:
        ConfigError: a share is less than one in a thousand.
    """

    def __init__(self, sizes: Sequence[int], weights: Sequence[float], seed: int) -> None:
        self.sizes, self.seed = tuple(sizes), seed
        self.shares = shares_of(weights)
        self.starts = tuple(accumulate(self.sizes, initial=0))[:-1]
        self.sets = [Shuffled(size, mix(seed) ^ number) for number, size in enumerate(sizes, start=1)]
        # Slot s of a block belongs to the set in whose range of slots it lies.
        self.owners = [number for number, share in enumerate(self.shares) for _ in range(share)]
        self.ranges = tuple(accumulate(self.shares, initial=0))[:-1]

    def draw(self, places: range) -> list[tuple[int, int]]:
        """Return (row, epoch) of each place; an epoch is one of the row's own set."""
        return [self._draw(place) for place in places]

    def taken(self, num_places: int) -> tuple[int, ...]:
        """Return how many of the first places each set has; they sum to `num_places`."""
        blocks, rest = divmod(num_places, BLOCK)
        last = [self.owners[self._slot(blocks, index)] for index in range(rest)]
        return tuple(blocks * share + last.count(number) for number, share in enumerate(self.shares))

    def _slot(self, block: int, index: int) -> int:
        return shuffled_index(index, num_rows=BLOCK, seed=self.seed, epoch=block)

    def _draw(self, place: int) -> tuple[int, int]:
        block, index = divmod(place, BLOCK)
        slot = self._slot(block, index)
        number = self.owners[slot]
        nth = block * self.shares[number] + slot - self.ranges[number]  # of the draws from this set
        ((row, epoch),) = self.sets[number].draw(range(nth, nth + 1))
        return self.starts[number] + row, epoch


def shares_of(weights: Sequence[float]) -> tuple[int, ...]:
    """Return how many of every thousand draws each set has; they sum to it, the largest remainders rounded up.

    shares_of([2, 1]) -> (667, 333)

    Raises:
        ConfigError: a share comes to nothing.
    """
    exact = [weight * BLOCK / sum(weights) for weight in weights]
    shares = [int(value) for value in exact]
    by_remainder = sorted(range(len(exact)), key=lambda number: (shares[number] - exact[number], number))
    for number in by_remainder[: BLOCK - sum(shares)]:
        shares[number] += 1
    for weight, share in zip(weights, shares, strict=True):
        if share == 0:
            raise ConfigError(
                f"a weight of {weight:g} of {sum(weights):g} in all is less than one draw in a thousand",
                fix="raise it, or leave that source out",
            )
    return tuple(shares)
