"""Read the first part of a text both ways, write the rest from left to right (prefix language modelling).

The border is drawn anew for each text, so the model learns to go on after a beginning of any length. Only the rest is
predicted: a token that is seen cannot be asked for.

    ids     <s> the mill stands by a river        border after "mill"
    input   <s> the mill stands by a
    label    -   -  stands  by  a river
    order    0   0   0     1    2  3

Ref: T5, arXiv:1910.10683, 3.2.1 (prefix LM); arXiv:1801.10198.
"""

from __future__ import annotations

import numpy as np
from numpy.random import Generator

from smelt.data.corruption.example import Example
from smelt.data.packing import IGNORED, Array


def prefix_and_rest(ids: Array, rng: Generator) -> Example:
    """Return an example of n - 1 tokens for ids (n,), n at least 2; the prefix has 1 to n - 1 of them."""
    border = int(rng.integers(1, len(ids)))
    slots = np.arange(len(ids) - 1)
    labels = np.where(slots >= border - 1, ids[1:], IGNORED)
    return Example(ids[:-1], labels.astype(np.int32), order=np.maximum(slots - border + 1, 0).astype(np.int32))
