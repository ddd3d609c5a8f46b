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
import sys
from pathlib import Path
from typing import Any

from lines import make, markdown, mean_of, options, runs_of, spread

from smelt.core.config import load_recipe
from smelt.train.stages.tag import TagRecipe, tag

LINES = ("crf", "softmax")


def train(line: str, seed: int, words: argparse.Namespace) -> dict[str, Any]:
    """Train and test one line with one seed, and return the figures."""
    recipe = load_recipe(TagRecipe, words.recipe, words.settings)
    changes: dict[str, Any] = {"name": f"{line}-{seed}", "out": str(words.out), "seed": seed, "crf": line == "crf"}
    if line == "softmax":  # rates of the CRF's own scores, which it has none of
        rates = {name: rate for name, rate in recipe.tune.rates.items() if "crf" not in name}
        changes["tune"] = recipe.tune.model_copy(update={"rates": rates})
    if words.checkpoint:
        changes |= {"checkpoint": words.checkpoint, "tokenizer": None}
    result = tag(recipe.model_copy(update=changes))
    return {"seed": seed, "seconds": result.seconds, "steps": result.steps, **result.metrics}


def table(words: argparse.Namespace) -> str:
    """Return what is there as a Markdown table, and below it the difference within pairs of one seed."""
    keys = ("test_f1", "test_precision", "test_recall", "validation_f1")
    there = {line: runs for line in LINES if (runs := runs_of(line, words))}
    rows = [
        [line, *(mean_of(runs, key) for key in keys), mean_of(runs, "seconds", ".0f"), str(len(runs))]
        for line, runs in there.items()
    ]
    found = markdown(("head", "test F1", "precision", "recall", "validation F1", "seconds", "seeds"), rows)
    scores = [{run["seed"]: run["test_f1"] for run in there.get(line, [])} for line in LINES]
    pairs = [scores[0][seed] - scores[1][seed] for seed in sorted(scores[0].keys() & scores[1].keys())]
    if not pairs:
        return found
    each = ", ".join(f"{pair:+.3f}" for pair in pairs)
    return f"{found}\n\nCRF minus softmax, by seed: {spread(pairs, '+.3f')} ({each})"


def main() -> None:
    """Train what is not there yet, then print the table."""
    parser = options(__doc__, "runs/entities")
    parser.add_argument("--recipe", type=Path, default=Path("recipes/tag/vehicle-faults.yaml"))
    parser.add_argument("--set", dest="settings", nargs="+", default=[], help="key=value words for both lines")
    parser.add_argument("--checkpoint", default="", help="an encoder to begin with, instead of random weights")
    words = parser.parse_args()
    if not (words.show or words.recipe.is_file()):
        sys.exit(f"--recipe {words.recipe}: no such file; run from the project's root")
    make(LINES, words, lambda line, seed: train(line, seed, words))
    print(table(words))


if __name__ == "__main__":
    main()
