"""What a run does beside steps: log, show one live line, validate, sample, save, listen for Ctrl-C.

Each hook is a small callable that the loop calls after every step. They share nothing but the state and the
run directory, and their order is the order in which they are listed: validation before the checkpoint, so that
a checkpoint knows whether it is the best one.
"""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from smelt.core import runtime
from smelt.core.errors import ResourceError
from smelt.core.log import LiveLine, say
from smelt.train.loop import StepResult
from smelt.train.run import RunDirectory
from smelt.train.state import TrainState


def every(step: int, interval: int, steps: int) -> bool:
    """Tell whether something that happens every `interval` steps happens now; the last step always counts."""
    return interval > 0 and (step % interval == 0 or step == steps)


@dataclass
class LogMetrics:
    """Append one JSON line a step."""

    run: RunDirectory

    def __call__(self, state: TrainState, result: StepResult) -> None:
        """Write the step."""
        self.run.log_metrics(
            {
                "step": state.step,
                "tokens": state.tokens,
                "loss": result.loss,
                "gradient_norm": result.gradient_norm,
                "learning_rate": result.learning_rate,
                "seconds": round(state.seconds, 4),
                "tokens_per_second": round(result.tokens / result.seconds, 1),
                "memory_bytes": runtime.used_memory_bytes(),
                **result.metrics,
            }
        )


@dataclass
class ShowProgress:
    """Rewrite one line: step, loss, rate, speed, memory, time left."""

    label: str
    steps: int
    line: LiveLine = field(default_factory=lambda: LiveLine(interval_seconds=5.0))
    smooth_loss: float = math.nan
    smooth_seconds: float = math.nan

    def __call__(self, state: TrainState, result: StepResult) -> None:
        """Show the step."""
        self.smooth_loss = blend(self.smooth_loss, result.loss)
        self.smooth_seconds = blend(self.smooth_seconds, result.seconds)
        left = (self.steps - state.step) * self.smooth_seconds
        self.line.update(
            f"{self.label} {state.step}/{self.steps} · loss {self.smooth_loss:.3f} · rate {result.learning_rate:.1e} · "
            f"{result.tokens / self.smooth_seconds:,.0f} tokens/s · norm {result.gradient_norm:.2f} · "
            f"{runtime.used_memory_bytes() / 1e9:.1f} GB · {clock(left)} left"
        )
        if state.step == self.steps:
            self.line.close()


@dataclass
class Validate:
    """Measure the held-out loss every `interval` steps; remember the best; stop after `patience` without gain."""

    run: RunDirectory
    measure: Callable[[], tuple[float, dict[str, float]]]  # the loss, and by source where there are several
    interval: int
    steps: int
    patience: int

    def __call__(self, state: TrainState, result: StepResult) -> None:
        """Validate when it is time."""
        if not every(state.step, self.interval, self.steps):
            return
        loss, losses = self.measure()
        if loss < state.best_loss:
            state.best_loss, state.best_step, state.validations_without_gain = loss, state.step, 0
        else:
            state.validations_without_gain += 1
        by_source = {"by_source": losses} if len(losses) > 1 else {}
        self.run.log_event("validation", step=state.step, loss=loss, best_step=state.best_step, **by_source)
        if self.patience and state.validations_without_gain >= self.patience:
            say(f"early stop at step {state.step}: {self.patience} validations since {state.best_step} without gain")
            state.stop = "early stop"


@dataclass
class ShowSamples:
    """Let the model write something every `interval` steps, so that learning can be seen."""

    run: RunDirectory
    sample: Callable[[], list[dict[str, str]]]
    interval: int
    steps: int

    def __call__(self, state: TrainState, result: StepResult) -> None:
        """Sample when it is time."""
        if every(state.step, self.interval, self.steps):
            for found in self.sample():
                self.run.log_event("sample", step=state.step, **found)


@dataclass
class SaveCheckpoints:
    """Save every `interval` steps, at the end, when the run is asked to stop and, with `keep_best`, at each new best.

    A save that fails for want of disk does not end the run: it is reported, and tried again at the next interval.
    """

    run: RunDirectory
    save: Callable[[TrainState], Path]
    interval: int
    steps: int
    keep_best: bool

    def __call__(self, state: TrainState, result: StepResult) -> None:
        """Save when it is time."""
        new_best = self.keep_best and state.best_step == state.step
        if not (new_best or every(state.step, self.interval, self.steps) or state.stop or state.step == self.steps):
            return
        try:
            path = self.save(state)
        except ResourceError as error:
            self.run.log_event("checkpoint failed", step=state.step, reason=error.what)
            if state.stop or state.step == self.steps:
                raise
            say(f"warning: {error}; training goes on, the next save is tried at the next interval")
        else:
            self.run.log_event("checkpoint", step=state.step, path=path.name)


class StopOnInterrupt:
    """First Ctrl-C or SIGTERM: finish the step and save. Second: stop at once."""

    def __init__(self) -> None:
        self.asked = False
        self.previous: dict[int, Any] = {}

    def __enter__(self) -> StopOnInterrupt:
        if threading.current_thread() is not threading.main_thread():
            return self  # only the main thread may listen for signals
        for number in (signal.SIGINT, signal.SIGTERM):
            self.previous[number] = signal.signal(number, self.handle)
        return self

    def __exit__(self, *details: object) -> None:
        for number, handler in self.previous.items():
            signal.signal(number, handler)

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Note the wish; at the second, give up."""
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
        say("\nstopping after this step, then saving (Ctrl-C again stops at once)")

    def __call__(self, state: TrainState, result: StepResult) -> None:
        """End the loop after a step in which the wish came."""
        if self.asked:
            state.stop = "interrupted"


def blend(average: float, value: float, share: float = 0.1) -> float:
    """Return a running average that starts at the first value."""
    return value if math.isnan(average) else average + share * (value - average)


def clock(seconds: float) -> str:
    """Write a duration for people: 75 -> 1:15."""
    return time.strftime("%H:%M:%S" if seconds >= 3600 else "%M:%S", time.gmtime(max(0.0, seconds)))
