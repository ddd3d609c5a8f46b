"""A run directory: the resolved recipe, one JSON line a step, events, checkpoints, a report.

    runs/<name>/recipe.yaml  metrics.jsonl  events.jsonl  checkpoints/step-0000100/  checkpoints/latest  report.md

Everything that later looks at a run (report, comparison, studio) reads these files; there is no second store.
A resumed run cuts `metrics.jsonl` back to the step of the checkpoint, so that no step is listed twice.
"""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

from smelt.core.errors import DataError, UsageError
from smelt.core.storage import atomic_write_text

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


class RunDirectory:
    """The files of one run under `root/name`."""

    def __init__(self, root: Path | str, name: str) -> None:
        if not NAME.fullmatch(name):
            raise UsageError(
                f"run name '{name}'",
                accepted="letters, digits, '.', '_' and '-', at most 128, not starting with a sign",
            )
        self.path = Path(root) / name
        self.recipe = self.path / "recipe.yaml"
        self.metrics = self.path / "metrics.jsonl"
        self.events = self.path / "events.jsonl"
        self.checkpoints = self.path / "checkpoints"

    def create(self, *, resume: bool) -> None:
        """Make the directory; an existing run is refused unless it is resumed."""
        if self.recipe.exists() and not resume:
            raise UsageError(
                f"run {self.path} exists already", fix="name=ANOTHER for a new run, or --resume to go on with this one"
            )
        self.checkpoints.mkdir(parents=True, exist_ok=True)

    def log_metrics(self, values: dict[str, Any]) -> None:
        """Append one step."""
        append_line(self.metrics, values)

    def log_event(self, kind: str, **values: Any) -> None:
        """Append something that happened: a validation, a sample, a checkpoint, a resume."""
        append_line(self.events, {"event": kind, "time": round(time.time(), 3), **values})

    def read_metrics(self) -> list[dict[str, Any]]:
        """Return all logged steps; a last line that a kill cut short is left out."""
        return read_lines(self.metrics)

    def read_events(self) -> list[dict[str, Any]]:
        """Return all logged events."""
        return read_lines(self.events)

    def cut(self, step: int) -> None:
        """Forget steps after `step`, which a resumed run will take again, and any line that a kill cut short."""
        kept = [line for line in self.read_metrics() if line["step"] <= step]
        for path, lines in ((self.metrics, kept), (self.events, self.read_events())):
            atomic_write_text(path, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))


def append_line(path: Path, values: dict[str, Any]) -> None:
    """Append one JSON object as a line."""
    with open(path, "a", encoding="utf-8") as handle:
        handle.write(json.dumps(values, ensure_ascii=False) + "\n")


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Return the JSON objects of a file of lines; an unfinished last line is left out.

    Raises:
        DataError: another line is not JSON; the message holds its number.
    """
    if not path.exists():
        return []
    found = []
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n")[:-1], start=1):
        try:
            found.append(json.loads(line))
        except json.JSONDecodeError as error:
            raise DataError(f"{path}:{number}: not a JSON object ({error.msg})", fix="delete that line") from None
    return found
