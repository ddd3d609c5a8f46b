"""What keeps a model from being deleted, and how it goes: whole, at once, and only from inside the studio's folder.

A model that something was made of is needed to say where that came from, and an adapter cannot even answer without its
base. So both keep it, and so do whoever uses it now: a training, a merge, a model in memory.
"""

from __future__ import annotations

import os
import shutil
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from smelt.core.config import read_yaml
from smelt.core.errors import SmeltError, UsageError
from smelt.studio.lineage import Lineage, is_below
from smelt.studio.processes import is_alive, read_note
from smelt.studio.workspace import Workspace
from smelt.train.reading import last_change

TRAINING_SECONDS = 600.0
"""How long after its last step a run without a report is taken to be still training."""


def dependents(lineage: Lineage, name: str) -> list[dict[str, str]]:
    """Return what on the disk needs a model: each with its kind and its name."""
    card = lineage.cards[name]
    found = [
        {"kind": "adapter" if lineage.cards[child].is_adapter else "child", "name": child}
        for child in lineage.children(name)
    ]
    inside = [other for other, its in lineage.cards.items() if its.path != card.path and is_below(its.path, card.path)]
    found += [{"kind": "inside", "name": other} for other in inside]
    return found + [{"kind": "training", "name": run} for run in trainings(lineage.workspace, card.path)]


def trainings(workspace: Workspace, path: Path) -> Iterator[str]:
    """Yield the runs that train now and write to a path, or were told to read from it."""
    for run in workspace.run_directories():
        if is_training(run) and (run == path or any(is_below(used, path) for used in paths_in(workspace, run))):
            yield workspace.name(run)


def is_training(run: Path) -> bool:
    """Tell whether a run goes on: its process lives, or it has no report yet and wrote not long ago."""
    if (note := read_note(run)) is not None and is_alive(note):
        return True
    report = run / "report.md"
    last = last_change(run)
    return time.time() - last < TRAINING_SECONDS and not (report.is_file() and report.stat().st_mtime >= last)


def paths_in(workspace: Workspace, run: Path) -> Iterator[Path]:
    """Yield what a run's recipe names that is there."""
    try:
        values: list[Any] = [read_yaml(run / "recipe.yaml")]
    except SmeltError:
        return  # the run's own page tells its fault
    while values:
        value = values.pop()
        if isinstance(value, dict):
            values += value.values()
        elif isinstance(value, list):
            values += value
        elif isinstance(value, str) and value and "\0" not in value and len(value) < os.pathconf("/", "PC_PATH_MAX"):
            yield (workspace.root / value).resolve()


def check_deletable(workspace: Workspace, path: Path, typed: str) -> None:
    """Raise UsageError for a model outside the studio's own folder, and for a name that was not typed again."""
    name = workspace.name(path)
    if path == workspace.root or not is_below(path, workspace.root):
        raise UsageError(f"{name} is not in the studio's own folder", accepted=f"what lies below {workspace.root}")
    if typed != name:
        raise UsageError(f"typed: {typed[:200]!r} is not the name of the model", accepted=name)


def put_away(path: Path) -> Path:
    """Take a directory's name from it, so that nothing finds it any more; it goes as a whole or not at all."""
    aside = path.with_name(f".{path.name}.deleted-{uuid.uuid4().hex}")
    os.rename(path, aside)
    return aside


def delete(aside: Path) -> None:
    """Free what was put away."""
    shutil.rmtree(aside)
