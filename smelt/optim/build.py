"""From a model and a recipe to optimizers: who is decayed, who is orthogonalized, at what rate.

Matrices inside blocks and recurrent layers go to Muon (when it is chosen) or to AdamW with weight decay; embeddings
and the head to AdamW; vectors (norms, biases) to AdamW without decay. Every parameter lands in exactly one group.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from pydantic import Field
from torch import nn

from smelt.core.config import Config
from smelt.core.errors import TrainingError
from smelt.optim.muon import Muon
from smelt.optim.schedules import SCHEDULES

LAYERS = {"blocks", "recurrent"}
"""What a model calls the lists of its layers."""


class OptimizerRecipe(Config):
    """How the weights move."""

    name: Literal["adamw", "muon"] = "muon"
    """muon: orthogonalized momentum for the matrices of the layers, AdamW for the rest. adamw: AdamW for all."""
    learning_rate: float = Field(default=3e-3, gt=0)
    """Peak learning rate."""
    schedule: Literal["cosine", "wsd", "constant"] = "wsd"
    """Shape of the learning rate after warm-up: half a cosine, a plateau with a linear end, or constant."""
    warmup_fraction: float = Field(default=0.02, ge=0, le=1)
    """Share of the steps in which the rate rises."""
    decay_fraction: float = Field(default=0.4, ge=0, le=1)
    """Share of the steps in which the rate falls at the end (wsd)."""
    final_fraction: float = Field(default=0.0, ge=0, le=1)
    """Learning rate at the last step as a share of the peak."""
    weight_decay: float = Field(default=0.1, ge=0)
    """Decoupled weight decay of matrices."""
    beta1: float = Field(default=0.9, ge=0, lt=1)
    """AdamW's decay of the mean."""
    beta2: float = Field(default=0.95, ge=0, lt=1)
    """AdamW's decay of the square."""
    clip_norm: float = Field(default=1.0, gt=0)
    """Largest norm of the whole gradient; a larger one is scaled down."""


def build_optimizers(
    model: nn.Module,
    recipe: OptimizerRecipe,
    dtype: torch.dtype = torch.float32,
    factor: Callable[[str], float] = lambda name: 1.0,
) -> list[torch.optim.Optimizer]:
    """Return the optimizers that together own every trainable parameter once; `dtype` is that of matrix products.

    `model.blocks` and `model.recurrent` say which matrices are inside layers; `factor(name)` multiplies the learning
    rate of a parameter.

    Raises:
        TrainingError: every parameter is frozen.
    """
    groups: dict[tuple[bool, float, float], dict[str, Any]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        in_layers = parameter.ndim >= 2 and not LAYERS.isdisjoint(name.split("."))
        decay = recipe.weight_decay if parameter.ndim >= 2 else 0.0
        key = (in_layers and recipe.name == "muon", decay, factor(name))
        group = groups.setdefault(key, {"params": [], "weight_decay": decay, "factor": key[2]})
        group["params"].append(parameter)
    if not groups:
        raise TrainingError("every parameter of the model is frozen, so there is nothing to train")
    ordered = sorted(groups.items(), key=lambda item: (-item[0][1], -item[0][2]))
    plain = [group for key, group in ordered if not key[0]]
    orthogonal = [group for key, group in ordered if key[0]]
    optimizers: list[torch.optim.Optimizer] = []
    if plain:  # empty where only matrices of layers are trained
        betas = (recipe.beta1, recipe.beta2)
        optimizers.append(torch.optim.AdamW(plain, lr=recipe.learning_rate, betas=betas, fused=True))
    if orthogonal:
        optimizers.append(Muon(orthogonal, learning_rate=recipe.learning_rate, dtype=dtype))
    set_learning_rate(optimizers, recipe.learning_rate)
    return optimizers


def learning_rate_at(recipe: OptimizerRecipe, step: int, steps: int) -> float:
    """Return the learning rate of a step, a pure function of the recipe."""
    return recipe.learning_rate * SCHEDULES[recipe.schedule](
        step,
        steps=steps,
        warmup_steps=round(recipe.warmup_fraction * steps),
        decay_steps=round(recipe.decay_fraction * steps),
        final_fraction=recipe.final_fraction,
    )


def set_learning_rate(optimizers: Sequence[torch.optim.Optimizer], learning_rate: float) -> None:
    """Give every group this rate, times the factor of the group."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * group["factor"]
