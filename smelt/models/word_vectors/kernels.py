"""The hot loops of training, compiled by numba; `reference` says the same in numpy, and a test holds the two equal.

All of them are in one file, because numba compiles anew only what stands in the file that changed. Sums may be taken in
any order (`fastmath`), so that they use whole vector registers: the last bits depend on the processor. Python's lock is
released, so threads train one model together, and now and then overwrite each other's steps (Hogwild).

Ref: Mikolov et al., 2013, eq. 4; Pennington et al., GloVe, 2014, eq. 8; Recht et al., Hogwild, 2011.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import numba
import numpy as np
from numpy.typing import NDArray

from smelt.models.word_vectors.corpus import BREAK, IdArray, IntArray
from smelt.models.word_vectors.sampling import GOLDEN, MIX_ONE, MIX_TWO, AliasTable, Thresholds
from smelt.tokenizers.kernels.jit import kernel_cache
from smelt.tokenizers.kernels.loads import prefetch

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Keys = NDArray[np.int64]
Function = TypeVar("Function", bound=Callable[..., object])

EMPTY = -1  # a free row in the table of pairs
_GOLDEN, _MIX_ONE, _MIX_TWO = np.uint64(GOLDEN), np.uint64(MIX_ONE), np.uint64(MIX_TWO)
_LOW, _HALF = np.uint64(0xFFFFFFFF), np.uint64(32)
_ZERO, _ONE = np.float32(0), np.float32(1)
_LINE_BYTES = 64
_ANY_ORDER: Any = {"reassoc", "contract", "nsz"}


def _kernel(function: Function) -> Function:
    settings: Any = numba.config
    before, settings.CACHE_DIR = settings.CACHE_DIR, kernel_cache()
    try:
        return numba.njit(function, cache=True, nogil=True, fastmath=_ANY_ORDER)
    finally:
        settings.CACHE_DIR = before


def _inline(function: Function) -> Function:
    return numba.njit(function, nogil=True, fastmath=_ANY_ORDER)


class Windows(NamedTuple):
    """What does not change while windows are trained."""

    keep: Thresholds  # (V,)
    noise: AliasTable  # (V, 2)
    starts: IntArray  # (V + 1,) where the parts of each word begin
    parts: IdArray  # (P,) rows of `inputs`; without subwords each word's own
    inputs: Floats  # (V + buckets, D)
    outputs: Floats  # (V, D)
    window: int
    negatives: int
    from_context: bool  # CBOW: the words around predict the middle one; else the middle one predicts each of them


@_inline
def _mixed(state: int) -> int:
    state = (state ^ (state >> np.uint64(30))) * _MIX_ONE
    state = (state ^ (state >> np.uint64(27))) * _MIX_TWO
    return state ^ (state >> np.uint64(31))


@_inline
def _below(number: int, bound: int) -> int:
    """Turn the upper half of a random number into one from 0 to bound - 1."""
    return np.int64(((number >> _HALF) * np.uint64(bound)) >> _HALF)


@_inline
def _step(hidden: Floats, outputs: Floats, row: int, label: float, rate: float, error: Floats) -> None:
    """Make one output row more or less likely after `hidden`, and add to `error` what is to be added to `hidden`."""
    score = _ZERO
    for k in range(hidden.size):
        score += hidden[k] * outputs[row, k]
    push = (label - _ONE / (_ONE + math.exp(-score))) * rate
    for k in range(hidden.size):
        old = outputs[row, k]
        error[k] += push * old
        outputs[row, k] = old + push * hidden[k]


@_inline
def _kept_words(ids: IdArray, begin: int, stop: int, keep: Thresholds, state: int, kept: IdArray) -> tuple[int, int]:
    """Copy the words that are not skipped, and the ends of paragraphs; return how many, and the next state."""
    count = 0
    for place in range(begin, stop):
        word = ids[place]
        if word != BREAK:
            draw = np.int64(_mixed(state) & _LOW)
            state += _GOLDEN
            if draw >= keep[word]:
                continue
        kept[count] = word
        count += 1
    return count, state


@_inline
def _reach(kept: IdArray, count: int, place: int, reach: int) -> tuple[int, int]:
    """Return the first and the last place of a window, which ends where its paragraph does."""
    first = last = place
    while first > 0 and place - first < reach and kept[first - 1] != BREAK:
        first -= 1
    while last + 1 < count and last - place < reach and kept[last + 1] != BREAK:
        last += 1
    return first, last


@_inline
def _draw_targets(word: int, noise: AliasTable, negatives: int, state: int, targets: IdArray, count: int) -> int:
    """Append a word, then as many drawn ones; one that is the word itself is -1, which is passed over."""
    targets[count] = word
    for number in range(1, negatives + 1):
        draw = _mixed(state)
        state += _GOLDEN
        drawn = _below(draw, noise.shape[0])
        if np.int64(draw & _LOW) >= noise[drawn, 0]:
            drawn = noise[drawn, 1]
        targets[count + number] = -1 if drawn == word else drawn
    return state


@_kernel
def train_windows(ids: IdArray, begin: int, stop: int, fixed: Windows, rate: float, seed: np.uint64) -> None:
    """Train on the words from `begin` to `stop`, with the stream of random numbers that begins at `seed`.

    All steps of a place start from one hidden vector, the mean of its rows; what they want to add to it is added to
    each of those rows at the end, so that the mean moves as far as one row would.
    """
    dim, group = fixed.outputs.shape[1], fixed.negatives + 1
    state, rate = seed, np.float32(rate)
    kept = np.empty(stop - begin, np.int32)
    count, state = _kept_words(ids, begin, stop, fixed.keep, state, kept)
    targets = np.empty(2 * fixed.window * group, np.int32)
    hidden, error = np.empty(dim, np.float32), np.empty(dim, np.float32)
    line = np.int64(fixed.outputs.ctypes.data)
    for place in range(count):
        if kept[place] == BREAK:
            continue
        reach = 1 + _below(_mixed(state), fixed.window)
        state += _GOLDEN
        first, last = _reach(kept, count, place, reach)
        if first == last:
            continue
        num_targets = 0
        for other in range(first, last + 1):
            if (other == place) == fixed.from_context:
                state = _draw_targets(kept[other], fixed.noise, fixed.negatives, state, targets, num_targets)
                num_targets += group
        for number in range(num_targets):
            prefetch(line + targets[number] * dim * 4)
            prefetch(line + targets[number] * dim * 4 + _LINE_BYTES)
        num_rows = 0
        hidden[:] = _ZERO
        for other in range(first, last + 1):
            if (other == place) != fixed.from_context:
                num_rows += _gather(fixed, kept[other], hidden)
        hidden *= _ONE / np.float32(num_rows)
        error[:] = _ZERO
        for number in range(num_targets):
            if targets[number] >= 0:
                label = _ONE if number % group == 0 else _ZERO
                _step(hidden, fixed.outputs, targets[number], label, rate, error)
        for other in range(first, last + 1):
            if (other == place) != fixed.from_context:
                _scatter(fixed, kept[other], error)


@_inline
def _gather(fixed: Windows, word: int, total: Floats) -> int:
    """Add the rows of a word's parts to `total`; return how many."""
    for place in range(fixed.starts[word], fixed.starts[word + 1]):
        row = fixed.parts[place]
        for k in range(total.size):
            total[k] += fixed.inputs[row, k]
    return fixed.starts[word + 1] - fixed.starts[word]


@_inline
def _scatter(fixed: Windows, word: int, change: Floats) -> None:
    """Add a change to the rows of a word's parts."""
    for place in range(fixed.starts[word], fixed.starts[word + 1]):
        row = fixed.parts[place]
        for k in range(change.size):
            fixed.inputs[row, k] += change[k]


@_kernel
def count_pairs(
    ids: IdArray, begin: int, window: int, vocab_size: int, keys: Keys, weights: Doubles, used: int
) -> tuple[int, int]:
    """Add 1 / distance for each two words of a window to their row, until all are counted or half of the rows are used.

    A key is `smaller * vocab_size + larger`; the table has a power of two of rows.

    Returns:
        The place to go on with, and the rows used.
    """
    for place in range(begin, ids.size):
        if ids[place] == BREAK:
            continue
        if used + window > keys.size // 2:
            return place, used
        for distance in range(1, min(window, place) + 1):
            other = ids[place - distance]
            if other == BREAK:
                break
            low, high = min(ids[place], other), max(ids[place], other)
            key = np.int64(low) * vocab_size + high
            row = _row_of(key, keys)
            if keys[row] == EMPTY:
                keys[row] = key
                used += 1
            weights[row] += 1.0 / distance
    return ids.size, used


@_inline
def _row_of(key: int, keys: Keys) -> int:
    """Return the row of a key, or the free row where it belongs."""
    mask = keys.size - 1
    row = np.int64(_mixed(np.uint64(key)) & np.uint64(mask))
    while keys[row] != key and keys[row] != EMPTY:
        row = (row + 1) & mask
    return row


@_kernel
def move_pairs(keys: Keys, weights: Doubles, larger_keys: Keys, larger_weights: Doubles) -> None:
    """Write the pairs of a table into a larger one that is empty."""
    for number in range(keys.size):
        if keys[number] != EMPTY:
            row = _row_of(keys[number], larger_keys)
            larger_keys[row] = keys[number]
            larger_weights[row] = weights[number]


class Factors(NamedTuple):
    """One side of a factorization: a vector and a bias a word, and the sums of their squared gradients."""

    vectors: Floats  # (V, D)
    biases: Floats  # (V,)
    vector_squares: Floats  # (V, D)
    bias_squares: Floats  # (V,)


@_kernel
def train_pairs(
    keys: Keys,
    counts: Doubles,
    order: IntArray,
    main: Factors,
    context: Factors,
    most: float,
    power: float,
    rate: float,
) -> None:
    """Fit the pairs named by `order`, each in both directions, by one AdaGrad step."""
    vocab_size = main.biases.size
    for number in order:
        first, second = keys[number] // vocab_size, keys[number] % vocab_size
        wanted = np.float32(math.log(counts[number]))
        weight = np.float32(min(1.0, (counts[number] / most) ** power))
        _fit(first, second, wanted, weight, main, context, np.float32(rate))
        if first != second:
            _fit(second, first, wanted, weight, main, context, np.float32(rate))


@_inline
def _fit(i: int, j: int, wanted: float, weight: float, main: Factors, context: Factors, rate: float) -> None:
    one, two = main.vectors, context.vectors
    one_squares, two_squares = main.vector_squares, context.vector_squares
    score = main.biases[i] + context.biases[j] - wanted
    for k in range(one.shape[1]):
        score += one[i, k] * two[j, k]
    slope = weight * score
    for k in range(one.shape[1]):
        to_one, to_two = slope * two[j, k], slope * one[i, k]
        one_squares[i, k] += to_one * to_one
        two_squares[j, k] += to_two * to_two
        one[i, k] -= rate * to_one / math.sqrt(one_squares[i, k])
        two[j, k] -= rate * to_two / math.sqrt(two_squares[j, k])
    main.bias_squares[i] += slope * slope
    context.bias_squares[j] += slope * slope
    main.biases[i] -= rate * slope / math.sqrt(main.bias_squares[i])
    context.biases[j] -= rate * slope / math.sqrt(context.bias_squares[j])
