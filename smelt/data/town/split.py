"""The wall between training and held-out worlds: a fixed hash sends each name and each sum to one side.

The names and the sums themselves are split, not the documents: a held-out world shares no name and no sum with any
training text of any kind, however much of it is made. About 80 % are on the training side. Names come from small
tables of parts, so both sides are made of the same pieces. A sum and its mirror (13 + 5, 5 + 13) share a side; the
tables of single digits belong to training, since every larger sum is worked out with them.
Cost: some tens of milliseconds a language, once.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import product
from typing import Literal
from zlib import crc32

from smelt.data.town import lexicon_en, lexicon_zh
from smelt.data.town.lexicon import Language

Split = Literal["train", "heldout"]
Sum = tuple[int, str, int]

# How often each class of sums is drawn, see `sums_of`.
SUM_WEIGHTS = {"table": 2, "small": 3, "plain": 3, "carry": 4}
_STEPS = (1, 10)
_PARTS: dict[Language, tuple[tuple[tuple[str, ...], ...], ...]] = {
    "en": (lexicon_en.NAME_PARTS, lexicon_en.TOWN_PARTS),
    "zh": (lexicon_zh.NAME_PARTS, lexicon_zh.TOWN_PARTS),
}


def _is_heldout(what: str) -> bool:
    return crc32(what.encode()) % 5 == 0


def is_heldout_name(name: str) -> bool:
    """Say whether a name of a person or a town may appear in held-out worlds only."""
    return _is_heldout(name)


def is_heldout_sum(left: int, sign: str, right: int) -> bool:
    """Say whether the sum `left sign right` may appear in held-out worlds only."""
    if is_table(left, sign, right):
        return False
    if sign == "+" and right < left:
        left, right = right, left
    return _is_heldout(f"{left} {sign} {right}")


def is_table(left: int, sign: str, right: int) -> bool:
    """Say whether a sum is in the tables that working out a column needs: 9 + 8 = 17, and backwards 17 - 8 = 9."""
    return right < 10 and (left < 10 if sign == "+" else left - right < 10)


@lru_cache
def name_table(split: Split, language: Language, what: Literal["people", "towns"]) -> dict[str, tuple[str, ...]]:
    """List the names of one side by their first part (or surname)."""
    starts, *others = _PARTS[language][what == "towns"]
    rests = ["".join(parts) for parts in product(*others)]
    table: dict[str, tuple[str, ...]] = {}
    for start in starts:
        # A doubled first part ("Kaka") reads badly.
        names = [start + rest for rest in rests if not rest.startswith("-" + start.lower())]
        table[start] = tuple(name for name in names if is_heldout_name(name) == (split == "heldout"))
    return table


def names_of(split: Split, language: Language) -> frozenset[str]:
    """Return every name of people and towns that worlds of this split can use."""
    tables = (name_table(split, language, "people"), name_table(split, language, "towns"))
    return frozenset(name for table in tables for names in table.values() for name in names)


def result_of(item: Sum) -> int:
    """Work out a sum."""
    left, sign, right = item
    return left + right if sign == "+" else left - right


def _carries(item: Sum) -> bool:
    left, sign, right = item
    return left % 10 + right % 10 > 9 if sign == "+" else left % 10 < right % 10


@lru_cache
def sums_of(split: Split) -> dict[str, tuple[Sum, ...]]:
    """List the sums of one side by class; terms and results are in 0..99.

    Exercises: `table` is what training alone knows by heart; with a term above nine, `small` adds or takes a single
    digit, `plain` two digits without a carry, `carry` with one. Stories: `plus` and `minus`, small numbers of things.
    """
    pairs = [(left, right) for left in range(1, 100) for right in range(1, 100)]
    every: list[Sum] = [(a, "+", b) for a, b in pairs if a + b <= 99] + [(a, "-", b) for a, b in pairs if a >= b]
    mine = [item for item in every if is_heldout_sum(*item) == (split == "heldout")]
    larger = [item for item in mine if not is_table(*item)]
    two_digits = [item for item in larger if item[0] > 9 < item[2]]
    few = [item for item in mine if 2 <= item[0] < 40 and item[2] < 10 and result_of(item) > 1]
    classes = {
        "table": [item for item in mine if is_table(*item)],
        "small": [item for item in larger if min(item[0], item[2]) < 10],
        "plain": [item for item in two_digits if not _carries(item)],
        "carry": [item for item in two_digits if _carries(item)],
        "plus": [item for item in few if item[1] == "+"],
        "minus": [item for item in few if item[1] == "-"],
    }
    return {name: tuple(items) for name, items in classes.items()}


@lru_cache
def sequences_of(split: Split) -> tuple[tuple[int, int], ...]:
    """List the number patterns of one side as (start, step); five terms stay below 100."""
    every = [(start, step) for step in _STEPS for start in range(1, 100 - 4 * step)]
    return tuple(pair for pair in every if _is_heldout(f"{pair[0]} by {pair[1]}") == (split == "heldout"))
