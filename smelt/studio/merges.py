"""Adapters merged into their bases, each in a process of its own: `smelt merge`, whose memory is free again at its end.

What is under way is told while it runs; the result is a checkpoint in the workspace, which appears whole or not at all.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from asyncio.subprocess import DEVNULL, PIPE
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

MOST = 50  # merges that are remembered
LAST_LINES = 3  # of what a failed process said: an error has no more


@dataclass
class Merge:
    """One merge; `state` is "running", "done" or "failed"."""

    id: str
    adapter: str
    out: str
    state: str = "running"
    started: float = field(default_factory=time.time)
    seconds: float = 0.0
    result: dict[str, Any] = field(default_factory=dict)
    error: str = ""

    def shown(self) -> dict[str, Any]:
        """Return it as the page shows it."""
        seconds = self.seconds or time.time() - self.started
        return {**vars(self), "seconds": round(seconds, 1)}


class Merges:
    """What was merged since the studio began; used on the event loop alone."""

    def __init__(self) -> None:
        self.known: dict[str, Merge] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, name: str, adapter: str, directory: Path, out: Path, shown: str) -> Merge:
        """Begin a merge; one that has begun under this id is returned as it is, so asking twice is asking once."""
        if name in self.known:
            return self.known[name]
        while len(self.known) >= MOST:
            del self.known[next(iter(self.known))]
        merge = self.known[name] = Merge(name, adapter, shown)
        task = asyncio.create_task(self._run(merge, directory, out))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return merge

    def running(self) -> list[Merge]:
        """Return those under way."""
        return [merge for merge in self.known.values() if merge.state == "running"]

    @staticmethod
    async def _run(merge: Merge, directory: Path, out: Path) -> None:
        command = (sys.executable, "-P", "-m", "smelt.cli.main", "merge", str(directory), "--out", str(out), "--json")
        try:
            process = await asyncio.create_subprocess_exec(*command, stdin=DEVNULL, stdout=PIPE, stderr=PIPE)
            written, told = await process.communicate()
            if process.returncode == 0:
                merge.result, merge.state = json.loads(written.splitlines()[-1]), "done"
            else:
                lines = told.decode(errors="replace").strip().splitlines()
                merge.error, merge.state = " ".join(lines[-LAST_LINES:]), "failed"
        except OSError as error:
            merge.error, merge.state = f"no process could be started: {error.strerror}", "failed"
        finally:
            merge.seconds = time.time() - merge.started
