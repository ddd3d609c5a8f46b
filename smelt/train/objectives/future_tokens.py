"""Predict several tokens ahead at once: to each further one its own last block, over one trunk and one unembedding.

The trunk is the model without its last block; that block is the head of the next token, and each further head is a
copy of it to begin with, which then learns to look one token further. Hidden states must come to hold more than the
next step. The extra heads are the objective's own: they train along, are saved with the run, and the published model
is the plain one. Each costs one block; logits are never held, since the loss takes them in chunks, which is what the
paper's order of forward and backward passes is for. A validation measures the next token alone.

    ids     the mill stands by        head 1  mill stands by a        head 2  stands by a  -

Ref: Better & Faster Large Language Models via Multi-token Prediction, arXiv:2404.19737, 2, eq. 2.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from smelt.core.errors import ConfigError
from smelt.data.packing import IGNORED
from smelt.models.encoder_decoder import Network
from smelt.models.transformer import Transformer
from smelt.train.objectives.cross_entropy import vocabulary_loss
from smelt.train.sources import TokenBatch


def labels_ahead(labels: Tensor, segments: Tensor | None, distance: int) -> Tensor:
    """Return labels (B, T) moved `distance` places to the left, without those that come from another segment.

    ([5, 6, 7, 8], [1, 1, 2, 2], 1) -> [6, -, 8, -]
    """
    ahead = torch.full_like(labels, IGNORED)
    ahead[:, :-distance] = labels[:, distance:]
    if segments is not None:
        same = segments[:, :-distance] == segments[:, distance:]
        ahead[:, :-distance] = torch.where(same, ahead[:, :-distance], IGNORED)
    return ahead


class FutureTokens(nn.Module):
    """The sum of the mean cross-entropies of the next token and of `num_further` ones behind it.

    Raises:
        ConfigError: the model is no decoder, shares its layers, or ends in a mixture of experts.
    """

    def __init__(self, model: Network, num_further: int = 3) -> None:
        super().__init__()
        self.num_further = num_further
        fits = isinstance(model, Transformer) and model.spec.is_causal and not model.spec.shared_layers
        if not fits or model.spec.layers[-1].dense is not model.spec.layers[-1].feed_forward:
            raise ConfigError(
                "the model's last block cannot be the head of further tokens",
                accepted="a decoder with layers of their own and a dense last block",
            )
        self.blocks = nn.ModuleList(copy.deepcopy(model.blocks[-1]) for _ in range(num_further))

    def weight(self, batch: TokenBatch) -> tuple[float, ...]:
        """Return the number of labels of each head."""
        return tuple(float((labels != IGNORED).sum()) for labels in self.labels(batch))

    def labels(self, batch: TokenBatch) -> list[Tensor]:
        """Return the labels (B, T) of each head, the next token's first."""
        further = range(1, self.num_further + 1)
        return [batch.labels, *(labels_ahead(batch.labels, batch.segments, distance) for distance in further)]

    def forward(self, model: Transformer, batch: TokenBatch) -> tuple[Tensor, dict[str, float]]:
        """Return the summed loss of each head in nats; as metrics the mean of each further one."""
        output = model(batch.ids, **batch.context(), project=False)
        sums = [vocabulary_loss(model, output.hidden, batch.labels)]
        if not torch.is_grad_enabled():
            return torch.stack(sums + [torch.zeros_like(sums[0])] * self.num_further), {}
        labels, weights = self.labels(batch), self.weight(batch)
        for block, goal in zip(self.blocks, labels[1:], strict=True):
            stream, _ = block(*output.last_inputs)
            sums.append(vocabulary_loss(model, model.norm(stream), goal))
        metrics = {
            f"loss_{number + 1}_ahead": sums[number].item() / max(weights[number], 1.0) * weights[0]
            for number in range(1, self.num_further + 1)
        }
        return torch.stack(sums), metrics
