"""Texts that mean the same: write one from the other, and find one by the other's vector (SimBERT).

A batch holds each pair in both directions in neighbouring rows, [CLS] a [SEP] b [SEP] and [CLS] b [SEP] a [SEP], the
first text seen both ways and the second written from left to right, so the vector of [CLS] knows the first text alone.
The second loss is a choice among all other rows of the batch: the cosines of their vectors, times 30, should point at
the partner. It sees the rows of a micro-batch only, so unlike other losses it changes with their number: more rows,
harder choice.

    cosines of 4 rows, the diagonal left out        right answers
    [ - ab  .  . ] [ab -  .  . ] [ .  . - cd] [ .  . cd - ]        1, 0, 3, 2

Ref: SimBERT, github.com/ZhuiyiTechnology/simbert (its description and loss); UniLM, arXiv:1905.03197, 2.3.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from smelt.data.packing import IGNORED
from smelt.models.encoder_decoder import Network
from smelt.train.objectives.cross_entropy import vocabulary_loss
from smelt.train.sources import TokenBatch

SCALE = 30.0


def similarity_loss(vectors: Tensor, scale: float = SCALE) -> Tensor:
    """Return the summed cross-entropy of finding row i's partner, i ^ 1, among the other vectors (B, D), B even."""
    unit = functional.normalize(vectors.float(), dim=-1)
    scores = (scale * unit @ unit.T).fill_diagonal_(-math.inf)  # (B, B)
    partners = torch.arange(len(vectors), device=vectors.device) ^ 1
    return functional.cross_entropy(scores, partners, reduction="sum")


class SimilarPairs:
    """The sum of two means: the tokens that are written, and the partner that is found."""

    def weight(self, batch: TokenBatch) -> tuple[float, float]:
        """Return the number of tokens to write and of rows."""
        return float((batch.labels != IGNORED).sum()), float(len(batch.ids))

    def __call__(self, model: Network, batch: TokenBatch) -> tuple[Tensor, dict[str, float]]:
        """Return both sums in nats; as a metric the mean of the second."""
        output = model(batch.ids, **batch.context(), project=False)
        vectors = output.hidden[:, 0] if output.pooled is None else output.pooled
        sums = torch.stack([vocabulary_loss(model, output.hidden, batch.labels), similarity_loss(vectors)])
        tokens, rows = self.weight(batch)
        return sums, {"similarity": sums[1].item() / rows * tokens}
