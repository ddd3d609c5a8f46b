"""Normalisation: LayerNorm centres and scales a vector, RMSNorm only scales it and learns as well.

RMSNorm is written out: torch's own runs the same steps on a processor and warns when the residual stream is bf16. Its
mean square is taken in fp32 and the result keeps the input's type. Uncompiled it costs four times LayerNorm's single
kernel (1.7 against 0.5 ms for 4,096 vectors of 192); compiled blocks fuse it away.

Ref: Layer Normalization, arXiv:1607.06450. Ref: Root Mean Square Layer Normalization, arXiv:1910.07467.
"""

import torch
from torch import Tensor, nn

from smelt.nn.spec import NormSpec


class RMSNorm(nn.Module):
    """Divide each vector by its root mean square, then scale each entry by a learned weight, stored less `offset`."""

    def __init__(self, dim: int, eps: float, offset: float = 0.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((dim,), 1.0 - offset))
        self.eps, self.offset = eps, offset

    def forward(self, x: Tensor) -> Tensor:
        """Normalise over the last axis: (.., D) -> (.., D)."""
        wide = x.float()
        scale = torch.rsqrt(wide.square().mean(dim=-1, keepdim=True) + self.eps)
        weight = self.weight + self.offset if self.offset else self.weight
        return (wide * scale * weight).to(x.dtype)


def make_norm(spec: NormSpec, dim: int) -> nn.Module:
    """Build the norm over the last axis: (.., D) -> (.., D)."""
    return RMSNorm(dim, spec.eps, float(spec.unit_offset)) if spec.kind == "rms" else nn.LayerNorm(dim, eps=spec.eps)
