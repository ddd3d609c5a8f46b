"""What the tokens of a text are: cross-entropy of each label by itself, or of a whole row's labels under a CRF.

Both are averaged over labelled tokens, so that a step is the same however its rows are grouped, and so that they are
one and the same number while the CRF's scores of neighbours are zero, as they are when it is new.

Ref: Neural Architectures for Named Entity Recognition, arXiv:1603.01360, 2.2.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from smelt.data.packing import IGNORED
from smelt.models.encoder_decoder import Network
from smelt.models.heads import TaskHead
from smelt.train.sources import TokenBatch


class TokenLabels:
    """The mean over labelled tokens of the model's task of that name."""

    def __init__(self, task: str) -> None:
        self.task = task

    def weight(self, batch: TokenBatch) -> float:
        """Return the number of labelled tokens."""
        return float((batch.labels != IGNORED).sum())

    def __call__(self, model: Network, batch: TokenBatch) -> tuple[Tensor, dict[str, float]]:
        """Return the summed loss in nats, and without a CRF, as a metric, how many labels are right."""
        scores = model(batch.ids, **batch.context(), project=False).tasks[self.task]
        head, mask = model.get_submodule(f"tasks.{self.task}"), batch.labels != IGNORED
        assert isinstance(head, TaskHead)
        if head.crf is not None:
            return -head.crf(scores, batch.labels, mask).sum(), {}
        right = float((scores.argmax(dim=-1) == batch.labels).sum())
        flat = scores.float().flatten(0, 1)
        loss = functional.cross_entropy(flat, batch.labels.flatten(), ignore_index=IGNORED, reduction="sum")
        return loss, {"accuracy": right}
