"""What the server counts, for Prometheus to fetch at /metrics.

Tokens are counted where answers are made, so the sums equal the usage that clients were told. Each server has a
registry of its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass

from smelt.core.extras import need
from smelt.serve.loop import EngineLoop, Job, Step

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


@dataclass
class Tally:
    """The tokens of one request."""

    prompt: int = 0
    generated: int = 0


TALLY: ContextVar[Tally | None] = ContextVar("tally", default=None)
"""Where the tokens of the request that is answered here are noted too, for whoever asked for it by setting this."""


class Metrics:
    """Counters, histograms and gauges of one server."""

    def __init__(self, engine: EngineLoop) -> None:
        self._client = need("prometheus_client", extra="serve")
        self.registry = self._client.CollectorRegistry()
        make, own = self._client, {"registry": self.registry}
        self.requests = make.Counter("smelt_requests", "Requests answered.", ["route", "status"], **own)
        self.seconds = make.Histogram("smelt_request_seconds", "Time to answer.", ["route"], buckets=SECONDS, **own)
        self.prompt = make.Counter("smelt_prompt_tokens", "Tokens of prompts that were answered.", **own)
        self.generated = make.Counter("smelt_generated_tokens", "Tokens written.", **own)
        self.embedded = make.Counter("smelt_embedded_tokens", "Tokens of texts that became vectors.", **own)
        self.first = make.Histogram("smelt_first_token_seconds", "Time to the first token.", buckets=SECONDS, **own)
        self.between = make.Histogram("smelt_next_token_seconds", "Time between tokens.", buckets=SECONDS, **own)
        gauges: dict[str, tuple[str, Callable[[], float]]] = {
            "jobs": ("Requests under way.", lambda: len(engine.jobs)),
            "running": ("Prompts that the engine decodes.", lambda: engine.load.running),
            "waiting": ("Prompts in the engine's queue.", lambda: engine.load.waiting),
            "free_pages": ("Pages of the cache that are free.", lambda: engine.load.free_pages),
            "pages": ("Pages of the cache.", lambda: engine.load.pages),
        }
        for name, (words, value) in gauges.items():
            make.Gauge(f"smelt_{name}", words, **own).set_function(value)

    def text(self) -> tuple[bytes, str]:
        """Return all values and their media type."""
        return self._client.generate_latest(self.registry), self._client.CONTENT_TYPE_LATEST

    def on_done(self, route: str, status: int, seconds: float) -> None:
        """Count a request."""
        self.requests.labels(route, status).inc()
        self.seconds.labels(route).observe(seconds)

    def follow(self, job: Job, num_each: int) -> Callable[[Sequence[Step]], None]:
        """Return what counts the steps of a job, of which `num_each` answers share a prompt."""
        started = time.perf_counter()
        last: dict[int, float] = {}
        tally = TALLY.get() or Tally()

        def note(steps: Sequence[Step]) -> None:
            now = time.perf_counter()
            for place, update in steps:
                if place not in last:
                    read = len(job.wanted[place].prompt) if place % num_each == 0 else 0
                    self.prompt.inc(read)
                    tally.prompt += read
                    self.first.observe(now - started)
                else:
                    self.between.observe(now - last[place])
                last[place] = now
                self.generated.inc(len(update.ids))
                tally.generated += len(update.ids)

        return note

    def on_embedded(self, tokens: int) -> None:
        """Count the tokens of texts that became vectors."""
        self.embedded.inc(tokens)
        (TALLY.get() or Tally()).prompt += tokens
