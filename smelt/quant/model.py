"""Put quantized layers in the place of a model's plain ones, and plain ones back.

Layers are swapped one at a time, and each old weight is given up at once: freed, or where it is mapped from a file, its
pages given back. So a checkpoint that is loaded as it is stored (`dtype="auto"`) is read layer by layer, and never is
whole in memory; one that is loaded in another type shrinks in place.

Embeddings, norms and the head stay as they are: NF4 is for weights that are nearly normal and read as a whole.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from smelt.core import runtime
from smelt.core.errors import ConfigError, UsageError
from smelt.models.encoder_decoder import Network
from smelt.models.shards import give_back
from smelt.nn.moe import MixtureOfExperts
from smelt.nn.surgery import linear_names, select, swap
from smelt.quant.linear import NF4Linear


def quantize_base(model: Network) -> None:
    """Keep every linear layer of the blocks in 4 bits, in place: what QLoRA does to a model before it adds to it.

    Raises what `quantize_model` raises.
    """
    quantize_model(model, ["*"])


def quantize_model(model: Network, patterns: Sequence[str]) -> None:
    """Keep the linear layers of the blocks that patterns name (`nn.surgery`) in NF4, in place.

    Raises:
        ConfigError: a pattern matches nothing; a layer is not plain, as it is quantized or has an adapter; or the model
            is a mixture of experts, whose matrices are no linear layers.
        UsageError: a weight is not finite; the model is as it was, or quantized up to that layer.
    """
    experts = [name for name, module in model.named_modules() if isinstance(module, MixtureOfExperts)]
    if experts:
        raise ConfigError(
            f"{experts[0]} is a mixture of experts, which NF4 does not cover",
            accepted="models whose feed-forward layers are linear layers",
            fix="train adapters over the 16-bit model",
        )
    names = select(linear_names(model), patterns, setting="layers to quantize")
    for name in names:
        module = model.get_submodule(name)
        if type(module) is not nn.Linear:
            raise ConfigError(
                f"{name} is a {type(module).__name__}: the model is quantized or has an adapter already",
                accepted="a model with plain weights",
                fix="load the checkpoint in 16 bits, quantize it, and add adapters last",
            )
    for name in names:
        plain = model.get_submodule(name)
        try:
            quantized = NF4Linear.from_linear(plain)  # type: ignore[arg-type]
        except UsageError as error:
            raise UsageError(f"{name}: {error.what}", accepted=error.accepted, fix=error.fix) from error
        swap(model, name, quantized)
        give_back(plain.weight.detach())  # type: ignore[operator]
        del plain
    runtime.give_back_freed_memory()  # layers were widened between codes that stay, which leaves holes


def restore_plain(model: Network, dtype: torch.dtype = torch.float32) -> None:
    """Put plain layers with the dequantized weights in the place of all quantized ones, in place."""
    quantized = [name for name, module in model.named_modules() if isinstance(module, NF4Linear)]
    for name in quantized:
        layer = model.get_submodule(name)
        assert isinstance(layer, NF4Linear)
        plain = nn.Linear(layer.in_features, layer.out_features, bias=layer.bias is not None, device="meta")
        plain.weight, plain.bias = nn.Parameter(layer.dequantize(dtype)), layer.bias  # type: ignore[assignment]
        swap(model, name, plain)
