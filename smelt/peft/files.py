"""LoRA adapters as the peft library keeps them: adapter_config.json beside adapter_model.safetensors.

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

from safetensors import SafetensorError, safe_open
from torch import Tensor

from smelt.core.errors import CheckpointError
from smelt.models.shards import read_json
from smelt.nn.spec import ModelSpec
from smelt.peft.lora import MAX_RANK, Lora, LowRank, scale_of
from smelt.peft.lora_config import amount_of, check_fields
from smelt.peft.published import PREFIX, Place, Places, by_module, published_layers

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
KEY = re.compile(rf"{re.escape(PREFIX)}(.+)\.lora_(A|B)\.weight")


def load_lora(directory: Path | str, spec: ModelSpec) -> Lora:
    """Read a LoRA adapter for a model of this spec, by our names, its numbers in fp32.

    Raises:
        CheckpointError: a file is missing or damaged, asks for more than plain LoRA, or does not fit the model.
    """
    places = published_layers(spec)
    return lora_of_modules(load_modules(directory, places), places)


def lora_of_modules(modules: Mapping[str, LowRank], places: Places) -> Lora:
    """Return what our layers get of what whole modules of theirs do: all of `down`, and their rows of `up`."""
    parts = by_module(places)
    return {
        name: LowRank(pair.down, pair.up[places[name].rows])
        for module, pair in modules.items()
        for name in parts[module]
    }


def load_modules(directory: Path | str, places: Places) -> dict[str, LowRank]:
    """Read a LoRA adapter by the published names of the modules that it changes; raises as `load_lora` does."""
    directory = Path(directory)
    config = read_json(directory / CONFIG)
    check_fields(config, str(directory / CONFIG))
    tensors = _read(directory / WEIGHTS)
    modules = sorted({_module(directory, key) for key in tensors})
    if not modules:
        raise CheckpointError(
            f"{directory / WEIGHTS} holds no adapter", accepted=f"names like {PREFIX}LAYER.lora_A.weight"
        )
    known = {place.module: place for place in places.values()}
    return {module: _pair(directory, module, tensors, known.get(module), config) for module in modules}


def load_scales(directory: Path | str, modules: Mapping[str, LowRank]) -> dict[str, float]:
    """Return by what `load_modules` has multiplied the `up` of each module."""
    config, where = read_json(Path(directory) / CONFIG), str(Path(directory) / CONFIG)
    stabilized = bool(config.get("use_rslora"))
    return {
        module: scale_of(amount_of(config, module, where).alpha, pair.rank, stabilized=stabilized)
        for module, pair in modules.items()
    }


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


def _pair(
    directory: Path, module: str, tensors: Mapping[str, Tensor], place: Place | None, config: Mapping[str, Any]
) -> LowRank:
    """Return what a module gets."""
    where = f"{directory / WEIGHTS}: {module}"
    if place is None:
        raise CheckpointError(
            f"{where}: the model has no such layer; adapters are for the linear layers of blocks",
            fix="use the base that the adapter was made for",
        )
    down, up = (tensors.get(f"{PREFIX}{module}.lora_{side}.weight") for side in "AB")
    if down is None or up is None:
        raise CheckpointError(f"{where} has only one of lora_A and lora_B", fix="save the adapter again")
    rank, shape = len(down), (place.num_rows, place.num_columns)
    if down.ndim != 2 or up.ndim != 2 or (len(up), down.shape[1]) != shape or up.shape[1] != rank:
        raise CheckpointError(
            f"{where}: A {tuple(down.shape)} and B {tuple(up.shape)} for a layer {shape}",
            fix="use the base that the adapter was made for",
        )
    if not 0 < rank <= MAX_RANK:
        raise CheckpointError(f"{where} has rank {rank}", accepted=f"1 to {MAX_RANK}")
    amount = amount_of(config, module, str(directory / CONFIG))
    if amount.rank != rank:
        raise CheckpointError(f"{directory / CONFIG} does not say that {module} has rank {rank}, as in {WEIGHTS}")
    up = up * scale_of(amount.alpha, rank, stabilized=bool(config.get("use_rslora")))
    if not bool(down.isfinite().all() and up.isfinite().all()):
        raise CheckpointError(f"{where} holds numbers that are not finite", fix="use an earlier state of the adapter")
    return LowRank(down, up)
