"""What the files of a run say at a glance: how far it came, what it reached, and where its recipe differs from others.

Everything is read from the run directories themselves (recipe.yaml, metrics.jsonl, events.jsonl), which any other tool
can read as well; there is no database that could disagree with them. A list of hundreds of runs has to be there at
once, so nothing whole is read for it but the events: of metrics.jsonl the end, of recipe.yaml the lines that are asked.
"""

from __future__ import annotations

import json
import math
import os
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from smelt.core.config import parse_yaml
from smelt.core.errors import UsageError, nearest
from smelt.core.storage import read_pointer

TAIL_BYTES = 1 << 16
QUOTED_BYTES = 120  # of a line that cannot be read


class Broken(NamedTuple):
    """A line that cannot be read: its number in the file, from 1, and how it begins."""

    row: int
    text: str

    @classmethod
    def of(cls, row: int, line: bytes) -> Broken:
        """Quote a line."""
        return cls(row, line[:QUOTED_BYTES].decode("utf-8", "replace"))


def check(run: Path) -> Path:
    """Return a run's path; raises UsageError with the nearest name where there is none."""
    if not (run / "recipe.yaml").is_file():
        siblings = [path.name for path in run.parent.iterdir() if path.is_dir()] if run.parent.is_dir() else []
        hint = nearest(run.name, [name for name in siblings if name != run.name])
        raise UsageError(f"{run} is not a run: no recipe.yaml there.{hint}", fix="smelt runs list")
    return run


def facts(run: Path) -> dict[str, Any]:
    """Return what a list shows of a run; None for what is not there yet."""
    last = last_line(run / "metrics.jsonl")
    events, _ = read_events(run)
    losses = validations(events)
    newest = read_pointer(run / "checkpoints" / "latest")
    return {
        "run": str(run),
        "step": last.get("step", 0),
        "steps": setting(recipe_text(run), "steps"),
        "train_loss": last.get("loss"),
        "validation_loss": losses[-1][1] if losses else None,
        "best_validation_loss": min((loss for _, loss in losses), default=None),
        "tokens": last.get("tokens"),
        "seconds": last.get("seconds"),
        "tokens_per_second": last.get("tokens_per_second"),
        "checkpoint": None if newest is None else str(newest),
        "changed": last_change(run),
        "updated": time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(last_change(run))),
    }


def last_change(run: Path) -> float:
    """Return when a run last wrote a step, in seconds since 1970."""
    return max(path.stat().st_mtime for name in ("metrics.jsonl", "recipe.yaml") if (path := run / name).is_file())


def recipe_text(run: Path) -> str:
    """Return recipe.yaml as it stands."""
    return (run / "recipe.yaml").read_text(encoding="utf-8", errors="replace")


def setting(recipe: str, key: str) -> Any:
    """Return one of the outermost settings of a recipe's text, None where it does not stand on one line of its own.

    A key of the outermost mapping begins its line, and nothing else does; to read all of it takes 50 times as long.
    """
    found = re.search(rf"^{key}:[ \t]+(\S.*)$", recipe, re.MULTILINE)
    try:
        return None if found is None else parse_yaml(found[1])
    except yaml.YAMLError:
        return None


def settings_of(recipe: str) -> set[str]:
    """Return the names of the outermost settings of a recipe's text."""
    return set(re.findall(r"^(\w+):", recipe, re.MULTILINE))


def last_line(path: Path) -> dict[str, Any]:
    """Return the last whole object of a file of lines, {} where there is none; only its end is read."""
    if not path.is_file():
        return {}
    with open(path, "rb") as handle:
        handle.seek(max(0, os.fstat(handle.fileno()).st_size - TAIL_BYTES))
        lines = handle.read().split(b"\n")[:-1]
    found = (as_object(line) for line in reversed(lines))
    return next((values for values in found if values is not None), {})


def read_events(run: Path) -> tuple[list[dict[str, Any]], list[Broken]]:
    """Return a run's events and the lines that are none; a last line that has no end yet is neither."""
    path = run / "events.jsonl"
    lines = path.read_bytes().split(b"\n")[:-1] if path.is_file() else []
    found = [(row, line, as_object(line)) for row, line in enumerate(lines, start=1)]
    events = [values for _, _, values in found if values is not None and "event" in values]
    return events, [Broken.of(row, line) for row, line, values in found if values is None or "event" not in values]


def validations(events: list[dict[str, Any]]) -> list[tuple[int, float]]:
    """Return step and loss of each validation."""
    held_out = [event for event in events if event["event"] == "validation" and {"step", "loss"} <= set(event)]
    return [(event["step"], event["loss"]) for event in held_out]


def as_object(line: bytes) -> dict[str, Any] | None:
    """Return the object that a line is, None for anything else; in it None stands for a number without an end."""
    try:
        values = json.loads(line, parse_constant=lambda _: None, parse_float=finite)
    except (ValueError, RecursionError):
        return None
    return values if isinstance(values, dict) else None


def finite(text: str) -> float | None:
    """Return a number, None for one beyond what a float holds."""
    value = float(text)
    return value if math.isfinite(value) else None


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested settings under dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: value}
    return flat


def differences(*recipes: Mapping[str, Any]) -> dict[str, tuple[Any, ...]]:
    """Return the keys whose values are not the same in all, with each one's; None stands for a key that is absent."""
    keys = dict.fromkeys(key for recipe in recipes for key in recipe)
    found = {key: tuple(recipe.get(key) for recipe in recipes) for key in keys}
    return {key: values for key, values in found.items() if any(value != values[0] for value in values)}
