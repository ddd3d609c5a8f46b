"""LoRA over a whole model: put on, taken off into the weights, put back; and the settings that say where and how much.

Layers of ours that are one matrix in the published layout share one `down`, as the file will, so that a step moves what
it would move there; each has its own rows of `up`. With dropout each of them drops from the input on its own.

Ref: LoRA, arXiv:2106.09685. Ref: rsLoRA, arXiv:2312.03732. Ref: DoRA, arXiv:2402.09353. Ref: LoRA+, arXiv:2402.12354.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, cast

import torch
from pydantic import Field
from torch import Tensor, nn

from smelt.core.config import Config
from smelt.core.errors import ConfigError, UsageError
from smelt.models.encoder_decoder import Network
from smelt.nn.surgery import linear_names, matches, select, swap
from smelt.peft.lora import MAX_RANK, Amount, Lora, LowRank, check_fits, scale_of
from smelt.peft.low_rank import LoraLinear, device_of, drawn_down
from smelt.peft.published import Places, by_module, published_layers

Rank = Annotated[int, Field(ge=1, le=MAX_RANK)]
Alpha = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class LoraSettings(Config):
    """Low ranks beside the linear layers."""

    rank: Rank = 8
    """Rank R of what is learned; numbers and memory grow with it."""
    alpha: Alpha = 16.0
    """What is learned is multiplied by alpha / R."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Share of a layer's inputs that its low ranks do not see in a step."""
    targets: tuple[str, ...] = ()
    """Patterns over our names, such as `query` or `blocks.0.*`; none: all linear layers of the blocks."""
    rank_pattern: dict[str, Rank] = Field(default_factory=dict)
    """Other ranks for layers whose names match; the first pattern counts."""
    alpha_pattern: dict[str, Alpha] = Field(default_factory=dict)
    """Other alphas for layers whose names match; the first pattern counts."""
    stabilized: bool = False
    """Multiply by alpha / sqrt(R) instead, so that high ranks learn as fast (rsLoRA)."""
    dora: bool = False
    """Learn the length of each output's row of weights apart from its direction (DoRA)."""
    up_rate_ratio: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    """Learning rate of `up` as a multiple of that of `down` (LoRA+, which takes 16)."""


def amounts(model: Network, settings: LoraSettings, places: Places) -> dict[str, Amount]:
    """Return what each targeted layer of a model gets, by our names in the model's order.

    Raises ConfigError for patterns that match nothing, a rank above a layer's smaller side, and other amounts for
    layers that are one matrix in the published layout.
    """
    known = [name for name in linear_names(model) if name in places]
    if not known:
        raise ConfigError("lora: this model has no linear layers in blocks", accepted="a transformer")
    names = select(known, settings.targets, setting="lora.targets") if settings.targets else known
    select(names, tuple(settings.rank_pattern), setting="lora.rank_pattern")
    select(names, tuple(settings.alpha_pattern), setting="lora.alpha_pattern")
    found = {
        name: Amount(
            next((rank for each, rank in settings.rank_pattern.items() if matches(name, each)), settings.rank),
            next((alpha for each, alpha in settings.alpha_pattern.items() if matches(name, each)), settings.alpha),
        )
        for name in names
    }
    for name, amount in found.items():
        place = places[name]
        if amount.rank > place.smaller_side:
            raise ConfigError(
                f"lora: rank {amount.rank} for {name}, a matrix of {place.num_rows} by {place.num_columns}",
                accepted=f"1 to {place.smaller_side}",
            )
    for module, parts in by_module({name: places[name] for name in names}).items():
        if len({found[name] for name in parts}) > 1:
            told = ", ".join(f"{name} rank {found[name].rank} alpha {found[name].alpha:g}" for name in parts)
            raise ConfigError(
                f"lora: {told}, which are one matrix in the published layout, {module}",
                accepted="one rank and one alpha for all of them",
            )
    return found


def attach(model: Network, settings: LoraSettings, seed: int) -> None:
    """Freeze a model and put low ranks beside its targeted layers, in place; the output stays what it was.

    `down` is drawn from the seed. Raises ConfigError for settings that do not fit, UsageError where LoRA is on already.
    """
    if lora_layers(model):
        raise UsageError("the model has LoRA layers already", fix="merge them first, or take them off")
    places = published_layers(model.spec)
    found = amounts(model, settings, places)
    model.requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)
    for names in by_module({name: places[name] for name in found}).values():
        amount, columns = found[names[0]], places[names[0]].num_columns
        down = drawn_down(amount.rank, columns, device_of(model.get_submodule(names[0])), generator)
        scale = scale_of(amount.alpha, amount.rank, stabilized=settings.stabilized)
        for name in names:
            base = model.get_submodule(name)
            layer = LoraLinear(base, down, scale=scale, dropout=settings.dropout, dora=settings.dora)
            swap(model, name, layer.train(base.training))


def put(model: Network, lora: Lora) -> None:
    """Freeze a model and put an adapter that was loaded or combined on it, in place, without dropout.

    Raises UsageError for an adapter of other layers or sizes, and where LoRA is on already.
    """
    if lora_layers(model):
        raise UsageError("the model has LoRA layers already", fix="merge them first, or take them off")
    check_fits(model, lora)
    model.requires_grad_(False)
    downs: dict[int, nn.Parameter] = {}  # layers that share one, share it here
    for name, pair in lora.items():
        base = model.get_submodule(name)
        device = device_of(base)
        down = downs.setdefault(id(pair.down), nn.Parameter(pair.down.to(device)))
        layer = LoraLinear(base, down, scale=1.0, dropout=0.0, dora=False)
        layer.up = nn.Parameter(pair.up.to(device))
        swap(model, name, layer.train(base.training))


def lora_layers(model: nn.Module) -> dict[str, LoraLinear]:
    """Return a model's layers with low ranks, by our names."""
    return {name: module for name, module in model.named_modules() if isinstance(module, LoraLinear)}


def lora_of(model: nn.Module) -> Lora:
    """Return what a model's low ranks add, as serving and `combine_adapters` take it; a copy.

    Raises UsageError for DoRA, which does more than to add.
    """
    found: dict[str, LowRank] = {}
    downs: dict[int, Tensor] = {}
    for name, layer in lora_layers(model).items():
        if layer.magnitude is not None:
            raise UsageError(f"{name} has DoRA, which no sum of low ranks can say", fix="merge it into the weights")
        down = downs.setdefault(id(layer.down), layer.down.detach().float().clone())
        found[name] = LowRank(down, layer.up.detach().float() * layer.scale)
    return found


def merge(model: nn.Module) -> dict[str, LoraLinear]:
    """Put what was learned into the weights, in place, and return the layers that were taken off.

    The sum is made in fp32. While the caller keeps the layers, and with them the weights of before, `unmerge` puts all
    back exactly. Parameters stay frozen. Raises UsageError for a model without LoRA layers.
    """
    layers = lora_layers(model)
    if not layers:
        raise UsageError("the model has no LoRA layers to merge", fix="attach or load an adapter first")
    return {name: cast(LoraLinear, swap(model, name, layer.merged())) for name, layer in layers.items()}


def unmerge(model: nn.Module, layers: Mapping[str, LoraLinear]) -> None:
    """Put the layers back that `merge` took off, in place; the model is what it was, bit for bit."""
    for name, layer in layers.items():
        swap(model, name, layer)


def rate_factor(name: str, settings: LoraSettings) -> float:
    """Return the factor of a parameter's learning rate: that of LoRA+ for `up`, else 1."""
    return settings.up_rate_ratio if name.rsplit(".", 1)[-1] == "up" else 1.0
