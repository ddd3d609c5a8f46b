"""The learning rate as a pure function of the step, so that a resumed run cannot differ from an uninterrupted one.

Each schedule returns a factor in [0, 1] for the peak rate; the first step (0) already moves.
Ref: cosine decay, arXiv:1608.03983; warmup-stable-decay, arXiv:2404.06395.
"""

from __future__ import annotations

import math
from collections.abc import Callable


def warmup(step: int, warmup_steps: int) -> float:
    """Rise linearly over `warmup_steps` steps to 1."""
    return min(1.0, (step + 1) / warmup_steps) if warmup_steps > 0 else 1.0


def cosine(step: int, *, steps: int, warmup_steps: int, decay_steps: int, final_fraction: float) -> float:
    """Warm up, then fall along half a cosine to `final_fraction` at the last step."""
    if step < warmup_steps:
        return warmup(step, warmup_steps)
    progress = min(1.0, (step - warmup_steps) / max(1, steps - 1 - warmup_steps))
    return final_fraction + (1 - final_fraction) * 0.5 * (1 + math.cos(math.pi * progress))


def warmup_stable_decay(step: int, *, steps: int, warmup_steps: int, decay_steps: int, final_fraction: float) -> float:
    """Warm up, stay at 1, then fall linearly over the last `decay_steps` steps to `final_fraction`."""
    remaining = steps - 1 - step
    if remaining >= decay_steps or decay_steps == 0:
        return warmup(step, warmup_steps)
    decayed = final_fraction + (1 - final_fraction) * max(0, remaining) / decay_steps
    return min(warmup(step, warmup_steps), decayed)


def constant(step: int, *, steps: int, warmup_steps: int, decay_steps: int, final_fraction: float) -> float:
    """Warm up, then stay at 1."""
    return warmup(step, warmup_steps)


SCHEDULES: dict[str, Callable[..., float]] = {
    "cosine": cosine,
    "wsd": warmup_stable_decay,
    "constant": constant,
}
