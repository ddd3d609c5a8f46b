"""Objectives: what a batch is worth and what it costs.

An objective has `weight(batch)`, the number of tokens (or pairs, or sequences) that its loss is averaged over,
and is called as `objective(model, batch) -> (summed loss, metrics)`. The loop divides once, after it has
summed both over the whole window, so that micro-batches of any size give one and the same step. An objective of several
terms, each averaged over something else (masked tokens and pairs, say), returns as many sums and as many weights, and
the loss is the sum of the quotients. Metrics are divided by the first weight.

An objective that is a module has parameters of its own, in `blocks`, which train along and stay out of what is
published.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor

from smelt.train.objectives.cross_entropy import TokenCrossEntropy
from smelt.train.objectives.distillation import Distillation
from smelt.train.objectives.future_tokens import FutureTokens
from smelt.train.objectives.hidden_match import HiddenMatch
from smelt.train.objectives.pointing import Pointing
from smelt.train.objectives.sentence_pairs import SentencePairs
from smelt.train.objectives.similar_pairs import SimilarPairs
from smelt.train.objectives.text_labels import TextLabels
from smelt.train.objectives.token_distillation import TokenDistillation
from smelt.train.objectives.token_labels import TokenLabels


class Objective(Protocol):
    """A loss that is summed, and the weight it is divided by."""

    def weight(self, batch: Any) -> float | tuple[float, ...]:
        """Return how much a batch counts, for each term."""
        ...

    def __call__(self, model: Any, batch: Any) -> tuple[Tensor, dict[str, float]]:
        """Return the summed loss, () or one entry a term, and summed metrics of a batch."""
        ...


def mean_loss(sums: Tensor, weight: Tensor) -> Tensor:
    """Divide summed losses by their weights, () or one entry a term, and add the terms; one without weight is 0."""
    return (sums / torch.where(weight == 0, 1.0, weight).to(sums)).sum()


OBJECTIVES: dict[str, Any] = {
    "token_cross_entropy": TokenCrossEntropy,
    "sentence_pairs": SentencePairs,
    "distillation": Distillation,
    "similar_pairs": SimilarPairs,
    "future_tokens": FutureTokens,
    "token_distillation": TokenDistillation,
    "hidden_match": HiddenMatch,
    "text_labels": TextLabels,
    "pointing": Pointing,
    "token_labels": TokenLabels,
}
