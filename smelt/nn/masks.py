"""Who sees whom: the additive masks of attention, 0 where a query may look at a key and minus infinity elsewhere.

Slots are numbered along the row, cached ones included, the queries being the last T of S. A token sees its own slot and
earlier ones, of its own segment, within the window; so no row is fully masked, not even padding. An order of the
tokens says more: text that is read both ways has one number, text that is written has rising ones, and so a prefix, a
source before a target, or blanks that are filled in one after the other are all an order. Biases ride on the same
tensor: a linear one (ALiBi), each head's slope times the distance, or a learned one of the distance's bucket; both are
kept as one number a head and distance. A short row's mask is made once, for all layers of a kind; a long row would
need T x S numbers of it, and there `Rules` go in its place, of which each tile of the scores makes its own part.

Ref: Longformer, arXiv:2004.05150 (window). Ref: ALiBi, arXiv:2108.12409, section 3.
Ref: UniLM, arXiv:1905.03197, 2.1 (masks). Ref: arXiv:1910.10683, 2.1 (buckets).
"""

import functools
import math
import random
from dataclasses import dataclass

import torch
from torch import Tensor

from smelt.nn.positions import distance_buckets
from smelt.nn.spec import AttentionSpec, BlocksSpec, RelativeSpec


def visible(
    num_queries: int,
    num_keys: int,
    segments: Tensor | None,
    window: int | None,
    device: torch.device,
    *,
    causal: bool = True,
    order: Tensor | None = None,
    blocks: BlocksSpec | None = None,
) -> Tensor:
    """Tell who sees whom, given the segment ids (B, S) of all slots, if any: (B, T, S), or (1, T, S) without.

    `order` (B, T = S) takes the place of `causal`: a token sees those whose number is not above its own.
    """
    slots = torch.arange(num_keys, device=device)
    own = slots[num_keys - num_queries :, None]  # (T, 1)
    if order is not None:
        seen = order[:, None, :] <= order[:, :, None]
    elif causal:
        seen = (slots <= own)[None]
    else:
        seen = torch.ones(1, num_queries, num_keys, dtype=torch.bool, device=device)
    if window is not None:
        seen = seen & (slots > own - window)
    if blocks is not None:
        table = block_table(blocks, num_keys, causal, device)
        seen = seen & table[own // blocks.size, slots // blocks.size]
    if segments is None:
        return seen
    return seen & (segments[:, num_keys - num_queries :, None] == segments[:, None, :])


@functools.lru_cache(maxsize=64)
def seen_blocks(spec: BlocksSpec, num_blocks: int, causal: bool) -> tuple[tuple[int, ...], ...]:
    """Return the numbers of the blocks that each block sees, in order. Ref: Big Bird, arXiv:2007.14062, 2.

    Causal draws of a block depend on its number, not on how many follow.
    """
    found = []
    for own in range(num_blocks):
        last = own + 1 if causal else num_blocks
        if own < spec.num_global:
            found.append(tuple(range(last)))
            continue
        side = spec.window - 1 if causal else spec.window // 2
        seen = {*range(min(spec.num_global, last)), *range(max(0, own - side), min(last, own + side + 1))}
        others = [block for block in range(last) if block not in seen]
        drawn = random.Random(f"{spec.seed} {own}").sample(others, min(spec.num_random, len(others)))
        found.append(tuple(sorted(seen.union(drawn))))
    return tuple(found)


@functools.lru_cache(maxsize=16)
def block_table(spec: BlocksSpec, num_slots: int, causal: bool, device: torch.device) -> Tensor:
    """Tell which of n blocks of so many slots sees which: (n, n), kept for the tiles to come and not to be written."""
    num_blocks = -(-num_slots // spec.size)
    table = torch.zeros(num_blocks, num_blocks, dtype=torch.bool)
    for own, seen in enumerate(seen_blocks(spec, num_blocks, causal)):
        table[own, list(seen)] = True
    return table.to(device)


def additive(seen: Tensor, dtype: torch.dtype) -> Tensor:
    """Turn (B, T, S) of who sees whom into what is added to scores: (B, 1, T, S)."""
    mask = torch.zeros(seen.shape, dtype=dtype, device=seen.device)
    return mask.masked_fill_(~seen, -math.inf)[:, None]


def causal_mask(num_queries: int, num_keys: int, like: Tensor) -> Tensor:
    """Build the mask (1, 1, T, S) under which the T last of S tokens see themselves and earlier ones."""
    return additive(visible(num_queries, num_keys, None, None, like.device), like.dtype)


def segment_mask(segments: Tensor, num_queries: int, dtype: torch.dtype) -> Tensor:
    """Build the mask of the last T of S slots from segment ids (B, S): (B, 1, T, S)."""
    return additive(visible(num_queries, segments.shape[1], segments, None, segments.device), dtype)


def slopes(num_heads: int) -> list[float]:
    """Return a slope for each head: 2^(-8 h / H) for powers of two, else with every other slope of twice as many.

    4 -> [1/4, 1/16, 1/64, 1/256]
    """
    power = 2 ** math.floor(math.log2(num_heads))
    found = [2.0 ** (-8 * (head + 1) / power) for head in range(power)]
    return found + [2.0 ** (-8 * (head + 1) / (2 * power)) for head in range(0, 2 * (num_heads - power), 2)]


def linear_bias(num_heads: int, num_queries: int, num_keys: int, like: Tensor) -> Tensor:
    """Return minus slope times distance of each distance, as in `Rules`: (H, T + S - 1)."""
    distance = torch.arange(1 - num_keys, num_queries, device=like.device)
    return (torch.tensor(slopes(num_heads), device=like.device)[:, None] * distance).to(like.dtype)


def relative_bias(table: Tensor, spec: RelativeSpec, num_queries: int, num_keys: int, *, causal: bool) -> Tensor:
    """Return the learned bias of each distance, as in `Rules`, of a table (buckets, H): (H, T + S - 1)."""
    distance = torch.arange(1 - num_keys, num_queries, device=table.device)
    return table[distance_buckets(distance, spec, causal=causal)].T


def by_slots(bias: Tensor, num_keys: int) -> Tensor:
    """Lay a bias of distances (H, T + S - 1) out for T queries and S keys: (H, T, S), a view; the first row is last.

    Row t, key s is at distance s - t, and so at place T - 1 - t + s: T windows of S numbers, in reverse.
    """
    return bias.unfold(-1, num_keys, 1).flip(-2)


@dataclass(frozen=True, eq=False)
class Rules:
    """Hold who sees whom, and what distances add to scores, for the last T of S slots, without a (T, S) tensor.

    `segments` and `order` are (B, S), `bias` (H, T + S - 1) is by the key's slot less the query's, 1 - S first.
    """

    num_queries: int
    num_keys: int
    segments: Tensor | None = None
    window: int | None = None
    causal: bool = True
    order: Tensor | None = None
    bias: Tensor | None = None
    blocks: BlocksSpec | None = None

    def mask(self, like: Tensor) -> Tensor:
        """Return the whole additive mask, in the type of `like`: (B or 1, 1 or H, T, S)."""
        seen = visible(
            self.num_queries,
            self.num_keys,
            self.segments,
            self.window,
            like.device,
            causal=self.causal,
            order=self.order,
            blocks=self.blocks,
        )
        mask = additive(seen, like.dtype)
        return mask if self.bias is None else mask + by_slots(self.bias, self.num_keys).to(like.dtype)

    def hidden(self, own: slice, columns: slice, device: torch.device) -> Tensor | None:
        """Tell which slots `columns` (s) the slots `own` (t) may not see: (B or 1, t, s), or None if they see all."""
        hidden = None
        if self.order is not None:
            hidden = self.order[:, None, columns] > self.order[:, own, None]
        elif self.causal and columns.stop > own.start + 1:
            hidden = _slots(columns, device) > _slots(own, device)[:, None]
        if self.window is not None and columns.start <= own.stop - 1 - self.window:
            far = _slots(columns, device) <= _slots(own, device)[:, None] - self.window
            hidden = far if hidden is None else hidden | far
        if self.blocks is not None:
            size, table = self.blocks.size, block_table(self.blocks, self.num_keys, self.causal, device)
            unseen = ~table[_slots(own, device)[:, None] // size, _slots(columns, device) // size]
            hidden = unseen if hidden is None else hidden | unseen
        if self.segments is not None:
            other = self.segments[:, own, None] != self.segments[:, None, columns]
            hidden = other if hidden is None else hidden | other
        return hidden if hidden is None or hidden.dim() == 3 else hidden[None]

    def places(self, rows: slice, columns: slice) -> slice:
        """Return which of the bias's distances a tile of queries `rows` (t) and slots `columns` (s) has: t + s - 1."""
        first = self.num_queries - rows.stop + columns.start
        return slice(first, first + rows.stop - rows.start + columns.stop - columns.start - 1)


def _slots(part: slice, device: torch.device) -> Tensor:
    return torch.arange(part.start, part.stop, device=device)


# Scores of a row, T x S, from which on tiles are used. Measured on two cores, forward and backward: within windows,
# tiles take half the time of the fused kernel under a mask at 1,024 tokens and a tenth at 4,096; where scores are
# bounded they take that of the plain products at 1,024 tokens, half to two thirds at 2,048 and 4,096. Packed rows take
# the same time either way, but no mask is there. On accelerators many small steps are slow, and 8,192 tokens few.
TILES_FROM, TILES_FROM_ELSEWHERE = 1024**2, 8192**2


def uses_tiles(num_queries: int, num_keys: int, device: torch.device) -> bool:
    """Tell whether scores that the fused kernel does not know, or that have a mask, are made by tiles."""
    return num_queries * num_keys >= (TILES_FROM if device.type == "cpu" else TILES_FROM_ELSEWHERE)


def attention_mask(
    spec: AttentionSpec,
    num_queries: int,
    num_keys: int,
    segments: Tensor | None,
    like: Tensor,
    *,
    order: Tensor | None = None,
    bias: Tensor | None = None,
) -> Tensor | Rules | None:
    """Build what one kind of attention adds to its scores: (B or 1, 1 or H, T, S), or None where it is plain.

    `segments` are those of all slots (B, S); `order` (B, T) says who sees whom in place of the slots; a `bias`
    (H, T + S - 1) of distances is added; `like` gives type and device. Of long rows these are returned as rules.
    """
    window = spec.window if spec.window is not None and spec.window < num_keys else None
    if segments is None and window is None and order is None and bias is None and not spec.alibi and not spec.blocks:
        return None
    if spec.alibi:
        linear = linear_bias(spec.num_heads, num_queries, num_keys, like)
        bias = linear if bias is None else bias + linear
    rules = Rules(num_queries, num_keys, segments, window, spec.causal, order, bias, spec.blocks)
    return rules if uses_tiles(num_queries, num_keys, like.device) else rules.mask(like)


def with_prefix(
    mask: Tensor | Rules | None, spec: AttentionSpec, positions: Tensor, num_virtual: int, num_keys: int, like: Tensor
) -> Tensor | None:
    """Put columns before a mask for P virtual tokens, which all texts see as far as a window reaches.

    `positions` (T,) or (B, T) count the virtual tokens; `num_keys`, S, does not. Returns (B or 1, 1 or H, T, P + S), or
    None where all see all. Long rows have a whole mask here, too.
    """
    own = positions.view(-1, positions.shape[-1], 1)  # (B or 1, T, 1)
    num_queries = own.shape[1]
    if mask is None and spec.window is None and (num_queries == 1 or not spec.causal):
        return None
    if mask is None and not spec.causal:
        mask = like.new_zeros(1, 1, num_queries, num_keys)
    elif mask is None:
        mask = causal_mask(num_queries, num_keys, like)
    elif isinstance(mask, Rules):
        mask = mask.mask(like)
    virtual = torch.arange(num_virtual, device=like.device)
    seen = (virtual >= 0).expand(len(own), num_queries, -1) if spec.window is None else virtual > own - spec.window
    columns = additive(seen, mask.dtype)  # (B or 1, 1, T, P)
    shape = max(len(mask), len(columns)), mask.shape[1], num_queries
    return torch.cat((columns.expand(*shape, -1), mask.expand(*shape, -1)), dim=-1)


def visible_memory(source: Tensor, target: Tensor | None) -> Tensor:
    """Tell which source tokens a target sees, by the segments of both, (B, S) and (B, T): (B, T, S), or (B, 1, S).

    A target sees the source of its own segment; one that is padding, or without segments, all that is not padding, so
    that no row is empty unless its source is.
    """
    there = (source != 0)[:, None, :]
    if target is None:
        return there
    return there & ((source[:, None, :] == target[:, :, None]) | (target == 0)[:, :, None])
