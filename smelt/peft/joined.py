"""Several LoRA adapters of one base as one adapter, in files: their weighted sum, or what peft calls linear.

The result is an adapter as any other: every verb opens it on the base, and it can be joined or merged again.

Ref: `LoraModel.add_weighted_adapter` of the peft library, whose cat, svd and linear these are.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from smelt.core.errors import CheckpointError, UsageError, nearest
from smelt.core.storage import MANIFEST, atomic_directory, checkpoint_at, verify_directory, write_json
from smelt.models.hub import GENERATION, LINEAGE, load_spec
from smelt.models.shards import read_json
from smelt.peft.combine import combine_adapters, sum_factors
from smelt.peft.files import CONFIG, WEIGHTS, load_modules, load_scales
from smelt.peft.load import BASE, BITS, HASHES, base_of, is_adapter, weights_hashes
from smelt.peft.lora import MAX_RANK
from smelt.peft.lora_method import files_of
from smelt.peft.published import published_layers
from smelt.tokenizers.formats import has_tokenizer, load_tokenizer, save_tokenizer, settings_beside

METHODS = ("stack", "linear")
"""The exact sum, whose ranks add up, and the sum of the factors, which has the rank of one."""


@dataclass(frozen=True)
class JoinedAdapters:
    """Say what became of adapters: how they were joined, the highest rank of the result, and how many numbers."""

    out: Path
    method: str
    weights: tuple[float, ...]
    rank: int
    parents: list[dict[str, str]]
    num_parameters: int


@dataclass(frozen=True)
class _Adapter:
    """An adapter directory, the base it names, and the bits that the base had in training."""

    path: Path
    base: Path
    bits: int | None


def join_adapters(
    adapters: Sequence[Path | str],
    out: Path | str,
    *,
    method: str = "stack",
    weights: Sequence[float] | None = None,
    rank: int | None = None,
) -> JoinedAdapters:
    """Join LoRA adapters of one base into a sealed adapter at `out`.

    Args:
        adapters: two or more.
        method: stack or linear.
        weights: a factor for each, as they are; none: equal shares of 1.
        rank: with stack, cut the sum to the nearest of this rank.

    Raises:
        UsageError: settings that do not go together.
        CheckpointError: an adapter is damaged, is no plain LoRA, or belongs to another base or tokenizer.
    """
    given = tuple(weights) if weights is not None else (1 / len(adapters),) * len(adapters)
    _check_settings(method, given, len(adapters), rank)
    opened = [_open(checkpoint_at(path)) for path in adapters]
    first = opened[0]
    for other in opened[1:]:
        _check_same_base(first, other)
    base = first.base
    while is_adapter(base):  # a base of one's own may be an adapter, too
        base = base_of(base, read_json(base / CONFIG))
    spec = load_spec(base)
    places = published_layers(spec)
    modules = [load_modules(adapter.path, places) for adapter in opened]
    if method == "linear":
        scales = [load_scales(adapter.path, found) for adapter, found in zip(opened, modules, strict=True)]
        joined = sum_factors(modules, given, scales)
    else:
        joined = combine_adapters(modules, given, rank=rank)
    highest = max(pair.rank for pair in joined.values())
    if highest > MAX_RANK:
        raise UsageError(f"together the adapters have rank {highest}", accepted=f"up to {MAX_RANK}", fix="--rank 64")
    parents = [
        {"path": str(adapter.path), "weights_sha256": digest, "role": "adapter"}
        for adapter in opened
        for digest in weights_hashes(adapter.path)
    ]
    config, tensors = files_of(joined, spec)
    settings = {"method": method, "weights": list(given), **({} if rank is None else {"rank": rank})}
    with atomic_directory(Path(out)) as folder:
        write_json(folder / CONFIG, {**config, BASE: str(first.base.resolve())})
        save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
        lineage = {"stage": "merge", "step": 0, "parents": parents, "merge": settings, BITS: first.bits}
        _write_rest(opened, folder, {**lineage, HASHES: weights_hashes(first.base)})
    num_parameters = sum(tensor.numel() for tensor in tensors.values())
    return JoinedAdapters(Path(out), method, given, highest, parents, num_parameters)


def _check_settings(method: str, weights: tuple[float, ...], num: int, rank: int | None) -> None:
    if method not in METHODS:
        raise UsageError(f"no method '{method}' for adapters.{nearest(method, METHODS)}", accepted=", ".join(METHODS))
    if len(weights) != num or not all(map(math.isfinite, weights)):
        shown = ",".join(f"{weight:g}" for weight in weights)
        raise UsageError(f"weights {shown} for {num} adapters", accepted=f"{num} finite numbers")
    if rank is not None and (method != "stack" or not 1 <= rank <= MAX_RANK):
        raise UsageError(f"rank {rank} with {method}", accepted=f"1 to {MAX_RANK}, with stack alone")


def _open(path: Path) -> _Adapter:
    if (path / MANIFEST).is_file():
        verify_directory(path)
    lineage: dict[str, Any] = read_json(path / LINEAGE) if (path / LINEAGE).is_file() else {}
    return _Adapter(path, base_of(path, read_json(path / CONFIG)), lineage.get(BITS))


def _check_same_base(first: _Adapter, other: _Adapter) -> None:
    """Raise CheckpointError where two adapters were trained on other weights than each other."""
    bases = [weights_hashes(adapter.base) for adapter in (first, other)]
    if bases[0] != bases[1] or first.bits != other.bits:
        how = ["" if adapter.bits is None else f" in {adapter.bits} bits" for adapter in (first, other)]
        raise CheckpointError(
            f"{other.path} was trained on {other.base}{how[1]}, {first.path} on {first.base}{how[0]}",
            accepted="adapters of the same weights",
            fix="merge each into its base, and then the results",
        )


def _write_rest(adapters: Sequence[_Adapter], folder: Path, lineage: dict[str, Any]) -> None:
    """Write the first adapter's tokenizer and ends of text, if it has its own, and the lineage.

    Raises CheckpointError where two adapters read text differently.
    """
    read = [(adapter, load_tokenizer(adapter.path)) for adapter in adapters if has_tokenizer(adapter.path)]
    for adapter, tokenizer in read[1:]:
        if tokenizer.fingerprint != read[0][1].fingerprint:
            raise CheckpointError(
                f"{adapter.path} has another tokenizer than {read[0][0].path}", accepted="adapters that read text alike"
            )
    if read:
        adapter, tokenizer = read[0]
        save_tokenizer(tokenizer, folder, **settings_beside(adapter.path, tokenizer))
        lineage = {**lineage, "tokenizer_sha256": tokenizer.fingerprint}
    if (adapters[0].path / GENERATION).is_file():
        shutil.copyfile(adapters[0].path / GENERATION, folder / GENERATION)
    write_json(folder / LINEAGE, lineage)
