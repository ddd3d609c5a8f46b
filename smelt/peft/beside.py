"""What is trained beside an adapter, such as a new head: whole modules in the adapter's file, by their published names.

peft calls them `modules_to_save`. Any method of tuning may have them: they are the model's own parameters that train,
so nothing has to be told. A module is written whole, with what of it did not train.

Ref: the layout that `PeftModel.save_pretrained` writes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from smelt.core.errors import CheckpointError
from smelt.models.encoder_decoder import Network, meta_network
from smelt.models.families import FAMILIES
from smelt.models.weights import Rule, export_weights, mapped, read_rules
from smelt.peft.published import PREFIX


def modules_beside(model: Network) -> list[str]:
    """Return the published names of the modules whose own parameters train, in the model's order."""
    own = {name for name, _ in meta_network(model.spec).named_parameters()}
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad and name in own}
    rules = mapped(FAMILIES[model.spec.family].rules(model.spec))
    return list(dict.fromkeys(_module(name) for rule in rules if trained & {*rule.ours} for name in rule.theirs))


def tensors_beside(model: Network, modules: Sequence[str]) -> dict[str, Tensor]:
    """Return the tensors of these modules as the file holds them."""
    parameters = dict(model.named_parameters())
    return {PREFIX + name: tensor for name, tensor in export_weights(_rules(model, modules), parameters)}


def fill_beside(model: Network, modules: Sequence[str], tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Put the tensors of these modules into a model, in place, and return the others, which are the adapter's.

    A name that ends no module of the model says nothing: peft writes those of all kinds of heads. Raises
    CheckpointError for tensors that are missing or misshapen.
    """
    parameters = dict(model.named_parameters())
    rules = _rules(model, modules)
    expected = {PREFIX + name: tensor.shape for name, tensor in export_weights(rules, parameters)}
    for name, shape in expected.items():
        found = tuple(tensors[name].shape) if name in tensors else "no tensor"
        if found != tuple(shape):
            raise CheckpointError(f"{name}: {found}", accepted=f"{tuple(shape)}, as in the model")
    with torch.no_grad():
        for rule, parts in read_rules(rules, lambda name: tensors[PREFIX + name]):
            for name, part in zip(rule.ours, parts, strict=True):
                parameters[name].copy_(part)
    return {name: tensor for name, tensor in tensors.items() if name not in expected}


def _rules(model: Network, modules: Sequence[str]) -> tuple[Rule, ...]:
    """Return the rules that carry modules over: all whose names end so, as peft takes them ("pre_classifier" too)."""
    rules = mapped(FAMILIES[model.spec.family].rules(model.spec))
    return tuple(rule for rule in rules if any(_module(name).endswith(tuple(modules)) for name in rule.theirs))


def _module(name: str) -> str:
    """Return the module of a tensor: "classifier.weight" "classifier"."""
    return name.rpartition(".")[0]
