"""Mask tokens of a text and draw what may be looked at for finding them: one model, four kinds of reading.

Every kind asks for masked tokens in their places, with the same head; only `order` differs. So one encoder learns to
understand (both ways), to go on (left to right) and to answer (the first part both ways, the second left to right).

    text          [CLS] the mill stands [SEP] by a river [SEP]
    both ways       0    0   0     0      0   0  0   0     0        order of the eight others with a third each
    left to right   0    1   2     3      4   5  6   7     8        a sixth
    right to left   8    7   6     5      4   3  2   1     0        a sixth
    in two parts    0    0   0     0      0   1  2   3     4        a third; the second part has token type 1

Only texts in two parts are cut in two; the others stand between [CLS] and one [SEP].
Ref: UniLM, arXiv:1905.03197, 2.3 and 2.4.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.random import Generator

from smelt.data.corruption.example import Example, as_ids
from smelt.data.corruption.masked import Masking, mask_tokens
from smelt.data.packing import Array

Reading = Literal["both_ways", "in_two_parts", "left_to_right", "right_to_left"]
READINGS: tuple[Reading, ...] = ("both_ways", "in_two_parts", "left_to_right", "right_to_left")
SHARES = (1 / 3, 1 / 3, 1 / 6, 1 / 6)  # of the texts, in that order


@dataclass(frozen=True)
class Mixture:
    """Say how to mask and which tokens stand at the beginning and after each part."""

    masking: Masking
    begin_id: int
    end_id: int


def mixed_reading(ids: Array, mixture: Mixture, rng: Generator) -> Example:
    """Draw a reading for ids (n,), n at least 2, and apply it; the example has n + 2 tokens, or n + 3 in two parts."""
    return read_as(READINGS[int(rng.choice(len(READINGS), p=SHARES))], ids, mixture, rng)


def read_as(reading: Reading, ids: Array, mixture: Mixture, rng: Generator) -> Example:
    """Return the example of one reading."""
    begin, end = mixture.begin_id, mixture.end_id
    if reading == "in_two_parts":
        border = int(rng.integers(1, len(ids)))
        text = as_ids(begin, ids[:border], end, ids[border:], end)
        order = np.maximum(np.arange(len(text)) - border - 1, 0)
    else:
        text = as_ids(begin, ids, end)
        slots = np.arange(len(text))
        order = {"both_ways": 0 * slots, "left_to_right": slots, "right_to_left": slots[::-1]}[reading]
    inputs, labels = mask_tokens(text, mixture.masking, rng)
    types = (order > 0) & (reading == "in_two_parts")
    return Example(inputs, labels, order=order.astype(np.int32), types=types.astype(np.int32))
