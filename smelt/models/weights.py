"""One table of rules a family says how a published checkpoint maps to our parameters, in both directions.

A rule names their tensors and our parameters; merging, splitting and transposing follow from the numbers of names.
Every key of a checkpoint must be consumed exactly once and every parameter produced exactly once, so a wrong table
or a wrong file can never load quietly. Tensors stream one rule at a time, in both directions.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import reduce

import torch
from torch import Tensor

from smelt.core.errors import CheckpointError, nearest

Read = Callable[[str], Tensor]
Shape = tuple[int, ...]
SHOWN = 10
OLD_ENDINGS = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
"""Names that came from TensorFlow, still in the files of the first encoders."""


@dataclass(frozen=True)
class Rule:
    """Map their tensors to our parameters; more than one name on a side is concatenated along our output axis.

    `transposed` tensors are stored (in, out) on their side. `sizes` are the rows of each part of a merge or split.
    `stacked` tensors become one parameter with a first axis more, as experts do. The rows of several parameters in one
    tensor may come in `groups`, some of each parameter in turn: those of the first head, then those of the second. A
    `row` is stored with a first axis of one, which our parameter has not.
    """

    theirs: tuple[str, ...]
    ours: tuple[str, ...]
    transposed: bool = False
    sizes: tuple[int, ...] = ()
    stacked: bool = False
    groups: int = 1
    row: bool = False


@dataclass(frozen=True)
class Tie:
    """Say that their `alias` repeats their `source`: never written; when a file has it, it must be equal."""

    alias: str
    source: str


@dataclass(frozen=True)
class Ignore:
    """Skip their tensors that match a shell pattern, buffers that old checkpoints carry."""

    pattern: str


Rules = tuple[Rule | Tie | Ignore, ...]


def rename(theirs: str, ours: str) -> Rule:
    """Map one tensor to one parameter unchanged."""
    return Rule((theirs,), (ours,))


def transpose(theirs: str, ours: str) -> Rule:
    """Map a matrix stored (in, out) to a Linear weight (out, in)."""
    return Rule((theirs,), (ours,), transposed=True)


def split(theirs: str, ours: Iterable[str], sizes: Iterable[int], *, transposed: bool = False) -> Rule:
    """Map one fused tensor to several parameters of `sizes` rows each."""
    return Rule((theirs,), tuple(ours), transposed, tuple(sizes))


def merge(theirs: Iterable[str], ours: str, sizes: Iterable[int], *, transposed: bool = False) -> Rule:
    """Map several tensors of `sizes` rows each to one fused parameter."""
    return Rule(tuple(theirs), (ours,), transposed, tuple(sizes))


def stack(theirs: Iterable[str], ours: str) -> Rule:
    """Map several tensors of one shape to one parameter (parts, ..)."""
    return Rule(tuple(theirs), (ours,), stacked=True)


def row(theirs: str, ours: str) -> Rule:
    """Map a tensor (1, N) to a vector (N,)."""
    return Rule((theirs,), (ours,), row=True)


def without_prefix(rules: Rules, prefix: str) -> Rules:
    """Strip a prefix from all their names: how base-model checkpoints are published."""
    found: list[Rule | Tie | Ignore] = []
    for rule in rules:
        if isinstance(rule, Rule):
            found.append(replace(rule, theirs=tuple(name.removeprefix(prefix) for name in rule.theirs)))
        elif isinstance(rule, Tie):
            found.append(Tie(rule.alias.removeprefix(prefix), rule.source.removeprefix(prefix)))
        else:
            found.append(Ignore(rule.pattern.removeprefix(prefix)))
    return tuple(found)


def with_endings(rules: Rules, endings: Mapping[str, str], keys: Iterable[str]) -> Rules:
    """Take the older names that a file has for some of theirs, given as {newer ending: older ending}.

    {".weight": ".gamma"}: "norm.weight" becomes "norm.gamma" where `keys` hold that and not "norm.weight".
    """
    present = set(keys)

    def older(name: str) -> str:
        for new, old in endings.items():
            former = name.removesuffix(new) + old
            if name.endswith(new) and name not in present and former in present:
                return former
        return name

    return tuple(
        replace(rule, theirs=tuple(map(older, rule.theirs))) if isinstance(rule, Rule) else rule for rule in rules
    )


def mapped(rules: Rules) -> Iterator[Rule]:
    """Yield the rules that carry tensors over."""
    return (rule for rule in rules if isinstance(rule, Rule))


def _convert(tensors: list[Tensor], num_parts: int, rule: Rule, swap: tuple[bool, bool]) -> list[Tensor]:
    """Concatenate rows, cut them into parts, and swap axes before or after, as the direction needs."""
    before, after = swap
    if rule.stacked:
        return list(tensors[0].unbind()) if num_parts > 1 else [torch.stack(tensors)]
    if rule.row:
        return [tensors[0][0] if tensors[0].dim() > 1 else tensors[0][None]]
    rows = [tensor.mT if before else tensor for tensor in tensors]
    if rule.groups > 1:
        rows = _regrouped(rows, num_parts, rule.groups)
    whole = rows[0] if len(rows) == 1 else torch.cat(rows)
    parts = [whole] if num_parts == 1 else list(torch.split(whole, list(rule.sizes)))
    return [part.mT if after else part for part in parts]


def _regrouped(rows: list[Tensor], num_parts: int, groups: int) -> list[Tensor]:
    """Reorder the rows of one tensor so that each part's lie together, or those of several parts back into groups."""
    if num_parts > 1:
        return [rows[0].unflatten(0, (groups, num_parts, -1)).transpose(0, 1).flatten(0, 2)]
    return [torch.stack([part.unflatten(0, (groups, -1)) for part in rows], dim=1).flatten(0, 2)]


def _listing(title: str, names: list[str], candidates: Iterable[str]) -> str:
    known = list(candidates)
    hints = [nearest(name, known).replace(" Did you mean", " (near").replace("?", ")") for name in names[:SHOWN]]
    shown = ", ".join(name + hint for name, hint in zip(names, hints, strict=False))
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{len(names)} {title}: {shown}{more}" if names else ""


def check_names(rules: Rules, keys: Iterable[str], parameters: Iterable[str], where: str) -> None:
    """Check that the rules use each key of a checkpoint once and make each parameter once.

    Raises CheckpointError that lists the first ten missing and unexpected keys with their nearest names.
    """
    wanted = [name for rule in mapped(rules) for name in rule.theirs]
    made = [name for rule in mapped(rules) for name in rule.ours]
    if len(set(wanted)) != len(wanted) or sorted(made) != sorted(parameters):
        odd = sorted(set(made) ^ set(parameters)) or [name for name in made + wanted if (made + wanted).count(name) > 1]
        raise CheckpointError(f"{where}: the weight rules do not make each parameter once: {odd[:10]}")
    present, aliases = set(keys), {rule.alias for rule in rules if isinstance(rule, Tie)}
    patterns = [rule.pattern for rule in rules if isinstance(rule, Ignore)]
    missing = sorted(set(wanted) - present)
    extra = (key for key in present - set(wanted) - aliases if not any(fnmatchcase(key, p) for p in patterns))
    unexpected = sorted(extra)
    if missing or unexpected:
        listings = (_listing("missing", missing, unexpected), _listing("unexpected", unexpected, missing))
        raise CheckpointError(
            f"{where}: its tensors do not fit the model: " + "; ".join(filter(None, listings)),
            accepted=f"exactly the {len(wanted)} tensors of this architecture",
            fix="check that config.json belongs to these weights",
        )


def check_shapes(rules: Rules, shapes: Mapping[str, Shape], parameters: Mapping[str, Tensor], where: str) -> None:
    """Check that names and shapes fit, before anything is read or allocated; parameters may be on "meta".

    Raises CheckpointError that names the tensor and both shapes.
    """
    check_names(rules, shapes, parameters, where)
    for rule in mapped(rules):
        for name, expected in zip(rule.theirs, _published_shapes(rule, parameters), strict=True):
            if shapes[name] != expected:
                raise CheckpointError(
                    f"{where}: {name} has shape {shapes[name]}, config.json asks for {expected}",
                    fix="check that config.json belongs to these weights",
                )


def _published_shapes(rule: Rule, parameters: Mapping[str, Tensor]) -> list[Shape]:
    """Return the shapes of their tensors."""
    targets = [parameters[name] for name in rule.ours]
    rows = rule.sizes if len(rule.theirs) > 1 else (sum(target.shape[0] for target in targets),)
    row_shape = tuple(targets[0].shape[1:])
    shapes = [row_shape] * len(rule.theirs) if rule.stacked else [(num_rows, *row_shape) for num_rows in rows]
    return [shape[::-1] if rule.transposed else (1, *shape) if rule.row else shape for shape in shapes]


def check_ties(rules: Rules, shapes: Mapping[str, Shape], read: Read, where: str) -> None:
    """Check that tensors which config.json ties are equal where a checkpoint has both; raises CheckpointError."""
    for tie in rules:
        if isinstance(tie, Tie) and tie.alias in shapes and not torch.equal(read(tie.alias), read(tie.source)):
            raise CheckpointError(
                f"{where}: {tie.alias} differs from {tie.source}, but config.json ties them",
                accepted="equal tensors, or tie_word_embeddings: false",
            )


def read_rules(rules: Rules, read: Read) -> Iterator[tuple[Rule, list[Tensor]]]:
    """Yield each rule with the tensors of its parameters, in their order, as views of what was read where they can."""
    for rule in mapped(rules):
        tensors = [read(name) for name in rule.theirs]
        yield rule, _convert(tensors, len(rule.ours), rule, (rule.transposed, False))


def import_weights(
    rules: Rules,
    shapes: Mapping[str, Shape],
    read: Read,
    parameters: Mapping[str, Tensor],
    where: str,
    release: Callable[[tuple[str, ...]], None] = lambda names: None,
) -> None:
    """Fill our parameters in place from a checkpoint, one rule at a time; raises CheckpointError on any misfit.

    What `read` returned for the names that `release` is given is not needed any more.
    """
    check_shapes(rules, shapes, parameters, where)
    check_ties(rules, shapes, read, where)
    for rule, parts in read_rules(rules, read):
        with torch.no_grad():
            for name, part in zip(rule.ours, parts, strict=True):
                parameters[name].copy_(part)
        release(rule.theirs)


def export_weights(rules: Rules, parameters: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """Yield (their name, tensor) for every tensor of the published layout, contiguous, one rule at a time."""
    for rule in mapped(rules):
        tensors = [parameters[name].detach() for name in rule.ours]
        parts = _convert(tensors, len(rule.theirs), rule, (False, rule.transposed))
        for name in rule.theirs:
            yield name, parts.pop(0).contiguous()  # none is kept here while the next is made


def plan_export(rules: Rules, parameters: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """Yield what `export_weights` will, on the meta device: names, types and shapes, without memory."""
    for rule in mapped(rules):
        dtype = reduce(torch.promote_types, (parameters[name].dtype for name in rule.ours))
        for name, shape in zip(rule.theirs, _published_shapes(rule, parameters), strict=True):
            yield name, torch.empty(shape, dtype=dtype, device="meta")
