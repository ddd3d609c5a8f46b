"""A matrix times up to any number of rows of activations, block by block, so that weights are read once for all rows.

Rows go through in tiles of 8, 4, 2 and 1. Those of a block find its weights in the core's cache from the second tile on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from smelt.infer.kernels.tiles import BF16, FP32, INT4, INT8, make_tile
from smelt.tokenizers.kernels.jit import inline


class Matrix(NamedTuple):
    """A packed matrix: its kind, where it and its bias are (0 for none), groups of 32 columns, bytes of 16 rows."""

    kind: int
    weights: int
    bias: int
    num_groups: int
    block_bytes: int


class Rows(NamedTuple):
    """Rows of activations and where their results go: addresses, strides in bytes."""

    count: int
    inputs: int
    input_stride: int
    out: int
    out_stride: int


Multiplier = Callable[[Matrix, Rows, int, int, int], None]


def make_multiplier(kind: int, *, plain: bool = False) -> Multiplier:
    """Make the product with matrices of one kind."""
    eight, four, two, one = (make_tile(kind, rows, plain=plain) for rows in (8, 4, 2, 1))

    @inline
    def multiply(matrix: Matrix, rows: Rows, first: int, last: int, adds: int) -> None:
        """Multiply the blocks from `first` to before `last`; with `adds`, add to what is there."""
        groups, stride = matrix.num_groups, rows.out_stride
        for block in range(first, last):
            weights = matrix.weights + block * matrix.block_bytes
            bias = matrix.bias + 64 * block if matrix.bias != 0 else 0
            row = 0
            while row < rows.count:
                inputs = rows.inputs + row * rows.input_stride
                out = rows.out + row * stride + 64 * block
                left = rows.count - row
                if left >= 8:
                    eight(weights, inputs, groups, out, stride, bias, adds)
                    row += 8
                elif left >= 4:
                    four(weights, inputs, groups, out, stride, bias, adds)
                    row += 4
                elif left >= 2:
                    two(weights, inputs, groups, out, stride, bias, adds)
                    row += 2
                else:
                    one(weights, inputs, groups, out, stride, bias, adds)
                    row += 1

    return multiply


multiply_fp32 = make_multiplier(FP32)
multiply_bf16 = make_multiplier(BF16)
multiply_int8 = make_multiplier(INT8)
multiply_int4 = make_multiplier(INT4)


@inline
def multiply(matrix: Matrix, rows: Rows, first: int, last: int, adds: int) -> None:
    """Multiply blocks of a matrix of any kind; with `adds`, add to what is there."""
    if matrix.kind == FP32:
        multiply_fp32(matrix, rows, first, last, adds)
    elif matrix.kind == BF16:
        multiply_bf16(matrix, rows, first, last, adds)
    elif matrix.kind == INT8:
        multiply_int8(matrix, rows, first, last, adds)
    else:
        multiply_int4(matrix, rows, first, last, adds)
