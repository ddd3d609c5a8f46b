"""Who sees whom: the additive masks of attention, 0 where a query may look at a key and minus infinity elsewhere.

Slots are numbered along the row, cached ones included, the queries being the last T of S. A token sees its own slot and
earlier ones, of its own segment, within the window; so no row is fully masked, not even padding. A linear bias (ALiBi)
rides on the same tensor: each head lowers a key's score by its slope times the distance.

Ref: Longformer, arXiv:2004.05150 (window). Ref: ALiBi, arXiv:2108.12409, section 3.
"""

import math

import torch
from torch import Tensor

from smelt.nn.spec import AttentionSpec


def visible(
    num_queries: int, num_keys: int, segments: Tensor | None, window: int | None, device: torch.device
) -> Tensor:
    """Tell who sees whom, given the segment ids (B, S) of all slots, if any: (B, T, S), or (1, T, S) without."""
    slots = torch.arange(num_keys, device=device)
    own = slots[num_keys - num_queries :, None]  # (T, 1)
    seen = slots <= own if window is None else (slots <= own) & (slots > own - window)
    if segments is None:
        return seen[None]
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


def attention_mask(
    spec: AttentionSpec, num_queries: int, num_keys: int, segments: Tensor | None, like: Tensor
) -> Tensor | None:
    """Build what one kind of attention adds to its scores: (B or 1, 1 or H, T, S), or None for plain causal rows.

    `segments` are those of all slots (B, S); `like` gives type and device.
    """
    window = spec.window if spec.window is not None and spec.window < num_keys else None
    if segments is None and window is None and not spec.alibi:
        return None
    mask = additive(visible(num_queries, num_keys, segments, window, like.device), like.dtype)
    return mask + linear_bias(spec.num_heads, num_queries, num_keys, like) if spec.alibi else mask
