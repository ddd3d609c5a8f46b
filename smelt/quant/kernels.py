"""The loops of NF4 over numbers, compiled by numba; `nf4` says the same in torch, and a test holds the two equal.

Cutting a number is a count of the middles below it, which the compiler does for a register of numbers at once: on two
cores a billion take seconds, where torch's bucketize takes most of a minute. Reading is one look-up a number in a
block's row of 16 values, which already has the scale in it and the type that is wanted.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from smelt.tokenizers.kernels.jit import float_kernel

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]


@float_kernel
def cut(numbers: Floats, scales: Floats, middles: Floats, codes: Bytes, first: int, last: int) -> None:
    """Write the codes of blocks of 64 numbers, two a byte; the last block may be shorter."""
    shares, found = np.zeros(64, np.float32), np.zeros(64, np.uint8)
    for block in range(first, last):
        start = 64 * block
        count = min(64, len(numbers) - start)
        shares[:] = np.float32(0)
        if scales[block] > 0:
            for i in range(count):
                shares[i] = numbers[start + i] / scales[block]
        found[:] = np.uint8(0)
        for middle in middles:
            for i in range(64):
                found[i] += np.uint8(shares[i] > middle)
        for i in range((count + 1) // 2):
            codes[start // 2 + i] = found[2 * i] << 4 | found[2 * i + 1]


@float_kernel
def look_up(codes: Bytes, rows: NDArray[np.int32], numbers: NDArray[np.int32], first: int, last: int) -> None:
    """Write the numbers of blocks; `rows` (blocks, 16) are what the codes of each block stand for, as plain bits."""
    for block in range(first, last):
        row, start = rows[block], 64 * block
        piece = numbers[start : start + 64]
        pairs = codes[start // 2 : start // 2 + len(piece) // 2]
        for i in range(len(pairs)):
            # Places are unsigned: of a signed one, numba asks each time whether it counts from the end.
            at = np.uint64(2 * i)
            piece[at] = row[np.uint64(pairs[i] >> 4)]
            piece[at + np.uint64(1)] = row[np.uint64(pairs[i] & 15)]
        if len(piece) % 2:
            piece[len(piece) - 1] = row[codes[start // 2 + len(pairs)] >> 4]
