"""Where a token stands: index arithmetic, the sinusoidal table, and rotary angles.

Rotary and sinusoidal values are computed from the positions at every forward instead of being kept in buffers: it
costs T x C sines (0.1 ms at 256 tokens), and in return a model has no hidden state that a cast, a device move or a
meta-device build could spoil. Rotary turns the pair (i, i + C / 2) of a head: the half-split layout.

Ref: Attention Is All You Need, arXiv:1706.03762, 3.5. Ref: RoFormer, arXiv:2104.09864, eq. 34.
"""

import torch
from torch import Tensor

from smelt.nn.spec import RotarySpec


def positions_in_segments(segments: Tensor) -> Tensor:
    """Count tokens from the start of each run of equal segment ids: (B, S) -> (B, S).

    [0, 0, 1, 1, 1, 2] -> [0, 1, 0, 1, 2, 0]
    """
    index = torch.arange(segments.shape[1], device=segments.device)  # (S,)
    starts = torch.zeros_like(segments, dtype=torch.long)
    starts[:, 1:] = (segments[:, 1:] != segments[:, :-1]) * index[1:]
    return index - starts.cummax(dim=1).values


def frequencies(dim: int, theta: float, device: torch.device) -> Tensor:
    """Return theta^(-2i / dim) for i < dim / 2, in fp32: (dim / 2,)."""
    exponents = torch.arange(0, dim, 2, device=device, dtype=torch.float32) / dim
    return 1.0 / theta**exponents


def rotary_tables(positions: Tensor, spec: RotarySpec, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Return cos and sin of the angles: positions (T,) or (B, T) -> (.., T, 1, C / 2), to broadcast over heads."""
    angles = positions[..., None, None].float() * frequencies(spec.dim, spec.theta, positions.device)
    return angles.cos().to(dtype), angles.sin().to(dtype)


def apply_rotary(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn each pair (i, i + C / 2) by its angle: (B, T, H, C) -> (B, T, H, C)."""
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1).to(x.dtype)


def sinusoidal(positions: Tensor, dim: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return sin and cos interleaved, one pair a frequency: positions (..) -> (.., dim)."""
    angles = positions[..., None].float() * frequencies(dim, 10_000.0, positions.device)
    return torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(-2).to(dtype)


def sinusoidal_table(num_positions: int, dim: int) -> Tensor:
    """Return the first rows of the sinusoidal table: (num_positions, dim)."""
    return sinusoidal(torch.arange(num_positions), dim)
