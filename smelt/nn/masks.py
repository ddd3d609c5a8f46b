"""Who sees whom: the additive masks of attention, 0 where a query may look at a key and minus infinity elsewhere.

Slots are numbered along the row, cached ones included, the queries being the last T of S. A token sees its own slot and
earlier ones, of its own segment, within the window; so no row is fully masked, not even padding. An order of the
tokens says more: text that is read both ways has one number, text that is written has rising ones, and so a prefix, a
source before a target, or blanks that are filled in one after the other are all an order. Biases ride on the same
tensor: a linear one (ALiBi), each head's slope times the distance, or a learned one of the distance's bucket.

Ref: Longformer, arXiv:2004.05150 (window). Ref: ALiBi, arXiv:2108.12409, section 3.
Ref: UniLM, arXiv:1905.03197, 2.1 (masks). Ref: arXiv:1910.10683, 2.1 (buckets).
"""

import math

import torch
from torch import Tensor

from smelt.nn.positions import distance_buckets
from smelt.nn.spec import AttentionSpec, RelativeSpec


def visible(
    num_queries: int,
    num_keys: int,
    segments: Tensor | None,
    window: int | None,
    device: torch.device,
    *,
    causal: bool = True,
    order: Tensor | None = None,
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
    if segments is None:
        return seen
    return seen & (segments[:, num_keys - num_queries :, None] == segments[:, None, :])


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
    """Return minus slope times distance: (1, H, T, S)."""
    slots = torch.arange(num_keys, device=like.device)
    distance = slots[num_keys - num_queries :, None] - slots  # (T, S)
    return (-torch.tensor(slopes(num_heads), device=like.device)[:, None, None] * distance)[None].to(like.dtype)


def relative_bias(table: Tensor, spec: RelativeSpec, num_queries: int, num_keys: int, *, causal: bool) -> Tensor:
    """Return the learned bias (1, H, T, S) of a table (buckets, H)."""
    slots = torch.arange(num_keys, device=table.device)
    distance = slots - slots[num_keys - num_queries :, None]  # (T, S)
    return table[distance_buckets(distance, spec, causal=causal)].movedim(-1, 0)[None]


def attention_mask(
    spec: AttentionSpec,
    num_queries: int,
    num_keys: int,
    segments: Tensor | None,
    like: Tensor,
    *,
    order: Tensor | None = None,
    bias: Tensor | None = None,
) -> Tensor | None:
    """Build what one kind of attention adds to its scores: (B or 1, 1 or H, T, S), or None where it is plain.

    `segments` are those of all slots (B, S); `order` (B, T) says who sees whom in place of the slots; a `bias`
    (1, H, T, S) is added; `like` gives type and device.
    """
    window = spec.window if spec.window is not None and spec.window < num_keys else None
    if segments is None and window is None and order is None and bias is None and not spec.alibi:
        return None
    seen = visible(num_queries, num_keys, segments, window, like.device, causal=spec.causal, order=order)
    mask = additive(seen, like.dtype)
    if bias is not None:
        mask = mask + bias.to(like.dtype)
    return mask + linear_bias(spec.num_heads, num_queries, num_keys, like) if spec.alibi else mask


def visible_memory(source: Tensor, target: Tensor | None) -> Tensor:
    """Tell which source tokens a target sees, by the segments of both, (B, S) and (B, T): (B, T, S), or (B, 1, S).

    A target sees the source of its own segment; one that is padding, or without segments, all that is not padding, so
    that no row is empty unless its source is.
    """
    there = (source != 0)[:, None, :]
    if target is None:
        return there
    return there & ((source[:, None, :] == target[:, :, None]) | (target == 0)[:, :, None])
