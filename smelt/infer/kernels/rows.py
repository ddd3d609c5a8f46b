"""What a step does to a row of activations between two products: norms, the feed-forward's activation, rounding.

A row is fp32 at an address. Buffers of the step are filled up with zeros to a multiple of 32 numbers, so whole vectors
are read; a head of attention is not, so `dot` and the norms end number by number. Sums have one order whatever the
batch, as everywhere here.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from smelt.infer.kernels.vectors import (
    BF16,
    BYTES,
    F32,
    FP32,
    I64,
    INT8,
    LANES,
    VECTOR,
    WORDS,
    call,
    fill,
    growing_sum,
    load,
    load_bf16,
    load_f32,
    load_i8,
    load_numbers,
    multiply_add,
    offset,
    sigmoid,
    splat,
    store,
    store_f32,
    store_i8,
    total,
)
from smelt.tokenizers.kernels.jit import inline

GROUP_BYTES = 128  # of 32 numbers in fp32
NUMBER_BYTES = (4, 2, 1)  # by kind
RMS, LAYER = 0, 1
SWIGLU, GEGLU, SILU, GELU_TANH, RELU, RELU_SQUARED = 0, 1, 2, 3, 4, 5
ZERO, ONE = np.float32(0.0), np.float32(1.0)


def _summing(kind: int) -> Callable[[int, int, int], float]:
    def whole_dot(typing: Any, first: Any, second: Any, num_vectors: Any) -> Any:
        """Return the sum of products of whole vectors, fp32 with another kind."""

        def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            growing = growing_sum(builder)
            with cgutils.for_range(builder, values[2]) as loop:
                place = builder.mul(loop.index, I64(4 * LANES))
                other = builder.mul(loop.index, I64(NUMBER_BYTES[kind] * LANES))
                left = load(builder, VECTOR, offset(builder, values[0], place))
                right = load_numbers(builder, kind, offset(builder, values[1], other))
                builder.store(multiply_add(builder, left, right, builder.load(growing)), growing)
            return total(builder, builder.load(growing))

        return types.float32(types.int64, types.int64, types.int64), generate

    made: Callable[[int, int, int], float] = intrinsic(whole_dot)
    return made


_dot_fp32, _dot_bf16, _dot_int8 = _summing(FP32), _summing(BF16), _summing(INT8)


@intrinsic
def _sum_powers(typing: Any, row: Any, num_vectors: Any, center: Any, squared: Any) -> Any:
    """Return the sum of what whole vectors have above a center, or of its squares."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        growing = growing_sum(builder)
        with cgutils.for_range(builder, values[1]) as loop:
            here = load(builder, VECTOR, offset(builder, values[0], builder.mul(loop.index, I64(4 * LANES))))
            above = builder.fsub(here, splat(builder, values[2]))
            above = builder.select(values[3], builder.fmul(above, above), above)
            builder.store(builder.fadd(builder.load(growing), above), growing)
        return total(builder, builder.load(growing))

    return types.float32(types.int64, types.int64, types.float32, types.boolean), generate


@inline
def load_number(kind: int, row: int, place: int) -> float:
    """Return a number of a row of some kind."""
    if kind == INT8:
        return load_i8(row + place)
    return load_bf16(row + 2 * place) if kind == BF16 else load_f32(row + 4 * place)


@inline
def dot(first: int, second: int, size: int, kind: int) -> float:
    """Return the sum of products of two rows, the first in fp32, the second of some kind."""
    whole = size // LANES
    if kind == INT8:
        found = _dot_int8(first, second, whole)
    elif kind == BF16:
        found = _dot_bf16(first, second, whole)
    else:
        found = _dot_fp32(first, second, whole)
    for place in range(LANES * whole, size):
        found += load_f32(first + 4 * place) * load_number(kind, second, place)
    return found


@inline
def _above(row: int, size: int, center: float, squared: bool) -> float:
    """Return the sum of what a row has above a center, or of its squares."""
    found = _sum_powers(row, size // LANES, center, squared)
    for place in range(size // LANES * LANES, size):
        above = load_f32(row + 4 * place) - center
        found += above * above if squared else above
    return found


@inline
def norm(kind: int, row: int, weight: int, bias: int, eps: float, out: int, size: int) -> None:
    """Normalise a row of `size` numbers; in place where `out` is the row. A layer norm has a bias."""
    count = np.float32(size)
    if kind == RMS:
        scale = ONE / math.sqrt(dot(row, row, size, FP32) / count + eps)
        for place in range(0, 4 * size, 4):
            store_f32(out + place, load_f32(row + place) * scale * load_f32(weight + place))
    else:
        mean = _above(row, size, ZERO, False) / count
        scale = ONE / math.sqrt(_above(row, size, mean, True) / count + eps)
        for place in range(0, 4 * size, 4):
            scaled = (load_f32(row + place) - mean) * scale
            store_f32(out + place, scaled * load_f32(weight + place) + load_f32(bias + place))


@inline
def turn(head: int, cosines: int, sines: int, half: int) -> None:
    """Turn the pairs (i, i + half) of a head in place."""
    for place in range(0, 4 * half, 4):
        first, second = load_f32(head + place), load_f32(head + place + 4 * half)
        cosine, sine = load_f32(cosines + place), load_f32(sines + place)
        store_f32(head + place, first * cosine - second * sine)
        store_f32(head + place + 4 * half, second * cosine + first * sine)


@inline
def round_head(head: int, out: int, size: int) -> None:
    """Round a head of attention to int8, with its scale behind it."""
    largest = ZERO
    for place in range(0, 4 * size, 4):
        largest = max(largest, abs(load_f32(head + place)))
    inverse = np.float32(127.0) / largest if largest > ZERO else ZERO
    for place in range(size):
        store_i8(out + place, load_f32(head + 4 * place) * inverse)
    store_f32(out + size, largest * np.float32(1.0 / 127.0))


@intrinsic
def _round_group(typing: Any, row: Any, quants: Any, scale: Any, sum_at: Any) -> Any:
    """Round 32 numbers to int8; write them, their scale and their sum."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        both = [load(builder, VECTOR, offset(builder, values[0], 4 * LANES * side)) for side in (0, 1)]
        sizes = [call(builder, "llvm.fabs.v16f32", vector) for vector in both]
        largest = builder.select(builder.fcmp_ordered(">", *sizes), *sizes)
        for size in (8, 4, 2, 1):
            order = ir.Constant(WORDS, [(lane + size) % LANES for lane in range(LANES)])
            other = builder.shuffle_vector(largest, largest, order)
            largest = builder.select(builder.fcmp_ordered(">", largest, other), largest, other)
        top = builder.extract_element(largest, ir.IntType(32)(0))
        some = builder.fcmp_ordered(">", top, F32(0.0))
        inverse = splat(builder, builder.select(some, builder.fdiv(F32(127.0), top), F32(0.0)))
        counts = [
            builder.fptosi(call(builder, "llvm.rint.v16f32", builder.fmul(vector, inverse)), WORDS) for vector in both
        ]
        for side in (0, 1):
            store(builder, builder.trunc(counts[side], BYTES), offset(builder, values[1], LANES * side))
        store(builder, builder.fmul(top, F32(1.0 / 127.0)), values[2])
        summed = builder.add(*counts)
        for size in (8, 4, 2, 1):
            order = ir.Constant(WORDS, [(lane + size) % LANES for lane in range(LANES)])
            summed = builder.add(summed, builder.shuffle_vector(summed, summed, order))
        store(builder, builder.extract_element(summed, ir.IntType(32)(0)), values[3])
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64, types.int64), generate


@inline
def round_row(row: int, out: int, num_groups: int) -> None:
    """Round a row to int8 as tiles read it: all numbers, the scale of each group, the sum of each group."""
    for group in range(num_groups):
        scale = out + 32 * num_groups + 4 * group
        _round_group(row + GROUP_BYTES * group, out + 32 * group, scale, scale + 4 * num_groups)


def _activation(form: Callable[[Any, Any], Any], gated: bool) -> Callable[[int, int, int], None]:
    def activate(typing: Any, gate: Any, up: Any, out: Any) -> Any:
        """Write the activation of 16 numbers, times 16 others where it is a gate."""

        def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            result = form(builder, load(builder, VECTOR, values[0]))
            if gated:
                result = builder.fmul(result, load(builder, VECTOR, values[1]))
            store(builder, result, values[2])
            return context.get_dummy_value()

        return types.void(types.int64, types.int64, types.int64), generate

    made: Callable[[int, int, int], None] = intrinsic(activate)
    return made


def _silu(builder: Any, x: Any) -> Any:
    return builder.fmul(x, sigmoid(builder, x))


def _gelu_tanh(builder: Any, x: Any) -> Any:
    """Return x sigmoid(2 u) = x (1 + tanh(u)) / 2 with u = sqrt(2 / pi) (x + 0.044715 x^3)."""
    cube = builder.fmul(builder.fmul(x, x), x)
    inner = multiply_add(builder, cube, fill(VECTOR, 0.044715), x)
    return builder.fmul(x, sigmoid(builder, builder.fmul(inner, fill(VECTOR, 2.0 * math.sqrt(2.0 / math.pi)))))


def _relu(builder: Any, x: Any) -> Any:
    return builder.select(builder.fcmp_ordered(">", x, fill(VECTOR, 0.0)), x, fill(VECTOR, 0.0))


def _relu_squared(builder: Any, x: Any) -> Any:
    positive = _relu(builder, x)
    return builder.fmul(positive, positive)


_swiglu, _geglu = _activation(_silu, True), _activation(_gelu_tanh, True)
_plain_silu, _plain_gelu = _activation(_silu, False), _activation(_gelu_tanh, False)
_plain_relu, _plain_squared = _activation(_relu, False), _activation(_relu_squared, False)


@inline
def activate(kind: int, source: int, out: int) -> None:
    """Write the activation of the 16 numbers at `source`; gates have the 16 that they multiply behind them."""
    up = source + 4 * LANES
    if kind == SWIGLU:
        _swiglu(source, up, out)
    elif kind == GEGLU:
        _geglu(source, up, out)
    elif kind == SILU:
        _plain_silu(source, up, out)
    elif kind == GELU_TANH:
        _plain_gelu(source, up, out)
    elif kind == RELU:
        _plain_relu(source, up, out)
    else:
        _plain_squared(source, up, out)
