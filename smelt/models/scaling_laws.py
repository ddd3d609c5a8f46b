"""The loss that N parameters reach after D tokens, and from it the best N and D for a budget of work.

    L(N, D) = E + A / N^alpha + B / D^beta    nats a token        C = 6 N D    FLOPs

E is what no model of this kind gets below, the second term what a small model lacks, the third what too little text
leaves unlearned. For a fixed C the two terms trade against each other and the best split has a closed form. Everything
else here is a power law that somebody else measured: it is a place to start from, within the range it was fitted in.

Ref: Hoffmann et al. 2022, arXiv:2203.15556, eq. 2, 4 and 10. Ref: Besiroglu et al. 2024, arXiv:2404.10102.
Ref: Muennighoff et al. 2023, arXiv:2305.16264, 3.1. Ref: DeepSeek LLM, arXiv:2401.02954, 3.1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

FLOPS_PER_PARAMETER = 6  # a token's forward pass multiplies and adds once with each, the backward pass twice
REPEAT_DECAY = 15.387756  # R* of repeated text: after so many passes more, a token is worth 1/e of a new one
FEW_PASSES = 4  # up to here repeated text was found almost as good as new
FITTED_PARAMETERS, FITTED_TOKENS = (7e7, 1.6e10), (5e9, 5e11)  # the runs behind both published laws
HYPERPARAMETER_RANGE_FLOPS = (1e17, 2e19)  # where `batch_tokens` and `learning_rate` were measured
GRID_POINTS = 4096

Number = Any  # a float or an array of them, and the result alike


@dataclass(frozen=True)
class ScalingLaw:
    """Hold the five constants of L(N, D), under the letters of the paper."""

    E: float
    A: float
    alpha: float
    B: float
    beta: float

    def loss(self, parameters: Number, tokens: Number) -> Number:
        """Return the predicted loss; numbers or arrays."""
        return self.E + self.A * np.power(parameters, -self.alpha) + self.B * np.power(tokens, -self.beta)

    def best_split(self, flops: float) -> tuple[float, float]:
        """Return the N and D of least loss with 6 N D = C, in closed form (eq. 4)."""
        both = self.alpha + self.beta
        scale = (self.alpha * self.A / (self.beta * self.B)) ** (1 / both)
        parameters = scale * (flops / FLOPS_PER_PARAMETER) ** (self.beta / both)
        return parameters, flops / FLOPS_PER_PARAMETER / parameters

    def best_parameters(self, tokens: float) -> float:
        """Return the N for which so many tokens are the best split: where both terms fall equally fast."""
        return float((self.alpha * self.A * tokens**self.beta / (self.beta * self.B)) ** (1 / self.alpha))

    def best_split_repeating(self, flops: float, unique_tokens: float) -> tuple[float, float]:
        """Return the N and D of least loss with 6 N D = C when only so many tokens are new.

        Repeating is worth less than new text, so the model becomes larger than `best_split` says, and at most so
        large that the text is read once. A search over N, to a thousandth.
        """
        parameters, tokens = self.best_split(flops)
        if tokens <= unique_tokens:
            return parameters, tokens
        once = flops / FLOPS_PER_PARAMETER / unique_tokens
        sizes = np.geomspace(parameters, once, GRID_POINTS)
        counts = flops / FLOPS_PER_PARAMETER / sizes
        best = int(np.argmin(self.loss(sizes, effective_tokens(counts, unique_tokens))))
        return float(sizes[best]), float(counts[best])


LAWS = {
    "besiroglu": ScalingLaw(E=1.8172, A=482.01, alpha=0.3478, B=2085.43, beta=0.3658),
    "chinchilla": ScalingLaw(E=1.69337368, A=406.401018, alpha=0.33917084, B=410.722827, beta=0.2849083),
}
"""Published constants. `chinchilla` is the parametric fit of Hoffmann et al. before they rounded it for print;
`besiroglu` fits the same runs anew, and unlike the former agrees with their other methods: 20 tokens a parameter."""


def effective_tokens(tokens: Number, unique_tokens: float) -> Number:
    """Return how many new tokens are worth as much as reading `unique_tokens` over and over, `tokens` in all.

    U + U R* (1 - exp(-R / R*)) with R = D / U - 1; what is read once counts in full.
    """
    repeats = np.maximum(np.divide(tokens, unique_tokens) - 1, 0)
    worth: NDArray[np.float64] = unique_tokens * (1 + REPEAT_DECAY * -np.expm1(-repeats / REPEAT_DECAY))
    return np.where(repeats > 0, worth, tokens)


def batch_tokens(flops: float) -> float:
    """Return the batch, in tokens, that was best for this budget; the optimum is flat."""
    return float(0.2920 * flops**0.3271)


def learning_rate(flops: float) -> float:
    """Return AdamW's peak learning rate that was best for this budget; the optimum is flat."""
    return float(0.3118 * flops**-0.1250)
