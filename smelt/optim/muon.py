"""Muon: momentum whose direction is orthogonalized, for the matrices of the layers.

The momentum M = U S V^T is replaced by about U V^T, found with five Newton-Schulz steps that need matrix
products only. All singular directions then move at one speed, which on small budgets reaches a given loss in fewer
steps than AdamW. Matrices of one shape go through the iteration as one batch, because many
small products are call overhead. Embeddings, heads, norms and biases stay with AdamW.

The iteration corrects its own rounding, so it may run in bf16 where that is fast.

Ref: K. Jordan et al. 2024 (Muon), coefficients (3.4445, -4.7750, 2.0315); update scale 0.2 sqrt(max(rows, columns)),
arXiv:2502.16982, eq. 4, so that AdamW's learning rate and weight decay carry over.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor


def orthogonalize(matrices: Tensor, steps: int = 5) -> Tensor:
    """Return about U V^T for each matrix U S V^T of a batch `(N, rows, columns)`; singular values land in 0.7-1.2."""
    a, b, c = 3.4445, -4.7750, 2.0315
    wide = matrices.size(-2) <= matrices.size(-1)
    x: Tensor = matrices if wide else matrices.mT  # the Gram matrix is made on the short side
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x if wide else x.mT


class Muon(torch.optim.Optimizer):
    """Update matrices along their orthogonalized Nesterov momentum.

    Args:
        params: matrices, or parameter groups of them.
        learning_rate: of AdamW's size, thanks to the update scale.
        momentum: decay of the running gradient.
        weight_decay: decoupled, as in AdamW.
        dtype: of the matrix products of the orthogonalization.
    """

    def __init__(
        self,
        params: Iterable[Any],
        *,
        learning_rate: float,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(params, {"lr": learning_rate, "momentum": momentum, "weight_decay": weight_decay})
        self.dtype = dtype

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Move every matrix that has a gradient."""
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[Tensor]] = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    by_shape[parameter.shape].append(parameter)
            for parameters in by_shape.values():
                self._step_one_shape(parameters, group)

    def _step_one_shape(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        buffers = []
        for parameter in parameters:
            state = self.state[parameter]
            if "momentum_buffer" not in state:
                state["momentum_buffer"] = torch.zeros_like(parameter)
            buffers.append(state["momentum_buffer"])
        torch._foreach_lerp_(buffers, gradients, 1 - group["momentum"])
        nesterov = torch._foreach_lerp(gradients, buffers, group["momentum"])
        rows, columns = parameters[0].shape[-2:]  # experts lie stacked, each one a matrix
        matrices = torch.stack(nesterov).to(self.dtype).view(-1, rows, columns)
        updates = orthogonalize(matrices).to(parameters[0].dtype).view(-1, *parameters[0].shape)
        torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
        torch._foreach_add_(parameters, list(updates.unbind()), alpha=-group["lr"] * 0.2 * max(rows, columns) ** 0.5)
