"""The page of a report card: `report.md` with a table, a plot (`card.png`) and answers side by side.

The plot needs matplotlib (extra `report`); without it the page says so and keeps its tables.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from smelt.core.errors import UsageError
from smelt.core.extras import available, need
from smelt.core.log import printable
from smelt.core.storage import MANIFEST, atomic_write_text
from smelt.evals.card import KIND, Answered, Drop, Gate, Reading, is_higher_better, worsening

REPORT, PLOT = "report.md", "card.png"
BEFORE, AFTER = "#8a97a8", "#c8501e"
SHOWN_CHARACTERS = 400
ROW_INCHES = 0.42


def check_out(out: Path) -> None:
    """Raise UsageError where a page would be written into a run or a checkpoint, or over a file."""
    if out.is_file() or any((out / name).exists() for name in ("recipe.yaml", MANIFEST, "config.json")):
        what = "is a file" if out.is_file() else "is a run or a checkpoint"
        raise UsageError(f"{out} {what}", accepted="another directory", fix="--out DIRECTORY")


def write_page(
    out: Path,
    names: tuple[str, str],
    before: Mapping[str, Reading],
    after: Mapping[str, Reading],
    *,
    command: str,
    gains: Mapping[str, tuple[float, float]] = MappingProxyType({}),
    gates: Sequence[Gate] = (),
    drops: Sequence[Drop] = (),
    answers: Sequence[Answered] = (),
    notes: Sequence[str] = (),
) -> Path:
    """Write the page into a directory and return its path.

    Args:
        out: the directory, made where it is absent.
        names: of the two checkpoints, before and after.
        before, after: the same metrics of both.
        command: what made the page.
        gains: 95 % intervals of after less before, of metrics that were measured on the same rows.
        gates, drops: what must not get worse, and of that what did.
        answers: answers to the same prompts.
        notes: what a reader of the table has to know.
    """
    out.mkdir(parents=True, exist_ok=True)
    lines = ["# Before and after", "", f"Before: `{names[0]}`. After: `{names[1]}`.", ""]
    lines += ["| metric | before | after | change | |", "|---|---|---|---|---|"]
    for name, one in before.items():
        two, change = after[name], after[name].value - one.value
        moved = f"{change:+.4f}" if one.low is None else f"{100 * change:+.1f} points"
        if name in gains:
            moved += " ({:+.1f} to {:+.1f})".format(*(100 * end for end in gains[name]))
        lines.append(f"| {cell(name)} | {one} | {two} | {moved} | {verdict(name, one, two, gains.get(name))} |")
    lines += ["", *notes, *([""] if notes else [])]
    if available("matplotlib"):
        draw(out / PLOT, before, after)
        lines += [f"![before and after]({PLOT})", ""]
    else:
        lines += ["The plot needs matplotlib: `pip install 'smelt-lm[report]'`.", ""]
    if gates:
        lines += ["## What must not get worse", "", "| metric | allowed drop | |", "|---|---|---|"]
        bad = {drop.gate for drop in drops}
        lines += [
            f"| {cell(gate.metric)} | {gate.allowed:g} | {'**FAILED**' if gate in bad else 'holds'} |" for gate in gates
        ]
        lines.append("")
    if answers:
        lines += ["## Answers to the same prompts", "", "| prompt | wanted | before | after |", "|---|---|---|---|"]
        lines += [
            f"| {' | '.join(cell(text) for text in (row.prompt, row.gold, row.before, row.after))} |" for row in answers
        ]
        lines.append("")
    lines += ["## Again", "", "```", command, "```", ""]
    atomic_write_text(out / REPORT, "\n".join(lines))
    return out / REPORT


def verdict(metric: str, before: Reading, after: Reading, gain: tuple[float, float] | None = None) -> str:
    """Say in which direction a metric went, and whether its intervals leave room for chance.

    The interval of the `gain`, where the same rows were measured, says more than two intervals side by side.
    """
    worse = worsening(metric, before.value, after.value)
    if worse == 0:
        return "same"
    word = "better" if worse < 0 else "worse" if worse > 0 else "no number"
    if gain is not None and word != "no number":
        return word if gain[0] > 0 or gain[1] < 0 else f"{word}, may be chance"
    ends = (before.low, before.high, after.low, after.high)
    if None in ends or word == "no number":
        return word
    apart = before.high < after.low or after.high < before.low  # type: ignore[operator]
    return word if apart else f"{word}, intervals overlap"


def cell(text: str) -> str:
    """Return any text as one cell of a Markdown table, cut where it is long."""
    shown = printable(text.strip())
    shown = shown if len(shown) <= SHOWN_CHARACTERS else f"{shown[:SHOWN_CHARACTERS]} …"
    for sign, safe in (("&", "&amp;"), ("<", "&lt;"), ("\\", "\\\\"), ("|", "\\|"), ("`", "\\`"), ("\n", "<br>")):
        shown = shown.replace(sign, safe)
    return shown


def draw(path: Path, before: Mapping[str, Reading], after: Mapping[str, Reading]) -> None:
    """Draw shares as pairs of dots with their intervals, and bits per byte as pairs of bars, without a display."""
    shares = [name for name, reading in before.items() if reading.low is not None]
    bits = [name for name in before if name == "bits_per_byte"]
    rows = [len(names) for names in (shares, bits) if names]
    size = (8, 0.9 * len(rows) + ROW_INCHES * sum(rows) + 0.4)
    figure = need("matplotlib.figure", extra="report").Figure(figsize=size, layout="constrained")
    panels = list(figure.subplots(len(rows), 1, height_ratios=[num + 1 for num in rows], squeeze=False)[:, 0])
    if shares:
        draw_shares(panels[0], shares, before, after)
    if bits:
        draw_bits(panels[-1], {f"{name}{arrow(name)}": (before[name].value, after[name].value) for name in bits})
    for axes in panels:
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.tick_params(axis="y", length=0)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper right", ncols=2, frameon=False)
    figure.savefig(path, dpi=120)


def draw_shares(axes: Any, names: Sequence[str], before: Mapping[str, Reading], after: Mapping[str, Reading]) -> None:
    """Draw a row a share: before above, after below, each with its interval."""
    for side, readings, colour, offset in (("before", before, BEFORE, -0.14), ("after", after, AFTER, 0.14)):
        values = [100 * readings[name].value for name in names]
        reach = [
            [100 * (readings[name].value - (readings[name].low or 0.0)) for name in names],
            [100 * ((readings[name].high or 0.0) - readings[name].value) for name in names],
        ]
        places = [row + offset for row in range(len(names))]
        style = {"fmt": "o", "color": colour, "markersize": 6, "elinewidth": 2, "label": side}
        axes.errorbar(values, places, xerr=reach, **style)
    # A dollar sign would begin a formula.
    labels = [f"{name.removeprefix(KIND)}{arrow(name)}".replace("$", r"\$") for name in names]
    lowest = min([0.0, *(100 * (readings[name].low or 0.0) for readings in (before, after) for name in names)])
    axes.set(xlim=(lowest - 2, 102), ylim=(len(names) - 0.5, -0.5), xlabel="% with 95 % intervals")
    axes.set_yticks(range(len(names)), labels)
    axes.grid(alpha=0.25, axis="x")


def draw_bits(axes: Any, rows: Mapping[str, tuple[float, float]], unit: str = "bits per byte") -> None:
    """Draw two bars a row, before above after, with their values."""
    for place, (side, colour) in enumerate((("before", BEFORE), ("after", AFTER))):
        bars = axes.barh(
            [row + 0.3 * place for row in range(len(rows))],
            [values[place] for values in rows.values()],
            height=0.26,
            color=colour,
            label=side,
        )
        axes.bar_label(bars, fmt="%.4f", padding=4)
    axes.set(ylim=(len(rows) - 0.45, -0.25), xlabel=unit, xmargin=0.12)
    axes.set_yticks([row + 0.15 for row in range(len(rows))], list(rows))


def arrow(metric: str) -> str:
    """Return which way is better, as a sign behind a name."""
    return " ↑" if is_higher_better(metric) else " ↓"
