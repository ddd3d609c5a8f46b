"""What a user is told when something is wrong: one error, at most three lines.

Each error says what is wrong with its value and where, what would have been accepted, and what to do.
Code raises these for anything a user can cause; `assert` is for things only a bug can cause. The command
line turns them into stderr lines and the exit code of the class, without a traceback unless `--debug`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class SmeltError(Exception):
    """Say what went wrong, what is accepted and what to do.

    Args:
        what: the fault with its value and its place ("rows.jsonl:17: message 2 has no content").
        accepted: what would have been fine, as a phrase.
        fix: what to do next, copyable where possible.
    """

    exit_code = 1

    def __init__(self, what: str, *, accepted: str = "", fix: str = "") -> None:
        self.what, self.accepted, self.fix = what, accepted, fix
        super().__init__(what)  # the rest travels in __dict__, so that an error survives pickling between processes

    def __str__(self) -> str:
        lines = [self.what]
        if self.accepted:
            lines.append(f"accepted: {self.accepted}")
        if self.fix:
            lines.append(f"try: {self.fix}")
        return "\n".join(lines)


class UsageError(SmeltError):
    """A bad argument of a command or a function."""

    exit_code = 2


class ConfigError(UsageError):
    """A recipe with an unknown key, a wrong type or values that do not go together."""


class DataError(SmeltError):
    """A file or a row that cannot be used; the message names file and row."""


class TokenizerError(SmeltError):
    """A tokenizer that cannot be trained, read or applied."""


class CheckpointError(SmeltError):
    """A checkpoint that is missing, incomplete, altered or made for something else."""


class ResourceError(SmeltError):
    """Too little memory or disk, or an extra that is not installed."""


class TrainingError(SmeltError):
    """A run that cannot go on: a loss that is not finite, or nothing to learn from."""


class RegressionError(SmeltError):
    """A metric that got worse than was allowed."""


def nearest(name: str, candidates: Iterable[str]) -> str:
    """Return " Did you mean 'x'?" for the candidate closest to `name`, or an empty string."""
    found = difflib.get_close_matches(str(name), [str(candidate) for candidate in candidates], n=1, cutoff=0.5)
    return f" Did you mean '{found[0]}'?" if found else ""
