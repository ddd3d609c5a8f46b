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

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from smelt.infer.kernels.vectors import (
    F32,
    HALVES,
    I32,
    I64,
    VECTOR,
    WORDS,
    converts_fp16,
    dot_bytes,
    fill,
    has_vnni,
    load,
    multiply_add,
    offset,
    splat,
    store,
    widen_fp16,
)

GROUP = 32  # columns that share a scale
FP32, BF16, INT8, INT4 = 0, 1, 2, 3
_QUANT_BYTES = {FP32: 2048, BF16: 1024, INT8: 512, INT4: 256}  # of 16 rows in a group
_ZERO_POINT = {INT8: 128, INT4: 8}
_SCALE_BYTES = 32
_ACTIVATION_BYTES = {FP32: 128, BF16: 128, INT8: 40, INT4: 40}  # of a group: fp32, or int8 with a scale and a sum
_AHEAD_BYTES = 2048
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

    def __init__(self, builder: Any, kind: int, rows: int, values: Any) -> None:
        self.builder, self.kind, self.rows = builder, kind, rows
        self.vnni, self.converts = False, False
        self.weights, self.inputs, self.num_groups, self.out, self.out_stride, self.bias, self.adds = values
        self.stride = builder.mul(self.num_groups, I64(_ACTIVATION_BYTES[kind]))
        parts = 1 if kind in _ZERO_POINT else 2
        self.sums = [[cgutils.alloca_once(builder, VECTOR) for _ in range(parts)] for _ in range(rows)]
        for row in self.sums:
            for part in row:
                builder.store(fill(VECTOR, 0.0), part)

    def grow(self, row: int, part: int, first: Any, second: Any) -> None:
        """Add a product to a sum."""
        place = self.sums[row][part]
        self.builder.store(multiply_add(self.builder, first, second, self.builder.load(place)), place)

    def input_row(self, row: int) -> Any:
        """Return where a row of activations begins."""
        return offset(self.builder, self.inputs, self.builder.mul(self.stride, I64(row)))

    def fetch(self, address: Any, num_bytes: int) -> None:
        """Ask for the bytes that will be read some time later."""
        kind = ir.FunctionType(ir.VoidType(), [ir.IntType(8).as_pointer(), I32, I32, I32])
        name = "llvm.prefetch.p0"
        function = self.builder.module.globals.get(name) or ir.Function(self.builder.module, kind, name)
        for place in range(0, num_bytes, 64):
            ahead = self.builder.inttoptr(
                offset(self.builder, address, place + _AHEAD_BYTES), ir.IntType(8).as_pointer()
            )
            self.builder.call(function, [ahead, I32(0), I32(3), I32(1)])

    def add_floats(self, step: Any) -> None:
        """Add eight columns of fp32 or bf16, two at a time."""
        builder, num_bytes = self.builder, _QUANT_BYTES[self.kind] // _STEPS
        line = offset(builder, self.weights, builder.mul(step, I64(num_bytes)))
        self.fetch(line, num_bytes)
        inputs = [offset(builder, self.input_row(row), builder.mul(step, I64(128 // _STEPS))) for row in range(self.rows)]
        for pair in range(GROUP // 2 // _STEPS):
            if self.kind == BF16:
                both = load(builder, WORDS, offset(builder, line, 64 * pair))
                columns = (
                    builder.bitcast(builder.shl(both, fill(WORDS, 16)), VECTOR),
                    builder.bitcast(builder.and_(both, fill(WORDS, 0xFFFF0000)), VECTOR),
                )
            else:
                columns = tuple(load(builder, VECTOR, offset(builder, line, 128 * pair + 64 * side)) for side in (0, 1))
            for row in range(self.rows):
                for side in (0, 1):
                    value = load(builder, F32, offset(builder, inputs[row], 8 * pair + 4 * side))
                    self.grow(row, side, columns[side], splat(builder, value))

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
        line = offset(builder, self.weights, builder.mul(group, I64(size)))
        scales = offset(builder, self.weights, builder.mul(self.num_groups, I64(size)))
        scales = offset(builder, scales, builder.mul(group, I64(_SCALE_BYTES)))
        self.fetch(line, size)
        scale = widen_fp16(builder, load(builder, HALVES, scales), converts=self.converts)
        lines = self.byte_lines(line)
        for row in range(self.rows):
            begin = self.input_row(row)
            quants = offset(builder, begin, builder.mul(group, I64(GROUP)))
            numbers = offset(builder, begin, builder.mul(self.num_groups, I64(GROUP)))
            number = offset(builder, numbers, builder.mul(group, I64(4)))
            sum_at = offset(builder, number, builder.mul(self.num_groups, I64(4)))
            above = builder.mul(load(builder, I32, sum_at), I32(-_ZERO_POINT[self.kind]))
            counts = splat(builder, above)
            for place, columns in enumerate(lines):
                four = splat(builder, load(builder, I32, offset(builder, quants, 4 * place)))
                counts = dot_bytes(builder, counts, columns, four, vnni=self.vnni)
            both = builder.fmul(scale, splat(builder, load(builder, F32, number)))
            self.grow(row, 0, builder.sitofp(counts, VECTOR), both)

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
        for row, parts in enumerate(self.sums):
            place = offset(builder, self.out, builder.mul(self.out_stride, I64(row)))
            result = builder.load(parts[0])
            for part in parts[1:]:
                result = builder.fadd(result, builder.load(part))
            builder.store(result, parts[0])
            for wanted, address in ((self.bias, self.bias), (self.adds, place)):
                with builder.if_then(builder.icmp_signed("!=", wanted, I64(0))):
                    builder.store(builder.fadd(builder.load(parts[0]), load(builder, VECTOR, address)), parts[0])
            store(builder, builder.load(parts[0]), place)


def make_tile(kind: int, rows: int, *, plain: bool = False) -> Callable[..., None]:
    """Make the intrinsic for so many rows of activations; `plain` leaves instructions of some processors aside."""

    def tile(
        typing: Any,
        weights: Any,
        inputs: Any,
        num_groups: Any,
        out: Any,
        out_stride: Any,
        bias: Any,
        adds: Any,
    ) -> Any:
        """Multiply a block of 16 rows; all are addresses, 0 for no bias, save the stride in bytes and the flag."""

        def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            emitted = _Tile(builder, kind, rows, values)
            if not plain:
                emitted.vnni, emitted.converts = has_vnni(context), converts_fp16(context)
            emitted.run()
            return context.get_dummy_value()

        return types.void(*(types.int64,) * 7), generate

    made: Callable[..., None] = intrinsic(tile)
    return made
