"""Learn a teacher's hidden states block by block, beside the text itself.

Each block of the student has a block of the teacher whose output it comes near to, in the mean square; where the widths
differ, a matrix stands between the two that is learned along and not published. Outputs are compared before the final
norm, so student and teacher should be of one family: another may keep numbers of another size there.

Ref: TinyBERT, arXiv:1909.10351, eq. 8. Ref: FitNets, arXiv:1412.6550, eq. 3.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from smelt.core.errors import ConfigError
from smelt.data.packing import IGNORED
from smelt.models.encoder_decoder import Network
from smelt.nn.spec import ModelSpec
from smelt.train.objectives.cross_entropy import TokenCrossEntropy, vocabulary_loss
from smelt.train.sources import TokenBatch


def mean_square(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the sum over rows (N, D) of the mean over D of (student - teacher)^2."""
    return (student.float() - teacher.float()).square().mean(dim=-1).sum()


def spread(num_ours: int, num_theirs: int) -> tuple[int, ...]:
    """Return a block of the teacher for each of the student's, at even distances, the last for the last.

    (3, 6) -> (1, 3, 5)
    """
    return tuple(math.ceil((index + 1) * num_theirs / num_ours) - 1 for index in range(num_ours))


class HiddenMatch(nn.Module):
    """The mean over labelled tokens of (1 - a) x the blocks' mean square + a x cross-entropy, a being `hard_weight`.

    `match` names the teacher's block, from 0, for each of the student's; none: `spread`. A measurement is the
    cross-entropy alone.

    Raises:
        ConfigError: `match` has another length than the student has blocks, or names a block that is not there.
    """

    teacher: Network

    def __init__(
        self, teacher: Network, student: ModelSpec, *, hard_weight: float, match: Sequence[int] = (), seed: int = 0
    ) -> None:
        super().__init__()
        num_ours, num_theirs = len(student.layers), len(teacher.spec.layers)
        self.match = tuple(match) or spread(num_ours, num_theirs)
        if len(self.match) != num_ours or not all(0 <= block < num_theirs for block in self.match):
            raise ConfigError(
                f"match={list(self.match)} for a student of {num_ours} blocks and a teacher of {num_theirs}",
                accepted=f"{num_ours} numbers from 0 to {num_theirs - 1}, one for each of the student's blocks",
            )
        # Not a part of this module: it is neither trained nor saved with the run.
        object.__setattr__(self, "teacher", teacher.eval().requires_grad_(False))
        self.hard_weight, self.plain = hard_weight, TokenCrossEntropy()
        width, goal = student.dim, teacher.spec.dim
        generator = torch.Generator().manual_seed(seed)
        self.blocks = nn.ModuleList(
            nn.Identity() if width == goal else nn.Linear(width, goal, bias=False) for _ in self.match
        )
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=width**-0.5, generator=generator)

    def weight(self, batch: TokenBatch) -> float:
        """Return the number of labelled tokens."""
        return self.plain.weight(batch)

    def forward(self, model: Network, batch: TokenBatch) -> tuple[Tensor, dict[str, float]]:
        """Return the summed loss; as metrics the sums of the mean squares, over blocks on average, and of the text."""
        if not torch.is_grad_enabled():
            return self.plain(model, batch)
        places = batch.labels != IGNORED
        output = model(batch.ids, **batch.context(), keep_states=True, project=False)
        with torch.no_grad():
            states = self.teacher(batch.ids, **batch.context(), keep_states=True, project=False).states
        distances = [
            mean_square(project(ours[places]), states[block][places])
            for project, ours, block in zip(self.blocks, output.states, self.match, strict=True)
        ]
        near = torch.stack(distances).mean()
        hard = vocabulary_loss(model, output.hidden, batch.labels)
        loss = (1 - self.hard_weight) * near + self.hard_weight * hard
        loss, metrics = self.plain.with_routers(model, batch, output.router, loss)
        return loss, metrics | {"hidden": near.item(), "hard": hard.item()}
