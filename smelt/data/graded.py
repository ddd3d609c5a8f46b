"""Pairs of texts with how alike people found them, in any table format.

A row is {"source": TEXT, "target": TEXT, "score": NUMBER}. The scale is the file's own; a metric of ranks does
not ask for it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from smelt.core.errors import DataError
from smelt.data.formats import as_text
from smelt.data.readers import expand_paths, scan_file

COLUMNS = ("source", "target", "score")


@dataclass(frozen=True, slots=True)
class GradedRow:
    """Hold two texts and their grade, the higher the more alike."""

    source: str
    target: str
    score: float
    where: str


def read_graded(spec: str | Path) -> Iterator[GradedRow]:
    """Yield the graded pairs of a file, folder or glob.

    Raises:
        DataError: at the first row that lacks a column or whose grade is no number.
    """
    for path in expand_paths(spec):
        for where, row in scan_file(path):
            if isinstance(row, DataError):
                raise row
            if isinstance(row, str) or any(name not in row for name in COLUMNS):
                raise DataError(f"{where}: no graded pair", accepted="{source, target, score}")
            texts = [as_text(row[name], f"{where}: '{name}'") for name in COLUMNS[:2]]
            yield GradedRow(texts[0], texts[1], _number(row["score"], where), where)


def _number(value: object, where: str) -> float:
    try:
        number = math.nan if isinstance(value, bool) else float(str(value))
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise DataError(f"{where}: 'score' is {value!r}", accepted="a number")
    return number
