"""A linear layer that keeps its weight in NF4, frozen, and makes it anew for each product.

Only one layer's weight is whole at a time: it is made for the forward product, dropped, and made again for the gradient
of the input. So a layer takes 4.127 bits a weight between products, and what is trained stands beside it (LoRA).
Making a weight is a read of codes and a write of numbers, a few milliseconds for millions of them.

It is in no state dict: a run over quantized layers keeps what it trains, and quantizes its base anew when it goes on.

Ref: QLoRA, arXiv:2305.14314, eq. 5 and 6.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from smelt.quant import nf4


class NF4Linear(nn.Module):
    """Multiply by a weight (out, in) kept in 4 bits, and add a bias that is kept as it was."""

    codes: Tensor
    scale_codes: Tensor
    scale_scales: Tensor
    scale_mean: Tensor

    def __init__(self, weight: Tensor, bias: nn.Parameter | None = None) -> None:
        super().__init__()
        self.out_features, self.in_features = weight.shape
        codes, scales = nf4.quantize(weight)
        parts = (codes, *nf4.compress(scales))
        for name, tensor in zip(("codes", "scale_codes", "scale_scales", "scale_mean"), parts, strict=True):
            self.register_buffer(name, tensor, persistent=False)  # the weights are in the base's checkpoint
        self.bias = bias

    @classmethod
    def from_linear(cls, linear: nn.Linear) -> NF4Linear:
        """Make the layer of a plain one, whose bias it takes over; raises UsageError for weights not finite."""
        return cls(linear.weight, linear.bias)

    @property
    def weight(self) -> Tensor:
        """Return the weight as numbers, for those who read it: a new tensor each time, in fp32."""
        return self.dequantize()

    def dequantize(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """Return the weight (out, in) as numbers."""
        scales = nf4.expand(self.scale_codes, self.scale_scales, self.scale_mean)
        return nf4.dequantize(self.codes, scales, (self.out_features, self.in_features), dtype)

    # Not compiled: the compiler would keep the weight of the forward pass for the backward pass.
    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def forward(self, x: Tensor) -> Tensor:
        """Multiply: (.., in) -> (.., out), in autocast's type or that of the input."""
        if torch.is_autocast_enabled(x.device.type):
            x = x.to(torch.get_autocast_dtype(x.device.type))
        out: Tensor = Product.apply(x, self)  # type: ignore[no-untyped-call]
        return out if self.bias is None else out + self.bias.to(out.dtype)

    def extra_repr(self) -> str:
        """Say what the layer is."""
        return f"{self.in_features}, {self.out_features}, bias={self.bias is not None}"


class Product(torch.autograd.Function):
    """The product with a layer's weight, and the gradient of the input; the weight has none."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: NF4Linear) -> Tensor:
        """Multiply."""
        ctx.layer = layer  # not its weight, which would stay whole until the backward pass
        return functional.linear(x, layer.dequantize(x.dtype))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        """Multiply by the weight transposed."""
        return gradient @ ctx.layer.dequantize(gradient.dtype), None
