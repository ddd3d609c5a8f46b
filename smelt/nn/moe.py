"""A mixture of experts: many feed-forward networks of which every token takes a few, chosen by a router.

Parameters grow with the experts, work only with those taken. Tokens are sorted by expert and all experts run in two
grouped products: no loop over experts, no capacity, no token dropped. `forward_reference` is that loop, and a test
proves both equal. The router works in fp32, where the order of close scores is stable; its scores are returned,
because the losses that keep experts busy are an objective's business.

Ref: Outrageously Large Neural Networks, arXiv:1701.06538. Ref: arXiv:2401.04088 (top-2, weights renormalised).
Ref: arXiv:2401.06066 (shared experts). Ref: MegaBlocks, arXiv:2211.15841 (grouped products).
"""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from smelt.nn.feedforward import GATES, GatedFeedForward
from smelt.nn.spec import MoESpec


class MixtureOfExperts(nn.Module):
    """Add up what the chosen experts make of each token."""

    def __init__(self, spec: MoESpec, dim: int) -> None:
        super().__init__()
        self.spec = spec
        experts, hidden = spec.num_experts, spec.expert.hidden_dim
        self.router = nn.Linear(dim, experts, bias=False)
        # The gate of the first expert, its up matrix, the gate of the second: one product makes both of an expert.
        self.gate_up = _matrices(2 * experts, hidden, dim)
        self.down = _matrices(experts, dim, hidden)
        self.shared = None if spec.shared is None else GatedFeedForward(spec.shared, dim)
        self.shared_gate = nn.Linear(dim, 1, bias=False) if spec.gated_shared else None
        self.activation = GATES[spec.expert.activation]

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Transform each token: (B, T, D) -> (B, T, D) and the router's scores (B, T, E)."""
        tokens = x.flatten(0, 1)  # (N, D)
        scores, weights, chosen = self.route(tokens)
        order = chosen.flatten().argsort(stable=True)  # places (token, choice) by expert: (N k,)
        ends = torch.bincount(chosen.flatten(), minlength=self.spec.num_experts).cumsum(0).to(torch.int32)
        owners = order // self.spec.experts_per_token
        rows: Tensor = spread(tokens, owners)
        gate, up = _grouped(rows, self.gate_up.unflatten(0, (-1, 2)).flatten(1, 2), ends).chunk(2, dim=-1)
        # The last product is linear: weighting what it is given costs less than weighting what it makes.
        hidden = self.activation(gate) * up * weights.flatten()[order, None].to(gate.dtype)
        found = _grouped(hidden, self.down, ends)
        out: Tensor = collect(found.to(tokens.dtype), owners, len(tokens))
        return self._with_shared(tokens, out).view_as(x), scores.view(*x.shape[:-1], -1)

    def forward_reference(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Do the same, one expert after another."""
        tokens = x.flatten(0, 1)
        scores, weights, chosen = self.route(tokens)
        out = torch.zeros_like(tokens)
        for expert in range(self.spec.num_experts):
            owners, choices = (chosen == expert).nonzero(as_tuple=True)
            rows = tokens[owners]
            gate, up = self.gate_up[2 * expert], self.gate_up[2 * expert + 1]
            hidden = self.activation(rows @ gate.T) * (rows @ up.T)
            out = out.index_add(0, owners, hidden @ self.down[expert].T * weights[owners, choices, None].to(x.dtype))
        return self._with_shared(tokens, out).view_as(x), scores.view(*x.shape[:-1], -1)

    def route(self, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return scores (N, E) in fp32, and the weights and numbers of the experts taken (N, k)."""
        with torch.autocast(tokens.device.type, enabled=False):
            scores = functional.linear(tokens.float(), self.router.weight.float())
        weights, chosen = scores.softmax(dim=-1).topk(self.spec.experts_per_token, dim=-1)
        if self.spec.normalized:
            weights = weights / weights.sum(dim=-1, keepdim=True)
        return scores, weights, chosen

    def _with_shared(self, tokens: Tensor, out: Tensor) -> Tensor:
        if self.shared is None:
            return out
        shared: Tensor = self.shared(tokens)
        return out + (shared if self.shared_gate is None else torch.sigmoid(self.shared_gate(tokens)) * shared)


def _matrices(num_experts: int, num_rows: int, num_columns: int) -> nn.Parameter:
    """Make stacked matrices (E, rows, columns), drawn as torch's Linear draws one."""
    bound = 1 / math.sqrt(num_columns)
    return nn.Parameter(torch.empty(num_experts, num_rows, num_columns).uniform_(-bound, bound))


def _grouped(rows: Tensor, weights: Tensor, ends: Tensor) -> Tensor:
    """Multiply each group of rows, which ends before `ends` (E,), by its own matrix: (N, D) x (E, F, D) -> (N, F).

    Torch's kernel takes sizes that are multiples of 16 bytes; others are filled up with zeros.
    """
    weights, num_columns = weights.to(rows.dtype), weights.shape[1]
    unit = 16 // rows.element_size()
    if rows.shape[1] % unit or num_columns % unit:
        spare = -rows.shape[1] % unit
        weights = functional.pad(weights, (0, spare, 0, -num_columns % unit))
        rows = functional.pad(rows, (0, spare))
    out: Tensor = grouped_product(rows, weights, ends)
    return out[:, :num_columns]


# Operators of our own around torch's kernel: what it tells the compiler about shapes is for bf16 alone.
@torch.library.custom_op("smelt::grouped_product", mutates_args=())
def grouped_product(rows: Tensor, weights: Tensor, ends: Tensor) -> Tensor:
    """Multiply groups of rows (N, D), which end before `ends` (E,), by matrices (E, F, D): (N, F)."""
    return functional.grouped_mm(rows, weights.mT, offs=ends)


@torch.library.custom_op("smelt::grouped_outer", mutates_args=())
def grouped_outer(left: Tensor, right: Tensor, ends: Tensor) -> Tensor:
    """Sum the outer products of the rows of each group: (N, F), (N, D), (E,) -> (E, F, D)."""
    return functional.grouped_mm(left.mT, right, offs=ends)


@grouped_product.register_fake
def _(rows: Tensor, weights: Tensor, ends: Tensor) -> Tensor:
    return rows.new_empty(rows.shape[0], weights.shape[1])


@grouped_outer.register_fake
def _(left: Tensor, right: Tensor, ends: Tensor) -> Tensor:
    return left.new_empty(ends.shape[0], left.shape[1], right.shape[1])


def _keep(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _gradients(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
    rows, weights, ends = ctx.saved_tensors
    grad = grad.contiguous()
    return grouped_product(grad, weights.mT, ends), grouped_outer(grad, rows, ends), None


grouped_product.register_autograd(_gradients, setup_context=_keep)


# These two are each other's gradient. Torch's own gradient of an index goes from row to row on one core, and compiled
# sums by owner are atomic additions.
@torch.library.custom_op("smelt::spread", mutates_args=())
def spread(tokens: Tensor, owners: Tensor) -> Tensor:
    """Copy each token to its places: (N, D), (N k,) -> (N k, D)."""
    return tokens[owners]


@torch.library.custom_op("smelt::collect", mutates_args=())
def collect(found: Tensor, owners: Tensor, num_tokens: int) -> Tensor:
    """Sum what was found at each token's places: (N k, D), (N k,) -> (N, D)."""
    return found.new_zeros(num_tokens, found.shape[1]).index_add_(0, owners, found)


@spread.register_fake
def _(tokens: Tensor, owners: Tensor) -> Tensor:
    return tokens.new_empty(owners.shape[0], tokens.shape[1])


@collect.register_fake
def _(found: Tensor, owners: Tensor, num_tokens: int) -> Tensor:
    return found.new_empty(num_tokens, found.shape[1])


def _keep_owners(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(inputs[1])
    ctx.num_tokens = inputs[0].shape[0]


def _spread_gradients(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
    return collect(grad, ctx.saved_tensors[0], ctx.num_tokens), None


def _collect_gradients(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
    return spread(grad, ctx.saved_tensors[0]), None, None


spread.register_autograd(_spread_gradients, setup_context=_keep_owners)
collect.register_autograd(_collect_gradients, setup_context=_keep_owners)
