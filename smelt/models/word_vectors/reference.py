"""What `kernels` computes, written to be read: numpy, dictionaries and Python numbers.

Each function takes what its kernel takes and changes the same arrays. A million times as slow as it should be, and used
by tests alone.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from smelt.models.word_vectors.corpus import BREAK, IdArray, IntArray
from smelt.models.word_vectors.kernels import Doubles, Factors, Floats, Keys, Windows
from smelt.models.word_vectors.sampling import GOLDEN, MASK, AliasTable, mixed


@dataclass
class Stream:
    """Random numbers of 64 bits, by SplitMix64."""

    state: int

    def draw(self) -> int:
        """Return the next number."""
        number = mixed(self.state)
        self.state = (self.state + GOLDEN) & MASK
        return number


def sigmoid(score: float) -> float:
    """Return 1 / (1 + exp(-score))."""
    return float(1 / (1 + np.exp(-score)))


def negative_sampling_step(
    hidden: Floats, outputs: Floats, positive: int, negatives: list[int], rate: float
) -> NDArray[np.float32]:
    """Take one step of -log s(h . positive) - sum log s(-h . negative) (eq. 4), word after word, on `outputs`.

    Returns:
        What is to be added to the hidden vector (D,).
    """
    change = np.zeros_like(hidden)
    for word, label in [(positive, 1), *((negative, 0) for negative in negatives)]:
        push = rate * (label - sigmoid(hidden @ outputs[word]))
        change += push * outputs[word]
        outputs[word] += push * hidden
    return change


def draw_negatives(stream: Stream, noise: AliasTable, positive: int, count: int) -> list[int]:
    """Draw words from the noise; those that are the positive one are left out."""
    drawn = []
    for _ in range(count):
        number = stream.draw()
        column = (number >> 32) * len(noise) >> 32
        drawn.append(int(column if number & 0xFFFFFFFF < noise[column, 0] else noise[column, 1]))
    return [word for word in drawn if word != positive]


def train_windows(ids: IdArray, begin: int, stop: int, fixed: Windows, rate: float, seed: np.uint64) -> None:
    """Train on the words from `begin` to `stop`: skip some, lay windows of random width, step for each target."""
    stream = Stream(int(seed))
    kept = [word for word in ids[begin:stop].tolist() if word == BREAK or stream.draw() & 0xFFFFFFFF < fixed.keep[word]]
    for place, word in enumerate(kept):
        if word == BREAK:
            continue
        reach = 1 + ((stream.draw() >> 32) * fixed.window >> 32)
        before, after = kept[max(0, place - reach) : place], kept[place + 1 : place + 1 + reach]
        if BREAK in before:
            before = before[len(before) - before[::-1].index(BREAK) :]
        if BREAK in after:
            after = after[: after.index(BREAK)]
        around = [*before, *after]
        if not around:
            continue
        given, wanted = (around, [word]) if fixed.from_context else ([word], around)
        drawn = [draw_negatives(stream, fixed.noise, target, fixed.negatives) for target in wanted]
        rows = [row for other in given for row in fixed.parts[fixed.starts[other] : fixed.starts[other + 1]].tolist()]
        hidden = fixed.inputs[rows].mean(axis=0)
        change = np.zeros_like(hidden)
        for target, negatives in zip(wanted, drawn, strict=True):
            change += negative_sampling_step(hidden, fixed.outputs, target, negatives, rate)
        np.add.at(fixed.inputs, rows, change)


def count_pairs(ids: IdArray, window: int, vocab_size: int) -> dict[int, float]:
    """Return the sum of 1 / distance of each two words of a window, by `smaller * vocab_size + larger`."""
    counts: defaultdict[int, float] = defaultdict(float)
    for place, word in enumerate(ids.tolist()):
        for distance in range(1, min(window, place) + 1):
            other = int(ids[place - distance])
            if BREAK in (word, other):
                break
            counts[min(word, other) * vocab_size + max(word, other)] += 1 / distance
    return dict(counts)


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
    """Take one AdaGrad step on f(X) (w_i . w_j + b_i + b_j - log X) ** 2 / 2 (eq. 8) a pair and direction."""
    for number in order:
        first, second = divmod(int(keys[number]), len(main.biases))
        for i, j in dict.fromkeys([(first, second), (second, first)]):
            fit = main.vectors[i] @ context.vectors[j] + main.biases[i] + context.biases[j]
            slope = min(1.0, (counts[number] / most) ** power) * (fit - np.log(counts[number]))
            gradients = slope * context.vectors[j], slope * main.vectors[i]
            for side, row, gradient in ((main, i, gradients[0]), (context, j, gradients[1])):
                adagrad(side.vectors, side.vector_squares, row, gradient, rate)
                adagrad(side.biases, side.bias_squares, row, slope, rate)


def adagrad(values: Floats, squares: Floats, row: int, gradient: float | Floats, rate: float) -> None:
    """Take a step that is the smaller, the larger all gradients so far were."""
    squares[row] += gradient**2
    values[row] -= rate * gradient / np.sqrt(squares[row])
