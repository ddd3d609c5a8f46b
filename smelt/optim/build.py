"""From a model and a recipe to optimizers: who is decayed, who is orthogonalized, at what rate.

Matrices inside blocks and recurrent layers go to Muon (when it is chosen) or to AdamW with weight decay; embeddings
and the head to AdamW; vectors (norms, biases) to AdamW without decay. Every parameter lands in exactly one group.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from pydantic import Field
from torch import nn

from smelt.core.config import Config
from smelt.core.errors import TrainingError
from smelt.optim.adamw8 import AdamW8
from smelt.optim.muon import Muon
from smelt.optim.schedules import SCHEDULES

OptimizerName = Literal["adamw", "adamw8bit", "muon"]
LAYERS = {"blocks", "recurrent"}
"""What a model calls the lists of its layers."""


class OptimizerRecipe(Config):
    """How the weights move."""

    name: OptimizerName = "muon"
    """muon: orthogonalized momentum for the matrices of the layers, AdamW for the rest. adamw: AdamW for all.
    adamw8bit: AdamW for all, whose two moments take a quarter of the memory."""
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
    model: nn.Module, recipe: OptimizerRecipe, dtype: torch.dtype = torch.float32
) -> list[torch.optim.Optimizer]:
    """Return the optimizers that together own every trainable parameter once; `dtype` is that of matrix products.

    `model.blocks` and `model.recurrent` say which matrices are inside layers.

    Raises:
        TrainingError: every parameter is frozen.
    """
    inside_layers = {
        id(parameter) for name, parameter in model.named_parameters() if not LAYERS.isdisjoint(name.split("."))
    }
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    vectors = [parameter for parameter in trainable if parameter.ndim < 2]
    layer_matrices = [parameter for parameter in trainable if parameter.ndim >= 2 and id(parameter) in inside_layers]
    tables = [parameter for parameter in trainable if parameter.ndim >= 2 and id(parameter) not in inside_layers]
    if not trainable:
        raise TrainingError("every parameter of the model is frozen, so there is nothing to train")
    decayed = tables if recipe.name == "muon" else tables + layer_matrices
    candidates = [
        {"params": decayed, "weight_decay": recipe.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    optimizers: list[torch.optim.Optimizer] = []
    if groups := [group for group in candidates if group["params"]]:  # empty where only matrices of layers are trained
        betas = (recipe.beta1, recipe.beta2)
        if recipe.name == "adamw8bit":
            optimizers.append(AdamW8(groups, learning_rate=recipe.learning_rate, betas=betas))
        else:
            optimizers.append(torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=betas, fused=True))
    if recipe.name == "muon" and layer_matrices:
        rate, decay = recipe.learning_rate, recipe.weight_decay
        optimizers.append(Muon(layer_matrices, learning_rate=rate, weight_decay=decay, dtype=dtype))
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
    """Give every group this rate."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = learning_rate
