"""Watch attention at work: the weights with which the tokens of a built model read one another.

Fused kernels never make the weights, and a model that returned them would make them for everybody. So an attention
module is lent another `mix` while somebody looks: it notes the queries' weights by the textbook's formula, in fp32,
from the very queries, keys, mask and scale that attention was given, and then attends as ever. What the model computes
does not change; the price is a tensor (B, H, T, S) for each call that is watched, and nothing for the others.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor

from smelt.nn.attention import Attention, attend, attention_weights
from smelt.nn.latent import LatentAttention
from smelt.nn.masks import Rules


@contextmanager
def watched(attention: Attention | LatentAttention) -> Iterator[list[Tensor]]:
    """Return a list to which each forward of a module adds its weights (B, H, T, S), until the context is left."""
    noted: list[Tensor] = []

    def mix(queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | Rules | None = None, **how: Any) -> Tensor:
        noted.append(attention_weights(queries.float(), keys.float(), mask, **how))
        return attend(queries, keys, values, mask, **how)

    attention.mix = mix
    try:
        yield noted
    finally:
        del attention.mix
