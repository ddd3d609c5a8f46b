"""Next-token cross-entropy over the supervised positions, without ever holding all logits.

`(N, V)` logits are the largest tensor of a small model's step. Only rows that have a label are projected, in
chunks, and a few rows of logits at a time become their gradient, in place and while they are in the cache; the backward
pass merely scales what the forward pass found. `reference` beside it is the obvious version that a test compares with.
Ref: the idea of making the gradient in the forward pass, arXiv:2410.10989, section 3.2.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from smelt.data.packing import IGNORED
from smelt.models.encoder_decoder import Network
from smelt.nn.spec import MoESpec
from smelt.train.objectives.routing import load_balance, z_loss
from smelt.train.sources import TokenBatch

CHUNK_ROWS = 1024
"""Rows a product: enough of them, since the matrix's gradient, as large as the matrix, is added to once a chunk."""
CACHED_ENTRIES = 2**21
"""Logits that are worked on at once: 8 MB in fp32, which stay in the cache from one operation to the next."""


class ChunkedCrossEntropy(torch.autograd.Function):
    """Sum of -log p(label) over rows, with the gradients of hidden states, weight and bias made on the way."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        labels: Tensor,
        dtype: torch.dtype,
        softcap: float | None,
        with_gradient: bool,
    ) -> Tensor:
        """Return the summed loss for `hidden (N, D)`, `weight (V, D)`, `bias (V,)`, `labels (N,)`."""
        low_weight = weight.to(dtype)
        wide = torch.promote_types(dtype, torch.float32)  # softmax and its sums never run in a narrow type
        total = torch.zeros((), dtype=wide, device=hidden.device)
        grad_hidden = torch.empty_like(hidden) if with_gradient else None
        wants_weight, wants_bias = ctx.needs_input_grad[1:3]  # a frozen head's would be a matrix of V rows for nothing
        grad_weight = torch.zeros_like(weight) if with_gradient and wants_weight else None
        grad_bias = torch.zeros_like(bias) if with_gradient and wants_bias and bias is not None else None
        for start in range(0, hidden.size(0), CHUNK_ROWS):
            rows = slice(start, start + CHUNK_ROWS)
            low_hidden = hidden[rows].to(dtype)
            logits = functional.linear(low_hidden, low_weight)  # (chunk, V)
            few = max(1, CACHED_ENTRIES // weight.size(0))
            for part, target in zip(logits.split(few), labels[rows].unsqueeze(1).split(few), strict=True):
                loss, gradient = _loss_and_gradient(part.to(wide), target, bias, softcap, with_gradient)
                total += loss
                if gradient is not None:
                    part.copy_(gradient)
                if gradient is not None and grad_bias is not None:
                    grad_bias += gradient.sum(dim=0)
            if grad_hidden is not None:
                grad_hidden[rows] = logits @ low_weight
            if grad_weight is None:
                continue
            if dtype == grad_weight.dtype:
                grad_weight.addmm_(logits.T, low_hidden)
            else:
                grad_weight += logits.T @ low_hidden
        ctx.save_for_backward(grad_hidden, grad_weight, grad_bias)
        return total

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        """Scale the gradients that the forward pass made, in place: a second backward pass is an error of torch's."""
        scaled = (None if saved is None else saved.mul_(grad_outputs[0]) for saved in ctx.saved_tensors)
        return (*scaled, None, None, None, None)


def _loss_and_gradient(
    logits: Tensor, target: Tensor, bias: Tensor | None, softcap: float | None, with_gradient: bool
) -> tuple[Tensor, Tensor | None]:
    """Return the summed loss of what the matrix gives (n, V), labels (n, 1), and its gradient (n, V) if wanted."""
    if bias is not None:
        logits = logits + bias
    bounded = None if softcap is None else torch.tanh(logits / softcap)
    if softcap is not None and bounded is not None:
        logits = softcap * bounded
    log_probabilities = logits.log_softmax(dim=-1)  # one pass, where logsumexp would take four
    loss = -log_probabilities.gather(1, target).sum()
    if not with_gradient:
        return loss, None
    gradient = log_probabilities.exp_()  # softmax, in place
    gradient.scatter_add_(1, target, gradient.new_full(target.shape, -1.0))
    if bounded is not None:
        gradient *= 1 - bounded.square()
    return loss, gradient


def cross_entropy_sum(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, labels: Tensor, softcap: float | None = None
) -> Tensor:
    """Return the summed cross-entropy in nats of `hidden (N, D)` against `labels (N,)`; label -100 is skipped."""
    supervised = labels != IGNORED
    if not bool(supervised.all()):
        rows = supervised.nonzero().squeeze(1)
        hidden, labels = hidden.index_select(0, rows), labels.index_select(0, rows)
    kind = hidden.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else weight.dtype
    leaves = [x for x in (hidden, weight, bias) if x is not None]
    with_gradient = torch.is_grad_enabled() and any(x.requires_grad for x in leaves)
    with torch.autocast(kind, enabled=False):
        total = ChunkedCrossEntropy.apply(  # type: ignore[no-untyped-call]
            hidden, weight, bias, labels, dtype, softcap, with_gradient
        )
    return total  # type: ignore[no-any-return]


def vocabulary_loss(model: Network, hidden: Tensor, labels: Tensor) -> Tensor:
    """Return the summed cross-entropy in nats of hidden states (B, T, D) under the model's language head.

    Only places with a label (B, T) go through the head: of masked text one in seven.
    """
    hidden, labels = hidden.flatten(0, 1), labels.flatten()
    supervised = labels != IGNORED
    if not bool(supervised.all()):
        rows = supervised.nonzero().squeeze(1)
        hidden, labels = hidden.index_select(0, rows), labels.index_select(0, rows)
    return cross_entropy_sum(
        model.head_input(hidden), model.head_weight, model.head_bias, labels, model.spec.logit_softcap
    )


def reference(model: Network, batch: TokenBatch) -> Tensor:
    """Return the same sum the obvious way: all logits, one call."""
    logits = model(batch.ids, **batch.context()).logits
    return functional.cross_entropy(
        logits.flatten(0, 1).float(), batch.labels.flatten(), ignore_index=IGNORED, reduction="sum"
    )


class TokenCrossEntropy:
    """The objective of most pretraining and of supervised fine-tuning: they differ in rows and labels.

    Where layers are mixtures of experts, `balance` times the balance loss and `z` times the z loss are added in
    training; a measurement, which takes no gradient, is the cross-entropy alone.
    """

    def __init__(self, balance: float = 0.01, z: float = 0.001) -> None:
        self.balance, self.z = balance, z

    def weight(self, batch: TokenBatch) -> float:
        """Return the number of supervised tokens."""
        return float((batch.labels != IGNORED).sum())

    def __call__(self, model: Network, batch: TokenBatch) -> tuple[Tensor, dict[str, float]]:
        """Return the summed loss in nats; of mixtures of experts, the summed router losses as metrics."""
        output = model(batch.ids, **batch.context(), project=False)
        return self.with_routers(model, batch, output.router, vocabulary_loss(model, output.hidden, batch.labels))

    def with_routers(
        self, model: Network, batch: TokenBatch, router: tuple[Tensor, ...], loss: Tensor
    ) -> tuple[Tensor, dict[str, float]]:
        """Return a summed loss with what routers' scores, (B, T, E) a layer, add to it, and this as metrics."""
        if not router or not torch.is_grad_enabled():
            return loss, {}
        mixtures = [layer.feed_forward for layer in model.spec.layers if isinstance(layer.feed_forward, MoESpec)]
        # Each layer's tokens, without padding: (N, E)
        rows = [x.flatten(0, 1) if batch.segments is None else x[batch.segments != 0] for x in router]
        pairs = zip(rows, mixtures, strict=True)
        balance = torch.stack([load_balance(scores, spec.experts_per_token) for scores, spec in pairs]).mean()
        z, tokens = torch.stack([z_loss(scores) for scores in rows]).mean(), self.weight(batch)
        metrics = {"router_balance": balance.item() * tokens, "router_z": z.item() * tokens}
        return loss + tokens * (self.balance * balance + self.z * z), metrics
