"""What a classifier is worth at the end of its run: figures of the test rows, in the report and with the checkpoint.

The temperature is fitted on the validation rows alone; the test rows are only measured. Lines say how sure a figure is:
an accuracy from 300 rows is known to some 3 points, and rows of the test that also stand in training are counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from smelt.core import runtime
from smelt.core.extras import available, need
from smelt.core.log import say
from smelt.data.label_rows import LabelledRows
from smelt.evals import classification as measure
from smelt.evals.metrics import Rate
from smelt.models.readings import LabelReading
from smelt.models.transformer import Transformer
from smelt.train.checkpoint import add_metrics
from smelt.train.run import RunDirectory
from smelt.train.sources import to_batch

Examined = tuple[dict[str, Any], list[str]]
"""Metrics, and lines of the report."""


@dataclass(frozen=True)
class Parts:
    """Hold the rows of a run, its labels' names, and how many test texts stand in training too.

    `zero_shot` is the share of test rows that the base labels rightly before it is trained, where it can.
    """

    training: LabelledRows
    validation: LabelledRows
    test: LabelledRows
    names: Sequence[str]
    several: bool
    num_seen: int
    zero_shot: float | None = None


def examine(
    model: Transformer,
    reading: LabelReading,
    parts: Parts,
    run: RunDirectory,
    checkpoint: Path,
    micro_rows: int,
    dtype: torch.dtype,
) -> Examined:
    """Measure a trained model on the test rows, write metrics and temperature beside its weights, draw the table."""
    held_out, test = (scores_of(model, reading, rows, micro_rows, dtype) for rows in (parts.validation, parts.test))
    metrics = figures(held_out, test, parts)
    add_metrics(checkpoint, metrics)
    say(
        f"test: accuracy {metrics['test_accuracy']:.1%}, F1 {metrics['test_f1']:.3f}, calibration error "
        f"{metrics['calibration_error']:.3f} ({metrics['uncalibrated_error']:.3f} before the temperature)"
    )
    lines = report_lines(metrics, parts)
    if "confusion" in metrics:
        if available("matplotlib"):
            draw_confusion(run.path / "confusion.png", metrics["confusion"], parts.names)
            lines += ["![confusion](confusion.png)", ""]
        else:
            lines += ["The plot of these needs matplotlib: `pip install 'smelt-lm[report]'`.", ""]
    return metrics, lines


@torch.no_grad()
def scores_of(
    model: Transformer, reading: LabelReading, rows: LabelledRows, micro_rows: int, dtype: torch.dtype
) -> NDArray[np.float64]:
    """Return the model's scores of every row: (R, N)."""
    model.eval()
    found = []
    with torch.compiler.set_stance("force_eager"), runtime.autocast(dtype):
        for start in range(0, rows.num_rows, micro_rows):
            batch = to_batch(rows.take(range(start, min(start + micro_rows, rows.num_rows))), runtime.device())
            found.append(reading(model, batch.ids, **batch.context()).double().cpu().numpy())
    return np.concatenate(found)


def figures(held_out: NDArray[np.float64], test: NDArray[np.float64], parts: Parts) -> dict[str, Any]:
    """Return all metrics from the scores (R, N) of the validation and the test rows."""
    truth, known = parts.test.targets, parts.validation.targets
    loss = measure.label_loss if parts.several else measure.class_loss
    temperature = measure.fit_temperature(held_out, known, loss)
    found: dict[str, Any] = {
        "test_loss": loss(test, truth),
        "calibration_error": calibration_error(test / temperature, parts),
        "uncalibrated_error": calibration_error(test, parts),
        "temperature": round(temperature, 4),
        "training_rows": parts.training.num_rows,
        "validation_rows": parts.validation.num_rows,
        "test_rows": parts.test.num_rows,
        "test_rows_in_training": parts.num_seen,
    }
    if parts.zero_shot is not None:
        found["zero_shot_accuracy"] = parts.zero_shot
    if parts.several:
        scores = measure.label_scores(truth, test > 0)
        correct = int(((test > 0) == truth).all(axis=1).sum())
        found["validation_accuracy"] = float(((held_out > 0) == known).all(axis=1).mean())
    else:
        table = measure.confusion(truth, test.argmax(axis=1), len(parts.names))
        scores, correct = measure.class_scores(table), int(np.trace(table))
        found["validation_accuracy"] = float((held_out.argmax(axis=1) == known).mean())
        found["confusion"] = table.tolist()
    rate = Rate.of(correct, len(truth))
    return {
        "test_accuracy": rate.value,
        "test_accuracy_interval": [rate.low, rate.high],
        "test_f1": measure.macro_f1(scores),
        **found,
        "classes": {name: asdict(score) for name, score in zip(parts.names, scores, strict=True)},
    }


def calibration_error(scores: NDArray[np.float64], parts: Parts) -> float:
    """Return how far confidence is off on the test rows; where there are several labels, over all of them."""
    truth = parts.test.targets
    if parts.several:
        shares = measure.sigmoid(scores)
        right = (shares > 0.5) == truth
        return measure.calibration_error(np.maximum(shares, 1 - shares).ravel(), right.ravel())
    return measure.calibration_error(measure.softmax(scores).max(axis=1), scores.argmax(axis=1) == truth)


def report_lines(metrics: dict[str, Any], parts: Parts) -> list[str]:
    """Return the report's part about the test."""
    low, high = metrics["test_accuracy_interval"]
    what = "rows with exactly the right labels" if parts.several else "right answers"
    return [
        "## Test",
        "",
        f"{metrics['test_accuracy']:.1%} {what} of {metrics['test_rows']:,} (95 % interval {low:.1%} to {high:.1%}), "
        f"macro F1 {metrics['test_f1']:.3f}. {metrics['test_rows_in_training']} of the texts stand in training too.",
        "",
        f"Expected calibration error {metrics['calibration_error']:.3f} with the temperature "
        f"{metrics['temperature']:g} of the validation rows, {metrics['uncalibrated_error']:.3f} without.",
        "",
        *([] if parts.zero_shot is None else [f"Before training: {parts.zero_shot:.1%} right answers.", ""]),
        "| label | precision | recall | F1 | rows |",
        "|---|---|---|---|---|",
        *(
            f"| {name} | {score['precision']:.3f} | {score['recall']:.3f} | {score['f1']:.3f} | {score['rows']:,} |"
            for name, score in metrics["classes"].items()
        ),
        "",
    ]


def draw_confusion(path: Path, table: Sequence[Sequence[int]], names: Sequence[str]) -> None:
    """Draw the confusion table, shaded by the share of the true class, without a display."""
    counts = np.array(table)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    size = min(2.5 + 0.5 * len(names), 12.0)
    figure = need("matplotlib.figure", extra="report").Figure(figsize=(size + 0.5, size), layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row, column in np.ndindex(*counts.shape):
        color = "white" if shares[row, column] > 0.5 else "black"
        axes.text(column, row, str(counts[row, column]), ha="center", va="center", color=color)
    axes.set_xticks(range(len(names)), names, rotation=45, ha="right")
    axes.set_yticks(range(len(names)), names)
    axes.set(xlabel="given", ylabel="true")
    figure.savefig(path, dpi=120)
