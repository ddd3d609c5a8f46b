"""How far a student's next tokens are from its teacher's: pure functions of log-probabilities, and a sum in chunks.

The logits of both, (N, V) each, would be the largest tensors of a step, so some rows at a time are projected, compared
and turned into gradients of hidden states, weight and bias; the backward pass merely scales these. Unlike the plain
cross-entropy, which has its gradient by hand, a chunk's is found by autograd: any function of rows of logits will do.
A test compares with the same function on all logits at once.

Ref: the idea of making the gradient in the forward pass, arXiv:2410.10989, section 3.2.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

CHUNK_ROWS = 1024
"""Rows a product, where the vocabulary is small: the matrix's gradient is added to once a chunk."""
CHUNK_ENTRIES = 2**24
"""Logits at once: 64 MB in fp32, of which a loss keeps half a dozen copies."""

Divergence = Callable[[Tensor, Tensor], Tensor]
LossOfLogits = Callable[[slice, Tensor], Tensor]


def forward_kl(student: Tensor, teacher: Tensor) -> Tensor:
    """Return KL(teacher || student), (N,), of log-probabilities (N, V): the student covers all that the teacher does.

    Its gradient is that of the soft cross-entropy, which is larger by the teacher's entropy.
    Ref: Distilling the Knowledge in a Neural Network, arXiv:1503.02531, section 2.
    """
    return (teacher.exp() * (teacher - student)).sum(dim=-1)


def reverse_kl(student: Tensor, teacher: Tensor) -> Tensor:
    """Return KL(student || teacher), (N,), of log-probabilities (N, V): it does nothing that its teacher would not.

    Ref: MiniLLM, arXiv:2306.08543, eq. 1.
    """
    return forward_kl(teacher, student)


def jensen_shannon(student: Tensor, teacher: Tensor, beta: float = 0.5) -> Tensor:
    """Return beta KL(teacher || m) + (1 - beta) KL(student || m), (N,), m = beta teacher + (1 - beta) student.

    Divided by beta it becomes the forward divergence as beta goes to 0, and by 1 - beta the reverse one towards 1.
    Ref: GKD, arXiv:2306.13649, eq. 2.
    """
    mixture = torch.logaddexp(teacher + math.log(beta), student + math.log1p(-beta))
    return beta * forward_kl(mixture, teacher) + (1 - beta) * forward_kl(mixture, student)


DIVERGENCES: dict[str, Divergence] = {"forward_kl": forward_kl, "reverse_kl": reverse_kl, "jsd": jensen_shannon}


def softened(divergence: Divergence, student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Return T^2 x the divergence, (N,), of logits (N, V) divided by T, which keeps the size of the gradient.

    Ref: arXiv:1503.02531, section 2.
    """
    logs = ((logits / temperature).log_softmax(dim=-1) for logits in (student, teacher))
    return temperature**2 * divergence(*logs)


def logits_of(hidden: Tensor, weight: Tensor, bias: Tensor | None, softcap: float | None) -> Tensor:
    """Return the logits (N, V) of what a head multiplies (N, D), in fp32 or wider."""
    logits = functional.linear(hidden, weight)
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    if bias is not None:
        logits = logits + bias
    return logits if softcap is None else softcap * torch.tanh(logits / softcap)


class ChunkedLoss(torch.autograd.Function):
    """Sums over rows of logits, with the gradients of the first made on the way."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        dtype: torch.dtype,
        softcap: float | None,
        loss: LossOfLogits,
    ) -> tuple[Tensor, Tensor]:
        """Return the sum to learn from, (), and all sums, (K,), for `hidden (N, D)`, `weight (V, D)`, `bias (V,)`."""
        size = max(1, min(CHUNK_ROWS, CHUNK_ENTRIES // len(weight)))
        parts = [part.requires_grad_(ctx.needs_input_grad[0]) for part in hidden.detach().split(size)]
        table = weight.detach().requires_grad_(ctx.needs_input_grad[1])
        offset = None if bias is None else bias.detach().requires_grad_(ctx.needs_input_grad[2])
        sums = []
        for number, part in enumerate(parts):
            with torch.enable_grad():
                logits = logits_of(part.to(dtype), table.to(dtype), offset, softcap)  # (chunk, V)
                found = loss(slice(number * size, number * size + len(part)), logits)
                found[0].backward()  # adds to the leaves, in their own type
            sums.append(found.detach())
        grad_hidden = torch.cat([part.grad for part in parts]) if ctx.needs_input_grad[0] else None
        ctx.save_for_backward(grad_hidden, table.grad, None if offset is None else offset.grad)
        total = torch.stack(sums).sum(dim=0)
        ctx.mark_non_differentiable(total)
        return total[0].clone(), total

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        """Scale the gradients that the forward pass made, in place: a second backward pass is an error of torch's."""
        scaled = (None if saved is None else saved.mul_(grad_outputs[0]) for saved in ctx.saved_tensors)
        return (*scaled, None, None, None)


def product_dtype(weight: Tensor) -> torch.dtype:
    """Return the type of matrix products with a weight: that of autocast, else its own."""
    kind = weight.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else weight.dtype


def chunked_sums(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, softcap: float | None, loss: LossOfLogits
) -> tuple[Tensor, Tensor]:
    """Return the first of the sums (K,) that `loss(rows, logits)` adds up over the logits of hidden (N, D), and all.

    The first has a gradient, so something of hidden, weight (V, D) and bias (V,) must be trained.
    """
    dtype = product_dtype(weight)
    with torch.autocast(hidden.device.type, enabled=False):
        return ChunkedLoss.apply(hidden, weight, bias, dtype, softcap, loss)  # type: ignore[no-untyped-call,no-any-return]
