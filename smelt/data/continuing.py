"""Files that a killed run goes on with: its recipe lies beside them, and lines are only ever appended, each one whole.

A run that begins again makes the same lines from the start. Those that are there are compared and passed over, so that
a file never loses what it had, and never becomes a mixture of two runs.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Collection
from pathlib import Path
from typing import TypeVar

from smelt.core.config import Config, load_recipe, to_yaml
from smelt.core.errors import ConfigError, DataError
from smelt.core.storage import atomic_write_text, disk_full_is_an_error

ConfigType = TypeVar("ConfigType", bound=Config)


def same_recipe(recipe: Config, out: Path, *, may_change: Collection[str] = ()) -> bool:
    """Put the recipe beside `out`, or compare it with the one that lies there; return whether `out` is new.

    Raises:
        ConfigError: `out` was begun with another recipe, or by somebody else.
    """
    beside = out.with_name(f"{out.name}.recipe.yaml")
    is_new = not beside.is_file()
    if is_new and out.exists():
        raise ConfigError(f"{out} is there already, without {beside.name}", fix="give another file")
    if not is_new:
        saved = load_recipe(type(recipe), beside)
        for key in type(recipe).model_fields:
            if key not in may_change and getattr(saved, key) != getattr(recipe, key):
                raise ConfigError(
                    f"{key}={getattr(recipe, key)!r}, but {out} was begun with {getattr(saved, key)!r}",
                    fix="the same settings go on with it; or give another file",
                )
    out.parent.mkdir(parents=True, exist_ok=True)
    atomic_write_text(beside, to_yaml(recipe))
    return is_new


def whole_lines(path: Path) -> list[str]:
    """Return the lines of a file, none where it is not there, and cut off what a kill left of the last one."""
    data = path.read_bytes() if path.exists() else b""
    end = data.rfind(b"\n") + 1
    if end < len(data):
        os.truncate(path, end)
    return data[:end].decode("utf-8").split("\n")[:-1]


class Lines:
    """Append lines to a file, behind those that an earlier run wrote and this one makes again."""

    def __init__(self, path: Path) -> None:
        self.path, self.num_lines = path, 0
        self.before = deque(whole_lines(path))
        self._handle = open(path, "ab")  # noqa: SIM115  # closed by `close`

    def add(self, line: str) -> None:
        """Write a line, or pass over it where it stands there already.

        Raises:
            DataError: another line stands in its place.
        """
        self.num_lines += 1
        if not self.before:
            self._handle.write(line.encode("utf-8") + b"\n")
        elif self.before.popleft() != line:
            raise DataError(
                f"{self.path}:{self.num_lines}: not what this run would write there",
                accepted="the file as it was left, with the same data and prompts",
                fix="restore what changed, or give another file",
            )

    def flush(self) -> None:
        """Bring everything that was added to the disk."""
        with disk_full_is_an_error(self.path):
            self._handle.flush()
            os.fsync(self._handle.fileno())

    def finish(self) -> None:
        """Say that no more lines come.

        Raises:
            DataError: an earlier run wrote more than this one.
        """
        if self.before:
            raise DataError(
                f"{self.path}: {len(self.before):,} more lines than this run makes",
                fix="ask for as many rows as before, or give another file",
            )

    def close(self) -> None:
        """Close the file."""
        self._handle.close()
