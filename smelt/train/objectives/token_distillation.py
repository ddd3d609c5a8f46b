"""Learn each next token from a teacher's distribution and from the text, in a share of each.

A label says which token came; the teacher says how likely every other one would have been. Both are asked where the
batch has a label. A row that the student itself has written has no right answer but the teacher's. The teacher runs
without gradient, about a third of what training it would cost; logits are taken in chunks.

Ref: Distilling the Knowledge in a Neural Network, arXiv:1503.02531, section 2. Ref: GKD, arXiv:2306.13649, section 3.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from smelt.data.packing import IGNORED
from smelt.models.encoder_decoder import Network
from smelt.train.objectives.cross_entropy import TokenCrossEntropy
from smelt.train.objectives.divergences import (
    Divergence,
    LossOfLogits,
    chunked_sums,
    logits_of,
    product_dtype,
    softened,
)
from smelt.train.sources import TokenBatch


def mixture(soft: Tensor, hard: Tensor, hard_share: Tensor) -> Tensor:
    """Return the sum of (1 - a) x soft + a x hard over rows (N,), with each row's own share a."""
    return ((1 - hard_share) * soft + hard_share * hard).sum()


class TokenDistillation:
    """The mean over labelled tokens of (1 - a) T^2 D(student, teacher) + a cross-entropy, a being `hard_weight`.

    Rows whose `row_labels` are 1 are the student's own words, of which only the divergence D counts. Where one table of
    logits is padded beyond the other, what both have is compared. A measurement is the cross-entropy alone.
    """

    def __init__(self, teacher: Network, divergence: Divergence, *, temperature: float, hard_weight: float) -> None:
        self.teacher = teacher.eval().requires_grad_(False)
        self.divergence, self.temperature, self.hard_weight = divergence, temperature, hard_weight
        self.plain = TokenCrossEntropy()

    def weight(self, batch: TokenBatch) -> float:
        """Return the number of labelled tokens."""
        return self.plain.weight(batch)

    def __call__(self, model: Network, batch: TokenBatch) -> tuple[Tensor, dict[str, float]]:
        """Return the summed loss; as metrics the sums of the divergence and of the cross-entropy of the text's own."""
        if not torch.is_grad_enabled():
            return self.plain(model, batch)
        output = model(batch.ids, **batch.context(), project=False)
        places = (batch.labels.flatten() != IGNORED).nonzero().squeeze(1)
        size = min(model.spec.vocab_size, self.teacher.spec.vocab_size)
        bias = None if model.head_bias is None else model.head_bias[:size]
        loss, sums = chunked_sums(
            model.head_input(output.hidden.flatten(0, 1)[places]),
            model.head_weight[:size],
            bias,
            model.spec.logit_softcap,
            self.comparison(batch, places, size),
        )
        loss, metrics = self.plain.with_routers(model, batch, output.router, loss)
        return loss, metrics | {"soft": sums[1].item(), "hard": sums[2].item()}

    def comparison(self, batch: TokenBatch, places: Tensor, size: int) -> LossOfLogits:
        """Return what compares the student's logits of some of the places (N,) with the teacher's: the sums (3,)."""
        teacher, labels = self.teacher, batch.labels.flatten()[places]
        own = torch.zeros_like(batch.labels) if batch.row_labels is None else batch.row_labels[:, None]
        is_text = 1 - own.expand_as(batch.labels).flatten()[places]  # (N,)
        dtype = product_dtype(teacher.head_weight)
        with torch.no_grad():
            hidden = teacher(batch.ids, **batch.context(), project=False).hidden.flatten(0, 1)[places]
            goal, table = teacher.head_input(hidden).to(dtype), teacher.head_weight[:size].to(dtype)
            bias = None if teacher.head_bias is None else teacher.head_bias[:size]

        def compare(rows: slice, logits: Tensor) -> Tensor:
            with torch.no_grad():
                theirs = logits_of(goal[rows], table, bias, teacher.spec.logit_softcap)
            soft = softened(self.divergence, logits, theirs, self.temperature)
            hard = is_text[rows] * functional.cross_entropy(logits, labels[rows], reduction="none")
            return torch.stack([mixture(soft, hard, self.hard_weight * is_text[rows]), soft.sum(), hard.sum()])

        return compare


def reference(objective: TokenDistillation, model: Network, batch: TokenBatch) -> Tensor:
    """Return the same sum the obvious way: all logits of both, one call."""
    labels = batch.labels.flatten()
    places = (labels != IGNORED).nonzero().squeeze(1)
    ours = model(batch.ids, **batch.context()).logits.flatten(0, 1)[places]
    with torch.no_grad():
        theirs = objective.teacher(batch.ids, **batch.context()).logits.flatten(0, 1)[places]
    size = min(ours.shape[1], theirs.shape[1])
    ours = ours[:, :size]
    soft = softened(objective.divergence, ours, theirs[:, :size], objective.temperature)
    hard = functional.cross_entropy(ours, labels[places], reduction="none")
    own = torch.zeros_like(batch.labels) if batch.row_labels is None else batch.row_labels[:, None]
    is_text = 1 - own.expand_as(batch.labels).flatten()[places]
    return mixture(soft, hard, objective.hard_weight * is_text)
