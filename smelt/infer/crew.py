"""The threads that help with a decode step: started once, awake while tokens come one after another, asleep otherwise.

They are ordinary threads that spend their time in the step's kernel, where Python's lock is free. After a fifth of a
millisecond without work each sleeps until the next step rings. None is needed: in a child process after a fork, which
has none of them, steps are made by the calling thread alone.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from smelt.infer.kernels.team import STOP, make_team, parked_cell

Work = Callable[..., int]
_PATIENCE_SECONDS = 1.0


class Crew:
    """Run `work(thread, team, *arguments)` in `num_threads` threads, of which the caller is number 0."""

    def __init__(self, num_threads: int, work: Work, arguments: tuple[Any, ...]) -> None:
        self._team = make_team(num_threads)
        self._work, self._arguments = work, (self._team, *arguments)
        self._bells = [threading.Semaphore(0) for _ in range(1, num_threads)]
        self._threads = [
            threading.Thread(target=_help, args=(number, work, self._arguments, bell), daemon=True, name="smelt-decode")
            for number, bell in enumerate(self._bells, 1)
        ]
        for number in range(1, num_threads):
            self._team[parked_cell(number)] = 1
        for thread in self._threads:
            thread.start()
        self.close = weakref.finalize(self, _stop, self._team, self._bells, self._threads)

    def run(self) -> int:
        """Wake who sleeps, lead the work and return what it returns."""
        for number, bell in enumerate(self._bells, 1):
            if self._team[parked_cell(number)]:
                self._team[parked_cell(number)] = 0
                bell.release()
        return self._work(0, *self._arguments)


def _help(number: int, work: Work, arguments: tuple[Any, ...], bell: threading.Semaphore) -> None:
    """Help whenever the bell rings; holds the memory that the work reads, not the crew."""
    team: npt.NDArray[np.uint64] = arguments[0]
    while True:
        bell.acquire()
        if team[STOP]:
            return
        work(number, *arguments)


def _stop(team: npt.NDArray[np.uint64], bells: list[threading.Semaphore], threads: list[threading.Thread]) -> None:
    team[STOP] = 1
    for bell in bells:
        bell.release()
    for thread in threads:
        thread.join(_PATIENCE_SECONDS)
