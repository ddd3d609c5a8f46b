"""LoRA: a linear layer's weight W (out, in) becomes W + up down, of a rank so low that the two take little room.

Ref: LoRA, arXiv:2106.09685, 4.1. Ref: rank-stabilized LoRA, arXiv:2312.03732 (another scale for high ranks).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from smelt.core.errors import UsageError
from smelt.nn.surgery import linear_names

MAX_RANK = 512


@dataclass(frozen=True)
class LowRank:
    """Hold what is added to one layer's weight: `up` (out, R) times `down` (R, in), any scale being in `up`."""

    down: Tensor
    up: Tensor

    @property
    def rank(self) -> int:
        """Return R."""
        return len(self.down)


Lora = Mapping[str, LowRank]
"""An adapter: what it adds, by our names of the model's linear layers, as "blocks.0.attention.query"."""


@dataclass(frozen=True)
class Amount:
    """Say what a layer gets: rank and alpha."""

    rank: int
    alpha: float


def scale_of(alpha: float, rank: int, *, stabilized: bool) -> float:
    """Return by what the product is multiplied: alpha / R, or alpha / sqrt(R)."""
    return alpha / math.sqrt(rank) if stabilized else alpha / rank


def check_fits(model: nn.Module, lora: Lora) -> None:
    """Raise UsageError for an adapter of layers that are not linear ones of the model's blocks, or have other sizes."""
    linear = set(linear_names(model))
    for name, pair in lora.items():
        if name not in linear:
            raise UsageError(f"the adapter changes {name!r}, and the model has no such linear layer in its blocks")
        layer = model.get_submodule(name)
        rank, rows, columns = pair.rank, layer.out_features, layer.in_features
        if (*pair.up.shape, *pair.down.shape) != (rows, rank, rank, columns):
            raise UsageError(
                f"{name}: up {tuple(pair.up.shape)} and down {tuple(pair.down.shape)}",
                accepted=f"({rows}, R) and (R, {columns})",
            )
