"""Attention of one token over keys and values in pages: all query heads of some kv heads.

Token t of a request is at slot pages[t // page_tokens] * page_tokens + t % page_tokens of a pool (num_slots, K, C),
fp32, bf16, or int8 with a scale in fp32 behind each head. Scores of the tokens that are seen go to a scratch row a
head, become weights there, and the values are summed with them page by page. Costs two passes over the cached tokens,
and 4 bytes of scratch a token and head.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from smelt.infer.kernels.rows import NUMBER_BYTES, ONE, ZERO, dot, load_number
from smelt.infer.kernels.vectors import (
    BF16,
    F32,
    FP32,
    I64,
    INT8,
    LANES,
    VECTOR,
    WORDS,
    exponential,
    fill,
    growing_sum,
    load,
    load_f32,
    load_numbers,
    multiply_add,
    offset,
    splat,
    store,
    store_f32,
    total,
)
from smelt.tokenizers.kernels.jit import inline
from smelt.tokenizers.kernels.loads import load_u64

_NOTHING = np.float32(-np.inf)
_WIDE = 4  # vectors of a head that are summed at once
_TOGETHER = 4  # tokens whose values are added to one head before the next


class Heads(NamedTuple):
    """Some kv heads and the query heads that share them: how many, numbers a head, bytes of a cached head."""

    num_kv_heads: int
    group: int
    size: int
    bytes: int


class Cached(NamedTuple):
    """Where a request's keys and values are: addresses, pages, tokens from `first` to before `length`."""

    keys: int  # of slot 0 and the first of the heads
    values: int
    slot_bytes: int
    kind: int
    pages: int
    page_tokens: int
    first: int
    length: int


@intrinsic
def _exponentials(typing: Any, scores: Any, num_vectors: Any, largest: Any) -> Any:
    """Replace scores by e^(score - largest) and return their sum."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        growing = growing_sum(builder)
        with cgutils.for_range(builder, values[1]) as loop:
            place = offset(builder, values[0], builder.mul(loop.index, I64(4 * LANES)))
            above = builder.fsub(load(builder, VECTOR, place), splat(builder, values[2]))
            weights = exponential(builder, above)
            store(builder, weights, place)
            builder.store(builder.fadd(builder.load(growing), weights), growing)
        return total(builder, builder.load(growing))

    return types.float32(types.int64, types.int64, types.float32), generate


@intrinsic
def _largest(typing: Any, scores: Any, num_vectors: Any) -> Any:
    """Return the largest score."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        growing = growing_sum(builder, fill(VECTOR, -math.inf))
        with cgutils.for_range(builder, values[1]) as loop:
            here = load(builder, VECTOR, offset(builder, values[0], builder.mul(loop.index, I64(4 * LANES))))
            before = builder.load(growing)
            builder.store(builder.select(builder.fcmp_ordered(">", here, before), here, before), growing)
        found = builder.load(growing)
        for size in (8, 4, 2, 1):
            order = ir.Constant(WORDS, [(lane + size) % LANES for lane in range(LANES)])
            other = builder.shuffle_vector(found, found, order)
            found = builder.select(builder.fcmp_ordered(">", found, other), found, other)
        return builder.extract_element(found, ir.IntType(32)(0))

    return types.float32(types.int64, types.int64), generate


def _weighing(vectors: int, kind: int) -> Callable[[int, int, int, int, int], None]:
    def weigh(typing: Any, out: Any, weights: Any, rows: Any, stride: Any, count: Any) -> Any:
        """Add `count` rows, so many vectors of each, times their weights."""

        def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            out, weights, rows, stride, count = values
            places = [offset(builder, out, 4 * LANES * number) for number in range(vectors)]
            sums = [growing_sum(builder, load(builder, VECTOR, place)) for place in places]
            with cgutils.for_range(builder, count) as loop:
                weight = load(builder, F32, offset(builder, weights, builder.mul(loop.index, I64(4))))
                row = offset(builder, rows, builder.mul(loop.index, stride))
                for number, growing in enumerate(sums):
                    place = offset(builder, row, NUMBER_BYTES[kind] * LANES * number)
                    some = load_numbers(builder, kind, place)
                    builder.store(multiply_add(builder, splat(builder, weight), some, builder.load(growing)), growing)
            for place, growing in zip(places, sums, strict=True):
                store(builder, builder.load(growing), place)
            return context.get_dummy_value()

        return types.void(*(types.int64,) * 5), generate

    made: Callable[[int, int, int, int, int], None] = intrinsic(weigh)
    return made


_weigh_four_fp32, _weigh_one_fp32 = _weighing(_WIDE, FP32), _weighing(1, FP32)
_weigh_four_bf16, _weigh_one_bf16 = _weighing(_WIDE, BF16), _weighing(1, BF16)
_weigh_four_int8, _weigh_one_int8 = _weighing(_WIDE, INT8), _weighing(1, INT8)


@inline
def weigh(out: int, weights: int, rows: int, stride: int, count: int, size: int, kind: int) -> None:
    """Add `count` rows of `size` numbers, of some kind, times their weights."""
    place, width = 0, NUMBER_BYTES[kind]
    while place + _WIDE * LANES <= size:
        if kind == INT8:
            _weigh_four_int8(out + 4 * place, weights, rows + width * place, stride, count)
        elif kind == BF16:
            _weigh_four_bf16(out + 4 * place, weights, rows + width * place, stride, count)
        else:
            _weigh_four_fp32(out + 4 * place, weights, rows + width * place, stride, count)
        place += _WIDE * LANES
    while place + LANES <= size:
        if kind == INT8:
            _weigh_one_int8(out + 4 * place, weights, rows + width * place, stride, count)
        elif kind == BF16:
            _weigh_one_bf16(out + 4 * place, weights, rows + width * place, stride, count)
        else:
            _weigh_one_fp32(out + 4 * place, weights, rows + width * place, stride, count)
        place += LANES
    while place < size:
        found = load_f32(out + 4 * place)
        for number in range(count):
            found += load_f32(weights + 4 * number) * load_number(kind, rows + stride * number, place)
        store_f32(out + 4 * place, found)
        place += 1


@inline
def _slot(cached: Cached, token: int) -> int:
    """Return the slot of a token."""
    page = np.int64(load_u64(cached.pages + 8 * (token // cached.page_tokens)))
    return page * cached.page_tokens + token % cached.page_tokens


@inline
def _score(
    queries: int, key: int, heads: Heads, kind: int, scale: float, softcap: float, place: int, row_bytes: int
) -> None:
    """Write the scores of one token, a row apart."""
    query = queries
    for _ in range(heads.num_kv_heads):
        own = scale * load_f32(key + heads.size) if kind == INT8 else scale
        for _ in range(heads.group):
            score = dot(query, key, heads.size, kind) * own
            if softcap > ZERO:
                score = softcap * math.tanh(score / softcap)
            store_f32(place, score)
            query += 4 * heads.size
            place += row_bytes
        key += heads.bytes


@inline
def _scale(weights: int, scales: int, stride: int, count: int) -> None:
    """Multiply the weights of tokens by the scales of their values."""
    for number in range(count):
        place = weights + 4 * number
        store_f32(place, load_f32(place) * load_f32(scales + stride * number))


@inline
def attend(queries: int, out: int, heads: Heads, cached: Cached, scale: float, softcap: float, scratch: int) -> None:
    """Attend with heads that lie side by side, and write as many; no softcap if it is 0.

    Tokens are the outer loop, so that a pool is read in the order in which it lies.
    """
    seen, size, num_heads = cached.length - cached.first, heads.size, heads.num_kv_heads * heads.group
    num_vectors = (seen + LANES - 1) // LANES
    row_bytes = 4 * LANES * num_vectors
    token = cached.first
    while token < cached.length:
        run = min(cached.page_tokens - token % cached.page_tokens, cached.length - token)
        key = cached.keys + _slot(cached, token) * cached.slot_bytes
        for place in range(4 * (token - cached.first), 4 * (token - cached.first + run), 4):
            _score(queries, key, heads, cached.kind, scale, softcap, scratch + place, row_bytes)
            key += cached.slot_bytes
        token += run
    for head in range(num_heads):
        row = scratch + row_bytes * head
        for place in range(4 * seen, row_bytes, 4):
            store_f32(row + place, _NOTHING)
        share = ONE / _exponentials(row, num_vectors, _largest(row, num_vectors))
        for place in range(0, row_bytes, 4):
            store_f32(row + place, load_f32(row + place) * share)
        for place in range(0, 4 * size, 4):
            store_f32(out + 4 * size * head + place, ZERO)
    token = cached.first
    while token < cached.length:
        run = min(_TOGETHER, cached.page_tokens - token % cached.page_tokens, cached.length - token)
        value = cached.values + _slot(cached, token) * cached.slot_bytes
        weights = scratch + 4 * (token - cached.first)
        place = out
        for _ in range(heads.num_kv_heads):
            for _ in range(heads.group):
                if cached.kind == INT8:
                    _scale(weights, value + size, cached.slot_bytes, run)
                weigh(place, weights, value, cached.slot_bytes, run, size, cached.kind)
                place += 4 * size
                weights += row_bytes
            value += heads.bytes
        token += run
