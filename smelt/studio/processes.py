"""Processes that outlive the studio: a command in a session of its own, and the note by which it is found again.

What was started is written into a folder as studio.json, with the process's number and the moment it began, so that
another process that was given the same number later is not taken for it; its output goes to studio.log beside it. How
it ended is read off the end of that log: a command that was told --json prints its result there, so a studio that was
started later knows as much as the one that started it.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import psutil

from smelt.core.errors import UsageError
from smelt.core.storage import write_json
from smelt.models.shards import read_json
from smelt.serve.errors import ApiError
from smelt.studio.workspace import Workspace
from smelt.train.quickstart import NOTES

NOTE, LOG = NOTES
TAIL_BYTES = 16_384
CLOCK_SECONDS = 2.0  # by which the system may tell another moment for the same beginning

Asked = Literal["", "pause", "stop"]
State = Literal["running", "pausing", "stopping", "paused", "stopped", "finished", "died"]


@dataclass(frozen=True)
class Started:
    """A process that was started: what it was told, who it is, and what a person asked of it since.

    Args:
        id: made by the page that asked for it, so that the same wish told twice is one process.
        words: what the command line `smelt` was told, the verb first.
        began: when the process began, as the system tells it.
        started: when the first process of this note was started.
    """

    id: str
    words: tuple[str, ...]
    pid: int
    began: float
    started: float
    asked: Asked = ""

    @property
    def verb(self) -> str:
        """Return what is being done."""
        return self.words[0]

    @property
    def command(self) -> str:
        """Return what a person would type."""
        return shlex.join(["smelt", *self.words])


def start(folder: Path, words: Sequence[str], *, id: str, root: Path) -> Started:
    """Start `smelt WORDS` in `root` and note it in `folder`; the log grows where there is one."""
    before = read_note(folder)
    with open(folder / LOG, "ab") as log:
        log.write(f"$ {shlex.join(['smelt', *words])}\n".encode())
        log.flush()
        child = subprocess.Popen(
            # -P: a file of the workspace must not be imported instead of a module of the same name.
            [sys.executable, "-P", "-m", "smelt.cli.main", *words, "--json"],
            cwd=root,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # what ends the studio, a closed terminal for one, does not reach it
        )
    began = psutil.Process(child.pid).create_time()
    threading.Thread(target=child.wait, daemon=True).start()  # an ended process stays until somebody asks for it
    made = Started(id, tuple(words), child.pid, began, before.started if before else time.time())
    write_json(folder / NOTE, asdict(made))
    return made


def read_note(folder: Path) -> Started | None:
    """Return what was started in a folder, None where nothing was."""
    if not (folder / NOTE).is_file():
        return None
    values = read_json(folder / NOTE)
    return Started(**{**values, "words": tuple(values["words"])})


def is_alive(started: Started) -> bool:
    """Tell whether the very process that was started still runs."""
    try:
        process = psutil.Process(started.pid)
        same = abs(process.create_time() - started.began) < CLOCK_SECONDS
        return same and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def ask(folder: Path, wish: Asked) -> Started:
    """Interrupt a process as Ctrl-C does, and note why; it saves what it has and ends.

    Raises:
        UsageError: it does not run, or was asked already: a second interrupt would not let it save.
    """
    started = read_note(folder)
    if started is None or not is_alive(started):
        raise UsageError(f"{folder.name} is not running")
    if started.asked:
        raise UsageError(f"{folder.name} was asked to {started.asked} and finishes its step")
    asked = replace(started, asked=wish)
    write_json(folder / NOTE, asdict(asked))
    with contextlib.suppress(ProcessLookupError):  # it ended by itself just now, which its log will tell
        os.kill(started.pid, signal.SIGINT)
    return asked


def folders(runs: Path) -> list[Path]:
    """Return the folders in which something was started, the newest first."""
    notes = [(read_note(path), path) for path in runs.iterdir()] if runs.is_dir() else []
    return [path for note, path in sorted(notes, key=lambda one: one[0].started if one[0] else 0, reverse=True) if note]


def refuse_second(workspace: Workspace) -> None:
    """Raise ApiError (409, code training_runs) where something trains: two share the cores."""
    for folder in folders(workspace.runs):
        note = read_note(folder)
        if note is not None and is_alive(note):
            name = workspace.name(folder)
            raise ApiError(409, f"{name} is being trained; two share the cores", code="training_runs", param=name)


def state_of(folder: Path, started: Started) -> State:
    """Return how a process is doing, or how it ended."""
    if is_alive(started):
        return {"": "running", "pause": "pausing", "stop": "stopping"}[started.asked]  # type: ignore[return-value]
    result = result_of(folder)
    interrupted = result.get("stopped") == "interrupted" if result is not None else bool(started.asked)
    if interrupted:
        return "stopped" if started.asked == "stop" else "paused"
    return "died" if result is None else "finished"


def result_of(folder: Path) -> dict[str, Any] | None:
    """Return the object that the last command printed at its end, None where it did not get there."""
    for line in reversed(tail(folder).splitlines()):
        if line.startswith("$ "):
            return None
        if line.startswith("{"):
            with contextlib.suppress(ValueError):
                return dict(json.loads(line))
    return None


def tail(folder: Path, num_bytes: int = TAIL_BYTES) -> str:
    """Return the end of a process's output, from the beginning of a line."""
    path = folder / LOG
    if not path.is_file():
        return ""
    with open(path, "rb") as log:
        size = log.seek(0, os.SEEK_END)
        log.seek(max(0, size - num_bytes))
        data = log.read()
    text = data.decode("utf-8", "replace")
    return text.split("\n", 1)[-1] if size > num_bytes and "\n" in text else text
