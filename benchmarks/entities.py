"""Measure what a CRF is worth on named entities: the same network, seeds and steps, with it and without.

    python benchmarks/entities.py --seeds 0 1 2

Both lines are the recipe recipes/tag/vehicle-faults.yaml, from random weights (or --checkpoint BASE), the same rows in
the same order; `softmax` labels each word by itself. A seed draws weights and the division into parts, so a pair of
runs shares both. The best validation loss is tested, on entities of the test part that nothing saw before. A finished
run is kept in --out and not made again; --show prints what is there.

Ref: Neural Architectures for Named Entity Recognition, arXiv:1603.01360, table 5.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from smelt.core.config import load_recipe
from smelt.train.stages.tag import TagRecipe, tag

LINES = ("crf", "softmax")
STUDENT = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262}
"""Two-sided 95 % quantiles of Student's t by degrees of freedom."""


def train(line: str, seed: int, words: argparse.Namespace) -> None:
    """Train and test one line with one seed, and keep the figures."""
    recipe = load_recipe(TagRecipe, words.recipe, words.settings)
    changes: dict[str, Any] = {"name": f"{line}-{seed}", "out": str(words.out), "seed": seed, "crf": line == "crf"}
    if line == "softmax":  # rates of the CRF's own scores, which it has none of
        rates = {name: rate for name, rate in recipe.tune.rates.items() if "crf" not in name}
        changes["tune"] = recipe.tune.model_copy(update={"rates": rates})
    if words.checkpoint:
        changes |= {"checkpoint": words.checkpoint, "tokenizer": None}
    result = tag(recipe.model_copy(update=changes))
    found = {"seconds": result.seconds, "steps": result.steps, **result.metrics}
    kept(words.out, line, seed).write_text(json.dumps(found) + "\n", encoding="utf-8")


def kept(out: Path, line: str, seed: int) -> Path:
    """Return where the figures of a line and seed are kept."""
    return out / f"{line}-{seed}.json"


def spread(values: Sequence[float]) -> str:
    """Return a mean with its 95 % interval over seeds, by Student's t."""
    mean = statistics.fmean(values)
    if len(values) < 2:
        return f"{mean:.3f}"
    half = STUDENT[min(len(values) - 1, 9)] * statistics.stdev(values) / math.sqrt(len(values))
    return f"{mean:.3f} ± {half:.3f}"


def table(out: Path, seeds: list[int]) -> str:
    """Return what is there as a Markdown table, and below it the difference within pairs of one seed."""
    there = {
        line: {
            seed: json.loads(kept(out, line, seed).read_text(encoding="utf-8"))
            for seed in seeds
            if kept(out, line, seed).is_file()
        }
        for line in LINES
    }
    lines = [
        "| head | test F1 | precision | recall | validation F1 | seconds | seeds |",
        "|---|---|---|---|---|---|---|",
    ]
    for line, runs in there.items():
        if runs:
            columns = [
                spread([run[key] for run in runs.values()])
                for key in ("test_f1", "test_precision", "test_recall", "validation_f1")
            ]
            seconds = statistics.fmean(run["seconds"] for run in runs.values())
            lines.append(f"| {line} | {' | '.join(columns)} | {seconds:.0f} | {len(runs)} |")
    both = there["crf"].keys() & there["softmax"].keys()
    pairs = [there["crf"][seed]["test_f1"] - there["softmax"][seed]["test_f1"] for seed in sorted(both)]
    if pairs:
        lines += ["", f"CRF minus softmax, by seed: {spread(pairs)} ({', '.join(f'{pair:+.3f}' for pair in pairs)})"]
    return "\n".join(lines)


def main() -> None:
    """Train what is not there yet, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", type=Path, default=Path("recipes/tag/vehicle-faults.yaml"))
    parser.add_argument("--set", dest="settings", nargs="+", default=[], help="key=value words for both lines")
    parser.add_argument("--checkpoint", default="", help="an encoder to begin with, instead of random weights")
    parser.add_argument("--out", type=Path, default=Path("runs/entities"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--show", action="store_true", help="print the table of what is there, train nothing")
    words = parser.parse_args()
    if not (words.show or words.recipe.is_file()):
        sys.exit(f"--recipe {words.recipe}: no such file; run from the project's root")
    words.out.mkdir(parents=True, exist_ok=True)
    for seed in [] if words.show else words.seeds:
        for line in LINES:
            if not kept(words.out, line, seed).is_file():
                train(line, seed, words)
    print(table(words.out, words.seeds))


if __name__ == "__main__":
    main()
