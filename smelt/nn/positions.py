"""Where a token stands: index arithmetic, the sinusoidal table, and rotary angles.

Rotary and sinusoidal values are computed from the positions at every forward instead of being kept in buffers: it
costs T x C sines (0.1 ms at 256 tokens), and in return a model has no hidden state that a cast, a device move or a
meta-device build could spoil. Rotary turns pairs of a head's entries, half-split or interleaved, and leaves what lies
beyond its size as it is.

Ref: Attention Is All You Need, arXiv:1706.03762, 3.5. Ref: RoFormer, arXiv:2104.09864, eq. 34.
"""

import math

import torch
from torch import Tensor

from smelt.nn.scaling import attention_factor, frequencies, scaled_frequencies
from smelt.nn.spec import ContextSpec, RelativeSpec, RotarySpec


def positions_in_segments(segments: Tensor) -> Tensor:
    """Count tokens from the start of each run of equal segment ids: (B, S) -> (B, S).

    [0, 0, 1, 1, 1, 2] -> [0, 1, 0, 1, 2, 0]
    """
    index = torch.arange(segments.shape[1], device=segments.device)  # (S,)
    starts = torch.zeros_like(segments, dtype=torch.long)
    starts[:, 1:] = (segments[:, 1:] != segments[:, :-1]) * index[1:]
    return index - starts.cummax(dim=1).values


def context_bounds(ids: Tensor, positions: Tensor, segments: Tensor | None, spec: ContextSpec) -> tuple[Tensor, Tensor]:
    """Return of each token where its text's context ends, and where in it the blank is: ids (B, T) -> (B, T) each.

    `positions` (B, T) count from the start of each run of equal segments. Both are 0 in a text without a context.
    """
    runs = torch.zeros_like(ids)
    if segments is not None:
        runs[:, 1:] = (segments[:, 1:] != segments[:, :-1]).cumsum(dim=1)
    none = torch.iinfo(torch.long).max

    def first(token: int) -> Tensor:
        """Return the position at which each token's run has a token first, or `none`."""
        found = torch.where(ids == token, positions, none)
        return torch.full_like(ids, none).scatter_reduce(1, runs, found, "amin").gather(1, runs)

    ends = first(spec.begin_id)
    ends = torch.where(ends == none, 0, ends)
    blanks = torch.zeros_like(ends)
    for token in reversed(spec.blank_ids):
        found = first(token)
        blanks = torch.where(found < ends, found, blanks)
    return ends, blanks


def context_positions(positions: Tensor, ends: Tensor, blanks: Tensor) -> Tensor:
    """Return both positions of each token, (2, B, T), given the bounds of its context; the second is an order, too.

    positions 0 .. 5, a context that ends at 3, its blank at 2 -> [0, 1, 2, 2, 2, 2], [0, 0, 0, 1, 2, 3]
    """
    within = positions < ends
    return torch.stack((torch.where(within, positions, blanks), torch.where(within, 0, positions - ends + 1)))


def rotary_tables(positions: Tensor, spec: RotarySpec, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Return cos and sin of the angles: positions (T,) or (B, T) -> (.., T, 1, R / 2), to broadcast over heads.

    R is the rotary size. Both carry the factor by which a long-context rule sharpens attention. With two axes:
    (2, B, T) -> (B, T, 1, 2, R / 4).
    """
    turns = scaled_frequencies(spec.dim // spec.axes, spec.theta, spec.scaling, positions.device)
    places = positions.movedim(0, -1)[..., None] if spec.axes > 1 else positions[..., None]
    angles = places.float().unsqueeze(positions.dim() - (spec.axes > 1)) * turns
    factor = attention_factor(spec.scaling)
    return (angles.cos() * factor).to(dtype), (angles.sin() * factor).to(dtype)


def apply_rotary(x: Tensor, cos: Tensor, sin: Tensor, interleaved: bool = False) -> Tensor:
    """Turn each pair of the first R entries by its angle: (B, T, H, C) -> (B, T, H, C)."""
    size = 2 * cos.shape[-1]
    turned, rest = (x, None) if size == x.shape[-1] else x.split((size, x.shape[-1] - size), dim=-1)
    first, second = turned.unflatten(-1, (-1, 2)).unbind(-1) if interleaved else turned.chunk(2, dim=-1)
    parts = (first * cos - second * sin, second * cos + first * sin)
    out = torch.stack(parts, dim=-1).flatten(-2) if interleaved else torch.cat(parts, dim=-1)
    return out.to(x.dtype) if rest is None else torch.cat((out.to(x.dtype), rest), dim=-1)


def turn(x: Tensor, cos: Tensor, sin: Tensor, spec: RotarySpec) -> Tensor:
    """Turn heads as the spec says: (B, T, H, C) -> (B, T, H, C); of two axes each has half of a head."""
    if spec.axes == 1:
        return apply_rotary(x, cos, sin, spec.interleaved)
    return apply_rotary(x.unflatten(-1, (spec.axes, -1)), cos, sin, spec.interleaved).flatten(-2)


def sinusoidal(positions: Tensor, dim: int, dtype: torch.dtype = torch.float32, *, halves: bool = False) -> Tensor:
    """Return sin and cos of each frequency: positions (..) -> (.., dim).

    They are interleaved, one pair a frequency; or in `halves`, all sines before all cosines.
    """
    angles = positions[..., None].float() * frequencies(dim, 10_000.0, positions.device)
    if halves:
        return torch.cat((angles.sin(), angles.cos()), dim=-1).to(dtype)
    return torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(-2).to(dtype)


def sinusoidal_table(num_positions: int, dim: int, *, halves: bool = False) -> Tensor:
    """Return the first rows of the sinusoidal table: (num_positions, dim)."""
    return sinusoidal(torch.arange(num_positions), dim, halves=halves)


def distance_buckets(distance: Tensor, spec: RelativeSpec, *, causal: bool) -> Tensor:
    """Return the bucket of each distance (key's slot less query's), of the same shape.

    Causal attention has one bucket for itself and all that is later; otherwise half of the buckets are for later keys.
    Half of a side's buckets hold one distance each; beyond, bucket widths grow with the logarithm, and the last one
    holds all from `max_distance` on. Ref: arXiv:1910.10683, 2.1.

    distances [0, -1, -2, -3, -4, -8] with 4 causal buckets up to 8 -> [0, 1, 2, 2, 3, 3]
    """
    num_buckets, first = spec.num_buckets, torch.zeros_like(distance)
    if causal:
        distance = (-distance).clamp(min=0)
    else:
        num_buckets //= 2
        first, distance = (distance > 0).long() * num_buckets, distance.abs()
    exact = num_buckets // 2
    ratio = (distance.clamp(min=1).float() / exact).log() / math.log(spec.max_distance / exact)
    far = (exact + (ratio * (num_buckets - exact)).long()).clamp(max=num_buckets - 1)
    return first + torch.where(distance < exact, distance, far)
