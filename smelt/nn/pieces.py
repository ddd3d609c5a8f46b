"""Run a compiled loop over the blocks of arrays, each of torch's threads taking some; Python's lock must be released.

Ref: the loops of `optim.kernels` and `quant.kernels`, whose last two arguments are the first block and the one behind
the last.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch


def in_threads(loop: Callable[..., None], num_blocks: int, *arrays: Any, least: int) -> None:
    """Call `loop(*arrays, first, last)` until all blocks are done, in pieces of at least `least` blocks."""
    size = max(least, -(-num_blocks // torch.get_num_threads()))
    pieces = [(first, min(first + size, num_blocks)) for first in range(0, num_blocks, size)]
    if len(pieces) < 2:
        loop(*arrays, 0, num_blocks)
        return
    with ThreadPoolExecutor(len(pieces)) as pool:
        for done in [pool.submit(loop, *arrays, *piece) for piece in pieces]:
            done.result()
