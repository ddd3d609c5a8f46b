"""What every adapter's files are checked for before a number of them is used: fields that we honour, tensors that fit.

An adapter that is applied in part gives answers that nobody trained, so whatever is unknown is refused by name.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from torch import Tensor

from smelt.core.errors import CheckpointError, nearest

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
SHOWN = 3


def check_fields(
    config: Mapping[str, Any], fixed: Mapping[str, tuple[object, ...]], known: Collection[str], *, accepted: str
) -> None:
    """Raise CheckpointError for a field with other than its `fixed` values, and for one neither known nor off.

    `accepted` says in words what may stand there.
    """
    for name, value in config.items():
        if name in fixed:
            if not any(value is each or value == each for each in fixed[name]):
                raise CheckpointError(
                    f"{CONFIG}: {name} = {value!r:.80}", accepted=" or ".join(repr(each) for each in fixed[name])
                )
        elif name not in known and value is not None and value is not False and value not in ("", [], {}):
            raise CheckpointError(f"{CONFIG}: {name:.80} = {value!r:.80}", accepted=accepted)


def check_tensors(tensors: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Raise CheckpointError unless there are just the tensors of these names and shapes, and all numbers are finite."""
    missing = [name for name in shapes if name not in tensors]
    unknown = [name for name in tensors if name not in shapes]
    if missing or unknown:
        told = [
            f"{kind} {', '.join(f'{name:.200}' for name in names[:SHOWN])}{' ..' if len(names) > SHOWN else ''}"
            for kind, names in (("missing", missing), ("unknown", unknown))
            if names
        ]
        raise CheckpointError(
            f"{WEIGHTS} does not fit what the adapter was attached to: {'; '.join(told)}."
            f"{nearest(unknown[0], shapes) if unknown else ''}",
            fix="use the base and the settings that the adapter was made with",
        )
    for name, shape in shapes.items():
        if tuple(tensors[name].shape) != shape:
            raise CheckpointError(
                f"{WEIGHTS}: {name} has shape {tuple(tensors[name].shape)}, the model asks for {shape}",
                fix="use the base that the adapter was made for",
            )
        if not bool(tensors[name].isfinite().all()):
            raise CheckpointError(
                f"{WEIGHTS}: {name} holds numbers that are not finite", fix="use an earlier state of the adapter"
            )
