"""Sixteen rows of a matrix times a few rows of activations: the inner loop of decoding.

A lane is a row of the matrix, so nothing is ever summed across lanes. The matrix lies in the order in which it is read,
block after block of 16 rows, and in a block group after group of 32 columns (see `infer.packing`): a thread reads one
stream, which the processor fetches ahead. Whatever the number of activations in a tile, each result is the same sum in
the same order, bit for bit.

    fp32, bf16    even and odd columns are summed apart, in fp32
    int8, int4    activations are int8, too, with a scale a group; a group's products are summed as integers, then
                  multiplied by both scales and added in fp32

Weights are unsigned bytes (128 or 8 above their value), which is what the instruction wants: 128 or 8 times the sum of
the activations is taken off.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from smelt.infer.kernels.vectors import (
    BF16,
    F32,
    FP32,
    HALVES,
    I32,
    I64,
    INT4,
    INT8,
    VECTOR,
    WORDS,
    converts_fp16,
    dot_bytes,
    fill,
    growing_sum,
    has_vnni,
    load,
    multiply_add,
    offset,
    splat,
    store,
    widen_fp16,
)

GROUP = 32  # columns that share a scale
_QUANT_BYTES = {FP32: 2048, BF16: 1024, INT8: 512, INT4: 256}  # of 16 rows in a group
_ZERO_POINT = {INT8: 128, INT4: 8}
_SCALE_BYTES = 32
_ACTIVATION_BYTES = {FP32: 128, BF16: 128, INT8: 40, INT4: 40}  # of a group: fp32, or int8 with a scale and a sum
_STEPS = 4  # of the loop over floats in a group: code of a whole group takes four times as long to compile


def activation_bytes(kind: int, num_groups: int) -> int:
    """Return the size of a row of activations as tiles read it."""
    return _ACTIVATION_BYTES[kind] * num_groups


def block_bytes(kind: int, num_groups: int) -> int:
    """Return the size of a block of 16 rows: its numbers, then its scales, up to the end of a cache line."""
    scales = _SCALE_BYTES if kind in (INT8, INT4) else 0
    return -(-(_QUANT_BYTES[kind] + scales) * num_groups // 64) * 64


class _Tile:
    """Emit the code of one tile: where things are, and the sums that grow (one or two a row of activations)."""

    def __init__(self, builder: Any, kind: int, rows: int, blocks: int, values: Any) -> None:
        self.builder, self.kind, self.rows, self.blocks = builder, kind, rows, blocks
        self.vnni, self.converts = False, False
        (
            self.weights,
            self.block_bytes,
            self.inputs,
            self.num_groups,
            self.out,
            self.out_stride,
            self.bias,
            self.adds,
        ) = values
        self.stride = builder.mul(self.num_groups, I64(_ACTIVATION_BYTES[kind]))
        parts = 1 if kind in _ZERO_POINT else 2
        self.sums = {
            (block, row): [growing_sum(builder) for _ in range(parts)] for block in range(blocks) for row in range(rows)
        }

    def grow(self, place: Any, first: Any, second: Any) -> None:
        """Add a product to a sum."""
        self.builder.store(multiply_add(self.builder, first, second, self.builder.load(place)), place)

    def row_at(self, row: int) -> Any:
        """Return where a row of activations begins."""
        return offset(self.builder, self.inputs, self.builder.mul(self.stride, I64(row)))

    def block_at(self, block: int) -> Any:
        """Return where a block of weights begins."""
        return offset(self.builder, self.weights, self.builder.mul(self.block_bytes, I64(block)))

    def two_columns(self, line: Any, pair: int) -> tuple[Any, Any]:
        """Return two columns of a block as fp32."""
        builder = self.builder
        if self.kind == FP32:
            first = offset(builder, line, 128 * pair)
            return load(builder, VECTOR, first), load(builder, VECTOR, offset(builder, first, 64))
        both = load(builder, WORDS, offset(builder, line, 64 * pair))
        return (
            builder.bitcast(builder.shl(both, fill(WORDS, 16)), VECTOR),
            builder.bitcast(builder.and_(both, fill(WORDS, 0xFFFF0000)), VECTOR),
        )

    def add_floats(self, step: Any) -> None:
        """Add eight columns of fp32 or bf16, two at a time."""
        builder, num_bytes = self.builder, _QUANT_BYTES[self.kind] // _STEPS
        place = builder.mul(step, I64(num_bytes))
        lines = [offset(builder, self.block_at(block), place) for block in range(self.blocks)]
        inputs = [offset(builder, self.row_at(row), builder.mul(step, I64(128 // _STEPS))) for row in range(self.rows)]
        for pair in range(GROUP // 2 // _STEPS):
            columns = [self.two_columns(line, pair) for line in lines]
            for row in range(self.rows):
                for side in (0, 1):
                    value = splat(builder, load(builder, F32, offset(builder, inputs[row], 8 * pair + 4 * side)))
                    for block in range(self.blocks):
                        self.grow(self.sums[block, row][side], columns[block][side], value)

    def byte_lines(self, line: Any) -> list[Any]:
        """Return the eight vectors of a group: in each lane four columns, as unsigned bytes."""
        builder = self.builder
        if self.kind == INT8:
            return [load(builder, WORDS, offset(builder, line, 64 * number)) for number in range(8)]
        found = []
        for number in range(4):
            both, low = load(builder, WORDS, offset(builder, line, 64 * number)), fill(WORDS, 0x0F0F0F0F)
            found += [builder.and_(both, low), builder.and_(builder.lshr(both, fill(WORDS, 4)), low)]
        return found

    def add_bytes(self, group: Any) -> None:
        """Add a group of 32 columns of int8 or int4."""
        builder, size = self.builder, _QUANT_BYTES[self.kind]
        for block in range(self.blocks):
            begin = self.block_at(block)
            scales = offset(builder, begin, builder.mul(self.num_groups, I64(size)))
            scales = offset(builder, scales, builder.mul(group, I64(_SCALE_BYTES)))
            scale = widen_fp16(builder, load(builder, HALVES, scales), converts=self.converts)
            lines = self.byte_lines(offset(builder, begin, builder.mul(group, I64(size))))
            for row in range(self.rows):
                counts, number = self.count(lines, row, group)
                both = builder.fmul(scale, splat(builder, load(builder, F32, number)))
                self.grow(self.sums[block, row][0], builder.sitofp(counts, VECTOR), both)

    def count(self, lines: list[Any], row: int, group: Any) -> tuple[Any, Any]:
        """Return the integer products of a group with a row of activations, and where the row's scale is."""
        builder, begin = self.builder, self.row_at(row)
        quants = offset(builder, begin, builder.mul(group, I64(GROUP)))
        numbers = offset(builder, begin, builder.mul(self.num_groups, I64(GROUP)))
        number = offset(builder, numbers, builder.mul(group, I64(4)))
        sum_at = offset(builder, number, builder.mul(self.num_groups, I64(4)))
        counts = splat(builder, builder.mul(load(builder, I32, sum_at), I32(-_ZERO_POINT[self.kind])))
        for place, columns in enumerate(lines):
            four = splat(builder, load(builder, I32, offset(builder, quants, 4 * place)))
            counts = dot_bytes(builder, counts, columns, four, vnni=self.vnni)
        return counts, number

    def run(self) -> None:
        """Add all groups, then write the sums."""
        narrow = self.kind in _ZERO_POINT
        steps = self.num_groups if narrow else self.builder.mul(self.num_groups, I64(_STEPS))
        with cgutils.for_range(self.builder, steps) as loop:
            (self.add_bytes if narrow else self.add_floats)(loop.index)
        self.finish()

    def finish(self) -> None:
        """Write the sums, with the bias where there is one, over or on what is there."""
        builder = self.builder
        for (block, row), parts in self.sums.items():
            place = offset(builder, self.out, builder.mul(self.out_stride, I64(row)))
            place, bias = offset(builder, place, 64 * block), offset(builder, self.bias, 64 * block)
            result = builder.load(parts[0])
            for part in parts[1:]:
                result = builder.fadd(result, builder.load(part))
            builder.store(result, parts[0])
            for wanted, address in ((self.bias, bias), (self.adds, place)):
                with builder.if_then(builder.icmp_signed("!=", wanted, I64(0))):
                    builder.store(builder.fadd(builder.load(parts[0]), load(builder, VECTOR, address)), parts[0])
            store(builder, builder.load(parts[0]), place)


def make_tile(kind: int, rows: int, blocks: int, *, plain: bool = False) -> Callable[..., None]:
    """Make the intrinsic for so many rows of activations and blocks of weights.

    `plain` leaves instructions of some processors aside.
    """

    def tile(
        typing: Any,
        weights: Any,
        block_bytes: Any,
        inputs: Any,
        num_groups: Any,
        out: Any,
        out_stride: Any,
        bias: Any,
        adds: Any,
    ) -> Any:
        """Multiply blocks that follow one another; addresses, 0 for no bias, sizes in bytes, and the flag."""

        def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            emitted = _Tile(builder, kind, rows, blocks, values)
            if not plain:
                emitted.vnni, emitted.converts = has_vnni(context), converts_fp16(context)
            emitted.run()
            return context.get_dummy_value()

        return types.void(*(types.int64,) * 8), generate

    made: Callable[..., None] = intrinsic(tile)
    return made
