"""The numbers of runs, read once and kept while the files are what they were, and cut down to what a chart can show.

A file that has grown is read from where it ended; one that was written anew, as a resumed run's is, is read whole. A
curve with fewer points than were asked for comes whole; of a longer one each bucket gives its least and its largest
point, so every point is one of the file and no spike is lost.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from smelt.studio.lines import Doubles, Lines, decimated, read_numbers, smoothed
from smelt.train.reading import Broken

KEPT_BYTES = 1 << 29  # of numbers in memory: three folders of 200 runs of 10,000 steps
CHECKED_BYTES = 256  # at the end of what was read, which tell a grown file from another one
EMPTY = Lines({"step": np.zeros(0)}, 0, ())


@dataclass(frozen=True)
class Read:
    """What a file held: its numbers, the size and time at which it was read, where its last whole line ended."""

    lines: Lines
    stamp: tuple[int, int, int]  # inode, bytes, time of the last change
    end: int
    last: bytes  # just before `end`

    @property
    def num_bytes(self) -> int:
        """Return the memory that the numbers take."""
        return sum(column.nbytes for column in self.lines.columns.values())


class Curves:
    """Reads metrics.jsonl of runs; many threads may ask."""

    def __init__(self) -> None:
        self.kept: OrderedDict[Path, Read] = OrderedDict()
        self.num_bytes = 0
        self.lock = threading.Lock()

    def of(self, run: Path) -> Lines:
        """Return a run's numbers, none where it has not taken a step."""
        path = run / "metrics.jsonl"
        with self.lock:
            before = self.kept.get(path)
        found = read_file(path, before)
        with self.lock:
            old = self.kept.pop(path, None)
            self.kept[path] = found
            self.num_bytes += found.num_bytes - (0 if old is None else old.num_bytes)
            while len(self.kept) > 1 and self.num_bytes > KEPT_BYTES:
                self.num_bytes -= self.kept.popitem(last=False)[1].num_bytes
        return found.lines


def read_file(path: Path, before: Read | None) -> Read:
    """Return what a file holds now, given what it held."""
    if not path.is_file():
        return Read(EMPTY, (0, 0, 0), 0, b"")
    with open(path, "rb") as handle:
        status = os.fstat(handle.fileno())
        stamp = (status.st_ino, status.st_size, status.st_mtime_ns)
        if before is not None and before.stamp == stamp:
            return before
        grown = before is not None and before.stamp[0] == stamp[0] and before.end <= stamp[1]
        if before is not None and grown:
            handle.seek(before.end - len(before.last))
            grown = handle.read(len(before.last)) == before.last
        if before is None or not grown:
            before = Read(EMPTY, stamp, 0, b"")
        handle.seek(before.end)
        data = handle.read()
    data = data[: data.rfind(b"\n") + 1]  # what follows is a line that is being written
    lines = joined(before.lines, read_numbers(data, before.lines.num_lines + 1)) if data else before.lines
    return Read(lines, stamp, before.end + len(data), (before.last + data)[-CHECKED_BYTES:])


def joined(first: Lines, more: Lines) -> Lines:
    """Return lines and those after them."""
    if first.num_lines == 0:
        return more
    sizes = [len(part.columns["step"]) for part in (first, more)]
    names = dict.fromkeys([*first.columns, *more.columns])
    parts = {
        name: [part.columns.get(name, np.full(size, np.nan)) for part, size in zip((first, more), sizes, strict=True)]
        for name in names
    }
    columns = {name: np.concatenate(part) for name, part in parts.items()}
    return Lines(columns, first.num_lines + more.num_lines, (*first.broken, *more.broken))


@dataclass(frozen=True)
class Asked:
    """How a curve is to be cut.

    Args:
        x: step, tokens, seconds or flops.
        points: the most of a line.
        weight: of the running average, 0 for none.
        low, high: the part of x.
    """

    x: str = "step"
    points: int = 2000
    weight: float = 0.0
    low: float = -np.inf
    high: float = np.inf


def curve(lines: Lines, metric: str, asked: Asked, flops_a_token: float | None) -> dict[str, Any]:
    """Return a metric's points, and those of its running average where one was asked for."""
    x, y = positions(lines, asked.x, flops_a_token), lines.columns.get(metric)
    if x is None or y is None:
        return {"metric": metric, "x": [], "y": [], "rows": 0, "smooth": None}
    inside = np.flatnonzero((x >= asked.low) & (x <= asked.high))
    part = slice(max(0, int(inside[0]) - 1), int(inside[-1]) + 2) if len(inside) else slice(0, 0)
    x, sound = x[part], np.where(np.isfinite(y), y, np.nan)
    found = {"metric": metric, **points(x, sound[part], asked.points), "rows": int(np.isfinite(y).sum())}
    smooth = points(x, smoothed(sound, asked.weight)[part], asked.points) if asked.weight > 0 else None
    return {**found, "smooth": smooth}


def positions(lines: Lines, x: str, flops_a_token: float | None) -> Doubles | None:
    """Return where on x each line is, None where that is not known."""
    if x != "flops":
        return lines.columns.get(x)
    tokens = lines.columns.get("tokens")
    return None if tokens is None or flops_a_token is None else tokens * flops_a_token


def points(x: Doubles, y: Doubles, most: int) -> dict[str, list[float]]:
    """Return the points to draw."""
    chosen = decimated(np.where(np.isnan(x), np.nan, y), most)
    return {"x": plain(x[chosen]), "y": plain(y[chosen])}


def plain(values: Doubles) -> list[float]:
    """Return numbers as JSON writes them shortest: whole ones without a point."""
    whole = values.astype(np.int64) if len(values) and np.abs(values).max() < 2**53 else None
    found: list[float] = (whole if whole is not None and (whole == values).all() else values).tolist()
    return found


def held_out(
    lines: Lines, losses: list[tuple[int, float]], asked: Asked, flops_a_token: float | None
) -> dict[str, Any]:
    """Return where on x each validation was, by the line of its step, and its loss."""
    x, steps = positions(lines, asked.x, flops_a_token), lines.columns["step"]
    if x is None or not len(steps):
        return {"x": [], "y": []}
    places = [(int(np.searchsorted(steps[:-1], step)), step, loss) for step, loss in losses]
    found = [(x[place], loss) for place, step, loss in places if steps[place] == step and loss is not None]
    return {"x": plain(np.array([at for at, _ in found])), "y": [loss for _, loss in found]}


def as_values(broken: tuple[Broken, ...] | list[Broken]) -> list[dict[str, Any]]:
    """Return broken lines as JSON."""
    return [one._asdict() for one in broken]
