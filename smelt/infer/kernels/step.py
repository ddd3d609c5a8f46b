"""One token for every running request: all layers and the logits, in one call without Python in it.

The first thread leads: it norms and rounds a few rows of activations, which is little, and starts the six kinds of jobs
below; all threads share their parts. A part is some blocks of a matrix, or the attention of one text and some kv heads.
A result is made whole by one thread, in an order that no other part has a say in: so neither threads nor batch change a
bit of it.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from smelt.infer.kernels.attention import Cached, Heads, attend, weigh
from smelt.infer.kernels.products import Matrix, Rows, multiply
from smelt.infer.kernels.rows import GROUP_BYTES, NUMBER_BYTES, activate, dot, norm, round_head, round_row, turn
from smelt.infer.kernels.team import announce, job, part_done, take_part, wait_for_all, wait_for_part
from smelt.infer.kernels.vectors import BF16, FP32, INT8, LANES, load_bf16, load_f32, store_bf16, store_f32
from smelt.tokenizers.kernels.jit import inline, kernel
from smelt.tokenizers.kernels.loads import address, load_u64

QUERY_KEY_VALUE, ATTEND, OUTPUT, UP, DOWN, HEAD = 0, 1, 2, 3, 4, 5
PHASES = 5  # of a layer
BAD_ID, BAD_POSITION, BAD_PAGE = 1, 2, 3
_BLOCK_BYTES = 64  # of 16 results
_SCALE_BYTES = 4  # behind a head in int8
Records = npt.NDArray[np.void]


@inline
def _entry(numbers: int, place: int) -> int:
    """Return an entry of an array of int64."""
    return np.int64(load_u64(numbers + 8 * place))


@inline
def _fault(model: Any, request: Any) -> int:
    """Return 4 times the row of the first id, position or page that is out of range, plus which it is; 0 for none."""
    for row in range(request.num_rows):
        token, position = _entry(request.ids, row), _entry(request.positions, row)
        if token < 0 or token >= model.vocab_size:
            return 4 * row + BAD_ID
        last = position // model.page_tokens
        if position < 0 or position >= model.max_seq_len or last >= request.pages_a_row:
            return 4 * row + BAD_POSITION
        for place in range(last + 1):
            page = _entry(request.pages, row * request.pages_a_row + place)
            if page < 0 or (page + 1) * model.page_tokens > model.num_slots:
                return 4 * row + BAD_PAGE
    return 0


@inline
def _load(numbers: int, place: int, narrow: int) -> float:
    return load_bf16(numbers + 2 * place) if narrow else load_f32(numbers + 4 * place)


@inline
def _embed(model: Any, request: Any) -> None:
    """Fill the stream with the embeddings of tokens, and of positions where they are learned."""
    for row in range(request.num_rows):
        out = model.stream + row * model.stream_stride
        first = _entry(request.ids, row) * model.dim
        for place in range(model.dim):
            store_f32(out + 4 * place, _load(model.embedding, first + place, model.narrow_embedding))
        if model.positions != 0:
            first = _entry(request.positions, row) * model.dim
            for place in range(model.dim):
                value = _load(model.positions, first + place, model.narrow_positions)
                store_f32(out + 4 * place, load_f32(out + 4 * place) + value)


@inline
def _place(rotary: Any, request: Any) -> None:
    """Fill in the cosines and sines of the rows' positions."""
    for row in range(request.num_rows):
        position = np.float32(_entry(request.positions, row))
        begin = row * rotary.table_stride
        for place in range(0, 4 * rotary.half, 4):
            angle = position * load_f32(rotary.frequencies + place)
            store_f32(rotary.cosines + begin + place, math.cos(angle) * rotary.factor)
            store_f32(rotary.sines + begin + place, math.sin(angle) * rotary.factor)


@inline
def _norm(cells: Any, row: int, out: int, size: int) -> None:
    norm(cells.kind, row, cells.weight, cells.bias, cells.eps, out, size)


@inline
def _activate_part(model: Any, layer: Any, request: Any, part: int) -> None:
    """Put the inner numbers of the feed-forward that a part has made through the activation."""
    width, cells = 1 + layer.gated, layer.up
    first = part * cells.blocks_a_part // width
    last = min(first + cells.blocks_a_part // width, cells.num_blocks // width)
    for row in range(request.num_rows):
        source = model.pairs + row * model.pairs_stride
        out = model.hidden + row * layer.down.num_groups * GROUP_BYTES
        for block in range(first, last):
            activate(layer.activation, source + width * _BLOCK_BYTES * block, out + _BLOCK_BYTES * block)


@inline
def _prepare_head(cells: Any, layer: Any, rotary: Any, row: int, head: int) -> None:
    """Norm and turn a query or key head in place."""
    if layer.has_head_norms:
        _norm(cells, head, head, layer.head_dim)
    if layer.rotary >= 0:
        begin = row * rotary.table_stride
        turn(head, rotary.cosines + begin, rotary.sines + begin, rotary.half)


@inline
def _keep(model: Any, source: int, place: int, size: int) -> None:
    """Write a head into the cache."""
    if model.cache_kind == INT8:
        round_head(source, place, size)
        return
    for number in range(size):
        if model.cache_kind == BF16:
            store_bf16(place + 2 * number, load_f32(source + 4 * number))
        else:
            store_f32(place + 4 * number, load_f32(source + 4 * number))


@inline
def _slot(model: Any, request: Any, row: int) -> int:
    """Return the slot of the cache that a row's key and value go to."""
    position = _entry(request.positions, row)
    page = _entry(request.pages, row * request.pages_a_row + position // model.page_tokens)
    return page * model.page_tokens + position % model.page_tokens


@inline
def _mix(model: Any, layer: Any, rotary: Any, request: Any, part: int, scratch: int) -> None:
    """Attend with some heads of one text's rows, whose keys and values are put into the cache first: of several tokens
    of a text, the later ones see the earlier."""
    parts = _attention_parts(layer)
    text, head = part // parts, part % parts * layer.kv_heads_a_part
    size, group = layer.head_dim, layer.num_heads // layer.num_kv_heads
    count = min(layer.kv_heads_a_part, layer.num_kv_heads - head)
    head_bytes = NUMBER_BYTES[model.cache_kind] * size + (_SCALE_BYTES if model.cache_kind == INT8 else 0)
    slot_bytes = head_bytes * layer.num_kv_heads
    keys, values = layer.keys + head_bytes * head, layer.values + head_bytes * head
    first_row, behind = _entry(request.texts, text), _entry(request.texts, text + 1)
    for row in range(first_row, behind):
        begin = model.projected + row * model.projected_stride
        for number in range(group * count):
            _prepare_head(layer.query_norm, layer, rotary, row, begin + 4 * size * (group * head + number))
        for number in range(count):
            key = begin + layer.key_offset + 4 * size * (head + number)
            value = begin + layer.value_offset + 4 * size * (head + number)
            place = _slot(model, request, row) * slot_bytes + head_bytes * number
            _prepare_head(layer.key_norm, layer, rotary, row, key)
            _keep(model, key, keys + place, size)
            _keep(model, value, values + place, size)
    heads = Heads(count, group, size, head_bytes)
    for row in range(first_row, behind):
        length = _entry(request.positions, row) + 1
        first = max(0, length - layer.window) if layer.window > 0 else 0
        pages = request.pages + 8 * row * request.pages_a_row
        cached = Cached(keys, values, slot_bytes, model.cache_kind, pages, model.page_tokens, first, length)
        queries = model.projected + row * model.projected_stride + 4 * size * group * head
        out = model.mixed + row * layer.output.num_groups * GROUP_BYTES + 4 * size * group * head
        attend(queries, out, heads, cached, layer.scale, layer.softcap, scratch)


@inline
def _attention_parts(layer: Any) -> int:
    """Return the number of parts of a text's attention."""
    return (layer.num_kv_heads + layer.kv_heads_a_part - 1) // layer.kv_heads_a_part


@inline
def _adapter(request: Any, row: int, phase: int, number: int) -> int:
    """Return where stands what a row's adapter adds to a matrix: rank, address of `down`, of `up`; 0 for nothing."""
    if request.adapters == 0 or phase == HEAD:
        return 0
    table = _entry(request.adapters, row)
    entry = table + 24 * (PHASES * number + phase)
    return 0 if table == 0 or _entry(entry, 0) == 0 else entry


@inline
def _reduce(row: int, adapter: int, out: int, size: int) -> None:
    """Write what an adapter's `down` makes of a row: a number a rank."""
    for rank in range(_entry(adapter, 0)):
        store_f32(out + 4 * rank, dot(row, _entry(adapter, 1) + 4 * size * rank, size, FP32))


@inline
def _expand(model: Any, request: Any, phase: int, number: int, rows: Rows, first: int, last: int) -> None:
    """Add what the rows' adapters make of those numbers to the results of some blocks."""
    for row in range(rows.count):
        adapter = _adapter(request, row, phase, number)
        if adapter != 0:
            rank, up, numbers = _entry(adapter, 0), _entry(adapter, 2), model.reduced + row * model.reduced_stride
            for block in range(first, last):
                out = rows.out + row * rows.out_stride + _BLOCK_BYTES * block
                weigh(out, numbers, up + _BLOCK_BYTES * rank * block, _BLOCK_BYTES, rank, LANES, FP32)


@inline
def _do_part(
    model: Any, layers: Records, rotaries: Records, request: Any, phase: int, number: int, part: int, thread: int
) -> None:
    """Do one part of a job.

    There is one call of `multiply`, since each is a copy of all tiles to the compiler.
    """
    layer = layers[min(number, layers.size - 1)]
    if phase == ATTEND:
        rotary = rotaries[max(layer.rotary, 0)]
        _mix(model, layer, rotary, request, part, model.scratch + thread * model.scratch_stride)
        return
    cells, source, out, stride, adds = model.head, model.normed, model.logits, model.logits_stride, 0
    if phase == QUERY_KEY_VALUE:
        cells, out, stride = layer.query_key_value, model.projected, model.projected_stride
    elif phase == OUTPUT:
        cells, source, out, stride, adds = layer.output, model.mixed, model.stream, model.stream_stride, 1
    elif phase == UP:
        cells, out, stride = layer.up, model.pairs, model.pairs_stride
    elif phase == DOWN:
        cells, source, out, stride, adds = layer.down, model.hidden, model.stream, model.stream_stride, 1
    inputs = source if cells.kind <= BF16 else model.rounded
    matrix = Matrix(cells.kind, cells.weights, cells.bias, cells.num_groups, cells.block_bytes)
    rows = Rows(request.num_rows, inputs, cells.input_bytes, out, stride)
    first = part * cells.blocks_a_part
    last = min(first + cells.blocks_a_part, cells.num_blocks)
    multiply(matrix, rows, first, last, adds)
    _expand(model, request, phase, number, rows, first, last)
    if phase == UP:
        _activate_part(model, layer, request, part)


@inline
def _prepare(model: Any, layers: Records, request: Any, phase: int, number: int) -> int:
    """Make what the parts of a job read, and return how many there are."""
    layer = layers[min(number, layers.size - 1)]
    if phase == ATTEND:
        return request.num_texts * _attention_parts(layer)
    cells, norms, source = model.head, model.norm, model.normed
    if phase == QUERY_KEY_VALUE:
        cells, norms = layer.query_key_value, layer.attention_norm
    elif phase == OUTPUT:
        cells, source = layer.output, model.mixed
    elif phase == UP:
        cells, norms = layer.up, layer.feed_forward_norm
    elif phase == DOWN:
        cells, source = layer.down, model.hidden
    for row in range(request.num_rows):
        begin = source + row * cells.num_groups * GROUP_BYTES
        if source == model.normed:
            _norm(norms, model.stream + row * model.stream_stride, begin, model.dim)
        adapter = _adapter(request, row, phase, number)
        if adapter != 0:
            _reduce(begin, adapter, model.reduced + row * model.reduced_stride, 32 * cells.num_groups)
        if cells.kind > BF16:
            round_row(begin, model.rounded + row * cells.input_bytes, cells.num_groups)
    return (cells.num_blocks + cells.blocks_a_part - 1) // cells.blocks_a_part


@kernel
def run_step(
    thread: int, team: npt.NDArray[np.uint64], model: Records, layers: Records, rotaries: Records, request: Records
) -> int:
    """Make a step's logits as the leading thread 0, and return what is wrong with the request, 0 for nothing.

    Any other thread helps until there has been nothing to do for a while.
    """
    cells, leads = address(team), thread == 0
    this, rows = model[0], request[0]
    job_number, num_jobs, part = 0, 5 * layers.size + 1, -1
    if leads:
        fault = _fault(this, rows)
        if fault != 0:
            return fault
        _embed(this, rows)
        for number in range(rotaries.size):
            _place(rotaries[number], rows)
    while True:
        if leads and part < 0:
            if job_number > 0:
                wait_for_all(cells)
            if job_number == num_jobs:
                return 0
            phase, number = job_number % 5, job_number // 5
            if number == layers.size:
                phase = HEAD
            announce(cells, _prepare(this, layers, rows, phase, number), phase, number)
            job_number += 1
        part = take_part(cells) if leads else wait_for_part(cells, thread)
        if part >= 0:
            phase, number = job(cells)
            _do_part(this, layers, rotaries, rows, phase, number, part, thread)
            part_done(cells)
        elif not leads:
            return 0
