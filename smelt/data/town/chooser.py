"""One door for chance: every random draw of the generated town passes through a Chooser.

It draws and, in the same breath, adds `-log2 p` of what it drew to `bits`. When every draw can be seen in the text,
`bits` is the exact code length of that text under the generator, and so the floor that no language model beats on
average. The stream is a pure function of the key. Cost: about 0.3 microseconds a draw, ten a key.
Ref: Shannon, A Mathematical Theory of Communication (1948), section 6.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from hashlib import blake2b
from math import log2
from typing import TypeVar

T = TypeVar("T")

_LOG2 = [0.0, *(log2(num) for num in range(1, 10_000))]


class Chooser:
    """Draw from a stream fixed by `key`; `bits` is the information drawn so far."""

    __slots__ = ("_uniform", "bits")

    def __init__(self, *key: object) -> None:
        digest = blake2b("|".join(map(str, key)).encode(), digest_size=8).digest()
        self._uniform = random.Random(int.from_bytes(digest, "big")).random
        self.bits = 0.0

    def index(self, num: int) -> int:
        """Draw an integer in [0, num), all equally likely; `num` is 1 to 9,999."""
        self.bits += _LOG2[num]
        return int(self._uniform() * num)

    def weighted(self, weights: Sequence[int]) -> int:
        """Draw an index in proportion to whole-number weights; an index of weight zero is never drawn."""
        total = sum(weights)
        point, passed = int(self._uniform() * total), 0
        for drawn, weight in enumerate(weights):
            passed += weight
            if point < passed:
                self.bits += _LOG2[total] - _LOG2[weight]
                return drawn
        raise AssertionError(f"no weight to draw from: {list(weights)}")

    def choose(self, options: Sequence[T], weights: Sequence[int] | None = None) -> T:
        """Draw one option, in proportion to `weights` where given."""
        return options[self.index(len(options)) if weights is None else self.weighted(weights)]

    def integer(self, low: int, high: int) -> int:
        """Draw an integer in [low, high]."""
        return low + self.index(high - low + 1)

    def sample(self, options: Sequence[T], num: int) -> list[T]:
        """Draw `num` different options one after the other; their order counts."""
        left = list(options)
        return [left.pop(self.index(len(left))) for _ in range(num)]
