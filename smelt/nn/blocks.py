"""Attention among blocks of tokens, in time and memory linear in length: near blocks, first blocks, random blocks.

The row is cut into blocks of b tokens. A block of queries sees the blocks around it, the first blocks, which all see
and which see all, and some drawn at random: near ones carry syntax, first ones collect and hand out what concerns the
whole text, random ones make every path between two tokens short. `masks.seen_blocks` is the definition, from which the
dense mask is made, too; here the m blocks that a block sees are gathered and laid side by side, so that each block of
queries is a short row of attention, (B n, H, b, C) over (B n, K, m b, C): T x m b scores instead of T x T.

Ref: Big Bird, arXiv:2007.14062, 2 and appendix D.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from smelt.nn.masks import Rules, additive, by_slots, seen_blocks
from smelt.nn.spec import BlocksSpec

Attend = Callable[[Tensor, Tensor, Tensor, Tensor | None], Tensor]


def attend_blocks(attend: Attend, queries: Tensor, keys: Tensor, values: Tensor, rules: Rules) -> Tensor:
    """Attend under rules with blocks, T = S: (B, H, T, C) over (B, K, T, C) -> (B, H, T, C).

    `attend` computes each short row under its mask.
    """
    if rules.blocks is None or rules.num_queries != rules.num_keys:
        raise ValueError("blocks are gathered for a whole row, under rules that have blocks")
    size, length = rules.blocks.size, rules.num_keys
    num_blocks = -(-length // size)
    num_first = 0 if rules.causal else min(rules.blocks.num_global, num_blocks)  # these see all: rows of full length
    table = block_numbers(rules.blocks, num_blocks, num_first, rules.causal, queries.device)  # (n, m)
    parts = []
    if num_first:
        rows = slice(0, min(num_first * size, length))
        parts.append(attend(queries[:, :, rows], keys, values, rows_mask(rules, rows, queries)))
    if len(table):
        blocked = [blocks_of(x, num_blocks, size) for x in (queries, keys, values)]  # (B, H or K, n, b, C)
        own = blocked[0][:, :, num_first:].transpose(1, 2).flatten(0, 1)  # (B n, H, b, C)
        seen, read = (gathered(x, table) for x in blocked[1:])  # (B n, K, m b, C)
        found = attend(own, seen, read, gathered_mask(rules, table, num_first, size, queries))  # (B n, H, b, C)
        parts.append(found.unflatten(0, (-1, len(table))).transpose(1, 2).flatten(2, 3))
    return torch.cat(parts, dim=2)[:, :, :length]


def block_numbers(spec: BlocksSpec, num_blocks: int, first: int, causal: bool, device: torch.device) -> Tensor:
    """Return the blocks that each block from `first` on sees, -1 where fewer: (n, m)."""
    seen = seen_blocks(spec, num_blocks, causal)[first:]
    most = max(map(len, seen), default=0)
    return torch.tensor([row + (-1,) * (most - len(row)) for row in seen], device=device)


def blocks_of(x: Tensor, num_blocks: int, size: int) -> Tensor:
    """Cut slots into blocks, the last one filled up with zeros: (B, K, T, C) -> (B, K, n, b, C)."""
    filled: Tensor = functional.pad(x, (0, 0, 0, num_blocks * size - x.shape[2]))
    return filled.reshape(*x.shape[:2], num_blocks, size, x.shape[3])


def gathered(x: Tensor, table: Tensor) -> Tensor:
    """Lay the blocks (B, K, N, b, C) that each of n blocks sees side by side: (B n, K, m b, C)."""
    batch, heads, width = x.shape[0], x.shape[1], x.shape[-1]
    taken = x.index_select(2, table.clamp(min=0).flatten()).view(batch, heads, len(table), -1, width)
    return taken.transpose(1, 2).reshape(batch * len(table), heads, -1, width)


def rows_mask(rules: Rules, rows: slice, like: Tensor) -> Tensor | None:
    """Return the mask of a few rows over all slots, or None where they see all: (B or 1, 1 or H, t, S)."""
    columns = slice(0, rules.num_keys)
    hidden = rules.hidden(rows, columns, like.device)
    mask = None if hidden is None else additive(~hidden, like.dtype)
    if rules.bias is None:
        return mask
    bias = by_slots(rules.bias[:, rules.places(rows, columns)], rules.num_keys).to(like.dtype)[None]
    return bias if mask is None else mask + bias


def gathered_mask(rules: Rules, table: Tensor, first: int, size: int, like: Tensor) -> Tensor:
    """Return the mask of each block of queries, from block `first` on, and the slots gathered for it.

    (B n, 1 or H, b, m b). Slots that fill up the last block are a segment of their own, seen by each other alone.
    """
    length, device = rules.num_keys, like.device
    within = torch.arange(size, device=device)
    keys = (table.clamp(min=0)[..., None] * size + within).flatten(1)[:, None, :]  # (n, 1, m b)
    own = ((torch.arange(len(table), device=device) + first)[:, None] * size + within)[..., None]  # (n, b, 1)
    hidden = (table < 0).repeat_interleave(size, dim=1)[None, :, None, :]  # (1, n, 1, m b)
    if rules.causal and rules.order is None:
        hidden = hidden | (keys > own)
    padding = -length % size
    segments = torch.ones(1, length, dtype=torch.long, device=device) if rules.segments is None else rules.segments
    segments = functional.pad(segments, (0, padding), value=-1)
    hidden = hidden | (segments[:, keys] != segments[:, own])  # (B or 1, n, b, m b)
    if rules.order is not None:
        order = functional.pad(rules.order, (0, padding))
        hidden = hidden | (order[:, keys] > order[:, own])
    mask = additive(~hidden.expand(like.shape[0], -1, -1, -1).flatten(0, 1), like.dtype)
    if rules.bias is None:
        return mask
    places = (keys - own + length - 1).clamp(0, rules.bias.shape[1] - 1)  # (n, b, m b)
    return mask + rules.bias[:, places].transpose(0, 1).repeat(like.shape[0], 1, 1, 1).to(like.dtype)
