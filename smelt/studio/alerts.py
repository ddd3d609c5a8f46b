"""What a person who watches a run would want to be told: a loss that is no number, leaps, stands still or over-fits.

One plain function of what the run wrote. Each finding has its step; what goes on for a while is told once, at its
beginning. The limits are meant to be silent on a run that is well: six standard deviations above the running mean, and
twenty times the usual time of a step.
"""

from __future__ import annotations

import itertools
import math
import re
import statistics
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

WARM_UP_STEPS = 20  # before a mean says anything
MEMORY_STEPS = 50  # of the running mean
SPIKE_SIGMAS = 6.0
LEAST_DEVIATION = 0.02  # of the mean: a run over the same rows again and again hardly varies
STALL_FACTOR, STALL_SECONDS = 20.0, 60.0  # a validation or a save between two steps is no stall
RISING_CHECKS = 3
REFUSED = re.compile(r"step (\d+): loss (\S+), gradient norm (\S+); the weights were not changed")


@dataclass(frozen=True)
class Alert:
    """Something to look at; `limit` is what `value` should have stayed below."""

    kind: Literal["not finite", "spike", "stall", "over-fit"]
    step: int
    value: float | None
    limit: float | None = None


def find_alerts(
    steps: Sequence[int],
    losses: Sequence[float],
    seconds: Sequence[float],
    validations: Sequence[tuple[int, float]],
    *,
    log: str = "",
    silent_seconds: float | None = None,
) -> list[Alert]:
    """Return what stands out, by step.

    Args:
        steps: of the training losses.
        losses: in training, one a step.
        seconds: of training until each step.
        validations: (step, held-out loss).
        log: the end of the output; a run that meets a loss that is no number says so there and ends.
        silent_seconds: since the run last wrote a step; None where it does not run.
    """
    found = [
        *not_finite(steps, losses, log),
        *spikes(steps, losses),
        *stalls(steps, seconds, silent_seconds),
        *over_fits(steps, losses, validations),
    ]
    return sorted(found, key=lambda alert: alert.step)


def not_finite(steps: Sequence[int], losses: Sequence[float], log: str) -> list[Alert]:
    """Return the first loss that is no number, and the step that was refused for one."""
    found = [Alert("not finite", step, None) for step, loss in zip(steps, losses, strict=True) if not finite(loss)][:1]
    refused = list(REFUSED.finditer(log))[-1:]
    return found + [Alert("not finite", int(match[1]), None) for match in refused]


def spikes(steps: Sequence[int], losses: Sequence[float]) -> list[Alert]:
    """Return where a loss leapt above the running mean; a leap does not move the mean that it is measured by."""
    found: list[Alert] = []
    recent: deque[float] = deque()
    total = squares = 0.0
    above = False
    for step, loss in zip(steps, losses, strict=True):
        if not finite(loss):
            continue
        mean = total / len(recent) if recent else 0.0
        deviation = math.sqrt(max(0.0, squares / len(recent) - mean**2)) if recent else 0.0
        limit = mean + SPIKE_SIGMAS * max(deviation, LEAST_DEVIATION * abs(mean))
        leaps = len(recent) >= WARM_UP_STEPS and loss > limit
        if leaps and not above:
            found.append(Alert("spike", step, loss, limit))
        above = leaps
        if not leaps:
            recent.append(loss)
            old = recent.popleft() if len(recent) > MEMORY_STEPS else 0.0
            total, squares = total + loss - old, squares + loss**2 - old**2
    return found


def stalls(steps: Sequence[int], seconds: Sequence[float], silent_seconds: float | None) -> list[Alert]:
    """Return the last step where no other has come for many times the usual time of one."""
    if silent_seconds is None or len(steps) < 2:
        return []
    limit = max(STALL_SECONDS, STALL_FACTOR * usual_seconds(seconds))
    return [Alert("stall", steps[-1], silent_seconds, limit)] if silent_seconds > limit else []


def usual_seconds(seconds: Sequence[float]) -> float:
    """Return the usual time of a step, from the time until each of the last ones."""
    recent = seconds[-MEMORY_STEPS:]
    return statistics.median(after - before for before, after in itertools.pairwise(recent))


def over_fits(steps: Sequence[int], losses: Sequence[float], validations: Sequence[tuple[int, float]]) -> list[Alert]:
    """Return where the held-out loss had risen several times in a row while the training loss fell."""
    found: list[Alert] = []
    rises = 0
    for place in range(1, len(validations)):
        rises = rises + 1 if validations[place][1] > validations[place - 1][1] else 0
        if rises != RISING_CHECKS:
            continue
        (first, before), (last, after) = validations[place - RISING_CHECKS], validations[place]
        early, late = mean_until(steps, losses, first), mean_until(steps, losses, last)
        if early is not None and late is not None and late < early:
            found.append(Alert("over-fit", last, after, before))
    return found


def mean_until(steps: Sequence[int], losses: Sequence[float], step: int) -> float | None:
    """Return the mean of the training losses of the last steps until `step`."""
    recent = [loss for at, loss in zip(steps, losses, strict=True) if step - WARM_UP_STEPS < at <= step]
    return statistics.fmean(recent) if recent else None


def finite(value: float | None) -> bool:
    """Tell whether a value is an ordinary number."""
    return value is not None and math.isfinite(value)
