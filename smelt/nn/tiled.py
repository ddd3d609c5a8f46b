"""Exact attention by tiles, forward and backward, in memory linear in length: no tensor is ever (T, S).

Softmax needs the maximum and the sum of a whole row of scores, which seems to ask for the whole row. Online softmax
carries three running numbers for a row of queries instead: the largest score so far m, the sum l of exp(score - m),
and o, the values weighted by exp(score - m). A tile whose largest score is higher moves m, and what was summed shrinks
by exp(old m - new m); the row's result is o / l in the end. Scores 0, ln 3 | ln 4 with values 8, 4 | 2, in two tiles:

    first tile    m = ln 3                 l = 1/3 + 1 = 4/3        o = 8/3 + 4 = 20/3
    both merged   m = max(ln 3, ln 4)      l = 4/3 * 3/4 + 1 = 2    o = 20/3 * 3/4 + 2 = 7
    all at once   weights 1/8, 3/8, 4/8 -> 8/8 + 12/8 + 8/8 = 7/2 = o / l,    m + ln l = ln 8

The forward pass keeps its output O and one number a row, L = m + ln l. The backward pass makes each tile anew, with
weights P = exp(score - L) that need no second sum. Of a gradient dO: dV = P' dO, dP = dO V', and, softmax giving
dS = P * (dP - sum(P * dP)), where the sum over a whole row is D = sum(dO * O): dS = P * (dP - D), dQ = scale dS K,
dK = scale dS' Q. A soft cap c gives scores s = c tanh(x / c) and one factor more, ds/dx = 1 - (s / c)^2. A bias of
distances has its gradient along the diagonals of dS; a sink is one more score with no value, of which dS = -P D.

Keys are walked backwards from a query's own slot, which is always seen, then forwards where attention looks ahead: so m
is a number from the first tile on, and no row is ever minus infinity less minus infinity. Tiles beyond the window, or
wholly of other segments, are not computed. The price is a second product of queries and keys in the backward pass, and
no fusion: each step is a call of torch. FlexAttention fuses them, but on the processor it has no backward pass, and its
forward pass, 2.6 times as fast in windows of 256, takes 25 s to compile (33 times as slow uncompiled).

Ref: FlashAttention, arXiv:2205.14135, Algorithm 1. Ref: FlashAttention-2, arXiv:2307.08691, Algorithms 1 and 2.
Ref: Online normalizer calculation for softmax, arXiv:1805.02867, Algorithm 3.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from smelt.nn.masks import Rules, by_slots

TILE = 256  # as fast as 512 in the measurements of nn/masks.py or faster, and within windows always


@dataclass(frozen=True)
class Settings:
    """Hold what is no tensor: the rules, the factor of queries, the bound of scores, and the side of a tile."""

    rules: Rules
    factor: float
    softcap: float | None
    tile: int


@torch.compiler.disable  # type: ignore[untyped-decorator]
def attend_tiled(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    rules: Rules | None = None,
    *,
    scale: float | None = None,
    softcap: float | None = None,
    sinks: Tensor | None = None,
    tile: int = TILE,
) -> Tensor:
    """Attend: queries (B, H, T, C), the last T of S slots, over keys and values (B, K, S, C) -> (B, H, T, C).

    Who sees whom, and the bias of distances, say the rules; without, attention is causal. `scale` is 1 / sqrt(C) if
    None; `sinks` (H,) are scores that take weight and give no value. `tile` is the side of a tile, in tokens: beside
    inputs, outputs and gradients a few tensors of (B, H, tile, tile) live at a time. Sums are in fp32 at least.
    Differentiable once.
    """
    if tile < 1:
        raise ValueError(f"tile={tile}: a tile has at least one token")
    rules = Rules(queries.shape[2], keys.shape[2]) if rules is None else rules
    scale = 1 / math.sqrt(queries.shape[-1]) if scale is None else scale
    settings = Settings(rules, scale if softcap is None else scale / softcap, softcap, tile)
    with torch.autocast(queries.device.type, enabled=False):  # it would narrow the products
        out = Tiled.apply(queries, keys, values, rules.bias, sinks, settings)  # type: ignore[no-untyped-call]
    return out  # type: ignore[no-any-return]


class Tiled(torch.autograd.Function):
    """Attention whose backward pass makes the weights anew, tile by tile."""

    @staticmethod
    def forward(
        ctx: Any,
        queries: Tensor,
        keys: Tensor,
        values: Tensor,
        bias: Tensor | None,
        sinks: Tensor | None,
        settings: Settings,
    ) -> Tensor:
        """Return the mixed values (B, H, T, C); keep them and the log-sum-exp of each row (B, H, T)."""
        kv_heads, wide = keys.shape[1], torch.promote_types(queries.dtype, torch.float32)
        out = queries.new_empty(*queries.shape[:3], values.shape[-1])
        log_sums = queries.new_empty(*queries.shape[:3], 1, dtype=wide)
        for rows, own in query_tiles(queries.shape[2], keys.shape[2], settings.tile):
            stacked = take_rows(queries, rows, kv_heads, wide) * settings.factor  # (B*K, G*t, C)
            top = stacked.new_full((*stacked.shape[:2], 1), -math.inf)
            total, mixed = torch.zeros_like(top), stacked.new_zeros(*stacked.shape[:2], values.shape[-1])
            for columns, hidden in key_tiles(own, settings.rules, settings.tile, keys.device):
                scores = score(stacked, take_columns(keys, columns, wide), settings.softcap)  # (B*K, G*t, s)
                add_bias(scores, bias, settings.rules, rows, columns)
                hide(scores, hidden, -math.inf)
                new_top = torch.maximum(top, scores.amax(dim=-1, keepdim=True))
                weights = scores.sub_(new_top).exp_()
                shrink = top.sub_(new_top).exp_()  # 0 in the first tile
                total = total.mul_(shrink).add_(weights.sum(dim=-1, keepdim=True))
                mixed = mixed.mul_(shrink).baddbmm_(weights, take_columns(values, columns, wide))
                top = new_top
            log_sum = top + total.log()
            if sinks is not None:  # one more score of the row
                with_sink = torch.logaddexp(log_sum, sink_rows(sinks, rows, log_sum))
                mixed = mixed.mul_((log_sum - with_sink).exp())
                log_sum = with_sink
            put_rows(out, rows, mixed.div_(total))
            put_rows(log_sums, rows, log_sum)
        ctx.save_for_backward(queries, keys, values, bias, sinks, out, log_sums.squeeze(-1))
        ctx.settings = settings
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_out: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of queries, keys, values, bias and sinks, given that of the output (B, H, T, C)."""
        with torch.autocast(grad_out.device.type, enabled=False):
            found = gradients(grad_out, ctx.saved_tensors, ctx.settings)
        return *found, None


def gradients(grad_out: Tensor, saved: tuple[Tensor, ...], settings: Settings) -> tuple[Tensor | None, ...]:
    """Return the gradients of queries, keys, values, bias and sinks, given dO (B, H, T, C) and what forward saved."""
    queries, keys, values, bias, sinks, out, log_sums = saved
    kv_heads, wide, softcap = keys.shape[1], log_sums.dtype, settings.softcap
    grad_queries = torch.empty_like(queries)
    grad_keys, grad_values = (  # sums over all tiles of queries, and so wide: (B*K, S, C)
        x.new_zeros(x.shape[0] * kv_heads, *x.shape[2:], dtype=wide) for x in (keys, values)
    )
    grad_bias, grad_sinks = (None if x is None else torch.zeros_like(x, dtype=wide) for x in (bias, sinks))
    for rows, own in query_tiles(queries.shape[2], keys.shape[2], settings.tile):
        stacked = take_rows(queries, rows, kv_heads, wide) * settings.factor  # (B*K, G*t, C)
        grad = take_rows(grad_out, rows, kv_heads, wide)
        row_sum = (grad * take_rows(out, rows, kv_heads, wide)).sum(dim=-1, keepdim=True)  # D: (B*K, G*t, 1)
        log_sum = take_rows(log_sums[..., None], rows, kv_heads, wide)
        grad_stacked = torch.zeros_like(stacked)
        for columns, hidden in key_tiles(own, settings.rules, settings.tile, keys.device):
            key, value = take_columns(keys, columns, wide), take_columns(values, columns, wide)  # (B*K, s, C)
            scores = score(stacked, key, softcap)  # (B*K, G*t, s)
            slope = None if softcap is None else softcap - scores.square() / softcap  # c (1 - tanh^2)
            add_bias(scores, bias, settings.rules, rows, columns)
            weights = scores.sub_(log_sum).exp_()
            hide(weights, hidden, 0.0)
            grad_values[:, columns].baddbmm_(weights.mT, grad)
            grad_scores = torch.bmm(grad, value.mT).sub_(row_sum).mul_(weights)
            if grad_bias is not None:
                grad_bias[:, settings.rules.places(rows, columns)] += by_distance(grad_scores, rows, len(grad_bias))
            if slope is not None:
                grad_scores.mul_(slope)
            grad_keys[:, columns].baddbmm_(grad_scores.mT, stacked)
            grad_stacked.baddbmm_(grad_scores, key)
        put_rows(grad_queries, rows, grad_stacked.mul_(settings.factor))
        if sinks is not None and grad_sinks is not None:
            lost = (sink_rows(sinks, rows, log_sum) - log_sum).exp_().mul_(row_sum)  # P D: (B*K, G*t, 1)
            grad_sinks -= lost.view(-1, len(sinks), rows.stop - rows.start).sum(dim=(0, 2))
    found = grad_keys.view(keys.shape), grad_values.view(values.shape), grad_bias, grad_sinks
    given = keys, values, bias, sinks
    narrow = (None if x is None or y is None else x.to(y.dtype) for x, y in zip(found, given, strict=True))
    return grad_queries, *narrow


def query_tiles(num_queries: int, num_keys: int, tile: int) -> Iterator[tuple[slice, slice]]:
    """Yield tiles of the T queries with the slots of their tokens: (4, 6, 3) -> 0:3 at 2:5, then 3:4 at 5:6."""
    past = num_keys - num_queries
    for start in range(0, num_queries, tile):
        stop = min(start + tile, num_queries)
        yield slice(start, stop), slice(past + start, past + stop)


def key_tiles(own: slice, rules: Rules, tile: int, device: torch.device) -> Iterator[tuple[slice, Tensor | None]]:
    """Yield the tiles of keys that any query at the slots `own` sees, and what each hides; own slots come first.

    Of `own` 5:8 in tiles of 3: 5:8, 2:5, 0:2; within a window of 3, that is from slot 3 on: 5:8, 3:5.
    """
    first = 0 if rules.window is None else max(0, own.start - rules.window + 1)
    last = own.stop if rules.causal and rules.order is None else rules.num_keys
    behind = (slice(max(first, stop - tile), stop) for stop in range(own.stop, first, -tile))
    ahead = (slice(start, min(start + tile, last)) for start in range(own.stop, last, tile))
    may_be_empty = rules.segments is not None or rules.order is not None or rules.blocks is not None
    for columns in chain(behind, ahead):
        hidden = rules.hidden(own, columns, device)
        if not may_be_empty or hidden is None or not bool(hidden.all()):
            yield columns, hidden


def hide(x: Tensor, hidden: Tensor | None, fill: float) -> None:
    """Write `fill` over the hidden pairs (B or 1, t, s) of all heads, in place: x (B*K, G*t, s)."""
    if hidden is not None:
        batch, t, s = hidden.shape
        x.view(batch, -1, t, s).masked_fill_(hidden[:, None], fill)


def score(stacked: Tensor, key: Tensor, softcap: float | None) -> Tensor:
    """Return the scores of queries (N, t, C), scaled already, with keys (N, s, C), bounded if asked: (N, t, s)."""
    scores: Tensor = torch.bmm(stacked, key.mT)
    return scores if softcap is None else scores.tanh_().mul_(softcap)


def add_bias(scores: Tensor, bias: Tensor | None, rules: Rules, rows: slice, columns: slice) -> None:
    """Add a bias of distances (H, T + S - 1) to the scores of a tile (B*K, G*t, s), in place."""
    if bias is not None:
        part = by_slots(bias[:, rules.places(rows, columns)], scores.shape[-1])  # (H, t, s)
        scores.view(-1, *part.shape).add_(part)


def by_distance(scores: Tensor, rows: slice, num_heads: int) -> Tensor:
    """Sum a tile (B*K, G*t, s) over rows of text and along its diagonals: (H, t + s - 1), as `by_slots` spread it."""
    t, s = rows.stop - rows.start, scores.shape[-1]
    summed = scores.view(-1, num_heads, t, s).sum(dim=0).flip(-2)  # (H, t, s)
    # Row r must move right by r: with t zeros behind each row, read again in rows of one number less.
    skewed = functional.pad(summed, (0, t)).flatten(-2)[:, : t * (t + s - 1)]
    return skewed.view(num_heads, t, t + s - 1).sum(dim=1)


def sink_rows(sinks: Tensor, rows: slice, like: Tensor) -> Tensor:
    """Repeat the sink of each head (H,) for the queries of a tile: (B*K, G*t, 1), as `like` is."""
    t = rows.stop - rows.start
    each = sinks.to(like.dtype)[:, None].expand(-1, t)  # (H, t)
    return each.expand(like.numel() // each.numel(), -1, -1).reshape(like.shape)


def take_rows(x: Tensor, rows: slice, kv_heads: int, dtype: torch.dtype) -> Tensor:
    """Lay the heads of each kv head one below the other: (B, H, T, C) -> (B*K, G*t, C), G = H / K."""
    return x[:, :, rows].reshape(x.shape[0] * kv_heads, -1, x.shape[-1]).to(dtype)


def put_rows(x: Tensor, rows: slice, found: Tensor) -> None:
    """Write (B*K, G*t, C) to the rows of x (B, H, T, C), in place."""
    x[:, :, rows] = found.view(x[:, :, rows].shape)


def take_columns(x: Tensor, columns: slice, dtype: torch.dtype) -> Tensor:
    """Take some slots of keys or values: (B, K, S, C) -> (B*K, s, C)."""
    return x[:, :, columns].flatten(0, 1).to(dtype)
