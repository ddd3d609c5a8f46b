"""Texts that stand in a data set more than once, word for word or nearly.

Exact: two texts are the same when they have the same letters, whatever case and white space. Near: a text is the set
of its runs of five words (of five characters where words are not set apart); two are near when their sets overlap by
`LIKE` of their union. Comparing all pairs would be quadratic, so each set is summed up in 128 numbers, of which two
alike sets share about the same part (MinHash); texts that share a whole band of eight are compared in truth, each with
the first text of its band. Of pairs that overlap by 0.8, 95 % share one of the 16 bands, of those by 0.5, 6 %.

Ref: Broder, On the resemblance and containment of documents, 1997. Ref: Mining of Massive Datasets, section 3.4.
"""

from __future__ import annotations

import hashlib
import zlib
from collections import defaultdict
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

RUN = 5
LIKE = 0.8
BANDS, BAND_ROWS = 16, 8
MOST_RUNS = 4096  # of one text: a longer one is judged by its beginning
SPACED = 0.08  # the part of a text that is white space where words are set apart


def plain(text: str) -> str:
    """Return a text without what does not count: case and the amount of white space."""
    return " ".join(text.lower().split())


def exact_duplicates(texts: Sequence[str]) -> list[list[int]]:
    """Return the places of texts that are the same, one list a text, the longest list first."""
    places = defaultdict[bytes, list[int]](list)
    for place, text in enumerate(texts):
        places[hashlib.sha256(plain(text).encode("utf-8", "surrogatepass")).digest()].append(place)
    return sorted((found for found in places.values() if len(found) > 1), key=len, reverse=True)


def near_duplicates(texts: Sequence[str], *, stop: Callable[[], bool] = bool) -> list[list[int]]:
    """Return the places of texts that are nearly the same, one list a group; `stop` is asked whether to give up.

    A group may hold texts that are alike only through others of it.
    """
    runs: list[frozenset[int]] = []
    firsts: dict[tuple[int, bytes], int] = {}
    leader = list(range(len(texts)))

    def root(place: int) -> int:
        while leader[place] != place:
            place = leader[place]
        return place

    for place, text in enumerate(texts):
        if stop():
            return []
        runs.append(frozenset(runs_of(text)))
        for band in bands(runs[-1]):
            first = firsts.setdefault(band, place)
            if root(first) != root(place) and overlap(runs[first], runs[place]) >= LIKE:
                leader[root(place)] = root(first)
    groups = defaultdict[int, list[int]](list)
    for place in range(len(texts)):
        groups[root(place)].append(place)
    return sorted((found for found in groups.values() if len(found) > 1), key=len, reverse=True)


def runs_of(text: str) -> list[int]:
    """Return a number for each run of five words or characters of a text; of a shorter text one for all of it."""
    simple = plain(text)
    parts: Sequence[str] = simple.split() if simple.count(" ") >= SPACED * len(simple) else simple
    join = " ".join if isinstance(parts, list) else "".join
    starts = range(max(1, min(len(parts) - RUN + 1, MOST_RUNS)))
    return [zlib.crc32(join(parts[start : start + RUN]).encode("utf-8", "surrogatepass")) for start in starts]


def bands(runs: frozenset[int]) -> list[tuple[int, bytes]]:
    """Return the 16 bands of a set, each with its number, so that equal ones are equal values."""
    values = np.fromiter(runs, dtype=np.uint64, count=len(runs))
    least = np.full(BANDS * BAND_ROWS, np.iinfo(np.uint64).max, dtype=np.uint64)
    for start in range(0, len(values), 512):
        mixed = values[start : start + 512, None] * FACTORS + SUMMANDS  # (runs, numbers), modulo 2^64
        least = np.minimum(least, (mixed >> np.uint64(32)).min(axis=0))
    rows = least.astype(np.uint32).reshape(BANDS, BAND_ROWS)
    return [(number, row.tobytes()) for number, row in enumerate(rows)]


def overlap(first: frozenset[int], second: frozenset[int]) -> float:
    """Return the part of two sets that both have, 0 to 1."""
    both = len(first & second)
    return both / max(1, len(first) + len(second) - both)


def _drawn(seed: int) -> npt.NDArray[np.uint64]:
    """Return the numbers that stand for 128 functions; they are odd, so that no two runs become one."""
    drawn = np.random.default_rng(seed).integers(0, 1 << 63, BANDS * BAND_ROWS, dtype=np.uint64)
    return drawn * np.uint64(2) + np.uint64(1)


FACTORS, SUMMANDS = _drawn(1), _drawn(2)
