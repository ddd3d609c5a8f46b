"""What a run that began with a checkpoint learned and what it forgot: held-out texts measured before and after.

Every text is measured twice with all its rows, before the first step and after the last, as bits per byte where the
loss is of every token and in nats a token else. Before stands in `events.jsonl`, so that a resumed run keeps it. A text
that got worse was forgotten; replay, a small share of it among the new text, keeps most of it.

Ref: replay in continued pretraining, arXiv:2403.08763, section 6. Ref: Code Llama, arXiv:2308.12950, section 2.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from smelt.core.extras import available, need
from smelt.evals.card_page import cell, draw_bits
from smelt.train.run import RunDirectory
from smelt.train.sources import Rows

EVENT, PLOT = "before", "forgetting.png"
BITS, NATS = "bits per byte", "nats a token"
Changes = dict[str, dict[str, float]]


@dataclass(frozen=True)
class HeldOut:
    """Text that is measured and not trained on.

    `weight` is what it counts in the validation loss, 0 for none; `bytes_per_token` is None where the loss is not of
    every token; `is_like_training` tells whether the run trains on the rest of its source.
    """

    name: str
    rows: Rows
    weight: float
    bytes_per_token: float | None
    is_like_training: bool = True

    @property
    def unit(self) -> str:
        """Return the unit in which it is told."""
        return NATS if self.bytes_per_token is None else BITS

    def told(self, loss: float) -> float:
        """Return a loss in nats a token in that unit."""
        return loss if self.bytes_per_token is None else loss / math.log(2) / self.bytes_per_token


def kept_losses(run: RunDirectory) -> dict[str, float]:
    """Return the losses, in nats a token, that a run measured before its first step; none where it did not."""
    found = [event["losses"] for event in run.read_events() if event["event"] == EVENT]
    return dict(found[-1]) if found else {}


def changes(measured: Sequence[HeldOut], before: Mapping[str, float], after: Mapping[str, float]) -> Changes:
    """Return before, after and their difference of each text, in its unit, from losses in nats a token."""
    found: Changes = {}
    for held in measured:
        if held.name in before:
            one, two = held.told(before[held.name]), held.told(after[held.name])
            found[held.name] = {"before": one, "after": two, "change": two - one}
    return found


def report(folder: Path, measured: Sequence[HeldOut], found: Changes) -> list[str]:
    """Draw the plot into a run's directory and return the lines of its report."""
    if not found:
        return []
    texts = [held for held in measured if held.name in found]
    (unit,) = {held.unit for held in texts}
    lines = ["## What was learned and what was forgotten", ""]
    lines += [f"Held-out text in {unit}, before the first step and after the last; less is better.", ""]
    lines += ["| text | | before | after | change |", "|---|---|---|---|---|"]
    for held in texts:
        one = found[held.name]
        role = "trained on its like" if held.is_like_training else "not trained on"
        lines.append(
            f"| {cell(held.name)} | {role} | {one['before']:.4f} | {one['after']:.4f} | "
            f"{one['change']:+.4f}, {'worse' if one['change'] > 0 else 'better' if one['change'] < 0 else 'same'} |"
        )
    if available("matplotlib"):
        draw(folder / PLOT, found, unit)
        return [*lines, "", f"![before and after]({PLOT})", ""]
    return [*lines, "", "The plot of these needs matplotlib: `pip install 'smelt-lm[report]'`.", ""]


def draw(path: Path, found: Changes, unit: str) -> None:
    """Draw before and after of each text as bars, without a display."""
    size = (8, 0.9 + 0.7 * len(found))
    figure = need("matplotlib.figure", extra="report").Figure(figsize=size, layout="constrained")
    axes = figure.add_subplot()
    rows = {name.replace("$", r"\$"): (one["before"], one["after"]) for name, one in found.items()}
    draw_bits(axes, rows, unit)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper right", ncols=2, frameon=False)
    figure.savefig(path, dpi=120)
