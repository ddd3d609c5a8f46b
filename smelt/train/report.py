"""A page about a finished run: what was trained, how the loss fell, what it says now, what to do next.

`report.md` sits in the run directory beside the plots it shows. Plots need matplotlib (extra `report`);
without it the page says so and keeps its table.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from smelt.core.extras import available, need
from smelt.core.storage import atomic_write_text
from smelt.train.run import RunDirectory


def write_report(
    run: RunDirectory,
    title: str,
    facts: Sequence[tuple[str, str]],
    next_steps: Sequence[str],
    more: Sequence[str] = (),
) -> None:
    """Write `report.md` from the run's files; `facts` are rows of its first table, `more` are lines before the loss."""
    metrics, events = run.read_metrics(), run.read_events()
    lines = [f"# {title}", "", "| | |", "|---|---|"]
    lines += [f"| {name} | {value} |" for name, value in facts]
    lines += ["", *more, "## Loss and learning rate", ""]
    if available("matplotlib"):
        draw(run, metrics, events)
        lines += ["![loss](loss.png)", "", "![learning rate and speed](rate.png)", ""]
    else:
        lines += ["Plots need matplotlib: `pip install 'smelt-lm[report]'`.", ""]
    lines += ["| step | tokens | training loss | validation loss |", "|---|---|---|---|"]
    validation = {event["step"]: event["loss"] for event in events if event["event"] == "validation"}
    for row in spread(metrics, 12):
        held_out = f"{validation[row['step']]:.4f}" if row["step"] in validation else ""
        lines.append(f"| {row['step']} | {row['tokens']:,} | {row['loss']:.4f} | {held_out} |")
    samples = [event for event in events if event["event"] == "sample"][-3:]
    if samples:
        lines += ["", "## Samples", ""]
        for sample in samples:
            lines += [f"Step {sample['step']}, after “{sample['prompt']}”:", "", *quote(sample["text"]), ""]
    lines += ["", "## Next", "", *[f"- {step}" for step in next_steps], ""]
    atomic_write_text(run.path / "report.md", "\n".join(lines))


def quote(text: str) -> list[str]:
    """Return a text as a Markdown quotation."""
    return [f"> {line}" for line in text.strip().splitlines() or [""]]


def spread(rows: Sequence[dict[str, Any]], num: int) -> list[dict[str, Any]]:
    """Return about `num` rows at equal distances, with the first and the last."""
    if len(rows) <= num:
        return list(rows)
    return [rows[round(i * (len(rows) - 1) / (num - 1))] for i in range(num)]


def draw(run: RunDirectory, metrics: Sequence[dict[str, Any]], events: Sequence[dict[str, Any]]) -> None:
    """Draw loss.png and rate.png without a display."""
    figure_module = need("matplotlib.figure", extra="report")
    steps = [row["step"] for row in metrics]
    validation = [event for event in events if event["event"] == "validation"]
    figure = figure_module.Figure(figsize=(8, 4), layout="constrained")
    axes = figure.add_subplot()
    axes.plot(steps, [row["loss"] for row in metrics], color="#9db4d6", linewidth=0.8, label="training, each step")
    axes.plot(
        steps, smooth([row["loss"] for row in metrics]), color="#1f4e9c", linewidth=1.6, label="training, smoothed"
    )
    if validation:
        axes.plot(
            [event["step"] for event in validation],
            [event["loss"] for event in validation],
            color="#c8501e", marker="o", markersize=4, linewidth=1.4, label="validation",
        )  # fmt: skip
    axes.set(xlabel="step", ylabel="loss (nats a token)")
    axes.grid(alpha=0.25)
    axes.legend(frameon=False)
    figure.savefig(run.path / "loss.png", dpi=120)
    figure = figure_module.Figure(figsize=(8, 3), layout="constrained")
    rate, speed = figure.subplots(1, 2)
    rate.plot(steps, [row["learning_rate"] for row in metrics], color="#1f4e9c")
    rate.set(xlabel="step", ylabel="learning rate")
    speed.plot(steps, smooth([row["tokens_per_second"] for row in metrics]), color="#1f4e9c")
    speed.set(xlabel="step", ylabel="tokens a second", ylim=(0, None))
    for axes in (rate, speed):
        axes.grid(alpha=0.25)
    figure.savefig(run.path / "rate.png", dpi=120)


def smooth(values: Sequence[float], share: float = 0.05) -> list[float]:
    """Return the running average of a series; early values average what there is, so it does not lag at the start."""
    smoothed: list[float] = []
    for number, value in enumerate(values, start=1):
        before = smoothed[-1] if smoothed else value
        smoothed.append(before + max(share, 2 / (number + 1)) * (value - before))
    return smoothed
