"""Masked tokens and a question about the pair that they stand in, added up: BERT's and ALBERT's pretraining.

The first is a mean over masked tokens, the second over pairs, so the objective has two terms with a weight each. The
model brings the head of the question (`next_sentence` or `sentence_order`), two scores of a row's pooled vector.

Ref: BERT, arXiv:1810.04805, appendix A.2 ("the sum of the mean masked LM likelihood and the mean next sentence
prediction likelihood"); ALBERT, arXiv:1909.11942, 3.1.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from smelt.data.packing import IGNORED
from smelt.models.encoder_decoder import Network
from smelt.train.objectives.cross_entropy import vocabulary_loss
from smelt.train.sources import TokenBatch


def pair_loss(scores: Tensor, labels: Tensor) -> Tensor:
    """Return the summed cross-entropy of scores (B, 2) against labels (B,)."""
    return functional.cross_entropy(scores.float(), labels, reduction="sum")


class SentencePairs:
    """The sum of two means: masked tokens and the model's task of that name."""

    def __init__(self, task: str) -> None:
        self.task = task

    def weight(self, batch: TokenBatch) -> tuple[float, float]:
        """Return the number of masked tokens and of pairs."""
        return float((batch.labels != IGNORED).sum()), float(len(batch.ids))

    def __call__(self, model: Network, batch: TokenBatch) -> tuple[Tensor, dict[str, float]]:
        """Return both sums in nats; as metrics the mean pair loss and the share of right answers."""
        assert batch.row_labels is not None
        output = model(batch.ids, **batch.context(), project=False)
        scores = output.tasks[self.task]
        sums = torch.stack([vocabulary_loss(model, output.hidden, batch.labels), pair_loss(scores, batch.row_labels)])
        tokens, pairs = self.weight(batch)
        right = (scores.argmax(dim=-1) == batch.row_labels).float().mean().item()
        return sums, {self.task: sums[1].item() / pairs * tokens, f"{self.task}_accuracy": right * tokens}
