"""An n-gram model with interpolated modified Kneser-Ney smoothing: the line that a neural model must beat.

A token's probability comes from how often it followed the last order - 1 tokens. From each count a discount is taken,
and the mass so freed goes to the same question with one token less of context, down to 1 / V. What is counted for the
shorter contexts is the point of Kneser and Ney: not how often a token came, but behind how many different tokens.

    "san francisco" 3 times, "my cup", "the cup", "a cup" once each
    how often      francisco 3, cup 3  ->  behind an unseen word both would be equally likely
    behind how many words  francisco 1 (san), cup 3 (my, the, a)  ->  behind an unseen word cup is likelier

The beginning of a stream counts as one more such token, so whatever was seen has a count of 1 or more.

An n-gram is the number of its first n - 1 tokens and its last token in one integer, exact; its number is its place
among the sorted ones. Training sorts the places of the text once an order: about 1 second and 150 MB a million tokens
at order 5. The model is 24 bytes a distinct n-gram, and scoring is `order` binary searches a token.

Ref: Kneser & Ney, Improved backing-off for m-gram language modeling, 1995; Chen & Goodman, An empirical study of
smoothing techniques for language modeling, 1999, section 3, eq. 26 (discounts).
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from smelt.core.errors import CheckpointError, UsageError
from smelt.core.storage import atomic_directory, verify_directory, write_json

Ids = Sequence[int] | NDArray[np.integer[Any]]
IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]
Discounts = tuple[float, float, float]  # for the counts 1, 2, and 3 or more

SETTINGS, TABLES = "ngram.json", "ngram.safetensors"
MAX_VOCAB_SIZE = 2**31  # so that a key is below 2**63 with up to 2**32 n-grams
FALLBACK_DISCOUNTS = (0.5, 1.0, 1.5)
SMALLEST_DISCOUNT = 1e-6  # a discount of 0 would leave nothing for what was not seen


class Level(NamedTuple):
    """All n-grams of one length, sorted: a key is `number of the first n - 1 tokens * vocab_size + last token`."""

    keys: IntArray  # (n-grams,) ascending; the number of an n-gram is its place here
    probabilities: FloatArray  # (n-grams,) of the last token after the others, all shorter contexts mixed in
    backoffs: FloatArray  # (n-grams of length n - 1,) the mass that is left for the shorter context


class _Counts(NamedTuple):
    keys: IntArray
    suffixes: IntArray  # the number of the n-gram without its first token
    counts: IntArray  # occurrences at the highest order, different tokens before it below


@dataclass(frozen=True, eq=False)
class NgramModel:
    """Probabilities of all n-grams up to `order`; get it from `NgramModel.train` or `NgramModel.load`."""

    vocab_size: int
    levels: tuple[Level, ...]  # n = 1, 2, .. order
    discounts: tuple[Discounts, ...]

    @property
    def order(self) -> int:
        """Return the length of the longest n-gram, which is one more than the tokens of context."""
        return len(self.levels)

    @classmethod
    def train(cls, streams: Iterable[Ids], *, vocab_size: int, order: int = 5) -> NgramModel:
        """Count and smooth the n-grams of some streams of ids; no n-gram crosses from one stream into the next.

        Raises:
            UsageError: an id is not in the vocabulary, there is no token, or a size is not possible.
        """
        if order < 1:
            raise UsageError(f"order={order} is not possible", accepted="1 or more")
        if not 1 <= vocab_size <= MAX_VOCAB_SIZE:
            raise UsageError(f"vocab_size={vocab_size} is not possible", accepted=f"1 to {MAX_VOCAB_SIZE}")
        checked = (_checked(ids, vocab_size, f"stream {number}: ") for number, ids in enumerate(streams, 1))
        rows = [ids.astype(np.int32) for ids in checked if len(ids)]
        if not rows:
            raise UsageError("the text is empty", accepted="at least one token")
        levels: list[Level] = []
        discounts = []
        shorter = np.array([1 / vocab_size])  # of the empty n-gram
        for counts in _count(rows, vocab_size, order):
            discounts.append(estimate_discounts(counts.counts))
            levels.append(_smooth(counts, discounts[-1], shorter, vocab_size))
            shorter = levels[-1].probabilities
        return cls(vocab_size, tuple(levels), tuple(discounts))

    def log_probabilities(self, ids: Ids) -> FloatArray:
        """Return the natural log of each token's probability given those before it in the row, (T,)."""
        row = _checked(ids, self.vocab_size)
        probabilities = np.full(len(row), 1 / self.vocab_size)
        contexts = np.zeros(len(row), dtype=np.int64)  # the number of the n - 1 tokens before each place, -1 if unseen
        for level in self.levels:
            places = np.flatnonzero(contexts >= 0)
            seen = contexts[places]
            numbers = _find(level.keys, seen * self.vocab_size + row[places])
            mixed = level.backoffs[seen] * probabilities[places]
            mixed[numbers >= 0] = level.probabilities[numbers[numbers >= 0]]
            probabilities[places] = mixed
            ending = np.full(len(row), -1)
            ending[places] = numbers
            contexts = np.concatenate([[-1], ending])[: len(row)]
        logs: FloatArray = np.log(probabilities)
        return logs

    def distribution(self, context: Ids) -> FloatArray:
        """Return the probabilities of all tokens after a context of any length, (V,)."""
        row = _checked(context, self.vocab_size)
        probabilities = np.full(self.vocab_size, 1 / self.vocab_size)
        for level, length in zip(self.levels, range(len(row) + 1), strict=False):
            number = self._number(row[len(row) - length :])
            if number < 0:
                break  # what holds an unseen context is unseen as well
            first = number * self.vocab_size
            begin, end = np.searchsorted(level.keys, [first, first + self.vocab_size])
            probabilities *= level.backoffs[number]
            probabilities[level.keys[begin:end] - first] = level.probabilities[begin:end]
        return probabilities

    def generate(self, context: Ids, max_new_tokens: int, seed: int, temperature: float = 1.0) -> list[int]:
        """Return `max_new_tokens` sampled ids; temperature 0 takes the likeliest, the lowest id first."""
        if max_new_tokens < 0:
            raise UsageError(f"max_new_tokens={max_new_tokens} is not possible", accepted="0 or more")
        if not 0 <= temperature < math.inf:
            raise UsageError(f"temperature={temperature} is not possible", accepted="0 or more")
        ids: list[int] = _checked(context, self.vocab_size).tolist()
        for uniform in np.random.default_rng(seed).random(max_new_tokens).tolist():
            probabilities = self.distribution(ids[-self.order :])
            if temperature == 0:
                ids.append(int(probabilities.argmax()))
                continue
            with np.errstate(over="ignore"):  # minus infinity is the right limit at tiny temperatures
                sums = np.exp(np.log(probabilities / probabilities.max()) / temperature).cumsum()
            ids.append(int(np.searchsorted(sums[:-1], uniform * sums[-1], side="right")))
        return ids[len(context) :]

    def save(self, directory: Path | str) -> None:
        """Write a sealed directory that appears whole or not at all, replacing an earlier n-gram model.

        Raises CheckpointError when the directory holds something else, ResourceError when the disk is full.
        """
        directory = Path(directory)
        if directory.is_dir() and any(directory.iterdir()) and not (directory / SETTINGS).is_file():
            raise CheckpointError(
                f"{directory}: holds files that are not an n-gram model, and saving would replace them",
                accepted="a new directory, an empty one, or an earlier n-gram model",
                fix="save to another path",
            )
        settings = {"version": 1, "order": self.order, "vocab_size": self.vocab_size, "discounts": self.discounts}
        levels = enumerate(self.levels, 1)
        tables = [(f"{name}.{n}", table) for n, level in levels for name, table in level._asdict().items()]
        with atomic_directory(directory) as folder:
            write_json(folder / SETTINGS, settings)
            save_file(dict(tables), folder / TABLES)

    @classmethod
    def load(cls, directory: Path | str) -> NgramModel:
        """Read a directory that `save` wrote; raises CheckpointError on anything missing, altered or misfitting."""
        directory = Path(directory)
        verify_directory(directory)
        try:
            settings = json.loads((directory / SETTINGS).read_text(encoding="utf-8"))
            return cls(*_parsed(settings, load_file(directory / TABLES)))
        except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError, SafetensorError) as error:
            raise CheckpointError(
                f"{directory}: not a readable n-gram model ({error})",
                fix="train the model again, or restore the directory from a copy",
            ) from error

    def _number(self, ids: IntArray) -> int:
        """Return the number of an n-gram among those of its length, 0 for the empty one, -1 if unseen."""
        number = 0
        for level, token in zip(self.levels, ids, strict=False):
            number = int(_find(level.keys, np.array([number * self.vocab_size + token]))[0])
            if number < 0:
                break
        return number


def estimate_discounts(counts: IntArray) -> Discounts:
    """Return what to take from counts of 1, of 2, and of 3 or more, from how many n-grams have a count of 1 to 4.

    Where text is too scarce for the estimate (no n-gram with a count of 1, 2 or 3) or the result is not positive, all
    three are FALLBACK_DISCOUNTS.

    counts 1 1 1 1 2 2 3 -> n1 .. n4 = 4, 2, 1, 0; Y = 4 / (4 + 2 * 2) = 1/2; D = 1 - 2Y 2/4, 2 - 3Y 1/2, 3 - 4Y 0/1
    """
    n1, n2, n3, n4 = np.bincount(np.minimum(counts, 5), minlength=6)[1:5].tolist()
    if not n1 or not n2 or not n3:
        return FALLBACK_DISCOUNTS
    y = n1 / (n1 + 2 * n2)
    found = (1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3)
    return found if min(found) >= SMALLEST_DISCOUNT else FALLBACK_DISCOUNTS


def _count(rows: Sequence[NDArray[np.int32]], vocab_size: int, order: int) -> Iterator[_Counts]:
    """Number the n-grams of each length from those one token shorter, and count them."""
    tokens, lengths = np.concatenate(rows), np.array([len(row) for row in rows])
    ends = lengths.cumsum()
    is_last = np.zeros(len(tokens), dtype=bool)
    is_last[ends - 1] = True
    shorter = _Counts(*[np.zeros(1, dtype=np.int64)] * 3)  # the empty n-gram
    starts = np.arange(len(tokens))  # where an n-gram begins that does not leave its stream
    numbers = np.zeros(len(tokens), dtype=np.int64)  # of the n-gram at each start
    for n in range(1, order + 1):
        if n > 1:
            starts = starts[~is_last[starts + n - 2]]
        packed = numbers[starts] * vocab_size + tokens[starts + n - 1]
        keys, places = np.unique(packed, return_inverse=True)
        suffixes = np.zeros(len(keys), dtype=np.int64)
        if n > 1:
            suffixes[places] = numbers[starts + 1]
            before = np.bincount(suffixes, minlength=len(shorter.keys))
            before[numbers[(ends - lengths)[lengths >= n - 1]]] += 1  # the beginning of a stream, once an n-gram
            yield shorter._replace(counts=before)
        numbers[starts] = places
        shorter = _Counts(keys, suffixes, np.bincount(places, minlength=len(keys)))
    yield shorter


def _smooth(counts: _Counts, discounts: Discounts, shorter: FloatArray, vocab_size: int) -> Level:
    """Mix discounted counts with the probabilities of the shorter n-grams: p = (c - D) / total + backoff * p'."""
    contexts = counts.keys // vocab_size
    taken = np.array([0.0, *discounts])[np.minimum(counts.counts, 3)]
    totals = np.bincount(contexts, weights=counts.counts, minlength=len(shorter))
    backoffs = np.ones(len(shorter))  # nothing ever followed the last tokens of a stream
    np.divide(np.bincount(contexts, weights=taken, minlength=len(shorter)), totals, out=backoffs, where=totals > 0)
    mixed = (counts.counts - taken) / totals[contexts] + backoffs[contexts] * shorter[counts.suffixes]
    return Level(counts.keys, np.minimum(mixed, 1.0), backoffs)  # rounding may pass 1


def _find(keys: IntArray, wanted: IntArray) -> IntArray:
    """Return the place of each wanted key among sorted ones, -1 where there is none."""
    if not len(keys):
        return np.full(len(wanted), -1)
    places = np.searchsorted(keys, wanted).clip(max=len(keys) - 1)
    return np.where(keys[places] == wanted, places, -1)


def _checked(ids: Ids, vocab_size: int, where: str = "") -> IntArray:
    """Return ids as a row of int64, or say which of them is none."""
    row = np.asarray(ids) if len(ids) else np.zeros(0, dtype=np.int64)
    if row.ndim != 1 or row.dtype.kind not in "iu":
        what = f"{where}ids of shape {row.shape} and type {row.dtype} are not a row"
        raise UsageError(what, accepted="whole numbers, (T,)")
    wrong = np.flatnonzero((row < 0) | (row >= vocab_size))
    if len(wrong):
        what = f"{where}id {row[wrong[0]]} at position {wrong[0]} is not in the vocabulary"
        raise UsageError(what, accepted=f"0 to {vocab_size - 1}")
    return row.astype(np.int64)


def _parsed(
    settings: Mapping[str, Any], tables: Mapping[str, NDArray[Any]]
) -> tuple[int, tuple[Level, ...], tuple[Discounts, ...]]:
    """Return the fields of a model from its files; raises ValueError, KeyError or TypeError where they misfit."""
    version, order, vocab_size = sizes = tuple(settings[name] for name in ("version", "order", "vocab_size"))
    discounts = tuple((float(one), float(two), float(more)) for one, two, more in settings["discounts"])
    fits = all(type(size) is int for size in sizes) and version == 1 and 1 <= vocab_size <= MAX_VOCAB_SIZE
    if not fits or not order == len(discounts) == len(tables) / len(Level._fields) >= 1:
        raise ValueError(f"version {version!r}, order {order!r} and vocab_size {vocab_size!r} do not fit the tables")
    levels: list[Level] = []
    for n in range(1, order + 1):
        keys, *shares = level = Level(*(tables[f"{name}.{n}"] for name in Level._fields))
        contexts = len(levels[-1].keys) if levels else 1
        found = [(table.dtype.str, table.shape) for table in level]
        if found != [("<i8", (keys.size,)), ("<f8", (keys.size,)), ("<f8", (contexts,))]:
            raise ValueError(f"the {n}-grams of {TABLES} have the types and sizes {found}")
        ascending = (keys[1:] > keys[:-1]).all() and (keys >= 0).all() and (keys < contexts * vocab_size).all()
        if not ascending or not all(((table > 0) & (table <= 1)).all() for table in shares):
            raise ValueError(f"the {n}-grams of {TABLES} are out of order or out of range")
        levels.append(level)
    return vocab_size, tuple(levels), discounts
