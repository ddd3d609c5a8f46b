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
from smelt.nn.spec import RelativeSpec, RotarySpec


def positions_in_segments(segments: Tensor) -> Tensor:
    """Count tokens from the start of each run of equal segment ids: (B, S) -> (B, S).

    [0, 0, 1, 1, 1, 2] -> [0, 1, 0, 1, 2, 0]
    """
    index = torch.arange(segments.shape[1], device=segments.device)  # (S,)
    starts = torch.zeros_like(segments, dtype=torch.long)
    starts[:, 1:] = (segments[:, 1:] != segments[:, :-1]) * index[1:]
    return index - starts.cummax(dim=1).values


def rotary_tables(positions: Tensor, spec: RotarySpec, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Return cos and sin of the angles: positions (T,) or (B, T) -> (.., T, 1, R / 2), to broadcast over heads.

    R is the rotary size. Both carry the factor by which a long-context rule sharpens attention.
    """
    angles = positions[..., None, None].float() * scaled_frequencies(
        spec.dim, spec.theta, spec.scaling, positions.device
    )
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
