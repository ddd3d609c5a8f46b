"""What stands before every text of a model without being a token of it: keys and values of virtual tokens.

A causal model computes a virtual token in front of a text from the virtual tokens before it and from nothing else. So
its keys and values are the same whatever text follows, and are made once a forward, in one row, for all rows and for
all texts that are packed into a row: each text begins behind them, at the position after theirs.

Ref: Prefix-Tuning, arXiv:2101.00190, 4. Ref: P-Tuning v2, arXiv:2110.07602, 3.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from smelt.nn.cache import LayerCache

KeysValues = list[tuple[Tensor, Tensor]]
"""Keys and values of each layer, (1, K, P, C) each."""


class Prefix(nn.Module):
    """Give P virtual tokens that a model is to have before each text; a subclass says what they are made of."""

    num_tokens: int

    def forward(self, read: Callable[[Tensor], KeysValues]) -> KeysValues:
        """Return the keys and values of each layer; `read` makes them of embeddings (1, P, D)."""
        raise NotImplementedError


@dataclass
class Prefixed(LayerCache):
    """Put keys and values (1, K, P, C) before those of a layer's tokens; `behind` keeps these, where they are kept."""

    behind: LayerCache | None = None

    def append(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Return what is seen after new tokens (B, K, T, C): (B, K, P + S, C)."""
        if self.behind is not None:
            keys, values = self.behind.append(keys, values)
        return _behind(self.keys, keys), _behind(self.values, values)


def _behind(first: Tensor, then: Tensor) -> Tensor:
    """Join what all rows share, (1, K, P, C), and what each row has, (B, K, S, C): (B, K, P + S, C)."""
    return torch.cat((first.to(then.dtype).expand(len(then), -1, -1, -1), then), dim=2)
