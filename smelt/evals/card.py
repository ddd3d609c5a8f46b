"""Report card: one evaluation of two checkpoints, metric beside metric, and the metrics that must not get worse.

Each metric knows which direction is better. A gate is a metric with the drop that is allowed; it fails when the metric
got worse by more, and also when it is no number any more.

    exact_match, bits_per_byte:0.01    0.90 -> 0.90 holds, 2.100 -> 2.115 fails
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from smelt.core.errors import RegressionError, UsageError, nearest
from smelt.evals.marks import ALIKE, FIGURES, FOUND, JUDGED

KIND = "exact_match."
"""What stands before a kind of questions in a metric's name."""
MEASURED_BY = {
    "bits_per_byte": "text",
    "perplexity": "text",
    "exact_match": "gold",
    "memorization.from_prefixes": "memorization",
    "memorization.from_nothing": "memorization",
    **{figure: f"answers:{metric}" for metric, figures in FIGURES.items() for figure in figures},
    **dict.fromkeys(JUDGED, "judge"),
    **dict.fromkeys(FOUND, "retrieval"),
    **dict.fromkeys(ALIKE, "similarity"),
}
"""The metrics, each with the option that measures it; of answers with the name for `--metric` behind it."""
MARKS = (*(figure for figures in FIGURES.values() for figure in figures), *JUDGED, *FOUND, *ALIKE)
HIGHER_IS_BETTER = ("exact_match", *MARKS)
ROUNDING = 1e-9  # 0.90 - 0.88 is a little more than 0.02 in binary


@dataclass(frozen=True)
class Reading:
    """A metric's value, with its 95 % interval where it is a share."""

    value: float
    low: float | None = None
    high: float | None = None

    def __str__(self) -> str:
        if self.low is None or self.high is None:
            return f"{self.value:,.4f}"
        return f"{self.value:.1%} ({self.low:.1%} to {self.high:.1%})"


@dataclass(frozen=True)
class Gate:
    """Say by how much a metric may get worse."""

    metric: str
    allowed: float = 0.0


@dataclass(frozen=True)
class Drop:
    """A gate that failed, with the values before and after."""

    gate: Gate
    before: float
    after: float

    def __str__(self) -> str:
        return (
            f"{self.gate.metric} got worse: {self.before:.4f} before, {self.after:.4f} after, "
            f"allowed drop {self.gate.allowed:g}"
        )


@dataclass(frozen=True)
class Answered:
    """A prompt with what it should be answered, where that is known, and what was answered before and after."""

    prompt: str
    gold: str
    before: str
    after: str


def readings(values: Mapping[str, Any]) -> dict[str, Reading]:
    """Return the metrics among what `smelt eval --json` prints, by name: kinds of questions as exact_match.KIND."""
    found = {name: Reading(values[name]) for name in ("bits_per_byte", "perplexity") if name in values}
    if "exact_match" in values:
        intervals = values["exact_match_intervals"]
        found["exact_match"] = Reading(values["exact_match"], *intervals["all"])
        for kind, value in values["exact_match_by_kind"].items():
            found[KIND + kind] = Reading(value, *intervals[kind])
    if "memorization" in values:
        copies = values["memorization"]
        for name in ("from_prefixes", "from_nothing"):
            found[f"memorization.{name}"] = Reading(copies[name], *copies["intervals"][name])
    found |= {name: Reading(values[name], *values["intervals"][name]) for name in MARKS if name in values}
    return found


def is_higher_better(metric: str) -> bool:
    """Tell in which direction a metric improves."""
    return metric in HIGHER_IS_BETTER or metric.startswith(KIND)


def worsening(metric: str, before: float, after: float) -> float:
    """Return by how much a metric got worse; negative where it improved."""
    return before - after if is_higher_better(metric) else after - before


def parse_gates(text: str, measured: Iterable[str], kinds: Iterable[str] = ()) -> list[Gate]:
    """Read gates such as "exact_match,bits_per_byte:0.01"; without a number no drop is allowed.

    Args:
        text: metrics with commas between them.
        measured: what measures, of that in `MEASURED_BY`.
        kinds: the kinds of questions, each a metric too.

    Raises:
        UsageError: an unknown metric, one that is not measured, or no number from 0 on.
    """
    measured, by = tuple(measured), {**MEASURED_BY, **{KIND + kind: "gold" for kind in kinds}}
    gates = []
    for part in (part.strip() for part in text.split(",")):
        name, _, allowed = part.partition(":")
        if name not in by:
            known = [metric for metric, option in by.items() if option in measured]
            raise UsageError(f"--must-not-drop: no metric '{name}'.{nearest(name, by)}", accepted=", ".join(known))
        if by[name] not in measured:
            option, _, metric = by[name].partition(":")
            how = f"--{option} {'URL' if option == 'judge' else 'FILE'}" + (f" --metric {metric}" if metric else "")
            raise UsageError(f"--must-not-drop {name}: it is not measured", fix=f"add {how}")
        gates.append(Gate(name, _allowed(part, allowed)))
    return gates


def _allowed(part: str, text: str) -> float:
    try:
        number = float(text) if ":" in part else 0.0
    except ValueError:
        number = math.nan
    if not 0 <= number < math.inf:
        raise UsageError(f"--must-not-drop {part}: '{text}' is no allowed drop", accepted="a number from 0 on")
    return number


def failed(gates: Sequence[Gate], before: Mapping[str, Reading], after: Mapping[str, Reading]) -> list[Drop]:
    """Return the gates whose metric got worse by more than allowed, or is no number."""
    drops = [Drop(gate, before[gate.metric].value, after[gate.metric].value) for gate in gates]
    return [
        drop
        for drop in drops
        if not worsening(drop.gate.metric, drop.before, drop.after) <= drop.gate.allowed + ROUNDING  # nan fails too
    ]


def refuse_drops(drops: Sequence[Drop], report: str) -> None:
    """Raise RegressionError that names each metric that got worse, before, after, and what was allowed."""
    if drops:
        raise RegressionError("; ".join(map(str, drops)), fix=f"look at the answers side by side in {report}")
