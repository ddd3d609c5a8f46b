"""LoRA as a method of tuning: what a model has learned as the tensors and fields of peft's files, and back.

Our layers that are one module there have one `down`; their rows of `up` are laid together. Rows of layers that were not
targeted are zero, and with DoRA as long as those of their weights, so the file says the same to peft as to us.

Ref: the layout that `PeftModel.save_pretrained` writes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from smelt.core.config import validate
from smelt.core.errors import CheckpointError, ConfigError, UsageError, nearest
from smelt.models.encoder_decoder import Network
from smelt.nn.spec import ModelSpec
from smelt.peft.lora import Amount, LowRank, scale_of
from smelt.peft.lora_config import amount_of, check_fields, most_common, targeted, write_config
from smelt.peft.lora_tuning import LoraSettings, amounts, attach, lora_layers, merge, rate_factor
from smelt.peft.low_rank import LoraLinear, dense_weight, row_lengths
from smelt.peft.method import Method
from smelt.peft.published import PREFIX, Places, by_module, laid_together, published_layers

WHERE = "adapter_config.json"
DOWN, UP, MAGNITUDE = "lora_A.weight", "lora_B.weight", "lora_magnitude_vector"
LAYER = re.compile(r"((en|de)coder\.)?blocks\.\d+\.")
SHOWN = 10


def config_of(model: Network, settings: LoraSettings) -> dict[str, Any]:
    """Return the fields of adapter_config.json for a model that was attached to with these settings.

    Raises UsageError for a model whose layers were made with others.
    """
    places, layers = published_layers(model.spec), lora_layers(model)
    found = amounts(model, settings, places)
    given = {name: (len(layer.down), layer.scale, layer.magnitude is not None) for name, layer in layers.items()}
    meant = {
        name: (each.rank, scale_of(each.alpha, each.rank, stabilized=settings.stabilized), settings.dora)
        for name, each in found.items()
    }
    if given != meant:
        raise UsageError("the model's LoRA layers are not those of the settings", fix="pass those it was attached with")
    modules = by_module({name: places[name] for name in found})
    return write_config(
        model.spec,
        {module: found[names[0]] for module, names in modules.items()},
        transposed=any(places[name].transposed for name in found),
        dropout=settings.dropout,
        stabilized=settings.stabilized,
        dora=settings.dora,
    )


def tensors_of(model: Network) -> dict[str, Tensor]:
    """Return the tensors of adapter_model.safetensors; those of unfused layers are the model's own.

    Raises UsageError where layers that are one module have learned different `down`.
    """
    places, layers = published_layers(model.spec), lora_layers(model)
    found: dict[str, Tensor] = {}
    for module, names in by_module(places).items():
        own = {name: layers[name] for name in names if name in layers}
        if not own:
            continue
        downs = [layer.down.detach() for layer in own.values()]
        if not all(down is downs[0] or torch.equal(down, downs[0]) for down in downs):
            raise UsageError(f"{', '.join(own)} differ in `down`, but are one module, {module}, in the file")
        ups = {name: layer.up.detach() for name, layer in own.items()}
        found[f"{PREFIX}{module}.{DOWN}"] = downs[0]
        found[f"{PREFIX}{module}.{UP}"] = laid_together(ups, places)
        if any(layer.magnitude is not None for layer in own.values()):
            lengths = {name: lengths_of(model.get_submodule(name)) for name in names}
            found[f"{PREFIX}{module}.{MAGNITUDE}"] = laid_together(lengths, places)
    return found


def lengths_of(layer: nn.Module) -> Tensor:
    """Return the lengths of a layer's rows of weights (out,): those that DoRA has learned, or those there are."""
    learned = layer.magnitude if isinstance(layer, LoraLinear) else None
    return row_lengths(dense_weight(layer).detach().float()) if learned is None else learned.detach()


def files_of(modules: Mapping[str, LowRank], spec: ModelSpec) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return fields and tensors for what adapters add, by published modules, as `combine_adapters` makes it."""
    transposed = any(place.transposed for place in published_layers(spec).values() if place.module in modules)
    whole = {name: Amount(pair.rank, float(pair.rank)) for name, pair in modules.items()}  # a scale of 1
    tensors = {f"{PREFIX}{name}.{DOWN}": pair.down.contiguous() for name, pair in modules.items()}
    tensors |= {f"{PREFIX}{name}.{UP}": pair.up.contiguous() for name, pair in modules.items()}
    return write_config(spec, whole, transposed=transposed), tensors


def read_settings(config: Mapping[str, Any], spec: ModelSpec) -> LoraSettings:
    """Return the settings that attach what a file holds; raises CheckpointError for what we cannot honour."""
    check_fields(config, WHERE, dora=True)
    places = published_layers(spec)
    modules = by_module(places)
    found: dict[str, Amount] = {}
    for module in targeted(config, list(modules), WHERE):
        found |= dict.fromkeys(modules[module], amount_of(config, module, WHERE))
    rank = int(most_common(each.rank for each in found.values()))
    alpha = most_common(each.alpha for each in found.values())
    values = {
        "rank": rank,
        "alpha": alpha,
        "dropout": config.get("lora_dropout") or 0.0,
        "targets": patterns_for(found, places),
        "rank_pattern": {name: each.rank for name, each in found.items() if each.rank != rank},
        "alpha_pattern": {name: each.alpha for name, each in found.items() if each.alpha != alpha},
        "stabilized": bool(config.get("use_rslora")),
        "dora": bool(config.get("use_dora")),
    }
    try:
        return validate(LoraSettings, values, source=WHERE)
    except ConfigError as error:
        raise CheckpointError(error.what) from error


def patterns_for(names: Iterable[str], places: Places) -> tuple[str, ...]:
    """Return patterns that match these layers and no others, short where all blocks have them; none for all layers."""
    wanted, found = set(names), []
    if wanted == set(places):
        return ()
    kinds: dict[str, list[str]] = {}
    for name in places:
        kinds.setdefault(LAYER.sub("", name), []).append(name)
    for kind, members in kinds.items():
        found += [kind] if wanted.issuperset(members) else [name for name in members if name in wanted]
    return tuple(found)


def fill(model: Network, tensors: Mapping[str, Tensor]) -> None:
    """Put the tensors of a file into a model that was attached to, in place.

    Raises CheckpointError for any that is missing, unknown, misshapen or not finite, and for one that changes layers
    that the model does not tune.
    """
    expected = tensors_of(model)
    for title, one, other in (("missing", expected, tensors), ("unexpected", tensors, expected)):
        if odd := [name for name in one if name not in other]:
            raise CheckpointError(
                f"the adapter's tensors do not fit: {len(odd)} {title}: {', '.join(odd[:SHOWN])}."
                f"{nearest(odd[0], other)}",
                fix="use the base and the settings that the adapter was made with",
            )
    for name, tensor in tensors.items():
        if tensor.shape != expected[name].shape:
            raise CheckpointError(
                f"{name} has shape {tuple(tensor.shape)}", accepted=f"{tuple(expected[name].shape)}, as attached"
            )
        if not bool(tensor.isfinite().all()):
            raise CheckpointError(f"{name} holds numbers that are not finite", fix="use an earlier state")
    places, layers = published_layers(model.spec), lora_layers(model)
    for name, place in places.items():
        key = f"{PREFIX}{place.module}."
        if f"{key}{UP}" not in tensors:
            continue
        up, lengths = tensors[f"{key}{UP}"][place.rows], tensors.get(f"{key}{MAGNITUDE}")
        rows = None if lengths is None else lengths[place.rows]
        if name in layers:
            _fill_layer(layers[name], tensors[f"{key}{DOWN}"], up, rows)
        else:
            _check_untouched(name, model.get_submodule(name), up, rows)


def _fill_layer(layer: LoraLinear, down: Tensor, up: Tensor, lengths: Tensor | None) -> None:
    with torch.no_grad():
        layer.down.copy_(down)
        layer.up.copy_(up)
        if layer.magnitude is not None and lengths is not None:
            layer.magnitude.copy_(lengths)


def _check_untouched(name: str, layer: nn.Module, up: Tensor, lengths: Tensor | None) -> None:
    """Raise CheckpointError where a file changes a layer that is not tuned but is part of a module that is."""
    own = lengths_of(layer)
    if bool(up.any()) or (lengths is not None and not torch.allclose(lengths.to(own), own, rtol=1e-3)):
        raise CheckpointError(
            f"the adapter changes {name}, which the settings leave out", fix=f"add {name} to the targets"
        )


def merge_in(model: Network) -> None:
    """Put what was learned into the weights, and let go of the layers that learned it."""
    merge(model)


METHOD = Method(
    name="lora",
    peft_type="LORA",
    settings=LoraSettings,
    attach=attach,
    config=config_of,
    tensors=tensors_of,
    read=read_settings,
    fill=fill,
    merge=merge_in,
    factor=rate_factor,
)
