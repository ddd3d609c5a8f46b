"""Lay a matrix out as the tiles of a decode step read it: 16 rows side by side, in groups of 32 columns.

Rows are filled up to a multiple of 16 and columns to one of 32, with zeros. In a group lie, one after another:

    fp32         a column of 16 rows                             32 x 64 bytes
    bf16         a pair of columns of each of 16 rows            16 x 64 bytes
    int8         four columns of each of 16 rows                  8 x 64 bytes
    int4         eight columns of each of 16 rows, those below in the low half of a byte     4 x 64 bytes

Behind the groups of a block come their scales in fp16, 16 a group. Packing makes one copy, a block of rows at a time.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from smelt.infer.absmax import GROUP, quantize
from smelt.infer.kernels.products import Matrix
from smelt.infer.kernels.tiles import block_bytes
from smelt.infer.kernels.vectors import BF16, FP32, INT4, INT8, LANES

Weights = Literal["fp32", "bf16", "int8", "int4"]
KINDS: dict[str, int] = {"fp32": FP32, "bf16": BF16, "int8": INT8, "int4": INT4}
_ROWS_AT_ONCE = 4096


def round_up(number: int, step: int) -> int:
    """Return the least multiple of a step that is not below a number."""
    return -(-number // step) * step


def aligned_bytes(size: int) -> npt.NDArray[np.uint8]:
    """Return zeros that begin with a cache line; large ones lie in large pages where the system has them."""
    room = np.zeros(size + 64, np.uint8)
    start = -room.ctypes.data % 64
    return room[start : start + size]


@dataclass(frozen=True)
class Packed:
    """A packed matrix: the bytes of its blocks, one row a block, its bias (rows,) or None, columns filled up."""

    kind: int
    blocks: npt.NDArray[np.uint8]
    bias: npt.NDArray[np.float32] | None
    num_groups: int

    @property
    def num_blocks(self) -> int:
        """Return the number of blocks of 16 rows."""
        return len(self.blocks)

    @property
    def matrix(self) -> Matrix:
        """Return where it lies, for kernels; only while this object lives."""
        bias = 0 if self.bias is None else self.bias.ctypes.data
        return Matrix(self.kind, self.blocks.ctypes.data, bias, self.num_groups, self.blocks.shape[1])


def block_places(sizes: Sequence[int], *, interleaved: bool) -> tuple[list[slice], int]:
    """Return which blocks each of some matrices of so many rows has, and how many blocks there are."""
    counts = [round_up(size, LANES) // LANES for size in sizes]
    if interleaved:
        return [slice(first, None, len(sizes)) for first in range(len(sizes))], sum(counts)
    return [slice(end - count, end) for end, count in zip(itertools.accumulate(counts), counts, strict=True)], sum(
        counts
    )


def pack(parts: list[tuple[Tensor, Tensor | None]], weights: Weights, *, interleaved: bool = False) -> Packed:
    """Pack matrices (R, D) with their biases (R,) one below the other, each from a new block on.

    `interleaved`, their blocks take turns; then they have as many rows.
    """
    kind, num_groups = KINDS[weights], round_up(parts[0][0].shape[1], GROUP) // GROUP
    all_places, count = block_places([len(matrix) for matrix, _ in parts], interleaved=interleaved)
    blocks = aligned_bytes(count * block_bytes(kind, num_groups)).reshape(count, -1)
    bias = np.zeros((count, LANES), np.float32) if any(bias is not None for _, bias in parts) else None
    for places, (matrix, own) in zip(all_places, parts, strict=True):
        for start in range(0, len(matrix), _ROWS_AT_ONCE):
            some = _pack_rows(matrix.detach()[start : start + _ROWS_AT_ONCE].float(), kind, num_groups)
            begin = start // LANES
            blocks[places][begin : begin + len(some), : some.shape[1]] = some
        if bias is not None and own is not None:
            bias[places] = functional.pad(own.detach().float(), (0, -len(own) % LANES)).view(-1, LANES).numpy()
    return Packed(kind, blocks, None if bias is None else bias.reshape(-1), num_groups)


def _pack_rows(matrix: Tensor, kind: int, num_groups: int) -> npt.NDArray[np.uint8]:
    """Return the blocks of fp32 rows (R, D): (R / 16, bytes)."""
    matrix = functional.pad(matrix, (0, GROUP * num_groups - matrix.shape[1], 0, -len(matrix) % LANES))
    count = len(matrix) // LANES
    if kind == FP32:
        return _bytes(matrix.view(count, LANES, -1).transpose(1, 2), count)
    if kind == BF16:
        return _bytes(matrix.bfloat16().view(torch.int16).view(count, LANES, -1, 2).transpose(1, 2), count)
    numbers, scales = quantize(matrix, 8 if kind == INT8 else 4)
    scale_bytes = _bytes(scales.view(torch.int16).view(count, LANES, -1).transpose(1, 2), count)
    if kind == INT8:
        unsigned = (numbers.to(torch.int16) + 128).to(torch.uint8)
        fours = unsigned.view(count, LANES, num_groups * 8, 4).transpose(1, 2)
        return np.concatenate((_bytes(fours, count), scale_bytes), axis=1)
    halves = (numbers + 8).to(torch.uint8).view(count, LANES, num_groups * 4, 2, 4)
    both = halves[..., 0, :] | (halves[..., 1, :] << 4)
    return np.concatenate((_bytes(both.transpose(1, 2), count), scale_bytes), axis=1)


def _bytes(tensor: Tensor, count: int) -> npt.NDArray[np.uint8]:
    return tensor.contiguous().numpy().reshape(count, -1).view(np.uint8)
