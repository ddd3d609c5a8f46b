"""AdamW whose mean and square take 8 bits: 2.03 bytes a parameter beside weight and gradient, where fp32 takes 8.

A step reads the moments, moves them and the weight in fp32, and writes the moments back in 8 bits (`optim.dynamic8`,
the mean signed, the square not). So rounding never enters the step that causes it, only what later steps remember. A
block's scale is its own largest magnitude, and an outlier spoils 255 neighbours at most. Tensors under 4,096 numbers
keep fp32 moments: they are norms and biases, where precision counts and bytes do not.

The paged optimizer of QLoRA, which moves state out of an accelerator's memory when that runs short, needs nothing here:
on a processor the state is in ordinary memory, and the page file is the operating system's.

Ref: 8-bit Optimizers via Block-wise Quantization, arXiv:2110.02861. Ref: AdamW, arXiv:1711.05101, algorithm 2.
Ref: QLoRA, arXiv:2305.14314, 3 (paged optimizers). As in bitsandbytes' AdamW8bit but for its sign rule: there a
negative mean that would become 0 takes the least negative code; here every number takes the nearest.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from smelt.nn.pieces import in_threads
from smelt.optim import dynamic8, kernels

LEAST_NUMBERS = 4096  # of a tensor whose moments are in 8 bits
LEAST_BLOCKS = 2**8  # for a thread: below, starting it takes longer than the work


class AdamW8(torch.optim.Optimizer):
    """Move every parameter against its mean gradient, divided by the root of its mean square.

    Args:
        params: parameters, or groups of them; fp32 on the processor takes the compiled step.
        learning_rate: size of a step.
        betas: decay of mean and square.
        eps: what is added to the root.
        weight_decay: decoupled, before the step.
    """

    def __init__(
        self,
        params: Iterable[Any],
        *,
        learning_rate: float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, {"lr": learning_rate, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    @staticmethod
    def blank_state(parameter: Tensor) -> dict[str, Tensor]:
        """Return a parameter's state before the first step: also what a saved one has to look like."""
        wide = torch.zeros_like(parameter, dtype=torch.float32)
        state = {"step": torch.zeros((), dtype=torch.float32), "mean": wide, "square": wide.clone()}
        if parameter.numel() >= LEAST_NUMBERS:
            scales = wide.new_zeros(dynamic8.num_blocks(parameter.numel()))
            codes = {"mean": wide.byte(), "square": wide.byte()}
            state |= {**codes, "mean_scales": scales, "square_scales": scales.clone()}
        return state

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Move every parameter that has a gradient."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                if not self.state[parameter]:
                    self.state[parameter] = self.blank_state(parameter)
                state = self.state[parameter]
                state["step"] += 1
                rates = rates_of(group, int(state["step"]))
                if "mean_scales" not in state:
                    advance(parameter, parameter.grad, state["mean"], state["square"], rates)
                elif parameter.device.type == "cpu" and parameter.dtype == torch.float32:
                    advance_compiled(parameter, parameter.grad, state, rates)
                else:
                    advance_in_8_bits(parameter, parameter.grad, state, rates)


def rates_of(group: dict[str, Any], step: int) -> tuple[float, ...]:
    """Return the numbers of a step: see `kernels.step`."""
    beta1, beta2 = group["betas"]
    size, root = group["lr"] / (1 - beta1**step), math.sqrt(1 - beta2**step)
    return beta1, 1 - beta1, beta2, 1 - beta2, 1 - group["lr"] * group["weight_decay"], size, 1 / root, group["eps"]


def advance(parameter: Tensor, gradient: Tensor, mean: Tensor, square: Tensor, rates: tuple[float, ...]) -> None:
    """Move fp32 moments and the parameter, in place."""
    keep_mean, new_mean, keep_square, new_square, decay, size, inverse_root, epsilon = rates
    gradient = gradient.float()
    mean.mul_(keep_mean).add_(gradient * new_mean)
    square.mul_(keep_square).add_(gradient * new_square * gradient)
    moved = parameter.float() * decay - size * mean / (square.sqrt() * inverse_root + epsilon)
    parameter.copy_(moved)


def advance_in_8_bits(parameter: Tensor, gradient: Tensor, state: dict[str, Tensor], rates: tuple[float, ...]) -> None:
    """Move 8-bit moments and the parameter, in place: what the compiled step does."""
    mean = dynamic8.dequantize(state["mean"], state["mean_scales"], signed=True)
    square = dynamic8.dequantize(state["square"], state["square_scales"], signed=False)
    advance(parameter, gradient, mean, square, rates)
    state["mean"], state["mean_scales"] = dynamic8.quantize(mean, signed=True)
    state["square"], state["square_scales"] = dynamic8.quantize(square, signed=False)


def advance_compiled(parameter: Tensor, gradient: Tensor, state: dict[str, Tensor], rates: tuple[float, ...]) -> None:
    """Do the same in compiled loops; fp32 on the processor only."""
    values = torch.stack([dynamic8.code_values(signed=signed) for signed in (True, False)])
    middles = torch.stack([dynamic8.middles_of(row) for row in values])
    tensors = [parameter.detach().view(-1), gradient.reshape(-1), state["mean"].view(-1), state["mean_scales"]]
    tensors += [state["square"].view(-1), state["square_scales"], values, middles, torch.tensor(rates)]
    arrays = [tensor.numpy() for tensor in tensors]
    in_threads(kernels.step, len(state["mean_scales"]), *arrays, least=LEAST_BLOCKS)
