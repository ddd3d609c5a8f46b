"""Runs as files to take along: all numbers as CSV or JSON, and several runs side by side as a page of Markdown.

Numbers are those of metrics.jsonl, every step of them; what a chart leaves out is here.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from smelt.serve.streaming import to_json
from smelt.studio.curves import plain
from smelt.studio.lines import Doubles, Lines
from smelt.train.reading import differences

COLUMNS = {
    "stage": "stage",
    "step": "step",
    "steps": "of",
    "train_loss": "training loss",
    "validation_loss": "validation loss",
    "tokens_per_second": "tokens/s",
    "parameters": "parameters",
    "tokens": "tokens",
    "seconds": "seconds",
}


def as_csv(runs: Sequence[tuple[str, Lines]]) -> Iterator[bytes]:
    """Yield a table with a row a step of each run, a column a number; empty where a step has none."""
    names = list(dict.fromkeys(name for _, lines in runs for name in lines.columns))
    yield csv_rows([["run", *names]])
    for run, lines in runs:
        columns = [cells(lines.columns.get(name), len(lines.columns["step"])) for name in names]
        yield csv_rows([[run, *row] for row in zip(*columns, strict=True)])


def cells(values: Doubles | None, size: int) -> list[Any]:
    """Return a column's numbers as they are written; a number that is none is an empty cell."""
    if values is None:
        return [""] * size
    return ["" if math.isnan(value) else int(value) if value.is_integer() else value for value in values.tolist()]


def csv_rows(rows: Sequence[Sequence[Any]]) -> bytes:
    """Write rows as CSV."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()


def as_json(runs: Sequence[tuple[str, Lines]], held_out: Mapping[str, Sequence[tuple[int, float]]]) -> Iterator[bytes]:
    """Yield an object with each run's columns and validations; a number that is none, or has no end, is null."""
    yield b'{"runs":['
    for place, (run, lines) in enumerate(runs):
        columns = {name: listed(values) for name, values in lines.columns.items()}
        yield (b"," if place else b"") + to_json({"run": run, "metrics": columns, "validations": held_out[run]})
    yield b"]}"


def listed(values: Doubles) -> list[float | None]:
    """Return a column for JSON."""
    return [value if math.isfinite(value) else None for value in plain(values)]


def as_markdown(runs: Sequence[Mapping[str, Any]], recipes: Sequence[Mapping[str, Any]]) -> str:
    """Return a page about runs: what each reached, and where their recipes differ."""
    names = [str(run["name"]) for run in runs]
    lines = [f"# {names[0] if len(names) == 1 else f'{len(names)} runs'}", "", *table_head(["run", *COLUMNS.values()])]
    lines += [table_row([run["name"], *(run[key] for key in COLUMNS)]) for run in runs]
    if len(runs) > 1:
        changed = differences(*recipes)
        lines += ["", "## Where the recipes differ", ""]
        lines += [*table_head(["setting", *names]), *(table_row([key, *row]) for key, row in changed.items())]
    return "\n".join([*lines, ""])


def table_head(names: Sequence[str]) -> list[str]:
    """Return the first two rows of a table."""
    return [table_row(names), "|---" * len(names) + "|"]


def table_row(values: Sequence[Any]) -> str:
    """Return a row of a table; what would end a cell is escaped."""
    texts = ["" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value) for value in values]
    return "| " + " | ".join(text.replace("|", "\\|").replace("\n", " ") for text in texts) + " |"
