"""adapter_config.json of LoRA as the peft library means it, read and written.

Fields either say what a module gets, or have no effect on what stands in the weights, or must be what plain LoRA has:
an unknown field that is set is refused by name. Modules are named by their whole published names when we write; when we
read, by whatever peft takes: ends of names, a regular expression, or all linear layers.

Ref: the layout that `PeftModel.save_pretrained` writes, and how peft matches names against it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import regex

from smelt.core.errors import CheckpointError, nearest
from smelt.nn.spec import ModelSpec
from smelt.peft.lora import Amount
from smelt.peft.published import task_type

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
ALL_LINEAR = "all-linear"


def check_fields(config: Mapping[str, Any], where: str, *, dora: bool = False) -> None:
    """Raise CheckpointError for a field that asks for more than plain LoRA, or with `dora` than that or DoRA."""
    for name, value in config.items():
        is_off = value is None or value is False or value in ("", [], {})
        if name in PLAIN and not any(value is known or value == known for known in PLAIN[name]):
            raise CheckpointError(f"{where}: {name} = {value!r:.80}", accepted=" or ".join(map(repr, PLAIN[name])))
        if name in (*PLAIN, *SCALE_FIELDS, *WITHOUT_EFFECT) or is_off or (dora and (name, value) == ("use_dora", True)):
            continue
        raise CheckpointError(f"{where}: {name:.80} = {value!r:.80}", accepted="LoRA or DoRA" if dora else "plain LoRA")


def amount_of(config: Mapping[str, Any], module: str, where: str) -> Amount:
    """Return a module's rank and alpha: those of the first pattern that matches the end of its name, else the general.

    Raises CheckpointError for what is no positive number, and patterns that are none.
    """
    rank = _number(config, "r", "rank_pattern", module, where)
    if rank != int(rank):
        raise CheckpointError(f"{where}: r = {rank!r}", accepted="a positive whole number")
    return Amount(int(rank), _number(config, "lora_alpha", "alpha_pattern", module, where))


def _number(config: Mapping[str, Any], name: str, patterns: str, module: str, where: str) -> float:
    value, given = config.get(name), config.get(patterns) or {}
    if not isinstance(given, Mapping):
        raise CheckpointError(f"{where}: {patterns} = {given!r:.80}", accepted="names of layers and their numbers")
    value = next(
        (given[each] for each in given if _matches(rf"(.*\.)?({each})", module, where, patterns, given)), value
    )
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0 or value == float("inf"):
        raise CheckpointError(f"{where}: {name} = {value!r:.80}", accepted="a positive number")
    return float(value)


def _matches(pattern: str, module: str, where: str, field: str, given: object) -> bool:
    """Tell whether a regular expression is a module's whole name; none may take its time."""
    try:
        return regex.fullmatch(pattern, module, timeout=PATTERN_SECONDS) is not None
    except (regex.error, TimeoutError, TypeError) as error:
        raise CheckpointError(f"{where}: {field} = {given!r:.80}", accepted="names of layers") from error


def targeted(config: Mapping[str, Any], modules: Sequence[str], where: str) -> list[str]:
    """Return which modules a configuration targets, in their own order.

    Raises CheckpointError for a name that is none of theirs, and where none is targeted.
    """
    wanted, left_out = config.get("target_modules"), config.get("exclude_modules")
    if isinstance(wanted, list):
        for name in wanted:
            if not any(_named(module, name) for module in modules):
                raise CheckpointError(
                    f"{where}: target_modules: {name!r:.80} is no linear layer of this model's blocks."
                    f"{nearest(str(name), {module.rsplit('.', 1)[-1] for module in modules})}",
                    accepted=", ".join(sorted({module.rsplit(".", 1)[-1] for module in modules})),
                )
    layers = config.get("layers_to_transform")
    numbers = None if layers is None or layers == [] else [layers] if isinstance(layers, int) else layers
    found = [
        module
        for module in modules
        if _asked(wanted, module, where, "target_modules")
        and not (left_out and _asked(left_out, module, where, "exclude_modules"))
        and (numbers is None or layer_of(module) in numbers)
    ]
    if not found:
        raise CheckpointError(f"{where}: target_modules = {wanted!r:.80} names no layer", accepted="names of layers")
    return found


def _asked(wanted: object, module: str, where: str, field: str) -> bool:
    if isinstance(wanted, list):
        return any(_named(module, name) for name in wanted)
    if wanted == ALL_LINEAR and field == "target_modules":
        return True
    return _matches(wanted, module, where, field, wanted)  # type: ignore[arg-type]  # whatever is no pattern, is told


def _named(module: str, name: object) -> bool:
    return module == name or module.endswith(f".{name}")


def layer_of(module: str) -> int | None:
    """Return the number of a module's layer: "transformer.h.3.mlp.c_fc" 3; None for one that stands in no layer."""
    return next((int(part) for part in module.split(".") if part.isdecimal()), None)


def write_config(
    spec: ModelSpec,
    amounts: Mapping[str, Amount],
    *,
    transposed: bool,
    dropout: float = 0.0,
    stabilized: bool = False,
    dora: bool = False,
) -> dict[str, Any]:
    """Return the fields for modules of these amounts; the caller fills in base_model_name_or_path.

    The most common rank and alpha are the general ones, the others stand in patterns that are whole names.
    """
    rank = int(most_common(amount.rank for amount in amounts.values()))
    alpha = most_common(amount.alpha for amount in amounts.values())
    return {
        "peft_type": "LORA",
        "task_type": task_type(spec),
        "base_model_name_or_path": None,
        "inference_mode": True,
        "r": rank,
        "lora_alpha": _plain(alpha),
        "lora_dropout": dropout,
        "target_modules": list(amounts),
        "rank_pattern": {name: each.rank for name, each in amounts.items() if each.rank != rank},
        "alpha_pattern": {name: _plain(each.alpha) for name, each in amounts.items() if each.alpha != alpha},
        "fan_in_fan_out": transposed,
        "bias": "none",
        "use_rslora": stabilized,
        "use_dora": dora,
        "init_lora_weights": True,
    }


def most_common(numbers: Iterable[float]) -> float:
    """Return the number that most have."""
    return Counter(numbers).most_common(1)[0][0]


def _plain(number: float) -> float | int:
    """Return a whole number as one, as people write it."""
    return int(number) if number == int(number) else number
