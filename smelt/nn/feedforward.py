"""The feed-forward part of a block: the same small network applied to every token by itself.

SwiGLU and GEGLU gate one projection with another; GELU (exact and tanh form), SiLU, ReLU and squared ReLU are the
two-matrix classics. The gate and up matrices stay separate so that adapters and quantizers find plain Linear layers.

Ref: GLU Variants Improve Transformer, arXiv:2002.05202. Ref: Gaussian Error Linear Units, arXiv:1606.08415.
Ref: Primer, arXiv:2109.08668 (squared ReLU).
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from smelt.nn.spec import FeedForwardSpec


def gelu_tanh(x: Tensor) -> Tensor:
    """Apply the tanh approximation of GELU."""
    return functional.gelu(x, approximate="tanh")


def relu_squared(x: Tensor) -> Tensor:
    """Apply max(x, 0)^2."""
    return torch.relu(x).square()


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "silu": functional.silu,
    "gelu": functional.gelu,
    "gelu_tanh": gelu_tanh,
    "relu": torch.relu,
    "relu_squared": relu_squared,
    "tanh": torch.tanh,
}
GATES: dict[str, Callable[[Tensor], Tensor]] = {"swiglu": functional.silu, "geglu": gelu_tanh}
"""Forms with a third matrix, and what it goes through."""


class GatedFeedForward(nn.Module):
    """Compute down(activation(gate(x)) * up(x))."""

    def __init__(self, spec: FeedForwardSpec, dim: int) -> None:
        super().__init__()
        self.gate = nn.Linear(dim, spec.hidden_dim, bias=spec.bias)
        self.up = nn.Linear(dim, spec.hidden_dim, bias=spec.bias)
        self.down = nn.Linear(spec.hidden_dim, dim, bias=spec.bias)
        self.activation = GATES[spec.activation]

    def forward(self, x: Tensor) -> Tensor:
        """Transform each token: (B, T, D) -> (B, T, D)."""
        out: Tensor = self.down(self.activation(self.gate(x)) * self.up(x))
        return out


class FeedForward(nn.Module):
    """Compute down(activation(up(x)))."""

    def __init__(self, spec: FeedForwardSpec, dim: int) -> None:
        super().__init__()
        self.up = nn.Linear(dim, spec.hidden_dim, bias=spec.bias)
        self.down = nn.Linear(spec.hidden_dim, dim, bias=spec.bias)
        self.activation = ACTIVATIONS[spec.activation]

    def forward(self, x: Tensor) -> Tensor:
        """Transform each token: (B, T, D) -> (B, T, D)."""
        out: Tensor = self.down(self.activation(self.up(x)))
        return out


def make_feed_forward(spec: FeedForwardSpec, dim: int) -> nn.Module:
    """Build the form that the spec names."""
    return GatedFeedForward(spec, dim) if spec.activation in GATES else FeedForward(spec, dim)
