"""Several adapters of one base as one: their weighted sum, exactly, and then of a lower rank where that is asked for.

A sum of products is a product of stacks: w1 U1 D1 + w2 U2 D2 = [w1 U1, w2 U2] [D1; D2]. So nothing is lost, and ranks
add up. Cut back to rank R, the result is the nearest of that rank (in the sum of squares), found from a decomposition
of a matrix no larger than the ranks together. Names may be those of our layers or of published modules; what is to be
written to a file should be combined by module, as a module's layers share their `down` there.

`sum_factors` beside it is what peft calls linear: it adds up the factors instead of the products, which is no sum of
the adapters (products of two of them come in), but has the rank of one.

Ref: LoRA, arXiv:2106.09685, 4.1. Ref: Eckart and Young, The approximation of one matrix by another, 1936.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from smelt.core.errors import UsageError
from smelt.peft.lora import LowRank


def combine_adapters(
    adapters: Sequence[Mapping[str, LowRank]], weights: Sequence[float], *, rank: int | None = None
) -> dict[str, LowRank]:
    """Return the sum of adapters, each times its weight; with a `rank`, the nearest to it of at most that rank.

    An adapter that says nothing of a layer adds nothing to it. A weight of -1 takes an adapter off again.
    Raises UsageError for no adapter, numbers of weights or adapters that do not match, and sizes that differ.
    """
    _check_weights(adapters, weights)
    if rank is not None and rank < 1:
        raise UsageError(f"rank {rank} of a combination", accepted="a positive number")
    found: dict[str, LowRank] = {}
    for name in dict.fromkeys(name for adapter in adapters for name in adapter):
        given = [(adapter[name], weight) for adapter, weight in zip(adapters, weights, strict=True) if name in adapter]
        _check_sizes(name, [pair for pair, _ in given])
        down = torch.cat([pair.down.float() for pair, _ in given])
        up = torch.cat([pair.up.float() * weight for pair, weight in given], dim=1)
        whole = LowRank(down, up)
        found[name] = whole if rank is None or rank >= whole.rank else cut_to_rank(whole, rank)
    return found


def sum_factors(
    adapters: Sequence[Mapping[str, LowRank]], weights: Sequence[float], scales: Sequence[Mapping[str, float]]
) -> dict[str, LowRank]:
    """Return the sums of all `down` and of all `up`, each times the root of its adapter's weight and scale.

    `scales` are what the pairs' `up` were multiplied by, alpha / R for instance; the sign of a weight goes to `down`.
    Raises UsageError as `combine_adapters` does, and for different ranks.
    """
    _check_weights(adapters, weights)
    found: dict[str, LowRank] = {}
    for name in dict.fromkeys(name for adapter in adapters for name in adapter):
        given = [
            (adapter[name], weight, scale[name])
            for adapter, weight, scale in zip(adapters, weights, scales, strict=True)
            if name in adapter
        ]
        _check_sizes(name, [pair for pair, _, _ in given])
        ranks = sorted({pair.rank for pair, _, _ in given})
        if len(ranks) > 1:
            raise UsageError(
                f"{name} has ranks {', '.join(map(str, ranks))}, and factors add up only at one rank",
                accepted="adapters of one rank, or their stack",
            )
        roots = [math.sqrt(abs(weight) * scale) for _, weight, scale in given]
        down = sum(
            pair.down.float() * math.copysign(root, weight)
            for (pair, weight, _), root in zip(given, roots, strict=True)
        )
        up = sum(pair.up.float() * (root / scale) for (pair, _, scale), root in zip(given, roots, strict=True))
        assert isinstance(down, Tensor) and isinstance(up, Tensor), "at least one adapter has the layer"
        found[name] = LowRank(down, up)
    return found


def _check_weights(adapters: Sequence[object], weights: Sequence[float]) -> None:
    if not adapters or len(adapters) != len(weights):
        raise UsageError(f"{len(adapters)} adapters and {len(weights)} weights", accepted="a weight for each adapter")


def _check_sizes(name: str, pairs: Sequence[LowRank]) -> None:
    sizes = {(pair.up.shape[0], pair.down.shape[1]) for pair in pairs}
    if len(sizes) > 1:
        raise UsageError(f"{name} is of different sizes: {sorted(sizes)}", accepted="adapters of one base")


def cut_to_rank(pair: LowRank, rank: int) -> LowRank:
    """Return the product of the lowest squared distance to a pair's among those of a rank; both halves equally long."""
    outer, left = torch.linalg.qr(pair.up)  # (out, R), (R, R)
    inner, right = torch.linalg.qr(pair.down.mT)  # (in, R), (R, R)
    rows, values, columns = torch.linalg.svd(left @ right.mT)
    roots = values[:rank].sqrt()
    return LowRank((columns[:rank] * roots[:, None]) @ inner.mT, outer @ (rows[:, :rank] * roots))
