"""A linear layer that LoRA or DoRA trains: the base stays as it is, and two thin matrices beside it learn.

The layer computes W x + s up (down (dropout x)). `up` begins as zero, so that a new layer gives what its base gives,
bit for bit. DoRA writes the changed weight as a length and a direction of each output's row, and learns the length as a
number of its own, the `magnitude` m:

    m (W + s up down) x / |W + s up down|, the norm, of each row, being a constant for the gradient.

The base may be quantized: what it has to offer is its `in_features`, `out_features`, `bias`, and either `weight` or
`dequantize()`. Costs R (in + out) trainable numbers, in fp32 whatever the base is kept in, and DoRA a pass over the
whole weight a step for its norm.

Ref: LoRA, arXiv:2106.09685, 4.1. Ref: DoRA, arXiv:2402.09353, eq. 5 and section 4.3.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from smelt.core.errors import UsageError


class LoraLinear(nn.Module):
    """A base layer with `down` (R, in) and `up` (out, R) beside it, and with DoRA a `magnitude` (out,)."""

    def __init__(self, base: nn.Module, down: nn.Parameter, *, scale: float, dropout: float, dora: bool) -> None:
        super().__init__()
        self.in_features, self.out_features = cast(int, base.in_features), cast(int, base.out_features)
        self.base, self.down, self.scale = base, down, scale
        self.up = nn.Parameter(down.new_zeros(self.out_features, len(down)))
        self.dropout = nn.Dropout(dropout)
        self.magnitude = nn.Parameter(row_lengths(dense_weight(base).float())) if dora else None

    @classmethod
    def from_linear(
        cls,
        base: nn.Module,
        *,
        rank: int,
        scale: float,
        dropout: float = 0.0,
        dora: bool = False,
        generator: torch.Generator | None = None,
    ) -> LoraLinear:
        """Make a layer that computes what its base does; `down` is drawn in +-1 / sqrt(in) by the generator.

        Raises UsageError for a base that is no linear layer.
        """
        if not hasattr(base, "in_features") or isinstance(base, LoraLinear):
            raise UsageError(f"low ranks on a {type(base).__name__}", accepted="a linear layer, plain or quantized")
        down = drawn_down(rank, cast(int, base.in_features), device_of(base), generator)
        return cls(base, down, scale=scale, dropout=dropout, dora=dora)

    @property
    def bias(self) -> Tensor | None:
        """Return the base's bias (out,), which stays as it is."""
        return cast("Tensor | None", getattr(self.base, "bias", None))

    @property
    def weight(self) -> Tensor:
        """Return the changed weight (out, in) in fp32, for whoever asks a layer for it; gradients flow."""
        with torch.autocast(self.down.device.type, enabled=False):
            changed = torch.addmm(dense_weight(self.base).float(), self.up.float(), self.down.float(), alpha=self.scale)
            if self.magnitude is not None:
                changed = changed * (self.magnitude / row_lengths(changed.detach()))[:, None]
            return changed

    def forward(self, x: Tensor) -> Tensor:
        """Map (.., in) to (.., out), in the type that the base answers in."""
        out: Tensor = self.base(x)
        narrowed = torch.is_autocast_enabled(x.device.type)
        inner = self.dropout(x if narrowed else x.to(self.down.dtype))
        change = functional.linear(functional.linear(inner, self.down) * self.scale, self.up)
        if self.magnitude is not None:
            return self._lengthened(out, inner, change)
        return out + change.to(out.dtype)

    def _lengthened(self, out: Tensor, inner: Tensor, change: Tensor) -> Tensor:
        """Give the rows of the changed weight their learned lengths, as factors of what they make."""
        assert self.magnitude is not None, "DoRA has magnitudes"
        with torch.autocast(inner.device.type, enabled=False), torch.no_grad():
            base = dense_weight(self.base)
            lengths = row_lengths(torch.addmm(base.float(), self.up.float(), self.down.float(), alpha=self.scale))
        plain = out if self.bias is None else out - self.bias.to(out.dtype)
        if self.training and self.dropout.p:  # of the input that was dropped from, as the two thin matrices see it
            plain = functional.linear(inner, base.to(inner.dtype))
        # Less one before it is rounded to a narrow type: factors begin at 1, where a product would change nothing.
        more = (self.magnitude / lengths - 1).to(out.dtype)
        return out + change.to(out.dtype) + more * (plain + change).to(out.dtype)

    def merged(self) -> nn.Linear:
        """Return a plain layer that computes the same, summed in fp32 and in the base's type; the base stays as it is.

        The plain layer of a quantized base has the type that it dequantizes to.
        """
        dtype = dense_weight(self.base).dtype
        plain = nn.Linear(self.in_features, self.out_features, bias=self.bias is not None, device="meta")
        plain.weight = nn.Parameter(self.weight.detach().to(dtype), requires_grad=False)
        plain.bias = cast(nn.Parameter, self.bias)
        return plain.train(self.training)


def dense_weight(layer: nn.Module) -> Tensor:
    """Return a linear layer's weight (out, in), dequantized where it is quantized."""
    if hasattr(layer, "dequantize"):
        return cast(Callable[[], Tensor], layer.dequantize)()
    return cast(Tensor, layer.weight)


def row_lengths(weight: Tensor) -> Tensor:
    """Return the norm of each row of (out, in), never quite zero, so that a row of zeros can be divided by it."""
    lengths: Tensor = torch.linalg.vector_norm(weight, dim=1)
    return lengths.clamp_min(torch.finfo(weight.dtype).tiny)


def drawn_down(
    rank: int, in_features: int, device: torch.device, generator: torch.Generator | None = None
) -> nn.Parameter:
    """Draw a `down` (R, in), uniform in +-1 / sqrt(in), on the processor, so that every device begins alike."""
    bound = 1 / math.sqrt(in_features)
    drawn = torch.empty(rank, in_features).uniform_(-bound, bound, generator=generator)
    return nn.Parameter(drawn.to(device))


def device_of(layer: nn.Module) -> torch.device:
    """Return where a layer's numbers lie, plain or quantized."""
    return next(itertools.chain(layer.parameters(), layer.buffers())).device
