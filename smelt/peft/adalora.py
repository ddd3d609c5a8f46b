"""AdaLoRA over a whole model: more triplets for the layers where they matter, within one budget for all.

Every layer begins with the same rank; while a run goes on, the least important triplets of all layers are let go, until
the mean rank is the target. The method is the form (`adalora_layer`), the budget (`adalora_budget`) and peft's files
(`adalora_files`), put together here.

Ref: AdaLoRA, arXiv:2303.10512.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from smelt.core.errors import ConfigError, UsageError
from smelt.models.encoder_decoder import Network
from smelt.nn.surgery import select, swap
from smelt.peft.adalora_budget import Allocator, Progress, Schedule, phases, progress_of
from smelt.peft.adalora_files import config, fill, read, tensors
from smelt.peft.adalora_layer import AdaLoraLinear, Triplets, by_triplets, orthogonality
from smelt.peft.adalora_settings import AdaLoraSettings
from smelt.peft.low_rank import device_of
from smelt.peft.method import Method
from smelt.peft.published import Place, by_module, published_layers

FIRST_SPREAD = 0.02
"""Standard deviation of P and Q at the start; lambda is zero."""


def attach(model: Network, settings: AdaLoraSettings, seed: int) -> None:
    """Freeze a model and put triplets beside its targeted layers, in place; the output stays what it was.

    P and Q are drawn from the seed. Raises ConfigError for targets that match nothing and a rank above a layer's
    smaller side, UsageError where AdaLoRA is on already.
    """
    if by_triplets(model):
        raise UsageError("the model has AdaLoRA layers already", fix="merge them first")
    places = published_layers(model.spec)
    names = select(places, settings.targets or ("*",), setting="adalora.targets")
    modules = by_module({name: places[name] for name in names})
    for layers in modules.values():
        check_rank(layers[0], places[layers[0]], settings.initial_rank)
    model.requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)

    def drawn(num_rows: int, num_columns: int, device: torch.device) -> Tensor:
        return torch.empty(num_rows, num_columns).normal_(std=FIRST_SPREAD, generator=generator).to(device)

    for layers in modules.values():
        device = device_of(model.get_submodule(layers[0]))
        right = drawn(settings.initial_rank, places[layers[0]].num_columns, device)
        triplets = Triplets(right, scale=settings.scale)
        for name in layers:
            base = model.get_submodule(name)
            left = drawn(len(places[name].rows), settings.initial_rank, device)
            layer = AdaLoraLinear(base, left, triplets, owns=name == layers[0], dropout=settings.dropout)
            swap(model, name, layer.train(base.training))
    model.adalora = Progress(settings.orthogonality).to(device)


def check_rank(name: str, place: Place, rank: int) -> None:
    """Raise ConfigError for a rank above the smaller side of a layer's module."""
    if rank > place.smaller_side:
        raise ConfigError(
            f"adalora.initial_rank {rank} for {name}, a matrix of {place.num_rows} by {place.num_columns}",
            accepted=f"1 to {place.smaller_side}",
        )


def watch(model: Network, settings: AdaLoraSettings, optimizers: Sequence[torch.optim.Optimizer], steps: int) -> None:
    """Follow every step of a run from now on: read the gradients after it, and let triplets go as the budget says."""
    progress = progress_of(model)
    progress.steps.fill_(steps)
    parts = by_triplets(model)
    warmup, final = phases(steps, settings.warmup_fraction, settings.final_fraction)
    initial = sum(len(triplets.values) for triplets, _ in parts)
    target = min(initial, settings.target_rank * len(parts))
    schedule = Schedule(steps, warmup, final, settings.choose_every, initial, target)
    allocator = Allocator(model, progress, schedule, settings.beta1, settings.beta2)
    for optimizer in optimizers:
        hook = partial(_stepped, allocator, is_last=optimizer is optimizers[-1])
        optimizer.register_step_post_hook(hook)


def _stepped(
    allocator: Allocator, optimizer: torch.optim.Optimizer, args: object, kwargs: object, *, is_last: bool
) -> None:
    """Be told of a step, as torch tells its hooks."""
    allocator.after(optimizer, is_last=is_last)


def penalty(model: Network) -> Tensor:
    """Return what a step adds to the mean loss, so that P and Q stay near orthogonal."""
    return progress_of(model).orthogonality * orthogonality(model)


def merge(model: Network) -> None:
    """Put what was learned into the weights, in place, summed in fp32. Raises UsageError where there is none."""
    parts = by_triplets(model)
    if not parts:
        raise UsageError("the model has no AdaLoRA layers to merge", fix="attach or load an adapter first")
    for _, layers in parts:
        for name, layer in layers.items():
            swap(model, name, layer.merged())
    del model.adalora


METHOD = Method(
    name="adalora",
    peft_type="ADALORA",
    settings=AdaLoraSettings,
    attach=attach,
    config=config,
    tensors=tensors,
    read=read,
    fill=fill,
    merge=merge,
    watch=watch,
    penalty=penalty,
)
