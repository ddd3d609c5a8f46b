"""Bottleneck adapters: behind a part of a block, a small network of its own that adds to what the part gives.

Behind the last matrix of attention, of the feed-forward part, or of both, y becomes y + up(activation(down(y))), before
it joins the stream. `up` and its bias begin as zero, so that a new adapter changes nothing, bit for bit. Behind both is
what Houlsby and others do; behind the feed-forward part alone is where Pfeiffer and others found one to be enough
(theirs stands behind the norm where a block normalises its stream; ours, before). Costs 2 R D + R + D numbers in fp32 a
place, and stays in the model: no weights could say the same.

Ref: Houlsby and others, arXiv:1902.00751, figure 2. Ref: Pfeiffer and others, arXiv:2005.00247, appendix A.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal, cast

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from smelt.core.config import Config, validate
from smelt.core.errors import CheckpointError, ConfigError, UsageError
from smelt.models.encoder_decoder import Network
from smelt.nn.feedforward import ACTIVATIONS
from smelt.nn.spec import ModelSpec
from smelt.nn.surgery import linear_names, swap
from smelt.peft.checks import CONFIG, check_fields, check_tensors
from smelt.peft.low_rank import device_of
from smelt.peft.method import Method
from smelt.peft.published import task_type

ENDINGS = {"attention": (".attention.output", ".cross.output"), "feed_forward": (".feed_forward.down",)}
"""How the last matrix of a part of a block is called."""
NUMBERS = ("down", "down_bias", "up", "up_bias")
FIXED = {"peft_type": ("BOTTLENECK",)}
WITHOUT_EFFECT = ("task_type", "base_model_name_or_path", "inference_mode")


class BottleneckSettings(Config):
    """Small networks behind the parts of every block."""

    size: int = Field(default=64, ge=1)
    """Width of the small network."""
    activation: Literal["gelu", "relu", "silu"] = "gelu"
    """What stands between its two matrices."""
    places: tuple[Literal["attention", "feed_forward"], ...] = Field(
        default=("attention", "feed_forward"), min_length=1
    )
    """Behind which parts of a block: both (Houlsby), or [feed_forward] (Pfeiffer)."""


class BottleneckLinear(nn.Module):
    """A base layer with a small network behind it: `down` (R, out), `up` (out, R), and their biases."""

    def __init__(self, base: nn.Module, down: Tensor, activation: str) -> None:
        super().__init__()
        self.in_features, self.out_features = cast(int, base.in_features), cast(int, base.out_features)
        self.base, self.activation = base, ACTIVATIONS[activation]
        self.down, self.down_bias = nn.Parameter(down), nn.Parameter(down.new_zeros(len(down)))
        self.up = nn.Parameter(down.new_zeros(self.out_features, len(down)))
        self.up_bias = nn.Parameter(down.new_zeros(self.out_features))

    def forward(self, x: Tensor) -> Tensor:
        """Map (.., in) to (.., out), in the type that the base answers in."""
        out: Tensor = self.base(x)
        inner = out if torch.is_autocast_enabled(out.device.type) else out.to(self.down.dtype)
        inner = self.activation(functional.linear(inner, self.down, self.down_bias))  # (.., R)
        return out + functional.linear(inner, self.up, self.up_bias).to(out.dtype)


def attach(model: Network, settings: BottleneckSettings, seed: int) -> None:
    """Freeze a model and put small networks behind the parts of its blocks, in place; the output stays what it was.

    `down` is drawn from the seed in +-1 / sqrt(D). Raises ConfigError where a part is no single layer at its end.
    """
    if layers_of(model):
        raise UsageError("the model has bottleneck adapters already", fix="load the base again")
    names = [name for place in settings.places for name in ends_of(model, place)]
    model.requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)
    for name in names:
        base = model.get_submodule(name)
        width = cast(int, base.out_features)
        bound = 1 / math.sqrt(width)
        down = torch.empty(settings.size, width).uniform_(-bound, bound, generator=generator).to(device_of(base))
        swap(model, name, BottleneckLinear(base, down, settings.activation).train(base.training))


def ends_of(model: Network, place: str) -> list[str]:
    """Return the names of the layers that end this part of every block.

    Raises ConfigError for a block without, as one whose feed-forward part is a mixture of experts.
    """
    names = [name for name in linear_names(model) if name.endswith(ENDINGS[place])]
    blocks = {name for name, _ in model.named_modules() if name.rpartition(".")[0].endswith("blocks")}
    without = sorted(blocks - {name.rsplit(".", 2)[0] for name in names})
    if without or not names:
        raise ConfigError(
            f"bottleneck.places: {place}: {without[0] if without else 'the model'} has no layer that ends this part",
            accepted="blocks with plain attention and feed-forward parts",
        )
    return names


def layers_of(model: nn.Module) -> dict[str, BottleneckLinear]:
    """Return a model's layers with a small network behind them, by our names."""
    return {name: module for name, module in model.named_modules() if isinstance(module, BottleneckLinear)}


def config(model: Network, settings: BottleneckSettings) -> dict[str, Any]:
    """Return the fields of adapter_config.json, a layout of our own; the caller fills in base_model_name_or_path."""
    return {
        "peft_type": "BOTTLENECK",
        "task_type": task_type(model.spec),
        "base_model_name_or_path": None,
        "inference_mode": True,
        **settings.model_dump(mode="json"),
    }


def tensors(model: Network) -> dict[str, Tensor]:
    """Return the numbers of adapter_model.safetensors, by our names: "blocks.0.attention.output.down"."""
    return {
        f"{name}.{part}": layer.get_parameter(part).detach()
        for name, layer in layers_of(model).items()
        for part in NUMBERS
    }


def read(config: Mapping[str, Any], spec: ModelSpec) -> BottleneckSettings:
    """Return the settings of an adapter_config.json. Raises CheckpointError for what cannot be honoured."""
    check_fields(config, FIXED, (*WITHOUT_EFFECT, *BottleneckSettings.model_fields), accepted="bottleneck adapters")
    try:
        given = {name: config[name] for name in BottleneckSettings.model_fields}
        return validate(BottleneckSettings, given, source=CONFIG)
    except KeyError as error:
        raise CheckpointError(f"{CONFIG} does not say the {error.args[0]}", fix="save the adapter again") from error
    except ConfigError as error:
        raise CheckpointError(error.what) from error


@torch.no_grad()
def fill(model: Network, tensors: Mapping[str, Tensor]) -> None:
    """Put the numbers of a file into a model, in place; raises CheckpointError for any that does not fit."""
    layers = layers_of(model)
    check_tensors(
        tensors,
        {
            f"{name}.{part}": tuple(layer.get_parameter(part).shape)
            for name, layer in layers.items()
            for part in NUMBERS
        },
    )
    for name, layer in layers.items():
        for part in NUMBERS:
            layer.get_parameter(part).copy_(tensors[f"{name}.{part}"])


METHOD = Method(
    name="bottleneck",
    peft_type="BOTTLENECK",
    settings=BottleneckSettings,
    attach=attach,
    config=config,
    tensors=tensors,
    read=read,
    fill=fill,
)
