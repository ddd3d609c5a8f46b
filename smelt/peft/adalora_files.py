"""An AdaLoRA-tuned model to the tensors and fields of peft's files, and back into a model that was attached to.

All triplets are written, those that were let go with a lambda of zero, so that a run goes on from its files; of a model
that was pruned, those which are left, and a `rank_pattern` that says so. peft writes only what is left as soon as its
budget falls, and such files are read, too.

Ref: the layout that `PeftModel.save_pretrained` writes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from smelt.core.config import validate
from smelt.core.errors import CheckpointError, ConfigError
from smelt.models.encoder_decoder import Network
from smelt.nn.spec import ModelSpec
from smelt.peft.adalora_budget import phases, progress_of
from smelt.peft.adalora_layer import AdaLoraLinear, Triplets, by_triplets
from smelt.peft.adalora_settings import AdaLoraSettings
from smelt.peft.checks import CONFIG, WEIGHTS, check_fields, check_tensors
from smelt.peft.lora_config import WITHOUT_EFFECT, targeted
from smelt.peft.lora_method import patterns_for
from smelt.peft.published import PREFIX, Place, by_module, laid_together, published_layers, task_type

SAME = {
    "init_r": "initial_rank", "target_r": "target_rank", "lora_alpha": "alpha", "lora_dropout": "dropout",
    "deltaT": "choose_every", "beta1": "beta1", "beta2": "beta2", "orth_reg_weight": "orthogonality",
}  # fmt: skip
"""Fields that are a setting of ours under another name."""
PHASES = ("tinit", "tfinal", "total_step")
FIXED = {"peft_type": ("ADALORA",), "bias": ("none",), "init_lora_weights": (True, False)}
KNOWN = (*SAME, *PHASES, *WITHOUT_EFFECT, "r", "rank_pattern")
"""Fields that may be set; `r` means nothing in AdaLoRA, and the tensors have the ranks of `rank_pattern`."""


def config(model: Network, settings: AdaLoraSettings) -> dict[str, Any]:
    """Return the fields of adapter_config.json; the caller fills in base_model_name_or_path.

    The steps are those of the last run, or one, which peft asks for at least, before any.
    """
    modules = _modules(model)
    steps = max(1, int(progress_of(model).steps))
    warmup, final = phases(steps, settings.warmup_fraction, settings.final_fraction)
    initial = settings.initial_rank
    left = {f"{module}.lora_E": len(triplets.values) for module, (triplets, _, _) in modules.items()}
    pattern = {name: [index < rank for index in range(initial)] for name, rank in left.items()}
    return {
        "peft_type": "ADALORA",
        "task_type": task_type(model.spec),
        "base_model_name_or_path": None,
        "inference_mode": True,
        "target_modules": list(modules),
        **{theirs: getattr(settings, ours) for theirs, ours in SAME.items()},
        **dict(zip(PHASES, (warmup, final, steps), strict=True)),
        "rank_pattern": pattern if any(rank < initial for rank in left.values()) else None,
        "fan_in_fan_out": any(place.transposed for _, _, places in modules.values() for place in places.values()),
        "bias": "none",
        "init_lora_weights": True,
    }


def tensors(model: Network) -> dict[str, Tensor]:
    """Return the numbers of adapter_model.safetensors; rows of layers that were not targeted are zero."""
    found: dict[str, Tensor] = {}
    for module, (triplets, layers, places) in _modules(model).items():
        left = {name: layer.left.detach() for name, layer in layers.items()}
        numbers = triplets.right.detach(), laid_together(left, places), triplets.values.detach()[:, None]
        found |= dict(zip(_names(module), numbers, strict=True))
    return found


def read(config: Mapping[str, Any], spec: ModelSpec) -> AdaLoraSettings:
    """Return the settings of an adapter_config.json. Raises CheckpointError for what cannot be honoured."""
    check_fields(config, FIXED, KNOWN, accepted="AdaLoRA without anything beside it")
    places = published_layers(spec)
    parts = by_module(places)
    names = [name for module in targeted(config, list(parts), CONFIG) for name in parts[module]]
    values = {ours: config[theirs] for theirs, ours in SAME.items() if theirs in config}
    warmup, final, steps = (config.get(name) or 0 for name in PHASES)
    if not all(isinstance(number, int) for number in (warmup, final, steps)):
        told = f"{warmup!r:.40}, {final!r:.40}, {steps!r:.40}"
        raise CheckpointError(f"{CONFIG}: {', '.join(PHASES)} = {told}", accepted="numbers of steps")
    shares = {"warmup_fraction": warmup / steps, "final_fraction": final / steps} if steps else {}
    try:
        return validate(AdaLoraSettings, {**values, **shares, "targets": patterns_for(names, places)}, source=CONFIG)
    except ConfigError as error:
        raise CheckpointError(error.what) from error


@torch.no_grad()
def fill(model: Network, tensors: Mapping[str, Tensor]) -> None:
    """Put the numbers of a file into a model, in place; modules of which it has fewer triplets are cut to those.

    Raises CheckpointError for tensors that are missing, unknown, misshapen, or change layers that were not targeted.
    """
    modules = _modules(model)
    shapes: dict[str, tuple[int, ...]] = {}
    for module, (triplets, _, places) in modules.items():
        right, left, values = _names(module)
        place = next(iter(places.values()))
        rank = min(tensors[right].shape[:1].numel(), len(triplets.values)) if right in tensors else 0
        shapes |= {right: (rank, place.num_columns), left: (place.num_rows, rank), values: (rank, 1)}
    check_tensors(tensors, shapes)
    for module, (triplets, layers, places) in modules.items():
        numbers, whole, weights = (tensors[name] for name in _names(module))
        parts = {name: whole[places[name].rows] for name in layers}
        if not torch.equal(laid_together(parts, places), whole):
            raise CheckpointError(f"{WEIGHTS}: {module} is changed in more rows than those of {', '.join(layers)}")
        triplets.put_triplets(numbers, weights[:, 0])
        for name, layer in layers.items():
            layer.put("left", parts[name])


def _modules(model: Network) -> dict[str, tuple[Triplets, dict[str, AdaLoraLinear], dict[str, Place]]]:
    """Return, by the published module, its triplets, our layers of it and their places."""
    places = published_layers(model.spec)
    found: dict[str, tuple[Triplets, dict[str, AdaLoraLinear], dict[str, Place]]] = {}
    for triplets, layers in by_triplets(model):
        own = {name: places[name] for name in layers}
        found[next(iter(own.values())).module] = triplets, layers, own
    return found


def _names(module: str) -> tuple[str, str, str]:
    """Return what the tensors of a module are called: Q, P and lambda."""
    return tuple(f"{PREFIX}{module}.lora_{letter}" for letter in "ABE")  # type: ignore[return-value]  # three letters
