"""What the studio shows of a run beside its curves: the row of the list, and the page of one run.

A row is kept while the files that it was made of are what they were, so that a list of hundreds costs a few looks at
the disk. The stage is told by the recipe: each stage's has settings that no other one's has.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from smelt.core.errors import SmeltError, UsageError
from smelt.core.storage import read_pointer
from smelt.models.build import count_parameters
from smelt.models.hub import load_spec
from smelt.models.sizes import forward_flops
from smelt.studio.curves import as_values
from smelt.studio.recipe_forms import STAGES, recipe_kind
from smelt.studio.workspace import Workspace
from smelt.train.reading import facts, read_events, recipe_text, setting, settings_of, validations

PICTURES = (".png", ".jpg", ".jpeg")
MOST_EVENTS = 1000  # the newest of a run
STAMPED = ("recipe.yaml", "metrics.jsonl", "events.jsonl", "checkpoints/latest")
Costs = tuple[int | None, float | None]  # parameters, and FLOPs of training on a token


def find_run(workspace: Workspace, name: str) -> Path:
    """Return a run's folder; raises UsageError where the name means none."""
    path = workspace.find(name)
    if not (path / "recipe.yaml").is_file():
        raise UsageError(f"{name} is not a run: there is no recipe.yaml", accepted="a folder with one")
    return path


class Summaries:
    """Rows of the list of runs."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self.kept: dict[Path, tuple[tuple[Any, ...], dict[str, Any]]] = {}
        self.costs: dict[tuple[bytes, int], Costs] = {}
        self.lock = threading.Lock()

    def all(self) -> list[dict[str, Any]]:
        """Return every run's row, the one that was last written to first."""
        return [self.of(path) for path in self.workspace.run_directories()]

    def of(self, run: Path) -> dict[str, Any]:
        """Return a run's row."""
        stamp = tuple(stamp_of(run / name) for name in STAMPED)
        with self.lock:
            kept = self.kept.get(run)
        if kept is not None and kept[0] == stamp:
            return kept[1]
        recipe = recipe_text(run)
        parameters, flops_a_token = self.network(run, recipe)
        found = {**facts(run), "name": self.workspace.name(run), "stage": stage_of(recipe)}
        del found["run"], found["updated"]  # as the command line says them
        found |= {"parameters": parameters, "flops_a_token": flops_a_token}
        found["checkpoint"] = Path(found["checkpoint"]).name if found["checkpoint"] else None
        with self.lock:
            self.kept[run] = stamp, found
        return found

    def network(self, run: Path, recipe: str) -> Costs:
        """Return a run's parameters, and FLOPs of training on a token; None where no checkpoint says what it is."""
        newest, length = read_pointer(run / "checkpoints" / "latest"), setting(recipe, "max_seq_len")
        if newest is None or not (newest / "config.json").is_file() or not isinstance(length, int):
            return None, None
        key = (newest / "config.json").read_bytes(), length
        if key not in self.costs:  # networks of one shape cost the same, and runs often share it
            self.costs[key] = costs_of(newest, length)
        return self.costs[key]


def stamp_of(path: Path) -> tuple[int, int] | None:
    """Return what changes when a file does."""
    if not path.is_file():
        return None
    status = path.stat()
    return status.st_mtime_ns, status.st_size


def costs_of(checkpoint: Path, length: int) -> Costs:
    """Return the parameters of a checkpoint's network, and its FLOPs forward and back a token, in rows of a length."""
    try:
        spec = load_spec(checkpoint)
    except SmeltError:  # of a family that this smelt does not know
        return None, None
    return count_parameters(spec), 3 * forward_flops(spec, length)


@cache
def settings_by_stage() -> dict[str, frozenset[str]]:
    """Return the names of each stage's settings."""
    return {stage: frozenset(recipe_kind(stage).model_fields) for stage in STAGES}


def stage_of(recipe: str) -> str | None:
    """Return the stage that a resolved recipe is of: the one that knows all its settings and has fewest others."""
    given = settings_of(recipe)
    fitting = {stage: len(known - given) for stage, known in settings_by_stage().items() if given <= known}
    least = [stage for stage, others in fitting.items() if others == min(fitting.values())]
    return least[0] if len(least) == 1 else None


def whole(summary: dict[str, Any], run: Path) -> dict[str, Any]:
    """Return all that the page of a run shows, but its curves."""
    events, broken = read_events(run)
    report = run / "report.md"
    return {
        **summary,
        "recipe": recipe_text(run),
        "report": report.read_text(encoding="utf-8", errors="replace") if report.is_file() else None,
        "validations": validations(events),
        "checkpoints": list(checkpoints(run)),
        "samples": [event for event in events if event["event"] == "sample"][-MOST_EVENTS:],
        "events": [event for event in events if event["event"] != "sample"][-MOST_EVENTS:],
        "broken_events": as_values(broken),
    }


def checkpoints(run: Path) -> Iterator[dict[str, Any]]:
    """Yield a run's checkpoints, the newest first."""
    folder = run / "checkpoints"
    latest, best = read_pointer(folder / "latest"), read_pointer(folder / "best")
    for path in sorted(folder.glob("step-*"), reverse=True):
        if path.is_dir():
            size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
            yield {"name": path.name, "bytes": size, "latest": path == latest, "best": path == best}


def picture(run: Path, name: str) -> Path:
    """Return a picture that lies in a run's folder itself; raises UsageError for anything else."""
    path = run / name
    if Path(name).name != name or path.suffix not in PICTURES or path.is_symlink() or not path.is_file():
        raise UsageError(f"{name[:200]!r} is no picture of this run", accepted=f"a file in it, {' or '.join(PICTURES)}")
    return path
