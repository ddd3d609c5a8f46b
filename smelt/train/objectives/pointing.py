"""Where in a text something stands: a beginning and an end, of several pieces or of exactly one.

Each token gets two scores. For pieces, a score above 0 says that one begins or ends there, so a text may have several
or none. For an answer, all tokens compete for its beginning and all for its end, and the row's first slot
stands for "not in this window". Slots labelled IGNORED take no part.

Ref: UIE, arXiv:2203.12277 (a prompt asks for pieces). Ref: BERT, arXiv:1810.04805, 4.2 and 4.3 (an answer, no answer).
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from smelt.data.label_rows import BEGINS, ENDS
from smelt.data.packing import IGNORED
from smelt.models.encoder_decoder import Network
from smelt.train.sources import TokenBatch

Pointer = Literal["spans", "answer"]


def pieces_loss(scores: Tensor, labels: Tensor) -> Tensor:
    """Return the summed loss of each row's pieces, half of it their beginnings', under scores (B, T, 2).

    Of a row and an end, with the scores s of its tokens: log(1 + sum of exp(s) where none is) + log(1 + sum of exp(-s)
    where one is). It asks that every right token's score be above 0 and above every wrong one's, however few are right.
    A cross-entropy a token would be the mean of hundreds that nothing points at: a small model learns their rate alone.

    Ref: ZLPR, arXiv:2208.02955.
    """
    here = (labels != IGNORED)[..., None]
    wanted = torch.stack((labels & BEGINS != 0, labels & ENDS != 0), dim=-1)  # (B, T, 2)
    scores = scores.float()
    return (at_least_zero(scores, here & ~wanted) + at_least_zero(-scores, here & wanted)).sum() / 2


def at_least_zero(scores: Tensor, chosen: Tensor) -> Tensor:
    """Return log(1 + sum of exp(scores)) over the chosen tokens of (B, T, 2), as (B, 2): a soft maximum with 0."""
    return functional.pad(scores.masked_fill(~chosen, -torch.inf), (0, 0, 1, 0)).logsumexp(1)


def answer_loss(scores: Tensor, labels: Tensor) -> Tensor:
    """Return the summed cross-entropy of each row's beginning and end, half of it each, under scores (B, T, 2)."""
    begin, end = true_ends(labels)
    first, last = scores.float().masked_fill((labels == IGNORED)[..., None], -torch.inf).unbind(-1)  # (B, T)
    return (
        functional.cross_entropy(first, begin, reduction="sum") + functional.cross_entropy(last, end, reduction="sum")
    ) / 2


def true_ends(labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return the slots of each row's beginning and end (B,), for rows that have one of each."""
    here = labels != IGNORED
    return (here & (labels & BEGINS != 0)).int().argmax(1), (here & (labels & ENDS != 0)).int().argmax(1)


class Pointing:
    """The mean over rows, each of which has its pieces, or its answer.

    Args:
        task: the name in `Output.tasks`.
        pointer: whether rows have pieces or an answer.
    """

    def __init__(self, task: str, pointer: Pointer) -> None:
        self.task, self.pointer = task, pointer

    def weight(self, batch: TokenBatch) -> float:
        """Return the number of rows."""
        return float(len(batch.labels))

    def __call__(self, model: Network, batch: TokenBatch) -> tuple[Tensor, dict[str, float]]:
        """Return the summed loss in nats, and of answers as a metric how many rows have both ends right."""
        scores = model(batch.ids, **batch.context(), project=False).tasks[self.task]
        if self.pointer == "spans":
            return pieces_loss(scores, batch.labels), {}
        best = scores.masked_fill((batch.labels == IGNORED)[..., None], -torch.inf).argmax(1)  # (B, 2)
        right = (best == torch.stack(true_ends(batch.labels), dim=1)).all(dim=1)
        return answer_loss(scores, batch.labels), {"accuracy": float(right.sum())}
