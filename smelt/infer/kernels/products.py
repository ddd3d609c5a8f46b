"""A matrix times up to any number of rows of activations, so that weights come from memory once for all rows.

A tile is 8 rows of activations by 1 block of weights, 4 by 2 or 1 by 4: as many sums as a processor has registers for.
Several blocks at once are several streams of memory, of which a processor fetches more ahead than of one. From the
second tile on, the rows of a block find its weights in the core's cache.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from smelt.infer.kernels.tiles import make_tile
from smelt.infer.kernels.vectors import BF16, FP32, INT4, INT8
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


BLOCKS_AT_ONCE = 4  # an even number, so that blocks that take turns stay together


def make_multiplier(kind: int, *, plain: bool = False) -> Multiplier:
    """Make the product with matrices of one kind."""
    shapes = ((8, 1), (4, 2), (4, 1), (1, 4), (1, 1))
    eight, four_twice, four, one_wide, one = (make_tile(kind, *shape, plain=plain) for shape in shapes)

    @inline
    def multiply(matrix: Matrix, rows: Rows, first: int, last: int, adds: int) -> None:
        """Multiply the blocks from `first` to before `last`; with `adds`, add to what is there."""
        size, groups, stride, block = matrix.block_bytes, matrix.num_groups, rows.out_stride, first
        while block < last:
            together = min(BLOCKS_AT_ONCE, last - block)
            row = 0
            while row < rows.count:
                inputs = rows.inputs + row * rows.input_stride
                left = rows.count - row
                taken = 8 if left >= 8 else 4 if left >= 4 else 1
                number = 0
                while number < together:
                    place = block + number
                    weights, out = matrix.weights + place * size, rows.out + row * stride + 64 * place
                    bias = matrix.bias + 64 * place if matrix.bias != 0 else 0
                    if taken == 8:
                        eight(weights, size, inputs, groups, out, stride, bias, adds)
                        number += 1
                    elif taken == 4 and number + 2 <= together:
                        four_twice(weights, size, inputs, groups, out, stride, bias, adds)
                        number += 2
                    elif taken == 4:
                        four(weights, size, inputs, groups, out, stride, bias, adds)
                        number += 1
                    elif together == BLOCKS_AT_ONCE:
                        one_wide(weights, size, inputs, groups, out, stride, bias, adds)
                        number += BLOCKS_AT_ONCE
                    else:
                        one(weights, size, inputs, groups, out, stride, bias, adds)
                        number += 1
                row += taken
            block += together

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
