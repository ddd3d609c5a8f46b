"""What is asked of /v1: a log of the last requests, without a word of theirs, and sums by key and model.

Both are in memory and begin anew with the studio. A request stands in the log from its first moment, so that a long
answer is seen while it is written; it enters the sums when it ends.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from smelt.serve.metrics import Tally

LOG_ENTRIES = 500
MAX_SUMS = 1000  # pairs of a key and a model; what comes beyond is summed up under no name
NAME_CHARACTERS = 128


@dataclass
class Entry:
    """One request; `status` is 0 while it is answered."""

    number: int
    method: str
    route: str
    begun: float = field(default_factory=time.time)
    owner: str = ""
    model: str = ""
    status: int = 0
    seconds: float = 0.0
    tally: Tally = field(default_factory=Tally)
    started: float = field(default_factory=time.perf_counter)

    def shown(self) -> dict[str, Any]:
        """Return it as the page shows it."""
        seconds = self.seconds or time.perf_counter() - self.started
        return {
            "number": self.number,
            "time": self.begun,
            "method": self.method,
            "route": self.route,
            "owner": self.owner,
            "model": self.model,
            "status": self.status,
            "ms": round(seconds * 1000, 1),
            "prompt_tokens": self.tally.prompt,
            "generated_tokens": self.tally.generated,
        }


@dataclass
class Sum:
    """What one key asked of one model."""

    requests: int = 0
    failed: int = 0
    prompt_tokens: int = 0
    generated_tokens: int = 0
    seconds: float = 0.0


class Usage:
    """The log and the sums; used on the event loop alone."""

    def __init__(self) -> None:
        self.since = time.time()
        self.log: deque[Entry] = deque(maxlen=LOG_ENTRIES)
        self.sums: dict[tuple[str, str], Sum] = {}
        self._number = 0

    def begin(self, method: str, route: str) -> Entry:
        """Enter a request that is now answered."""
        self._number += 1
        self.log.append(Entry(self._number, method[:16], route[:NAME_CHARACTERS]))
        return self.log[-1]

    def end(self, entry: Entry) -> None:
        """Note that a request has its answer."""
        entry.seconds = time.perf_counter() - entry.started
        pair = entry.owner, entry.model
        if pair not in self.sums and len(self.sums) >= MAX_SUMS:
            pair = "", ""
        total = self.sums.setdefault(pair, Sum())
        total.requests += 1
        total.failed += entry.status >= 400
        total.prompt_tokens += entry.tally.prompt
        total.generated_tokens += entry.tally.generated
        total.seconds += entry.seconds
