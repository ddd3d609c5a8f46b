"""What every way of tuning has in common: told by settings, put on a built model, trained, kept in files, taken off.

A method is a value, a handful of functions over a model, and no class that a model would have to know: training, files
and the command line ask the table in `methods` and treat all of them alike. A model that was tuned carries what was
added as modules of its own, so its parameters are found, moved, saved and counted as any others are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from smelt.core.config import Config
from smelt.nn.spec import ModelSpec

Model = Any
"""A network; `attach` refuses the kinds that a method is not for, so its other functions meet only those it is for."""


def nothing_more(model: Model, settings: Any, optimizers: Sequence[torch.optim.Optimizer], steps: int) -> None:
    """Do nothing beside the steps of a run."""


def as_they_are(name: str, settings: Any) -> float:
    """Return the factor of a parameter's learning rate: 1."""
    return 1.0


def no_room(settings: Any) -> int:
    """Return how many tokens of the context a method takes: none."""
    return 0


@dataclass(frozen=True)
class Method:
    """A way of tuning that adds parameters to a model whose own stay as they are.

    `attach(model, settings, seed)` freezes a built model and adds to it, in place. Raises ConfigError for settings that
    do not fit the model, and for a model that the method is not for.
    `config(model, settings)` and `tensors(model)` are what adapter_config.json and adapter_model.safetensors hold, the
    names being those of the published layout; `read(config, spec)` gives settings back, and raises CheckpointError for
    what it cannot honour; `fill(model, tensors)` puts the tensors of a file into a model that was attached to, and
    raises CheckpointError for any that is missing, unknown or misshapen.
    `merge(model)` takes off what was added and puts it into the weights; None where no weights could say the same.
    `watch(model, settings, optimizers, steps)` is called once before the first step of a run, after a checkpoint was
    restored; `penalty(model)` is added to the mean loss; `factor(name, settings)` multiplies a parameter's rate;
    `virtual_tokens(settings)` is how many tokens of the context are taken from every text.
    """

    name: str  # in recipes
    peft_type: str  # in adapter_config.json
    settings: type[Config]
    attach: Callable[[Model, Any, int], None]
    config: Callable[[Model, Any], dict[str, Any]]
    tensors: Callable[[Model], dict[str, Tensor]]
    read: Callable[[Mapping[str, Any], ModelSpec], Any]
    fill: Callable[[Model, Mapping[str, Tensor]], None]
    merge: Callable[[Model], None] | None = None
    watch: Callable[[Model, Any, Sequence[torch.optim.Optimizer], int], None] = nothing_more
    penalty: Callable[[Model], Tensor] | None = None
    factor: Callable[[str, Any], float] = as_they_are
    virtual_tokens: Callable[[Any], int] = no_room
