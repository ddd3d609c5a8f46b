"""Forms of recipes: a stage's schema as fields, and what a person put into them as a recipe, its YAML and its command.

A form holds values by dotted key (`optimizer.learning_rate`), and only those that somebody set: all else is as the
schema says. So the YAML that is shown is short, and a field that a stage gets tomorrow is in the form by itself. Every
path in a recipe is looked up in the workspace before anything is opened.
"""

from __future__ import annotations

import glob
import shlex
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic.fields import FieldInfo

from smelt.core.config import Config, config_inside, faults, parse_yaml, read_yaml, set_path
from smelt.core.errors import ConfigError, SmeltError, UsageError, nearest
from smelt.peft.methods import METHODS
from smelt.studio.workspace import Workspace
from smelt.train.recipes import RunRecipe, Sources, Texts
from smelt.train.run import NAME
from smelt.train.tuning import WHOLE

STAGES = {
    "pretrain": "PretrainRecipe",
    "sft": "SftRecipe",
    "classify": "ClassifyRecipe",
    "tag": "TagRecipe",
    "extract": "ExtractRecipe",
    "seq2seq": "Seq2SeqRecipe",
    "distill": "DistillRecipe",
}
BASICS = (
    *("name", "teacher", "checkpoint", "data", "tokenizer", "model.dim", "model.num_layers", "model.num_heads"),
    *("steps", "epochs", "minutes", "max_seq_len", "batch_rows", "optimizer.learning_rate", "tune.method"),
)
"""What is asked first, in this order; all else is folded."""
NOT_ASKED = ("out",)  # runs are made in the workspace's own folder
PATHS: dict[str, Literal["data", "checkpoint", "tokenizer"]] = {
    **dict.fromkeys(("data", "validation", "test", "remember"), "data"),
    **dict.fromkeys(("checkpoint", "teacher", "objective.teacher"), "checkpoint"),
    "tokenizer": "tokenizer",
}
"""Keys that name files, and what kind of."""
TYPES = {str: "text", int: "integer", float: "number", bool: "boolean"}
SOURCE = "the form"


@cache
def recipe_kind(verb: str) -> type[RunRecipe]:
    """Return the recipe of a verb; raises UsageError with the nearest for a word that trains nothing."""
    if verb not in STAGES:
        raise UsageError(f"no training '{verb[:80]}'.{nearest(verb, STAGES)}", accepted=", ".join(STAGES))
    return getattr(import_module(f"smelt.train.stages.{verb}"), STAGES[verb])  # type: ignore[no-any-return]


def form(verb: str) -> dict[str, Any]:
    """Return a verb's fields, those that are asked first before all others, and what its groups are for."""
    kind = recipe_kind(verb)
    fields = list(fields_of(kind))
    basics = sorted((one for one in fields if one["basic"]), key=lambda one: BASICS.index(one["key"]))
    others = [one for one in fields if not one["basic"]]
    return {"verb": verb, "help": kind.__doc__ or "", "fields": [*basics, *others], "groups": dict(groups_of(kind))}


def fields_of(kind: type[Config], prefix: str = "") -> Iterator[dict[str, Any]]:
    """Yield a form's fields: key, type, range, default, choices and help, from the schema."""
    for own, info in kind.model_fields.items():
        key = prefix + own
        if key in NOT_ASKED:
            continue
        inner = config_inside(info.annotation)
        if inner is not None and issubclass(inner, Config):
            yield from fields_of(inner, f"{key}.")
            continue
        names = ("gt", "ge", "lt", "le")
        bounds = {name: getattr(bound, name) for bound in info.metadata for name in names if hasattr(bound, name)}
        yield {
            "key": key,
            "group": key.rpartition(".")[0],
            "basic": key in BASICS,
            "help": " ".join((info.description or "").split()),
            "required": info.is_required(),
            "default": plain_default(info),
            **typed(key, info.annotation),
            **bounds,
        }


def groups_of(kind: type[Config], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield each group of settings with what it is for."""
    for name, info in kind.model_fields.items():
        inner = config_inside(info.annotation)
        if inner is not None and issubclass(inner, Config):
            yield prefix + name, " ".join((info.description or "").split())
            yield from groups_of(inner, f"{prefix}{name}.")


def plain_default(info: FieldInfo) -> Any:
    """Return a field's default as JSON has it; None where there is none."""
    if info.is_required() or info.default_factory is not None or isinstance(info.default, Config):
        return None
    return list(info.default) if isinstance(info.default, tuple) else info.default


def typed(key: str, annotation: Any) -> dict[str, Any]:
    """Return what kind of thing a field takes, and which ones where only some are known; `yaml` is all else."""
    options = [option for option in typing.get_args(annotation) if option is not type(None)]
    if typing.get_origin(annotation) in (typing.Union, types.UnionType) and len(options) == 1:
        annotation = options[0]
    if key == "tune.method":
        return {"type": "choice", "choices": [WHOLE, *METHODS]}
    if key in PATHS:
        is_list = annotation in (typing.get_args(Sources)[0], typing.get_args(Texts)[0])
        return {"type": "sources" if is_list else PATHS[key], "several": is_list}
    if typing.get_origin(annotation) is Literal:
        return {"type": "choice", "choices": list(typing.get_args(annotation))}
    if typing.get_origin(annotation) is tuple and typing.get_args(annotation) == (str, ...):
        return {"type": "lines"}
    return {"type": TYPES.get(annotation, "yaml")}


@dataclass(frozen=True)
class Checked:
    """What a form amounts to; `problems` by key, "" for what concerns several keys together."""

    values: dict[str, Any]
    problems: dict[str, str] = field(default_factory=dict)


def check(workspace: Workspace, verb: str, given: Mapping[str, Any]) -> Checked:
    """Return the recipe's values and all that is wrong with what a person put into a form."""
    kind = recipe_kind(verb)
    kinds = {one["key"]: one["type"] for one in fields_of(kind)}
    values: dict[str, Any] = {}
    problems: dict[str, str] = {}
    for key, value in given.items():
        if value in ("", None, []):
            continue  # a field that was emptied is one that was not set
        try:
            set_path(values, key, parsed(value) if kinds.get(key) == "yaml" else value)
        except ConfigError as error:
            problems[key] = error.what
    for key, fault in faults(kind, values, source=SOURCE).items():
        problems.setdefault(key, str(fault).removeprefix(f"{SOURCE}: "))
    if "out" in values:
        problems["out"] = f"out={values['out']!r}: runs are made in {workspace.name(workspace.runs)}"
    if isinstance(name := values.get("name"), str):
        problems |= name_problem(workspace, name)
    problems |= {key: told for key, told in path_problems(workspace, values) if key not in problems}
    return Checked(values, problems)


def parsed(value: Any) -> Any:
    """Return the value of a field that takes YAML; raises ConfigError."""
    if not isinstance(value, str):
        return value
    try:
        return parse_yaml(value)
    except yaml.YAMLError as error:
        raise ConfigError(f"not readable as YAML: {' '.join(str(error).split())}") from None


def name_problem(workspace: Workspace, name: str) -> dict[str, str]:
    """Return what is wrong with the name of a new run."""
    if not NAME.fullmatch(name):
        return {"name": "letters, digits, '.', '_' and '-', at most 128, not starting with a sign"}
    if (workspace.runs / name).exists():
        return {"name": f"there is a run {name} already; choose another name"}
    return {}


def path_problems(workspace: Workspace, values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the key of each path that is not in the workspace, with the reason."""
    for key, path in paths_in(values):
        try:
            found_in(workspace, path)
        except SmeltError as error:
            yield key, str(error)


def paths_in(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield (key, path) for all that a recipe reads."""
    for key in PATHS:
        value: Any = values
        for part in key.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        for source in value if isinstance(value, list | tuple) else [value]:
            path = source.get("path") if isinstance(source, Mapping) else source
            if isinstance(path, str) and not (key == "tokenizer" and path == "bytes"):
                yield key, path


def found_in(workspace: Workspace, path: str) -> list[Path]:
    """Return what a path or pattern means; raises UsageError for what is not there, or not in the workspace."""
    if not any(letter in path for letter in "*?["):
        return [workspace.find(path)]
    matches = glob.glob(str(workspace.root / path), recursive=True)
    if not matches:
        raise UsageError(f"{path[:200]}: no file matches")
    return [workspace.find(match) for match in matches]


def to_recipe(values: Mapping[str, Any]) -> str:
    """Return a recipe of what was set, as YAML."""
    return yaml.safe_dump(dict(values), sort_keys=False, allow_unicode=True, width=100) if values else ""


def to_command(verb: str, values: Mapping[str, Any]) -> str:
    """Return the words of a shell that do the same: `smelt sft name=x data=chats.jsonl optimizer.name=adamw`."""
    words = [f"{key}={inline(value)}" for key, value in flat(values).items()]
    return shlex.join(["smelt", verb, *words])


def inline(value: Any) -> str:
    """Return a value as YAML on one line; what is read back is the same value."""
    text = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=10**9)
    return text.removesuffix("\n").removesuffix("\n...")


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested settings by dotted key: {"optimizer": {"name": "adamw"}} -> {"optimizer.name": "adamw"}."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        nested = isinstance(value, Mapping) and value and all(isinstance(name, str) for name in value)
        found |= flat(value, f"{prefix}{key}.") if nested else {prefix + key: value}
    return found


def starting_points(workspace: Workspace) -> list[dict[str, str]]:
    """Return the recipes that a form can begin with: those of the workspace's folder, and those of its runs."""
    folder = workspace.root / "recipes"
    paths = sorted(folder.rglob("*.yaml")) if folder.is_dir() else []
    recipes = [{"name": workspace.name(path), "kind": "recipe"} for path in paths]
    runs = [{"name": workspace.name(run / "recipe.yaml"), "kind": "run"} for run in workspace.run_directories()]
    return [*recipes, *runs]


def begin_with(workspace: Workspace, name: str) -> dict[str, Any]:
    """Return the verb and the values of a recipe file, without what belongs to the run that it was written for.

    Raises:
        UsageError: it is not in the workspace, or is the recipe of no training that is known.
    """
    values = {key: value for key, value in read_yaml(workspace.find(name)).items() if key != "out"}
    for verb in STAGES:
        wrong = faults(recipe_kind(verb), values, source=name)
        if not wrong:
            fields = {one["key"]: one for one in fields_of(recipe_kind(verb))}
            return {"verb": verb, "values": {key: value for key, value in chosen(values, fields).items()}}
    raise UsageError(f"{name} is the recipe of no training here", accepted=", ".join(STAGES))


def chosen(values: Mapping[str, Any], fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings by dotted key, without those that are as by default; a group that no field knows stays whole."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        if key not in fields and isinstance(value, Mapping):
            inner = {name.removeprefix(f"{key}."): one for name, one in fields.items() if name.startswith(f"{key}.")}
            found |= {f"{key}.{name}": one for name, one in chosen(value, inner).items()}
        elif key not in fields:
            found[f"{key}.name" if f"{key}.name" in fields else key] = value  # objective=masked
        elif value is not None and value != fields[key]["default"] and value not in ({}, []):
            found[key] = value
    return found
