"""Give a model that has no memory yet its parameters: mapped where the file holds them as they are needed, else copied.

A parameter in the type it is stored in simply is its place in the file, or rows of it. What changes type, device or
layout is copied two tensors at a time, and the file's pages are given back at once; so memory holds the model and two
tensors. Small tensors at odd addresses are copied too, since a product's last bits may depend on the address (fp32
matrix by vector). Large ones are not: it would take ten times as long as reading them, for products in bf16 that
are an eighth faster. Our own files have none of either.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import reduce
from typing import Literal, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from smelt.core.errors import CheckpointError, UsageError, nearest
from smelt.models.shard_writer import ALIGNMENT_BYTES
from smelt.models.shards import Shards
from smelt.models.weights import Rule, Rules, mapped, read_rules

SMALL_BYTES = 2**20
WORKERS = 2  # one converts while the other waits for memory; each holds a tensor

Dtype = torch.dtype | Literal["auto"]
Device = torch.device | str
Dtypes = Dtype | Mapping[str, Dtype]
Devices = Device | Mapping[str, Device]
Choice = TypeVar("Choice")


@dataclass(frozen=True)
class Place:
    """Say in which type and where a parameter is to be."""

    dtype: torch.dtype
    device: torch.device


def choose_places(stored: Mapping[str, torch.dtype], dtypes: Dtypes, devices: Devices) -> dict[str, Place]:
    """Return each parameter's place.

    Args:
        stored: the type in which the file has each parameter.
        dtypes: one type, or shell patterns of names with types, of which the first that matches counts; "auto" is the
            type that is stored.
        devices: the same with devices.

    Raises:
        UsageError: a pattern that no name matches, a name that no pattern matches, or what this machine lacks.
    """
    dtype_of = _by_name(stored, dtypes if isinstance(dtypes, Mapping) else {"*": dtypes}, "dtype")
    device_of = _by_name(stored, devices if isinstance(devices, Mapping) else {"*": devices}, "device")
    found = {}
    for name, kept in stored.items():
        dtype = dtype_of[name]
        if not isinstance(dtype, torch.dtype) and dtype != "auto":
            raise UsageError(f"no dtype {dtype!r}", accepted='"auto", or a type such as torch.bfloat16')
        found[name] = Place(kept if dtype == "auto" else dtype, _device(device_of[name]))
    for place in dict.fromkeys(found.values()):
        _check_machine(place)
    return found


def _by_name(names: Iterable[str], patterns: Mapping[str, Choice], what: str) -> dict[str, Choice]:
    """Return what the first pattern that matches says of each name."""
    found, unused = {}, dict(patterns)
    for name in names:
        matching = [pattern for pattern in patterns if fnmatchcase(name, pattern)]
        if not matching:
            raise UsageError(f"no pattern of the {what} map matches {name}", fix=f'end the map with "*": a {what}')
        found[name] = patterns[matching[0]]
        for pattern in matching:
            unused.pop(pattern, None)
    if unused:
        pattern = next(iter(unused))
        raise UsageError(
            f"the {what} map's pattern {pattern!r} matches no parameter.{nearest(pattern, names)}",
            accepted="shell patterns of parameter names (`smelt info` lists them)",
        )
    return found


def _device(name: Device) -> torch.device:
    try:
        return torch.device(name)
    except (RuntimeError, TypeError) as error:
        raise UsageError(f"no device {name!r}", accepted="cpu, cuda, cuda:1, ..") from error


def _check_machine(place: Place) -> None:
    """Multiply and add numbers: a machine that cannot does not have the device, or not this type on it."""
    accepted = "float32, bfloat16, float16" + ("" if place.device.type == "cpu" else '; or device="cpu"')
    name = str(place.dtype).removeprefix("torch.")
    if not place.dtype.is_floating_point:
        raise UsageError(f"parameters of type {name}", accepted=accepted)
    try:
        one = torch.ones(1, 1, dtype=place.dtype, device=place.device)
        functional.linear(one, one) + one
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).strip().split("\n")[0]
        raise UsageError(f"this machine lacks {name} on {place.device} ({reason})", accepted=accepted) from error


def stored_dtypes(rules: Iterable[Rule], shards: Shards) -> dict[str, torch.dtype]:
    """Return the type in which a file holds each parameter; raises CheckpointError where it is no floating point."""
    found: dict[str, torch.dtype] = {}
    for rule in rules:
        for name in rule.theirs:
            if not shards.dtypes[name].is_floating_point:
                kind = str(shards.dtypes[name]).removeprefix("torch.")
                raise CheckpointError(f"{name} is stored as {kind}", accepted="weights that are not quantized")
        widest = reduce(torch.promote_types, (shards.dtypes[name] for name in rule.theirs))
        found |= dict.fromkeys(rule.ours, widest)
    return found


def settle(tensor: Tensor, place: Place) -> Tensor:
    """Return a tensor as a parameter keeps it: contiguous, in its place; itself where it already is so."""
    moved = tensor.to(place.device, place.dtype)
    is_odd = moved.device.type == "cpu" and moved.data_ptr() % ALIGNMENT_BYTES != 0
    if not moved.is_contiguous() or (is_odd and moved.nbytes < SMALL_BYTES):
        return moved.clone(memory_format=torch.contiguous_format)
    return moved


def fill(model: nn.Module, rules: Rules, shards: Shards, places: Mapping[str, Place]) -> None:
    """Replace the parameters of a model, by their names in `places`, by those of a checkpoint that was found to fit."""
    owners = owners_of(model)

    def settle_one(rule: Rule) -> None:
        ((_, parts),) = read_rules((rule,), shards.read)
        pairs = zip(rule.ours, parts, strict=True)
        settled = {name: settle(part, places[name]) for name, part in pairs if name in places}
        parts.clear()
        for name, tensor in settled.items():
            replace_parameter(owners[name], tensor)
        shards.release(rule.theirs, settled.values())

    with ThreadPoolExecutor(WORKERS) as pool:
        list(pool.map(settle_one, mapped(rules)))  # raises what one of them raised


Owners = list[tuple[nn.Module, str]]


def owners_of(model: nn.Module) -> dict[str, Owners]:
    """Return where each parameter hangs, by its first name; one that is shared hangs in several places."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    found: dict[str, Owners] = defaultdict(list)
    for module in model.modules():
        for leaf, parameter in module.named_parameters(recurse=False):
            found[names[id(parameter)]].append((module, leaf))
    return found


def replace_parameter(owners: Owners, tensor: Tensor) -> None:
    """Hang a new parameter with these numbers where an old one hangs."""
    parameter = nn.Parameter(tensor)
    for module, leaf in owners:
        module.register_parameter(leaf, parameter)
