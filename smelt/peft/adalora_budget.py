"""AdaLoRA's budget: how many triplets all layers may have at a step, and which of them are worth it.

A number's sensitivity is |w dL/dw|, what the loss would change by without it; from step to step that is noisy, so a
running mean of it is taken, and one of how far it strays from that mean. The importance of a triplet is the product of
both for its lambda, plus the means of the products over its column of P and its row of Q. At the first steps all are
kept, then fewer and fewer by a cubic curve, and in the last part of a run those that were left stay.

Gradients are read after each optimizer's step and before they are cleared, with the new numbers, as in peft.

Ref: AdaLoRA, arXiv:2303.10512, eq. 7 to 12 and algorithm 1; eq. 12 as in the authors' code, which begins the curve at
the end of the first part.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from smelt.peft.adalora_layer import Measured, Triplets, by_triplets


@dataclass(frozen=True)
class Schedule:
    """Say how many triplets there may be: `initial` in the `warmup` steps, `target` in the `final` ones of `steps`.

    Triplets are chosen anew every `every` steps, and a last time before the final steps.
    """

    steps: int
    warmup: int
    final: int
    every: int
    initial: int
    target: int

    @property
    def end(self) -> int:
        """Return the step at which triplets are chosen a last time."""
        return self.steps - self.final

    def budget(self, step: int) -> int:
        """Return how many triplets there may be after a step, counted from 1.

        steps 10, warmup 2, final 4, initial 24, target 8: 24 24 14 10 8 8 8 ..
        """
        if step <= self.warmup:
            return self.initial
        left = max(0.0, 1 - (step - self.warmup) / (self.end - self.warmup))
        return int((self.initial - self.target) * left**3 + self.target)

    def chooses(self, step: int) -> bool:
        """Tell whether triplets are chosen anew after a step."""
        return step == self.end or (self.warmup < step < self.end and step % self.every == 0)


def phases(steps: int, warmup_fraction: float, final_fraction: float) -> tuple[int, int]:
    """Return the numbers of first and of final steps, which leave one at least in between."""
    warmup = min(round(warmup_fraction * steps), steps - 1)
    return warmup, min(round(final_fraction * steps), steps - 1 - warmup)


class Progress(nn.Module):
    """Count the steps of a run and remember how many it has, in buffers; 0 of 0 before a run.

    `orthogonality` is the weight of the penalty.
    """

    step: Tensor
    steps: Tensor

    def __init__(self, orthogonality: float) -> None:
        super().__init__()
        self.orthogonality = orthogonality
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))


def progress_of(model: nn.Module) -> Progress:
    """Return how far a model's run is."""
    return cast(Progress, model.get_submodule("adalora"))


class Allocator:
    """Watch the steps of a model: take the importance of what it was given, and let the least important triplets go."""

    def __init__(self, model: nn.Module, progress: Progress, schedule: Schedule, beta1: float, beta2: float) -> None:
        self.parts = by_triplets(model)
        self.progress, self.schedule, self.betas = progress, schedule, (beta1, beta2)
        self.measured: list[tuple[Measured, str, nn.Parameter]] = []
        for triplets, layers in self.parts:
            self.measured += [(triplets, name, triplets.get_parameter(name)) for name in ("right", "values")]
            self.measured += [(layer, "left", layer.left) for layer in layers.values()]

    def after(self, optimizer: torch.optim.Optimizer, *, is_last: bool) -> None:
        """Measure the parameters of an optimizer that has just stepped; the last of a step chooses the triplets."""
        step = int(self.progress.step) + 1
        owned = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
        if step < self.schedule.end:
            for module, name, parameter in self.measured:
                if id(parameter) in owned:
                    update_means(parameter, *module.means(name), *self.betas)
        if not is_last:
            return
        self.progress.step += 1
        if self.schedule.chooses(step):
            choose([part for part, _ in self.parts], self.scores(), self.schedule.budget(step))
        elif step > self.schedule.end:
            mask(part for part, _ in self.parts)

    def scores(self) -> list[Tensor]:
        """Return the importance of each module's triplets: (R,) each."""
        return [_scores(triplets, list(layers.values())) for triplets, layers in self.parts]


@torch.no_grad()
def update_means(parameter: Tensor, sensitivity: Tensor, uncertainty: Tensor, beta1: float, beta2: float) -> None:
    """Take a parameter's gradient into its running means, in place; none is a gradient of zero.

    Ref: eq. 8 (sensitivity), 9 (its mean), 10 (uncertainty).
    """
    now = torch.zeros_like(parameter) if parameter.grad is None else (parameter * parameter.grad).abs()
    sensitivity.copy_(beta1 * sensitivity + (1 - beta1) * now)
    uncertainty.copy_(beta2 * uncertainty + (1 - beta2) * (now - sensitivity).abs())


def _scores(triplets: Triplets, layers: Iterable[Measured]) -> Tensor:
    """Return the importance of a module's triplets (R,): eq. 7, with eq. 11 for each number."""

    def products(module: Measured, name: str) -> Tensor:
        sensitivity, uncertainty = module.means(name)
        return sensitivity * uncertainty

    left = torch.cat([products(layer, "left") for layer in layers])  # P (out, R), of all rows of the module
    return products(triplets, "values") + products(triplets, "right").mean(dim=1) + left.mean(dim=0)


@torch.no_grad()
def choose(parts: list[Triplets], scores: list[Tensor], budget: int) -> None:
    """Keep the `budget` triplets of the highest scores (R,) among all modules, and mask the others, in place.

    Of equal scores those of the later modules are kept; peft would let all of them go, and miss its budget.
    """
    order = torch.cat(scores).argsort(stable=True)
    kept = torch.ones_like(order, dtype=torch.bool)
    kept[order[: max(0, len(order) - budget)]] = False
    for part, its in zip(parts, kept.split([len(score) for score in scores]), strict=True):
        part.kept.copy_(its)
    mask(parts)


@torch.no_grad()
def mask(parts: Iterable[Triplets]) -> None:
    """Set lambda of all triplets that are not kept to zero, in place."""
    for part in parts:
        part.values.masked_fill_(~part.kept, 0.0)


def ranks(model: nn.Module) -> dict[str, int]:
    """Return how many triplets each layer has at present, by its name."""
    return {name: int(triplets.kept.sum()) for triplets, layers in by_triplets(model) for name in layers}


def mean_rank(model: nn.Module) -> float:
    """Return how many triplets a published module has at present, in the mean: what the budget is about."""
    kept = [int(triplets.kept.sum()) for triplets, _ in by_triplets(model)]
    return sum(kept) / len(kept)


@torch.no_grad()
def prune(model: nn.Module) -> None:
    """Take the triplets out whose lambda is zero, in place: a smaller file and less to compute, once a run is over."""
    for triplets, layers in by_triplets(model):
        used = triplets.values != 0
        for layer in layers.values():
            layer.put("left", layer.left[:, used])
        triplets.put_triplets(triplets.right[used], triplets.values[used])
