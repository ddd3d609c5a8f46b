"""The one training loop: take a window of micro-batches, sum, divide once, step.

Weights of the whole window are summed before any loss is divided, so 8x1, 4x2 and 1x8 micro-batches give the
same step however unevenly the supervised tokens fall. A loss or gradient norm that is not finite never
reaches the weights. Whatever a run wants beside steps (metrics, validation, checkpoints, samples) is a hook:
a function called after each step, which may set `state.stop`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from smelt.core import runtime
from smelt.core.errors import TrainingError
from smelt.optim.build import OptimizerRecipe, learning_rate_at, set_learning_rate
from smelt.train.objectives import Objective, mean_loss
from smelt.train.state import TrainState


@dataclass(frozen=True)
class FitSettings:
    """Plain values of a run: `batch_rows` rows a step, computed `micro_rows` at a time."""

    steps: int
    batch_rows: int
    micro_rows: int
    optimizer: OptimizerRecipe
    dtype: torch.dtype = torch.float32


@dataclass(frozen=True)
class StepResult:
    """What one step did; `loss` is in nats per unit of the objective's weight, before the step."""

    loss: float
    gradient_norm: float
    learning_rate: float
    tokens: int
    seconds: float
    metrics: dict[str, float]


Hook = Callable[[TrainState, StepResult], None]


def fit(state: TrainState, objective: Objective, settings: FitSettings, hooks: Sequence[Hook] = ()) -> TrainState:
    """Train until `settings.steps` steps are done or a hook sets `state.stop`; return the same state.

    Raises:
        TrainingError: nothing to learn from, or a loss that is not finite.
    """
    state.model.train()
    while state.step < settings.steps and not state.stop:
        started = time.perf_counter()
        loss, norm, rate, tokens, metrics = train_step(state, objective, settings)
        seconds = time.perf_counter() - started
        state.step += 1
        state.tokens += tokens
        state.seconds += seconds
        result = StepResult(loss, norm, rate, tokens, seconds, metrics)
        for hook in hooks:
            hook(state, result)
    return state


def train_step(
    state: TrainState, objective: Objective, settings: FitSettings
) -> tuple[float, float, float, int, dict[str, float]]:
    """Do one optimizer step; return loss, gradient norm, learning rate, tokens and averaged metrics."""
    sizes = split_rows(settings.batch_rows, settings.micro_rows)
    batches = [state.source.take(size) for size in sizes]
    weight = torch.tensor([objective.weight(batch) for batch in batches], dtype=torch.float64).sum(dim=0)
    if not weight.any():
        raise TrainingError(
            f"step {state.step + 1}: every label of the batch is masked, so there is nothing to learn",
            fix="check the loss mask with `smelt data inspect`",
        )
    total, metrics = 0.0, dict[str, float]()
    for batch in batches:
        with runtime.autocast(settings.dtype):
            sums, found = objective(state.model, batch)
        loss = mean_loss(sums, weight)
        loss.backward()
        total += loss.item()
        for name, value in found.items():
            metrics[name] = metrics.get(name, 0.0) + value / weight.flatten()[0].item()
    parameters = [p for optimizer in state.optimizers for group in optimizer.param_groups for p in group["params"]]
    norm = torch.nn.utils.clip_grad_norm_(parameters, settings.optimizer.clip_norm).item()
    refuse_non_finite(state, total, norm)
    rate = learning_rate_at(settings.optimizer, state.step, settings.steps)
    set_learning_rate(state.optimizers, rate)
    for optimizer in state.optimizers:
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return total, norm, rate, sum(batch.ids.numel() for batch in batches), metrics


def refuse_non_finite(state: TrainState, loss: float, norm: float) -> None:
    """Stop before the weights are touched when the loss or the gradient is NaN or infinite."""
    if math.isfinite(loss) and math.isfinite(norm):
        return
    for optimizer in state.optimizers:
        optimizer.zero_grad(set_to_none=True)
    raise TrainingError(
        f"step {state.step + 1}: loss {loss}, gradient norm {norm}; the weights were not changed",
        fix="lower optimizer.learning_rate, or look at the rows of this step; the last checkpoint is intact",
    )


def split_rows(batch_rows: int, micro_rows: int) -> list[int]:
    """Split a batch into micro-batches: (8, 3) -> [3, 3, 2]."""
    full, rest = divmod(batch_rows, micro_rows)
    return [micro_rows] * full + ([rest] if rest else [])
