"""Load what fits: a checkpoint's network under another vocabulary or another head, with a list of what was done.

The file must fit its own config.json, and the networks must be the same up to what stands on top, so nothing is lost
by mistake. A parameter that both have is loaded; one with a row for each token keeps the first rows, whose ids both
vocabularies have; what only the new network has is drawn as its family says.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import nn

from smelt.core.errors import CheckpointError
from smelt.models.build import blank, initialise
from smelt.models.encoder_decoder import Network
from smelt.models.families import FAMILIES
from smelt.models.families.base import check_same
from smelt.models.loading import Place, owners_of, replace_parameter
from smelt.models.shards import Shards
from smelt.models.weights import Rule, Rules, read_rules
from smelt.nn.spec import ModelSpec

ON_TOP = ("vocab_size", "tied", "head_bias", "token_ids", "language_head", "head_transform", "pooler", "tasks")
"""Fields of a spec that may differ."""


@dataclass(frozen=True)
class Report:
    """List what a partial load did, by our names of parameters.

    Args:
        loaded: as they are in the file.
        resized: with (rows kept from the file, rows drawn anew).
        new: drawn anew as a whole.
        unused: in the file, not in the model.
    """

    loaded: tuple[str, ...]
    resized: Mapping[str, tuple[int, int]]
    new: tuple[str, ...]
    unused: tuple[str, ...]

    def lines(self) -> list[str]:
        """Return the list as lines for people; what was loaded as it is, is only counted."""
        resized = [f"{name} ({kept:,} rows kept, {new:,} new)" for name, (kept, new) in self.resized.items()]
        listed = {"resized": resized, "new": self.new, "unused": self.unused}
        whole = f"{'loaded':<8} {len(self.loaded)} parameters"
        return [whole, *(f"{title:<8} {', '.join(names)}" for title, names in listed.items() if names)]


def compare(stored: ModelSpec, wanted: ModelSpec, where: str) -> Report:
    """Return what loading a stored network's parameters into another will do.

    Raises:
        CheckpointError: they differ in more than vocabulary and head.
    """
    if stored.family != wanted.family:
        raise CheckpointError(f"{where} holds a {stored.family} network, the spec is of {wanted.family}")
    same = replace(stored, **{name: getattr(wanted, name) for name in ON_TOP})
    if same.encoder is not None and wanted.encoder is not None:
        same = replace(same, encoder=replace(same.encoder, vocab_size=wanted.encoder.vocab_size))
    check_same(wanted, same, f"{where} holds another network")
    theirs, ours, larger = (_shapes(spec) for spec in (stored, wanted, _with_vocabulary(wanted, 1)))
    shared = [name for name in ours if name in theirs]
    loaded = tuple(name for name in shared if theirs[name] == ours[name])
    for_each_token = [name for name in shared if larger[name] != ours[name] != theirs[name]]
    resized = {
        name: (min(theirs[name][0], ours[name][0]), max(0, ours[name][0] - theirs[name][0]))
        for name in for_each_token
        if theirs[name][1:] == ours[name][1:]
    }
    settled = {*loaded, *resized}
    return Report(
        loaded,
        resized,
        tuple(name for name in ours if name not in settled),
        tuple(name for name in theirs if name not in settled),
    )


def under_another_top(model: Network, spec: ModelSpec, *, seed: int, where: str) -> tuple[Network, Report]:
    """Return a network of `spec` that takes over a model's parameters, and the list of what fits; both share memory.

    A task of the model whose labels are not those of the same task in `spec` is left behind. Raises CheckpointError
    when the networks differ elsewhere.
    """
    kept = tuple(task for task in model.spec.tasks if task in spec.tasks)
    report = compare(replace(model.spec, tasks=kept), spec, where)
    new, old = blank(spec, device="meta"), dict(model.named_parameters())
    usual = next(iter(old.values()))
    draw_new(new, spec, report, {name: Place(usual.dtype, usual.device) for name, _ in new.named_parameters()}, seed)
    owners = owners_of(new)
    for name in report.loaded:
        replace_parameter(owners[name], old[name].detach())
    return new, report


def draw_new(model: nn.Module, spec: ModelSpec, report: Report, places: Mapping[str, Place], seed: int) -> None:
    """Give a model without memory those of its parameters that the file has not, or has only the first rows of."""
    generator, owners = torch.Generator().manual_seed(seed), owners_of(model)
    names = {(id(module), leaf): name for name, found in owners.items() for module, leaf in found}
    wanted = {*report.new, *report.resized}
    for path, module in list(model.named_modules()):
        own = {leaf: names[id(module), leaf] for leaf, _ in module.named_parameters(recurse=False)}
        if not wanted & set(own.values()):
            continue
        for leaf, name in own.items():  # a module is drawn as a whole; what the file has replaces its part
            replace_parameter(owners[name], torch.empty(module.get_parameter(leaf).shape))
        with torch.no_grad():
            initialise(path, module, FAMILIES[spec.family].init, spec.num_layers, generator)
        for leaf, name in own.items():
            place = places[name]
            replace_parameter(owners[name], module.get_parameter(leaf).detach().to(place.device, place.dtype))


def fill_rows(model: nn.Module, rules: Rules, shards: Shards, report: Report) -> None:
    """Copy the rows that are kept from the file."""
    parameters = dict(model.named_parameters())
    concerned = tuple(
        rule for rule in rules if isinstance(rule, Rule) and not report.resized.keys().isdisjoint(rule.ours)
    )
    for rule, parts in read_rules(concerned, shards.read):
        for name, part in zip(rule.ours, parts, strict=True):
            if name in report.resized:
                num_rows, _ = report.resized[name]
                with torch.no_grad():
                    parameters[name][:num_rows].copy_(part[:num_rows])
        shards.release(rule.theirs)


def _with_vocabulary(spec: ModelSpec, more: int) -> ModelSpec:
    encoder = None if spec.encoder is None else _with_vocabulary(spec.encoder, more)
    return replace(spec, vocab_size=spec.vocab_size + more, encoder=encoder)


def _shapes(spec: ModelSpec) -> dict[str, tuple[int, ...]]:
    return {name: tuple(parameter.shape) for name, parameter in blank(spec, device="meta").named_parameters()}
