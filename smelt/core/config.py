"""Recipes: frozen pydantic models, read from YAML and changed by `key.path=value` words.

Defaults stand below the recipe file, and the file below the command line. Unknown keys and wrong types are
errors that name the dotted path, the value and the nearest known key, because a silently ignored setting
costs a training run. A resolved recipe written by `to_yaml` is itself a recipe.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from smelt.core.errors import ConfigError, nearest


class Config(BaseModel):
    """Base of every recipe: frozen, unknown keys refused, attribute docstrings become the field's description."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, protected_namespaces=())


BOOLEAN, TIMESTAMP = "tag:yaml.org,2002:bool", "tag:yaml.org,2002:timestamp"


class PlainLoader(yaml.SafeLoader):
    """Read YAML as people mean it: only true and false are booleans, a date is text, a repeated key is an error.

    By YAML's 1.1 rules `compile: yes` would be True, a run named 2024-01-01 a date, and the last of two keys would win.
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Build a mapping; raises YAMLError for a key that is given twice."""
        keys = [key.value for key, _ in node.value]
        repeated = [key for key in keys if keys.count(key) > 1]
        if repeated:
            raise yaml.constructor.ConstructorError(
                None, None, f"the key '{repeated[0]}' is given twice", node.start_mark
            )
        return super().construct_mapping(node, deep)


PlainLoader.yaml_implicit_resolvers = {
    first: [
        (tag, pattern)
        for tag, pattern in resolvers
        if tag != TIMESTAMP and (tag != BOOLEAN or first in "tTfF")  # not y, n, yes, no, on, off
    ]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def parse_yaml(text: str) -> Any:
    """Return the value of a YAML text; raises YAMLError."""
    loader = PlainLoader(text)
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()


ConfigType = TypeVar("ConfigType", bound=Config)


def load_recipe(
    kind: type[ConfigType],
    path: Path | str | None = None,
    overrides: Sequence[str] = (),
    *,
    defaults: Mapping[str, Any] | None = None,
) -> ConfigType:
    """Build a recipe from `defaults`, a YAML file and overrides such as `optimizer.learning_rate=1e-3`.

    Raises:
        ConfigError: the file cannot be read, a key is unknown or a value has the wrong type.
    """
    values: dict[str, Any] = {}
    merge(values, defaults or {})
    if path is not None:
        merge(values, read_yaml(Path(path)))
    for word in overrides:
        dotted, equals, raw = word.partition("=")
        if not equals or not dotted:
            raise ConfigError(
                f"'{word}' is not a setting", accepted="key.path=value", fix="check for spaces around '='"
            )
        set_path(values, dotted, parse_value(word, raw))
    source = " and ".join([str(path)] * (path is not None) + ["the command line"] * (path is None or bool(overrides)))
    return validate(kind, values, source=source)


def validate(kind: type[ConfigType], values: Mapping[str, Any], *, source: str) -> ConfigType:
    """Check values against a recipe's schema.

    Raises:
        ConfigError: the first fault, with its dotted path.
    """
    try:
        return kind.model_validate(dict(values))
    except ValidationError as error:
        raise explain(kind, error.errors(include_url=False)[0], source) from None


def faults(kind: type[Config], values: Mapping[str, Any], *, source: str) -> dict[str, ConfigError]:
    """Return all that is wrong with values by its dotted path; "" is what several keys are wrong in together."""
    try:
        kind.model_validate(dict(values))
    except ValidationError as error:
        found = error.errors(include_url=False)
        return {".".join(str(part) for part in fault["loc"]): explain(kind, fault, source) for fault in found}
    return {}


def to_yaml(recipe: Config) -> str:
    """Return a recipe as YAML, in the order of its fields."""
    return yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML mapping.

    Raises:
        ConfigError: the file is missing, is not YAML, or holds something else than a mapping.
    """
    if not path.is_file():
        raise ConfigError(f"recipe {path}: no such file", accepted="a YAML file", fix="check the path")
    try:
        values = parse_yaml(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"recipe {path}: not readable as YAML: {' '.join(str(error).split())}") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(f"recipe {path}: holds a {type(values).__name__}", accepted="a mapping of keys to values")
    return values


def parse_value(word: str, raw: str) -> Any:
    """Read the right side of an override as YAML, so that numbers, lists and null work."""
    try:
        return parse_yaml(raw) if raw else ""
    except yaml.YAMLError as error:
        raise ConfigError(
            f"'{word}': the value cannot be read: {' '.join(str(error).split())}", fix="put it in quotes"
        ) from None


def merge(into: dict[str, Any], values: Mapping[str, Any]) -> None:
    """Lay `values` over `into`, mapping by mapping."""
    for key, value in values.items():
        if not isinstance(value, Mapping):
            into[key] = value
            continue
        if not isinstance(into.get(key), dict):
            into[key] = {}  # not the caller's own mapping: an override would change it there
        merge(into[key], value)


def set_path(values: dict[str, Any], dotted: str, value: Any) -> None:
    """Set `a.b.c` in nested mappings, making those that are missing."""
    *parents, last = dotted.split(".")
    for parent in parents:
        inner = values.setdefault(parent, {})
        if not isinstance(inner, dict):
            raise ConfigError(f"'{dotted}': '{parent}' is a value, not a group of settings")
        values = inner
    values[last] = value


def explain(kind: type[Config], fault: Mapping[str, Any], source: str) -> ConfigError:
    """Turn one of pydantic's faults into a message with the dotted path."""
    location = [str(part) for part in fault["loc"]]
    dotted = ".".join(location)
    if fault["type"] == "extra_forbidden":
        known = list(fields_at(kind, location[:-1]))
        where = ".".join(location[:-1]) or "the recipe"
        return ConfigError(
            f"{source}: unknown key '{dotted}'.{nearest(location[-1], known)}",
            accepted=f"in {where}: {', '.join(known)}",
        )
    if fault["type"] == "missing":
        return ConfigError(f"{source}: '{dotted}' is required", fix=f"add {dotted}=VALUE")
    message = str(fault["msg"]).removeprefix("Value error, ")
    value = "" if isinstance(fault["input"], (Mapping, BaseModel)) else f"={fault['input']!r}"
    return ConfigError(f"{source}: {dotted or 'the recipe'}{value}: {message[0].lower()}{message[1:]}")


def fields_at(kind: type[Config], location: Sequence[str]) -> Sequence[str]:
    """Return the field names of the group of settings at a dotted place."""
    annotation: Any = kind
    for part in location:
        if part.isdigit() and typing.get_origin(annotation) in (tuple, list):
            annotation = typing.get_args(annotation)[0]
            continue
        current = config_inside(annotation)
        field = current.model_fields.get(part) if current else None
        annotation = field.annotation if field else None
    found = config_inside(annotation)
    return list(found.model_fields) if found else []


def config_inside(annotation: Any) -> type[BaseModel] | None:
    """Return the recipe class in an annotation such as `X` or `X | None`."""
    options = (
        typing.get_args(annotation)
        if typing.get_origin(annotation) in (typing.Union, types.UnionType)
        else (annotation,)
    )
    return next((option for option in options if isinstance(option, type) and issubclass(option, BaseModel)), None)
