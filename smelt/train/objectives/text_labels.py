"""What a text is: cross-entropy of its class, or of each of several labels by itself.

The mean is over rows, also where classes have weights, so that a step is the same however its rows are grouped. With
weights of N / (classes x rows of the class) a rare class counts as much as a common one, and their mean over the
training rows is 1.

Ref: Improving Language Understanding by Generative Pre-Training (2018), 3.2, eq. 4. Ref: PET, arXiv:2001.07676, eq. 2.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from smelt.models.encoder_decoder import Network
from smelt.models.readings import LabelReading
from smelt.train.sources import TokenBatch


def class_loss(scores: Tensor, classes: Tensor, weights: Tensor | None) -> Tensor:
    """Return the summed cross-entropy of scores (B, N) against classes (B,), each row times its class's weight."""
    return functional.cross_entropy(scores.float(), classes, weight=weights, reduction="sum")


def label_loss(scores: Tensor, labels: Tensor, weights: Tensor | None) -> Tensor:
    """Return the summed binary cross-entropy of scores (B, N) against 0 and 1, the mean over a row's labels.

    `weights` (N,) multiply what a label costs where it holds.
    """
    each = functional.binary_cross_entropy_with_logits(
        scores.float(), labels.float(), pos_weight=weights, reduction="none"
    )
    return each.mean(dim=1).sum()


class TextLabels:
    """The mean over rows of what labels cost.

    Args:
        reading: what scores the labels: the model's head, or its words in a template.
        weights: one for each label, or none.
        several: whether a text may have several labels.
    """

    def __init__(self, reading: LabelReading, *, weights: Sequence[float] = (), several: bool = False) -> None:
        self.reading, self.several = reading, several
        self.weights = torch.tensor(weights) if weights else None

    def weight(self, batch: TokenBatch) -> float:
        """Return the number of rows."""
        return float(len(batch.ids))

    def __call__(self, model: Network, batch: TokenBatch) -> tuple[Tensor, dict[str, float]]:
        """Return the summed loss in nats, and as a metric how many rows have the right labels."""
        assert batch.row_labels is not None
        scores = self.reading(model, batch.ids, **batch.context())
        weights = None if self.weights is None else self.weights.to(scores.device)
        if self.several:
            right = ((scores > 0) == (batch.row_labels != 0)).all(dim=1)
            return label_loss(scores, batch.row_labels, weights), {"accuracy": float(right.sum())}
        right = scores.argmax(dim=1) == batch.row_labels
        return class_loss(scores, batch.row_labels, weights), {"accuracy": float(right.sum())}
