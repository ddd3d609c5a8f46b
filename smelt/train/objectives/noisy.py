"""Another objective under NEFTune: in training, uniform noise is added to the embeddings of the tokens.

The noise of a row follows from the seed and the row's place in the run, so a resumed run, and one whose batches are
computed in other pieces, sees the same. It is laid on by a hook for the time of one call: the model knows nothing of
it, and measurements, which are taken in evaluation mode, go without. Where it is off this objective is not there.
Ref: NEFTune, arXiv:2310.05914, eq. 1: X + alpha / sqrt(L D) * noise in (-1, 1), L the length of the conversation.
"""

from __future__ import annotations

import torch
from torch import Tensor

from smelt.data.order import mix
from smelt.models.encoder_decoder import Network
from smelt.train.objectives import Objective
from smelt.train.sources import TokenBatch


class NoisyEmbeddings:
    """Compute `objective` with noise of strength `alpha` on the embeddings."""

    def __init__(self, objective: Objective, alpha: float, seed: int) -> None:
        self.objective, self.alpha, self.seed = objective, alpha, seed
        self.weight = objective.weight

    def __call__(self, model: Network, batch: TokenBatch) -> tuple[Tensor, dict[str, float]]:
        """Return what the objective inside returns for noisy embeddings."""
        if not model.training:
            return self.objective(model, batch)

        def add_noise(module: torch.nn.Module, inputs: tuple[Tensor, ...], embedded: Tensor) -> Tensor:
            return embedded + noise(batch, embedded, self.alpha, self.seed)

        embedding = model.token_embedding
        assert isinstance(embedding, torch.nn.Module)
        hook = embedding.register_forward_hook(add_noise)
        try:
            return self.objective(model, batch)
        finally:
            hook.remove()


def noise(batch: TokenBatch, embedded: Tensor, alpha: float, seed: int) -> Tensor:
    """Return the noise (B, T, D) of a batch, the same for equal seeds and places."""
    scale = alpha / (lengths_of(batch) * embedded.shape[-1]).sqrt()  # (B, T)
    rows = []
    for place in range(batch.place, batch.place + len(embedded)):
        generator = torch.Generator(embedded.device).manual_seed(mix(mix(seed) ^ place))
        rows.append(torch.rand(embedded.shape[1:], generator=generator, device=embedded.device))
    return ((2 * torch.stack(rows) - 1) * scale.unsqueeze(-1)).to(embedded.dtype)


def lengths_of(batch: TokenBatch) -> Tensor:
    """Return for each token how many there are in its conversation: (B, T)."""
    if batch.segments is None:
        return torch.full_like(batch.ids, batch.ids.shape[1])
    num_rows, most = len(batch.segments), int(batch.segments.max()) + 1
    keys = batch.segments + most * torch.arange(num_rows, device=batch.segments.device).unsqueeze(1)
    return torch.bincount(keys.flatten(), minlength=num_rows * most)[keys]
