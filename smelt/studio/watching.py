"""A run as it is watched: what its files say since a reader last looked, how far it is, and what stands out.

metrics.jsonl is read once and then only where it grew; a resumed run cuts it, which makes it another file, and the
reader is told to begin anew. Every step is sent as long as there are not more than a chart can use.
"""

from __future__ import annotations

import json
import math
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from smelt.core.config import read_yaml
from smelt.core.log import printable
from smelt.core.storage import read_pointer
from smelt.studio.alerts import find_alerts, finite, usual_seconds
from smelt.studio.processes import read_note, state_of, tail
from smelt.train.run import RunDirectory

COLUMNS = ("step", "tokens", "loss", "gradient_norm", "learning_rate", "seconds", "tokens_per_second", "memory_bytes")
MOST_POINTS = 20_000  # that are sent at once; of more, evenly spread ones
MOST_RUNS = 16  # whose files are kept in memory
MOST_SAMPLES = 12
LINE_BYTES = 8192  # more than a step takes in metrics.jsonl
ALIVE = ("running", "pausing", "stopping")


@dataclass
class Columns:
    """A metrics.jsonl that is followed: its columns so far, and where the next line begins."""

    path: Path
    inode: int = 0
    offset: int = 0
    values: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in COLUMNS})

    def read_on(self) -> None:
        """Take in what was written since; begin anew where it is another file."""
        if not self.path.is_file():
            return
        stat = self.path.stat()
        if stat.st_ino != self.inode or stat.st_size < self.offset:
            self.inode, self.offset = stat.st_ino, 0
            self.values = {name: [] for name in COLUMNS}
        with open(self.path, "rb") as handle:
            handle.seek(self.offset)
            data = handle.read()
        whole = data[: data.rfind(b"\n") + 1]  # the last line may be half written
        self.offset += len(whole)
        for line in whole.splitlines():
            values = json.loads(line)
            for name in COLUMNS:
                self.values[name].append(values.get(name, math.nan))


class Watcher:
    """What was read of the runs that somebody watches."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.followed: OrderedDict[Path, Columns] = OrderedDict()

    def columns(self, path: Path) -> Columns:
        """Return a run's metrics up to now."""
        with self.lock:
            found = self.followed.setdefault(path, Columns(path))
            self.followed.move_to_end(path)
            if len(self.followed) > MOST_RUNS:
                self.followed.popitem(last=False)
            found.read_on()
            return Columns(path, found.inode, found.offset, {name: list(row) for name, row in found.values.items()})

    def watch(self, folder: Path, *, after: int = 0, file: str = "") -> dict[str, Any]:
        """Return how a run is doing, with the steps behind `after` where `file` is still the one that is read."""
        run = RunDirectory(folder.parent, folder.name)
        columns = self.columns(run.metrics)
        values, events = columns.values, run.read_events()
        same = file == str(columns.inode)
        started = read_note(folder)
        state = state_of(folder, started) if started is not None else "elsewhere"
        steps = [int(step) for step in values["step"]]
        log = tail(folder)
        validations = [(event["step"], event["loss"]) for event in events if event["event"] == "validation"]
        silent = time.time() - run.metrics.stat().st_mtime if state == "running" and steps else None
        alerts = find_alerts(steps, values["loss"], values["seconds"], validations, log=log, silent_seconds=silent)
        return {
            "state": state,
            "verb": started.verb if started else None,
            "command": started.command if started else None,
            "started": started.started if started else None,
            **progress(run, steps, values["seconds"], running=state in ALIVE),
            "file": str(columns.inode),
            "whole": not same,
            "metrics": since(values, after if same else 0),
            "validation": {"step": [step for step, _ in validations], "loss": [clean(loss) for _, loss in validations]},
            "samples": [event for event in events if event["event"] == "sample"][-MOST_SAMPLES:],
            "alerts": [asdict(alert) for alert in alerts],
            "checkpoint": str(newest.name) if (newest := read_pointer(run.checkpoints / "latest")) else None,
            "log": printable(log),
        }


def last_step(path: Path) -> dict[str, Any]:
    """Return the last whole line of a metrics.jsonl, {} where there is none."""
    if not path.is_file():
        return {}
    with open(path, "rb") as handle:
        handle.seek(max(0, handle.seek(0, os.SEEK_END) - LINE_BYTES))
        lines = handle.read().split(b"\n")[:-1]
    return json.loads(lines[-1]) if lines else {}


def progress(run: RunDirectory, steps: Sequence[int], seconds: Sequence[float], *, running: bool) -> dict[str, Any]:
    """Return how far a run is; the number of its steps is known once the run has measured its speed."""
    total = read_yaml(run.recipe).get("steps") if run.recipe.is_file() else None
    step = steps[-1] if steps else 0
    left = None
    if running and total and len(steps) > 1:
        left = (total - step) * usual_seconds(seconds)
    return {"step": step, "steps": total, "seconds": seconds[-1] if steps else 0.0, "left_seconds": left}


def since(values: dict[str, list[float]], after: int) -> dict[str, list[float | None]]:
    """Return the columns of the steps behind `after`, of many of them evenly spread ones with the last."""
    places = [place for place, step in enumerate(values["step"]) if step > after]
    stride = -(-len(places) // MOST_POINTS) or 1
    kept = places[::-1][::stride][::-1]
    return {name: [clean(row[place]) for place in kept] for name, row in values.items()}


def clean(value: float) -> float | None:
    """Return a value that JSON can hold."""
    return value if finite(value) else None
