"""Tables of which every line is a training run: a finished run's figures are kept, and none is made twice.

So a long table may be made in pieces, stopped at any time, and printed from what is there. A script names its lines,
says how one is trained with a seed, and how its runs become a row.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
from collections.abc import Callable, Iterable, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

# Student's t for a 95 % interval, by degrees of freedom; from ten on the difference to 2.0 is below a tenth.
STUDENT = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26)


def options(about: str | None, out: str) -> argparse.ArgumentParser:
    """Return a parser of what all such scripts can be told; `out` is where runs are kept unless told otherwise."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(out), help=f"folder of the runs and their figures [{out}]")
    parser.add_argument("--only", default="*", help="a shell pattern of lines")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--show", action="store_true", help="print the table of what is there, train nothing")
    return parser


def make(names: Iterable[str], words: argparse.Namespace, train: Callable[[str, int], dict[str, Any]]) -> None:
    """Train what `words` ask for and is not there yet; `train` takes a line's name and a seed and returns figures."""
    chosen = [name for name in names if fnmatch(name, words.only)]
    if not chosen:
        sys.exit(f"--only {words.only}: no such line; there are {', '.join(names)}")
    words.out.mkdir(parents=True, exist_ok=True)
    for name in [] if words.show else chosen:
        for seed in words.seeds:
            if not kept(words.out, name, seed).is_file():
                kept(words.out, name, seed).write_text(json.dumps(train(name, seed)) + "\n", encoding="utf-8")


def kept(out: Path, name: str, seed: int) -> Path:
    """Return where the figures of a line and seed are kept."""
    return out / f"{name}-{seed}.json"


def runs_of(name: str, words: argparse.Namespace) -> list[dict[str, Any]]:
    """Return the figures of a line's runs that are there."""
    files = [kept(words.out, name, seed) for seed in words.seeds]
    return [json.loads(file.read_text(encoding="utf-8")) for file in files if file.is_file()]


def mean_of(runs: Sequence[dict[str, Any]], key: str, form: str = ".3f") -> str:
    """Return the mean of a figure over runs, with its interval."""
    return spread([run[key] for run in runs], form)


def spread(values: Sequence[float], form: str = ".3f") -> str:
    """Return the mean of values with the 95 % interval of Student's t, where there are several."""
    mean = statistics.fmean(values)
    if len(values) < 2:
        return format(mean, form)
    quantile = STUDENT[len(values) - 2] if len(values) - 2 < len(STUDENT) else 2.0
    half = quantile * statistics.stdev(values) / math.sqrt(len(values))
    return f"{mean:{form}} ± {half:{form.lstrip('+')}}"


def markdown(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
