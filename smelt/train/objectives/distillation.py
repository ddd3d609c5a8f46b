"""Learn from a larger encoder: its probabilities, its hidden states, and the masked tokens themselves.

A teacher's probabilities say more than the right token: which others would have done. Both are softened by a
temperature, so that small ones count, and the loss is multiplied by its square, which keeps the size of the gradient.
The cosine term turns the student's hidden states the way of the teacher's, so both need the same width. The teacher
runs without gradient, about a third of its training cost; its logits and the student's, (N, V) each, are all held.

Ref: DistilBERT, arXiv:1910.01108, 2 and 3. Ref: Distilling the Knowledge in a Neural Network, arXiv:1503.02531, 2.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from smelt.core.errors import ConfigError
from smelt.data.packing import IGNORED
from smelt.models.encoder_decoder import Network
from smelt.nn.spec import ModelSpec
from smelt.train.objectives.cross_entropy import vocabulary_loss
from smelt.train.sources import TokenBatch


def soft_cross_entropy(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Return T^2 x the sum of -t log s over rows of logits (N, V), where t and s are softmaxes at temperature T."""
    goal = (teacher.float() / temperature).softmax(dim=-1)
    return temperature**2 * -(goal * (student.float() / temperature).log_softmax(dim=-1)).sum()


def cosine_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the sum of 1 - cos(s, t) over rows (N, D)."""
    return (1 - functional.cosine_similarity(student.float(), teacher.float(), dim=-1)).sum()


class Distillation:
    """The sum of three weighted means: soft cross-entropy and cosine over all tokens, hard one over masked tokens.

    The default weights and the temperature are those of the published training code.

    Raises:
        ConfigError: student and teacher have another vocabulary or another width.
    """

    def __init__(
        self,
        teacher: Network,
        student: ModelSpec,
        *,
        temperature: float = 2.0,
        soft: float = 5.0,
        masked: float = 2.0,
        cosine: float = 1.0,
    ) -> None:
        for name in ("vocab_size", "dim"):
            ours, theirs = getattr(student, name), getattr(teacher.spec, name)
            if ours != theirs:
                raise ConfigError(
                    f"the student has {name}={ours}, its teacher {theirs}", accepted=f"the same {name} in both"
                )
        self.teacher = teacher.eval().requires_grad_(False)
        self.temperature, self.factors = temperature, (soft, masked, cosine)

    def weight(self, batch: TokenBatch) -> tuple[float, float, float]:
        """Return the number of tokens, of masked tokens, and of tokens."""
        tokens = float(batch.ids.numel() if batch.segments is None else (batch.segments != 0).sum())
        return tokens, float((batch.labels != IGNORED).sum()), tokens

    def __call__(self, model: Network, batch: TokenBatch) -> tuple[Tensor, dict[str, float]]:
        """Return the three weighted sums; as metrics the three means without their factors."""
        there = torch.ones_like(batch.ids, dtype=torch.bool) if batch.segments is None else batch.segments != 0
        ours = model(batch.ids, **batch.context(), project=False).hidden
        with torch.no_grad():
            theirs = self.teacher(batch.ids, **batch.context(), project=False).hidden[there]  # (N, D)
            goal = self.teacher.project(theirs)
        sums = torch.stack(
            [
                soft_cross_entropy(model.project(ours[there]), goal, self.temperature),
                vocabulary_loss(model, ours, batch.labels),
                cosine_distance(ours[there], theirs),
            ]
        )
        weights = self.weight(batch)
        means = [value / max(weight, 1.0) for value, weight in zip(sums.tolist(), weights, strict=True)]
        names = ("soft", "masked", "cosine")
        return sums * sums.new_tensor(self.factors), {
            name: mean * weights[0] for name, mean in zip(names, means, strict=True)
        }
