"""Where our linear layers stand in the published layout, which is how files of the peft library name what they change.

A family's weight rules say it: a layer of ours is a module of theirs, or some rows of one, as GPT-2's query, key and
value are of `c_attn`. What tunes a module as a whole, such as LoRA's `down`, is shared by our layers of one module;
what is a number or a row for each output is cut into their rows, and laid back for the file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from smelt.models.encoder_decoder import meta_network
from smelt.models.families import FAMILIES
from smelt.models.weights import Rule, mapped, read_rules
from smelt.nn.spec import ModelSpec
from smelt.nn.surgery import linear_names

PREFIX = "base_model.model."
"""How names begin in peft's files, before the published name of a module."""
CHOOSING = ("router", "shared_gate")
"""The last names of layers that weigh experts; published code has no linear layers for them, or none to be tuned."""


@dataclass(frozen=True, eq=False)
class Place:
    """A linear layer of ours in the published layout: these `rows` (out,) of a `module` of `num_rows` outputs.

    A module that stores its weight (in, out), a Conv1D, is `transposed`; rows are outputs all the same.
    """

    module: str
    rows: Tensor
    num_rows: int
    num_columns: int
    transposed: bool

    @property
    def smaller_side(self) -> int:
        """Return the highest rank that the module's weight can have."""
        return min(self.num_rows, self.num_columns)


Places = Mapping[str, Place]
"""The places of our linear layers, by our names."""


def published_layers(spec: ModelSpec) -> dict[str, Place]:
    """Return the places of all linear layers inside a model's blocks that a file can name, by our names.

    Of "gpt2", "blocks.0.attention.key" is the rows D to 2 D of "transformer.h.0.attn.c_attn", which is transposed.
    """
    network = meta_network(spec)
    linear = {f"{name}.weight" for name in linear_names(network) if not name.endswith(CHOOSING)}
    sizes = {name: parameter.shape for name, parameter in network.named_parameters()}
    found: dict[str, Place] = {}
    for rule in mapped(FAMILIES[spec.family].rules(spec)):
        if linear.issuperset(rule.ours) and len(rule.theirs) == 1 and rule.theirs[0].endswith(".weight"):
            num_rows = sum(sizes[name][0] for name in rule.ours)
            for name, rows in zip(rule.ours, _rows(rule, num_rows), strict=True):
                module = rule.theirs[0].removesuffix(".weight")
                place = Place(module, rows, num_rows, sizes[name][1], rule.transposed)
                found[name.removesuffix(".weight")] = place
    return found


def _rows(rule: Rule, num_rows: int) -> list[Tensor]:
    """Return which rows of one tensor of theirs each parameter of ours has: a rule told to carry their numbers over."""
    (_, parts), *_ = read_rules((replace(rule, transposed=False),), lambda _: torch.arange(num_rows))
    return parts


def by_module(places: Places) -> dict[str, list[str]]:
    """Return our layers of each module of theirs, both in the model's order."""
    found: dict[str, list[str]] = {}
    for name, place in places.items():
        found.setdefault(place.module, []).append(name)
    return found


def laid_together(parts: Mapping[str, Tensor], places: Places) -> Tensor:
    """Return a tensor of a whole module from those of our layers (out, ..) of it; rows of layers left out are zero."""
    first = next(iter(parts.values()))
    whole = first.new_zeros(places[next(iter(parts))].num_rows, *first.shape[1:])
    for name, part in parts.items():
        whole[places[name].rows] = part
    return whole


def task_type(spec: ModelSpec) -> str | None:
    """Return what peft calls the task of a model: generating text, or None, which asks for nothing special."""
    if spec.encoder is not None:
        return "SEQ_2_SEQ_LM"
    is_causal = all(layer.attention.causal for layer in spec.layers)
    return "CAUSAL_LM" if spec.language_head and is_causal else None
