"""Adapters merged into their bases, each in a process of its own: `smelt merge`, whose memory is free again at its end.

What is under way is told while it runs; the result is a checkpoint in the workspace, which appears whole or not at all,
whatever becomes of the studio meanwhile.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
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

    def start(self, name: str, adapter: str, directory: Path, out: Path, shown: str) -> Merge:
        """Begin a merge; one that has begun under this id is returned as it is, so asking twice is asking once."""
        if name in self.known:
            return self.known[name]
        while len(self.known) >= MOST:
            del self.known[next(iter(self.known))]
        merge = self.known[name] = Merge(name, adapter, shown)
        threading.Thread(target=run, args=(merge, directory, out), name="merge", daemon=True).start()
        return merge

    def running(self) -> list[Merge]:
        """Return those under way."""
        return [merge for merge in self.known.values() if merge.state == "running"]


def run(merge: Merge, directory: Path, out: Path) -> None:
    """Merge, wait for the end, and note how it was; the state is noted last."""
    # -P: a file of the folder that the studio was started in is no module of ours.
    command = (sys.executable, "-P", "-m", "smelt.cli.main", "merge", str(directory), "--out", str(out), "--json")
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace")
    except OSError as error:
        merge.error, state = f"no process could be started: {error.strerror}", "failed"
    else:
        if done.returncode == 0:
            merge.result, state = json.loads(done.stdout.splitlines()[-1]), "done"
        else:
            merge.error, state = " ".join(done.stderr.strip().splitlines()[-LAST_LINES:]), "failed"
    merge.seconds = time.time() - merge.started
    merge.state = state
