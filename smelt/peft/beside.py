"""What is trained beside an adapter, such as a new head: whole modules in the adapter's file, by their published names.

peft calls them `modules_to_save`. Any method of tuning may have them: they are the model's own parameters that train,
so nothing has to be told. A module is written whole, with what of it did not train. One that the base ties to another,
as the head to the embedding, is written with it: there the copies of modules that peft makes are not tied.

Ref: the layout that `PeftModel.save_pretrained` writes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from smelt.core.errors import CheckpointError
from smelt.models.encoder_decoder import Network, meta_network
from smelt.models.families import FAMILIES
from smelt.models.weights import Rule, Tie, export_weights, mapped, read_rules
from smelt.peft.published import PREFIX


def modules_beside(model: Network) -> list[str]:
    """Return the published names of the modules whose own parameters train, in the model's order."""
    own = {name for name, _ in meta_network(model.spec).named_parameters()}
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad and name in own}
    rules = mapped(FAMILIES[model.spec.family].rules(model.spec))
    found = [_module(name) for rule in rules if trained & {*rule.ours} for name in rule.theirs]
    found += [_module(tie.alias) for tie in _ties(model) if _module(tie.source) in found]
    return list(dict.fromkeys(found))


def parameters_beside(model: Network, modules: Sequence[str]) -> set[str]:
    """Return our names of the parameters that these modules hold."""
    return {name for rule in _rules(model, modules) for name in rule.ours}


def tensors_beside(model: Network, modules: Sequence[str]) -> dict[str, Tensor]:
    """Return the tensors of these modules as the file holds them."""
    parameters = dict(model.named_parameters())
    found = {PREFIX + name: tensor for name, tensor in export_weights(_rules(model, modules), parameters)}
    for tie in _ties(model, modules):
        rule = next(rule for rule in mapped(FAMILIES[model.spec.family].rules(model.spec)) if tie.source in rule.theirs)
        source = dict(export_weights((rule,), parameters))[tie.source]
        found[PREFIX + tie.alias] = source.clone()  # a file holds no tensor twice
    return found


def fill_beside(model: Network, modules: Sequence[str], tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Put the tensors of these modules into a model, in place, and return the others, which are the adapter's.

    A name that ends no module of the model says nothing: peft writes those of all kinds of heads. Raises
    CheckpointError for tensors that are missing or misshapen, and for those of tied modules that differ.
    """
    parameters = dict(model.named_parameters())
    rules = _rules(model, modules)
    expected = {PREFIX + name: tensor.shape for name, tensor in export_weights(rules, parameters)}
    for name, shape in expected.items():
        found = tuple(tensors[name].shape) if name in tensors else "no tensor"
        if found != tuple(shape):
            raise CheckpointError(f"{name}: {found}", accepted=f"{tuple(shape)}, as in the model")
    _check_ties(model, modules, tensors)
    with torch.no_grad():
        for rule, parts in read_rules(rules, lambda name: tensors[PREFIX + name]):
            for name, part in zip(rule.ours, parts, strict=True):
                parameters[name].copy_(part)
    expected |= {PREFIX + tie.alias: torch.Size() for tie in _ties(model)}
    return {name: tensor for name, tensor in tensors.items() if name not in expected}


def _check_ties(model: Network, modules: Sequence[str], tensors: Mapping[str, Tensor]) -> None:
    """Raise CheckpointError where one of two tied tensors was trained without the other."""
    for tie in _ties(model):
        pair = [PREFIX + name for name in (tie.source, tie.alias) if _listed(name, modules)]
        given = [tensors[name] for name in pair if name in tensors]
        if pair and (len(given) < 2 or not torch.equal(*given)):
            raise CheckpointError(
                f"{tie.source} and {tie.alias} are tied in the base, and were not trained as one",
                accepted="both, with the same numbers",
                fix="train it with ensure_weight_tying, or over a base whose head is its own",
            )


def _rules(model: Network, modules: Sequence[str]) -> tuple[Rule, ...]:
    """Return the rules that carry modules over: all whose names end so, as peft takes them ("pre_classifier" too)."""
    rules = mapped(FAMILIES[model.spec.family].rules(model.spec))
    return tuple(rule for rule in rules if any(_listed(name, modules) for name in rule.theirs))


def _ties(model: Network, modules: Sequence[str] = ("",)) -> list[Tie]:
    """Return the ties whose alias is in these modules; all, as every name ends in nothing."""
    if not model.spec.language_head and model.spec.encoder is None:
        return []  # what the embedding is tied to is not there
    rules = FAMILIES[model.spec.family].rules(model.spec)
    return [rule for rule in rules if isinstance(rule, Tie) and _listed(rule.alias, modules)]


def _listed(name: str, modules: Sequence[str]) -> bool:
    """Tell whether a tensor is of one of these modules, or of one whose name ends so."""
    return _module(name).endswith(tuple(modules))


def _module(name: str) -> str:
    """Return the module of a tensor: "classifier.weight" "classifier"."""
    return name.rpartition(".")[0]
