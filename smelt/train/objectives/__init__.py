"""Objectives: what a batch is worth and what it costs.

An objective has `weight(batch)`, the number of tokens (or pairs, or sequences) that its loss is averaged over,
and is called as `objective(model, batch) -> (summed loss, metrics)`. The loop divides once, after it has
summed both over the whole window, so that micro-batches of any size give one and the same step.
"""

from __future__ import annotations

from typing import Any, Protocol

from torch import Tensor

from smelt.train.objectives.cross_entropy import TokenCrossEntropy


class Objective(Protocol):
    """A loss that is summed, and the weight it is divided by."""

    def weight(self, batch: Any) -> float:
        """Return how much a batch counts."""
        ...

    def __call__(self, model: Any, batch: Any) -> tuple[Tensor, dict[str, float]]:
        """Return the summed loss and summed metrics of a batch."""
        ...


OBJECTIVES: dict[str, Any] = {"token_cross_entropy": TokenCrossEntropy}
