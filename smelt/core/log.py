"""Progress for people, on stderr; results go to stdout and are the command line's business.

On a terminal a `LiveLine` rewrites one line in place; elsewhere (a pipe, a log file, CI) it prints at most
one line a second, so that a log stays readable. Text from outside is stripped of control characters before
it reaches a terminal.
"""

from __future__ import annotations

import shutil
import sys
import time
import unicodedata
from typing import ClassVar

DIRECTION_MARKS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def printable(text: str) -> str:
    """Replace control characters and direction marks, so that foreign text cannot steer the terminal."""
    return "".join("\N{REPLACEMENT CHARACTER}" if steers(character) else character for character in text)


def steers(character: str) -> bool:
    """Tell whether a character controls the terminal instead of showing something."""
    if character in "\n\t":
        return False
    return unicodedata.category(character) in ("Cc", "Cs") or character in DIRECTION_MARKS


def say(message: str) -> None:
    """Write one message to stderr, on a line of its own."""
    if LiveLine.shown is not None:
        LiveLine.shown.close()
    sys.stderr.write(f"{message}\n")
    sys.stderr.flush()


class LiveLine:
    """One line of progress that is rewritten in place on a terminal.

    Args:
        interval_seconds: shortest time between two writes where stderr is not a terminal.
    """

    shown: ClassVar[LiveLine | None] = None  # the one that stands on the terminal's last line

    def __init__(self, interval_seconds: float = 1.0) -> None:
        self.interval_seconds = interval_seconds
        self.terminal = sys.stderr.isatty()
        self.last_written = float("-inf")

    def update(self, text: str) -> None:
        """Show `text`; off a terminal it is dropped when it comes too soon after the last."""
        now = time.monotonic()
        if self.terminal:
            columns = shutil.get_terminal_size().columns
            sys.stderr.write("\r\x1b[2K" + text[: columns - 1])
            sys.stderr.flush()
            LiveLine.shown = self
        elif now - self.last_written >= self.interval_seconds:
            say(text)
            self.last_written = now

    def close(self) -> None:
        """End the live line, leaving its last text on the screen."""
        if LiveLine.shown is self:
            sys.stderr.write("\n")
            sys.stderr.flush()
            LiveLine.shown = None
