"""From a number of parameters to a model that exists: depth, width and heads of a family, counted exactly.

Within a wide range loss depends on the shape hardly at all, so the shape nearest in size wins, and among those about
equally near the one with the usual ratio of width to depth, 64 in small models and 128 in large ones. Counting costs a
few milliseconds a width: parameters grow by the same number with each layer, so two counts give all depths.

Ref: Scaling Laws for Neural Language Models, arXiv:2001.08361, 3.1 (shape).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

from smelt.core.errors import UsageError
from smelt.models.build import count_parameters, describe
from smelt.models.families import Shape, spec_for
from smelt.nn.spec import ModelSpec, MoESpec

WIDTH_PER_LAYER, WIDTH_PER_LAYER_WIDE = 64, 128  # published models lie around the one below width 2,048, then the other
WIDEST_PER_LAYER, NARROWEST_PER_LAYER = 160, 24
ASPECT_WEIGHT = 0.1  # a factor of e in the aspect counts as much as 10 % of the size
MAX_DIM = 16_384
TABLES = ("token_embedding.weight", "position_embedding.weight", "head.weight")


def shape_near(parameters: float, *, family: str, vocab_size: int, max_seq_len: int) -> Shape:
    """Return the shape of a family whose number of parameters is nearest, with the head tied.

    Raises:
        UsageError: an unknown family, or one of mixtures, for which the laws do not speak.
    """
    best, lowest = None, math.inf
    for dim, num_heads in widths():
        shape = Shape(vocab_size, dim, 1, num_heads, max_seq_len, tied=True)
        shallow, deeper = (count_parameters(_of_depth(family, shape, depth)) for depth in (1, 2))
        per_layer, rest = deeper - shallow, 2 * shallow - deeper
        usual = WIDTH_PER_LAYER if dim < 2048 else WIDTH_PER_LAYER_WIDE
        for depth in depths(dim):
            size = rest + depth * per_layer
            cost = abs(math.log(size / parameters)) + ASPECT_WEIGHT * abs(math.log(dim / depth / usual))
            if cost < lowest:
                best, lowest = (shape, depth), cost
        if rest + depths(dim)[0] * per_layer > 2 * parameters:
            break  # wider ones are only larger
    assert best is not None
    shape, depth = best
    return replace(shape, num_layers=depth)


def widths() -> Iterator[tuple[int, int]]:
    """Yield (width, heads) in ascending order: heads of 32, from width 512 on of 64, from 2,048 on of 128."""
    dim = 32
    while dim <= MAX_DIM:
        head_dim = 32 if dim < 512 else 64 if dim < 2048 else 128
        yield dim, dim // head_dim
        dim += 32 if dim < 512 else 64 if dim < 2048 else 256


def depths(dim: int) -> range:
    """Return the depths that go with a width; one layer is never enough, since it cannot build upon itself."""
    return range(max(2, math.ceil(dim / WIDEST_PER_LAYER)), max(2, dim // NARROWEST_PER_LAYER) + 1)


def count_without_tables(spec: ModelSpec) -> int:
    """Count the parameters outside the embedding, a table of positions and the head."""
    return sum(count for name, _, count in describe(spec) if name not in TABLES)


def _of_depth(family: str, shape: Shape, depth: int) -> ModelSpec:
    spec = spec_for(family, replace(shape, num_layers=depth))
    if any(isinstance(layer.feed_forward, MoESpec) for layer in spec.layers):
        raise UsageError(
            f"family '{family}' is made of mixtures, and the law is of dense models",
            accepted="a family of dense models, such as llama, gpt2 or qwen3",
        )
    return spec
