"""Merge whole checkpoints into one artefact, tensor by tensor, from mapped files into a file.

Memory holds one tensor of each checkpoint in fp32 and one or two more, however large the models are: the result's
header comes from shapes alone, and each tensor is written as soon as it is made. Only checkpoints of the same network
and the same tokenizer have numbers that mean the same; all others are refused with what differs first. The tokenizer,
the chat template and the ids where answers stop are the first checkpoint's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from smelt.core.errors import CheckpointError, UsageError, nearest
from smelt.core.storage import atomic_directory, checkpoint_at, sha256_files, write_json
from smelt.models import merging
from smelt.models.families import FAMILIES
from smelt.models.families.base import check_same
from smelt.models.hub import LINEAGE, load_its_tokenizer, open_mapped, usual_dtype, write_config
from smelt.models.loading import stored_dtypes
from smelt.models.shard_writer import MAX_SHARD_BYTES, write_weights
from smelt.models.shards import Shards
from smelt.models.weights import mapped
from smelt.nn.spec import ModelSpec
from smelt.tokenizers.formats import save_tokenizer, settings_beside
from smelt.tokenizers.pipeline import Pipeline

METHODS = ("linear", "slerp", "ties", "task")
FROM_BASE = ("ties", "task")
DENSITY, SCALE = 0.2, 1.0
"""What TIES' authors advise where there is no validation set to choose with."""


@dataclass(frozen=True)
class Merge:
    """Say how tensors become one: `method`, a weight for each checkpoint, `density` for TIES, `scale` from a base."""

    method: str
    weights: tuple[float, ...]
    density: float = DENSITY
    scale: float = SCALE

    @classmethod
    def of(
        cls,
        method: str,
        num: int,
        *,
        weights: Sequence[float] | None = None,
        has_base: bool = False,
        density: float | None = None,
        scale: float | None = None,
    ) -> Merge:
        """Return the settings for `num` checkpoints; raises UsageError where they do not go together."""
        if method not in METHODS:
            raise UsageError(f"no method '{method}'.{nearest(method, METHODS)}", accepted=", ".join(METHODS))
        needed = {"linear": 2, "slerp": 2, "ties": 2, "task": 1}[method]
        if num < needed or (method == "slerp" and num != needed):
            raise UsageError(
                f"{method} of {num} checkpoint{'s' * (num != 1)}",
                accepted="exactly two" if method == "slerp" else f"{needed} or more",
            )
        if (method in FROM_BASE) != has_base:
            which = "needs the base that the checkpoints were tuned from" if not has_base else "takes no base"
            raise UsageError(f"{method} {which}", fix="--base BASE" if not has_base else f"--method {FROM_BASE[0]}")
        if density is not None and (method != "ties" or not 0 < density <= 1):
            raise UsageError(f"density {density} with {method}", accepted="above 0, up to 1, with ties alone")
        if scale is not None and (method not in FROM_BASE or not math.isfinite(scale)):
            raise UsageError(f"scale {scale} with {method}", accepted=f"a number, with {' or '.join(FROM_BASE)}")
        given = tuple(weights) if weights is not None else (1.0,) * num
        _check_weights(method, num, given)
        return cls(method, given, DENSITY if density is None else density, SCALE if scale is None else scale)

    def settings(self) -> dict[str, Any]:
        """Return the settings that the method reads, for the lineage."""
        found: dict[str, Any] = {"method": self.method, "weights": list(self.weights)}
        found |= {"density": self.density} if self.method == "ties" else {}
        return found | ({"scale": self.scale} if self.method in FROM_BASE else {})


def _check_weights(method: str, num: int, weights: tuple[float, ...]) -> None:
    shown = ",".join(f"{weight:g}" for weight in weights)
    if len(weights) != num:
        raise UsageError(f"weights {shown} for {num} checkpoint{'s' * (num != 1)}", accepted=f"{num} numbers")
    if not all(map(math.isfinite, weights)):
        raise UsageError(f"weights {shown}", accepted="finite numbers")
    if method in ("slerp", "ties") and (min(weights) < 0 or not any(weights)):
        raise UsageError(f"weights {shown} with {method}", accepted="numbers from 0 on, not all 0")
    if method == "linear" and abs(sum(weights)) < 1e-9:
        raise UsageError(f"weights {shown} add up to 0, so there is no average", accepted="another sum")


@dataclass
class Merged:
    """Say what became of a merge: parents as a lineage names them, and how many tensors slerp joined by a line."""

    out: Path
    merge: Merge
    parents: list[dict[str, str]]
    dtype: str
    num_tensors: int = 0
    num_parameters: int = 0
    num_straight: int = 0


@dataclass(frozen=True)
class _Parent:
    """A mapped checkpoint; `names` says what its files call each tensor of the family's layout."""

    path: Path
    role: str
    spec: ModelSpec
    tokenizer: Pipeline
    shards: Shards
    names: dict[str, str] = field(default_factory=dict)

    def read(self, name: str) -> Tensor:
        """Return a tensor in fp32; raises CheckpointError for numbers that are not finite, which TIES would trim."""
        tensor = self.shards.read(self.names[name]).float()
        if not tensor.isfinite().all():
            raise CheckpointError(f"{self.path}: {name} holds numbers that are not finite", fix="use an earlier state")
        return tensor


def merge_checkpoints(
    checkpoints: Sequence[Path | str],
    out: Path | str,
    merge: Merge,
    *,
    base: Path | str | None = None,
    max_shard_bytes: int = MAX_SHARD_BYTES,
    on_progress: Callable[[int, int], None] | None = None,
) -> Merged:
    """Merge checkpoints into a sealed artefact at `out`; `on_progress(done, total)` is called after each tensor.

    Each tensor has the widest of the types that the checkpoints store it in. A file below `out` appears whole or not.

    Raises:
        CheckpointError: a checkpoint is damaged or fits no family, two do not fit each other, or numbers are not
            finite.
        ResourceError: the disk is full.
    """
    parents = [_open(checkpoint_at(path), "merged") for path in checkpoints]
    origin = None if base is None else _open(checkpoint_at(base), "base")
    first, everyone = parents[0], [*parents, *([origin] if origin else [])]
    for other in everyone[1:]:
        _check_fits(first, other)
    planned = [
        (name, torch.empty(first.shards.shapes[key], dtype=_widest(everyone, name), device="meta"))
        for name, key in first.names.items()
    ]
    merged = Merged(Path(out), merge, _lineage(everyone), usual_dtype(tensor for _, tensor in planned))

    def tensors() -> Iterator[tuple[str, Tensor]]:
        for name, plan in planned:
            tensor = _merged_tensor(name, plan.dtype, parents, origin, merged)
            for parent in everyone:
                parent.shards.release([parent.names[name]])
            merged.num_tensors += 1
            merged.num_parameters += plan.numel()
            if on_progress is not None:
                on_progress(merged.num_tensors, len(planned))
            yield name, tensor
            del tensor  # before the next one is made

    with atomic_directory(merged.out) as directory:
        write_config(first.spec, merged.dtype, directory)
        write_weights(planned, tensors(), directory, max_shard_bytes)
        save_tokenizer(first.tokenizer, directory, **settings_beside(first.path, first.tokenizer))
        lineage = {"stage": "merge", "step": 0, "parents": merged.parents, "merge": merge.settings()}
        write_json(directory / LINEAGE, {**lineage, "tokenizer_sha256": first.tokenizer.fingerprint})
    return merged


def _open(path: Path, role: str) -> _Parent:
    """Map a checkpoint, with its bytes verified where it has a manifest."""
    tokenizer = load_its_tokenizer(path)
    model, rules, shards = open_mapped(path)
    stored_dtypes(mapped(rules), shards)  # refuses what is quantized
    own = mapped(FAMILIES[model.spec.family].rules(model.spec))
    names = {
        name: key
        for rule, found in zip(own, mapped(rules), strict=True)
        for name, key in zip(rule.theirs, found.theirs, strict=True)
    }
    return _Parent(path, role, model.spec, tokenizer, shards, names)


def _check_fits(first: _Parent, other: _Parent) -> None:
    """Raise CheckpointError where two checkpoints are different networks or read text differently."""
    spec = replace(other.spec, token_ids=first.spec.token_ids)  # where answers stop is not what the network is
    check_same(spec, first.spec, f"{other.path} cannot be merged with {first.path}")
    one, two = first.tokenizer, other.tokenizer
    if one.fingerprint == two.fingerprint:
        return
    pairs = zip(two.spelling, one.spelling, strict=False)
    told = next((f"id {at} is {b!r}, not {a!r}" for at, (b, a) in enumerate(pairs) if a != b), "")
    if two.vocab_size != one.vocab_size:
        told = f"{two.vocab_size} tokens, not {one.vocab_size}"
    raise CheckpointError(
        f"{other.path} has another tokenizer than {first.path}: {told or 'the same tokens, but text is cut otherwise'}",
        accepted="checkpoints whose ids mean the same",
        fix="merge models that were tuned from one base",
    )


def _widest(parents: Sequence[_Parent], name: str) -> torch.dtype:
    return reduce(torch.promote_types, (parent.shards.dtypes[parent.names[name]] for parent in parents))


def _merged_tensor(
    name: str, dtype: torch.dtype, parents: Sequence[_Parent], origin: _Parent | None, merged: Merged
) -> Tensor:
    """Return one tensor of the result; counts in `merged` where slerp took the straight line."""
    merge, tensors = merged.merge, [parent.read(name) for parent in parents]
    weights, base = merge.weights, None if origin is None else origin.read(name)
    if base is not None and merge.method == "ties":
        found = merging.ties(base, tensors, weights, merge.density, merge.scale)
    elif base is not None:
        found = merging.task_arithmetic(base, tensors, weights, merge.scale)
    elif merge.method == "slerp":
        one, other = tensors
        angle = merging.angle_between(one, other)
        merged.num_straight += merging.is_straight(angle)
        found = merging.slerp(one, other, weights[1] / sum(weights), angle)
    else:
        found = merging.linear(tensors, weights)
    found = found.to(dtype).contiguous()
    if not found.isfinite().all():
        raise CheckpointError(
            f"{name}: the merged numbers are too large for {dtype}".replace("torch.", ""),
            fix="choose smaller weights, or a smaller scale",
        )
    return found


def _lineage(parents: Sequence[_Parent]) -> list[dict[str, str]]:
    """Return where each checkpoint is, the hash of each file of its weights, and what it was here."""
    found = []
    for parent in parents:
        files = sorted(parent.path.glob("*.safetensors"))
        for digest in sha256_files(files):
            found.append({"path": str(parent.path), "weights_sha256": digest, "role": parent.role})
    return found
