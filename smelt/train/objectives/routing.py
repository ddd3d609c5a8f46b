"""Losses that keep a mixture of experts in use: balance, and small router scores.

Left alone, a router sends ever more tokens to the experts that learned first. The balance loss is E times the sum over
experts of (share of choices) x (mean probability): 1 when all experts are used alike, up to E when one takes all; only
the probability has a gradient. The z loss is the mean squared log of the summed exponentials, which keeps scores where
fp32 rounds them little. Both are means over the tokens of a layer, so they depend on what lies in a micro-batch
together.

Ref: Switch Transformers, arXiv:2101.03961, eq. 4 to 6. Ref: ST-MoE, arXiv:2202.08906, eq. 5.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def load_balance(scores: Tensor, experts_per_token: int) -> Tensor:
    """Return the balance loss of one layer's scores (N, E)."""
    num_experts = scores.shape[-1]
    chosen = functional.one_hot(scores.topk(experts_per_token, dim=-1).indices, num_experts).sum(dim=1)
    share = chosen.to(scores.dtype).mean(dim=0) / experts_per_token
    return num_experts * (share * scores.softmax(dim=-1).mean(dim=0)).sum()


def z_loss(scores: Tensor) -> Tensor:
    """Return the mean of log(sum(exp(scores)))^2 of one layer's scores (N, E)."""
    return scores.logsumexp(dim=-1).square().mean()
