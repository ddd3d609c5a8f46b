"""Home's "train your first model": the demo, from nothing to a chat, in a process of its own.

What it does is `smelt quickstart --yes`, and how far it is is read off the files that its stages leave, so that it can
be watched again after a reload, and by a studio that was started later. Nothing that is there is ever replaced: where
runs/first is taken, the next one is runs/first-2.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from smelt.core.errors import UsageError
from smelt.models.shards import read_json
from smelt.studio.processes import LOG, Started, ask, is_alive, read_note, refuse_second, start, state_of, tail
from smelt.studio.watching import Watcher
from smelt.studio.workspace import Workspace
from smelt.train.quickstart import QuickstartRecipe

NAME = "first"
WORDS = ("quickstart", "--yes")
MINUTES = float(QuickstartRecipe.model_fields["minutes"].default)
STAGES = {
    "text": "data/heldout/instructions.jsonl",
    "tokenizer": "tokenizer/tokenizer.json",
    "pretraining": "base/report.md",
    "instructions": "chat/report.md",
    "evaluation": "quickstart.json",
}
"""What is done, in this order, and the file that each stage writes at its end."""
RUNS = {"pretraining": "base", "instructions": "chat"}


def start_first(workspace: Workspace, id: str) -> Started:
    """Start the demo; one that runs, or was asked for with the same id, is left alone.

    Raises:
        ApiError: a training runs (409, code training_runs), which would make the demo take twice as long.
    """
    found = newest(workspace)
    if found is not None and (is_alive(found[1]) or found[1].id == id):
        return found[1]
    refuse_second(workspace)
    folder = free_folder(workspace)
    folder.mkdir(parents=True)
    return start(folder, (*WORDS, "--out", workspace.name(folder)), id=id, root=workspace.root)


def stop_first(workspace: Workspace) -> None:
    """End the demo; raises UsageError where it does not run."""
    if (found := newest(workspace)) is None:
        raise UsageError("no first model is being trained")
    ask(found[0], "stop")


def newest(workspace: Workspace) -> tuple[Path, Started] | None:
    """Return the folder and the note of the demo that was started last."""
    folders = workspace.runs.glob(f"{NAME}*") if workspace.runs.is_dir() else ()
    found = [(folder, note) for folder in folders if (note := read_note(folder)) is not None and note.verb == WORDS[0]]
    return max(found, key=lambda one: one[1].started) if found else None


def free_folder(workspace: Workspace) -> Path:
    """Return runs/first, or where that is taken the first of runs/first-2, runs/first-3 that is not."""
    folder, number = workspace.runs / NAME, 1
    while folder.exists():
        number += 1
        folder = workspace.runs / f"{NAME}-{number}"
    return folder


def watch_first(workspace: Workspace, watcher: Watcher, after: int = 0, file: str = "") -> dict[str, Any] | None:
    """Return how the demo is doing: its stages, and the steps of the one that trains; None where there is none."""
    if (found := newest(workspace)) is None:
        return None
    folder, note = found
    stages = stages_of(folder, note.started)
    now = next((stage["name"] for stage in stages if stage["ended"] is None), None)
    state = state_of(folder, note)
    part = folder / RUNS[now] if now in RUNS else None
    result = folder / STAGES["evaluation"]
    ended = stages[-1]["ended"] or (folder / LOG).stat().st_mtime
    return {
        "run": workspace.name(folder),
        "state": state,
        "started": note.started,
        "seconds": (time.time() if is_alive(note) else ended) - note.started,
        "minutes": MINUTES,
        "stages": stages,
        "stage": now,
        "training": watcher.watch(part, after=after, file=file) if part is not None and part.is_dir() else None,
        "model": workspace.name(folder / RUNS["instructions"]) if state == "finished" else None,
        "result": read_json(result) if result.is_file() else None,
        "log": tail(folder, 2048) if state == "died" else "",
    }


def stages_of(folder: Path, started: float) -> list[dict[str, Any]]:
    """Return the stages with when each ended and how long it took, None for what is still to do."""
    found = []
    for name, file in STAGES.items():
        path = folder / file
        ended = path.stat().st_mtime if path.is_file() else None
        found.append({"name": name, "ended": ended, "seconds": None if ended is None else ended - started})
        started = started if ended is None else ended
    return found
