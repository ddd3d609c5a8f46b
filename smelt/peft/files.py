"""Adapters as the peft library keeps them: adapter_config.json beside adapter_model.safetensors.

Names in these files are those of the published layout of the base model, so the base's own rules say which of our
layers they mean. Of a fused matrix, such as GPT-2's query, key and value, each of our layers gets its rows of `up` and
shares `down`. What an adapter asks for beyond plain LoRA is refused by name: an adapter that is applied in part gives
answers that nobody trained.

Ref: the layout that `PeftModel.save_pretrained` writes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import regex
from safetensors import SafetensorError, safe_open
from torch import Tensor

from smelt.core.errors import CheckpointError
from smelt.models.encoder_decoder import meta_network
from smelt.models.families import FAMILIES
from smelt.models.shards import read_json
from smelt.models.weights import Rule, mapped
from smelt.nn.spec import ModelSpec
from smelt.peft.lora import MAX_RANK, Lora, LowRank, scale_of

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PREFIX = "base_model.model."
KEY = re.compile(rf"{re.escape(PREFIX)}(.+)\.lora_(A|B)\.weight")
SCALE_FIELDS = ("r", "lora_alpha", "rank_pattern", "alpha_pattern", "use_rslora")
WITHOUT_EFFECT = (
    "task_type", "auto_mapping", "peft_version", "base_model_name_or_path", "revision", "inference_mode",
    "target_modules", "exclude_modules", "layers_to_transform", "layers_pattern", "lora_dropout", "fan_in_fan_out",
    "megatron_core", "qalora_group_size",
)  # fmt: skip
"""Fields of adapter_config.json that do not change what stands in the weights."""
PLAIN = {"peft_type": ("LORA",), "bias": ("none",), "init_lora_weights": (True, False, "gaussian", "orthogonal")}
"""Fields with the values of plain LoRA; other beginnings than these change the base, too."""
PATTERN_SECONDS = 1.0


def load_lora(directory: Path | str, spec: ModelSpec) -> Lora:
    """Read a LoRA adapter for a model of this spec, its numbers in fp32.

    Raises:
        CheckpointError: a file is missing or damaged, asks for more than plain LoRA, or does not fit the model.
    """
    directory = Path(directory)
    config = read_json(directory / CONFIG)
    for name, value in config.items():
        is_off = value is None or value is False or value in ("", [], {})
        if name in PLAIN and not any(value is known or value == known for known in PLAIN[name]):
            raise CheckpointError(
                f"{directory / CONFIG}: {name} = {value!r:.80}", accepted=" or ".join(map(repr, PLAIN[name]))
            )
        if name not in (*PLAIN, *SCALE_FIELDS, *WITHOUT_EFFECT) and not is_off:
            raise CheckpointError(f"{directory / CONFIG}: {name:.80} = {value!r:.80}", accepted="plain LoRA")
    tensors = _read(directory / WEIGHTS)
    modules = sorted({_module(directory, key) for key in tensors})
    if not modules:
        raise CheckpointError(
            f"{directory / WEIGHTS} holds no adapter", accepted=f"names like {PREFIX}LAYER.lora_A.weight"
        )
    rules = {theirs: rule for rule in mapped(FAMILIES[spec.family].rules(spec)) for theirs in rule.theirs}
    shapes = {name: tuple(parameter.shape) for name, parameter in meta_network(spec).named_parameters()}
    found: dict[str, LowRank] = {}
    for module in modules:
        pair = [tensors.get(f"{PREFIX}{module}.lora_{side}.weight") for side in "AB"]
        found |= _split(directory, module, pair, rules.get(f"{module}.weight"), shapes, config)
    return found


def _read(path: Path) -> dict[str, Tensor]:
    try:
        with safe_open(path, framework="pt") as file:
            return {key: file.get_tensor(key).float() for key in file.keys()}  # noqa: SIM118  # not a dictionary
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"{path} is missing or damaged ({error})", fix="save the adapter again, with safe_serialization"
        ) from error


def _module(directory: Path, key: str) -> str:
    found = KEY.fullmatch(key)
    if found is None:
        raise CheckpointError(
            f"{directory / WEIGHTS}: {key!r:.200} is no part of a plain LoRA adapter",
            accepted=f"{PREFIX}LAYER.lora_A.weight and .lora_B.weight",
        )
    return found[1]


def _split(
    directory: Path,
    module: str,
    pair: list[Tensor | None],
    rule: Rule | None,
    shapes: Mapping[str, tuple[int, ...]],
    config: Mapping[str, Any],
) -> dict[str, LowRank]:
    """Return what one of their layers adds to ours."""
    where = f"{directory / WEIGHTS}: {module}"
    if rule is None:
        raise CheckpointError(f"{where}: the model has no such layer", fix="use the base that the adapter was made for")
    down, up = pair
    if down is None or up is None:
        raise CheckpointError(f"{where} has only one of lora_A and lora_B", fix="save the adapter again")
    ours = [name.removesuffix(".weight") for name in rule.ours]
    sizes = [shapes.get(name, ()) for name in rule.ours]
    plain = len(rule.theirs) == 1 and rule.groups == 1 and not rule.stacked
    if not plain or any(
        not name.startswith("blocks.") or len(size) != 2 for name, size in zip(ours, sizes, strict=True)
    ):
        raise CheckpointError(f"{where}: adapters are for the linear layers of blocks, which this is not")
    rank, shape = len(down), (sum(size[0] for size in sizes), sizes[0][1])
    if down.ndim != 2 or up.ndim != 2 or (len(up), down.shape[1]) != shape or up.shape[1] != rank:
        raise CheckpointError(
            f"{where}: A {tuple(down.shape)} and B {tuple(up.shape)} for a layer {shape}",
            fix="use the base that the adapter was made for",
        )
    if not 0 < rank <= MAX_RANK:
        raise CheckpointError(f"{where} has rank {rank}", accepted=f"1 to {MAX_RANK}")
    up = up * _scale(directory, module, rank, config)
    if not bool(down.isfinite().all() and up.isfinite().all()):
        raise CheckpointError(f"{where} holds numbers that are not finite", fix="use an earlier state of the adapter")
    parts = up.split([size[0] for size in sizes])
    return {name: LowRank(down, part) for name, part in zip(ours, parts, strict=True)}


def _scale(directory: Path, module: str, rank: int, config: Mapping[str, Any]) -> float:
    """Return a layer's scale."""
    if _setting(directory, config, "r", "rank_pattern", module) != rank:
        raise CheckpointError(f"{directory / CONFIG} does not say that {module} has rank {rank}, as in {WEIGHTS}")
    alpha = _setting(directory, config, "lora_alpha", "alpha_pattern", module)
    return scale_of(alpha, rank, stabilized=bool(config.get("use_rslora")))


def _setting(directory: Path, config: Mapping[str, Any], name: str, patterns: str, module: str) -> float:
    """Return a layer's number: that of the first pattern which matches the end of its name, else the general one."""
    value, given = config.get(name), config.get(patterns) or {}
    try:
        for pattern in given:
            if regex.fullmatch(rf"(.*\.)?({pattern})", module, timeout=PATTERN_SECONDS):
                value = given[pattern]
                break
    except (regex.error, TimeoutError, TypeError) as error:
        raise CheckpointError(
            f"{directory / CONFIG}: {patterns} = {given!r:.80}", accepted="names of layers"
        ) from error
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        raise CheckpointError(f"{directory / CONFIG}: {name} = {value!r:.80}", accepted="a positive number")
    return float(value)
