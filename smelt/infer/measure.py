"""Measure an engine as its users feel it: how long until the first token, how long between two, how many a second."""

from __future__ import annotations

import random
import statistics
import time
from dataclasses import dataclass

from smelt.core.errors import UsageError
from smelt.infer.engine import Engine
from smelt.infer.requests import Request
from smelt.infer.sampling import Sampling


@dataclass(frozen=True)
class Timing:
    """What so many streams that begin together got: medians of their times, and all their new tokens a second."""

    streams: int
    ttft_ms: float
    inter_token_ms: float
    tokens_per_second: float


def measure(engine: Engine, streams: int, prompt_tokens: int, new_tokens: int, *, seed: int = 0) -> Timing:
    """Answer `streams` prompts of random tokens that begin together, and time them.

    Raises UsageError for more streams than run together, and for fewer than two new tokens, between which there is no
    time.
    """
    if not 0 < streams <= engine.settings.max_running:
        raise UsageError(f"{streams} streams", accepted=f"1 to {engine.settings.max_running}, which run together")
    if prompt_tokens < 1 or new_tokens < 2:
        raise UsageError(
            f"{prompt_tokens} tokens of a prompt and {new_tokens} new ones", accepted="1 and 2 or more of them"
        )
    draw = random.Random(f"{seed} {streams}")
    sampling = Sampling(max_new_tokens=new_tokens, temperature=0)
    times: dict[Request, list[float]] = {}
    started = time.perf_counter()
    for _ in range(streams):
        prompt = [draw.randrange(engine.vocab_size) for _ in range(prompt_tokens)]
        times[engine.submit(prompt, sampling)] = []
    while engine.has_work:
        updates = engine.step()
        now = time.perf_counter()
        for update in updates:
            times[update.request] += [now] * len(update.ids)
    ended = time.perf_counter()
    return Timing(
        streams,
        1e3 * statistics.median(own[0] - started for own in times.values()),
        1e3 * statistics.median((own[-1] - own[0]) / (len(own) - 1) for own in times.values()),
        sum(map(len, times.values())) / (ended - started),
    )
