"""Round numbers to 8 or 4 bits in groups of 32 that share a scale: the largest of a group becomes 127, or 7.

Scales are kept as fp16 (half a bit a number), so numbers are divided by the scale as it is kept. A scale that fp16
rounds to 0 makes a group of zeros.
"""

from __future__ import annotations

import torch
from torch import Tensor

from smelt.core.errors import UsageError

SCALE_BYTES = 4  # of a head in the cache
GROUP = 32
LARGEST = {8: 127, 4: 7}


def quantize(weights: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """Return int8 numbers (R, D) and fp16 scales (R, D / 32) of weights (R, D), whose product is near the weights.

    D is a multiple of 32. Raises UsageError for weights that are not finite, or too large for the scale.
    """
    groups = weights.float().unflatten(-1, (-1, GROUP))  # (R, D / 32, 32)
    scales = (groups.abs().amax(dim=-1) / LARGEST[bits]).half()
    if not scales.isfinite().all():
        raise UsageError(
            f"weights that are not finite, or beyond {LARGEST[bits] * 65_504:,}, in {bits} bits",
            accepted="finite weights",
            fix="keep this model in bf16 or fp32",
        )
    wide = scales.float()[..., None]
    rounded = torch.where(wide > 0, groups / wide, 0.0).round().clamp(-LARGEST[bits], LARGEST[bits])
    return rounded.to(torch.int8).flatten(-2), scales


def dequantize(numbers: Tensor, scales: Tensor) -> Tensor:
    """Return the fp32 weights (R, D) that numbers (R, D) and scales (R, D / 32) stand for."""
    weights: Tensor = (numbers.float().unflatten(-1, (-1, GROUP)) * scales.float()[..., None]).flatten(-2)
    return weights


def quantize_activations(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return int8 numbers (.., D) and fp32 scales (.., D / 32) of activations (.., D), D a multiple of 32."""
    groups = x.float().unflatten(-1, (-1, GROUP))
    largest = groups.abs().amax(dim=-1, keepdim=True)
    inverse = torch.where(largest > 0, 127.0 / largest, 0.0)
    return (groups * inverse).round().to(torch.int8).flatten(-2), (largest * (1.0 / 127.0)).squeeze(-1)


def quantize_heads(heads: Tensor) -> Tensor:
    """Return heads (.., C) as int8 (.., C + 4): rounded numbers, and behind them the bytes of their scale in fp32."""
    if not heads.shape[-1]:  # as the values of a latent cache, which are its keys
        return heads.to(torch.int8)
    heads = heads.float()
    largest = heads.abs().amax(dim=-1, keepdim=True)
    inverse = torch.where(largest > 0, 127.0 / largest, 0.0)
    return torch.cat(((heads * inverse).round().to(torch.int8), (largest * (1.0 / 127.0)).view(torch.int8)), dim=-1)


def dequantize_heads(cells: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the heads (.., C) that int8 cells (.., C + 4) stand for."""
    if not cells.shape[-1]:
        return cells.to(dtype)
    scales = cells[..., -SCALE_BYTES:].contiguous().view(torch.float32)
    return (cells[..., :-SCALE_BYTES].float() * scales).to(dtype)
