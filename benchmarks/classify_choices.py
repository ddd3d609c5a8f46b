"""Measure the choices in making a classifier of a language model: what trains, what is read, how rows are padded.

    smelt pretrain recipes/pretrain/books.yaml
    python benchmarks/classify_choices.py --base runs/books --data ../shared/data/classify/sms-spam.tsv

Every line of the table is one change from the first: the last block and the head train, the head reads the last token,
rows are padded to the longest of their batch. The random base has the shape of the given one and none of its weights.
Each line is trained with each seed on the same balanced, divided messages. A finished run is kept in --out and not made
again, so the table may be made in pieces (--only "lora*"), and --show prints what is there. All lines have the same
learning rate unless LINES says otherwise; the best epoch by validation loss is tested.

Ref: Raschka, Build a Large Language Model (From Scratch), 2024, chapter 6, additional experiments.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from lines import make, markdown, mean_of, options, runs_of

import smelt
from smelt.core.storage import checkpoint_at
from smelt.evals.metrics import Rate
from smelt.models.build import build
from smelt.models.hub import load_spec
from smelt.train.stages.classify import ClassifyRecipe, classify

LAST_BLOCK: dict[str, Any] = {"tune": {"last_blocks": 1}}
LINES: dict[str, dict[str, Any]] = {
    "last-block": LAST_BLOCK,
    "first-token": {**LAST_BLOCK, "reads": "first"},
    "mean": {**LAST_BLOCK, "reads": "mean"},
    "head": {"tune": {"train": ["tasks"]}},
    "two-blocks": {"tune": {"last_blocks": 2}},
    "all": {},
    "random-all": {"random": True},
    "random-all-mean": {"random": True, "reads": "mean"},
    "random-last-block": {"random": True, **LAST_BLOCK},
    "lora": {"tune": {"method": "lora", "lora": {"rank": 8, "alpha": 16}}},
    "lora-mean": {"tune": {"method": "lora", "lora": {"rank": 8, "alpha": 16}}, "reads": "mean"},
    "padded-to-context": {**LAST_BLOCK, "pad": "full"},
    "not-padded": {**LAST_BLOCK, "micro_rows": 1},
    "not-balanced-weighted": {**LAST_BLOCK, "balance": False, "class_weights": "balanced"},
}
"""What each line changes; `random` takes weights drawn anew."""


def random_base(base: str, out: Path) -> str:
    """Return a checkpoint of the base's shape with weights drawn anew, made where it is not there yet."""
    path = out / "random-base"
    if not path.is_dir():
        directory = checkpoint_at(base)
        smelt.save(build(load_spec(directory), seed=0), smelt.load_tokenizer(directory), path)
    return str(path)


def train(name: str, seed: int, words: argparse.Namespace) -> dict[str, Any]:
    """Train and test one line with one seed, and return the figures."""
    changes = {"balance": True, **LINES[name]}
    base = random_base(words.base, words.out) if changes.pop("random", False) else words.base
    recipe = ClassifyRecipe(
        name=f"{name}-{seed}",
        out=str(words.out),
        data=str(words.data),
        checkpoint=base,
        seed=seed,
        epochs=words.epochs,
        max_seq_len=words.max_seq_len,
        batch_rows=16,
        validate_every=words.validate_every,
        patience=1_000_000,  # all epochs, then the best
        save_every=0,
        keep=1,
        optimizer={"name": "adamw", "learning_rate": words.learning_rate},
        **changes,
    )
    result = classify(recipe)
    return {"seconds": result.seconds, "steps": result.steps, **result.metrics}


def table(words: argparse.Namespace) -> str:
    """Return what is there as a Markdown table; an accuracy is over the test rows of all seeds, with its interval."""
    lines = []
    for name, changes in LINES.items():
        if not (runs := runs_of(name, words)):
            continue
        rows = sum(run["test_rows"] for run in runs)
        rate = Rate.of(round(sum(run["test_accuracy"] * run["test_rows"] for run in runs)), rows)
        told = json.dumps(changes).translate(str.maketrans("", "", '{}"')) or "all layers train"
        share = f"{runs[0]['trained_parameters'] / runs[0]['parameters']:.1%}"
        others = (mean_of(runs, *form) for form in (("validation_accuracy", ".1%"), ("test_f1",), ("seconds", ".0f")))
        lines.append([name, told, share, str(rate), *others, str(len(runs))])
    heads = ("line", "what it changes", "trained", "test accuracy", "validation", "F1", "seconds", "runs")
    return markdown(heads, lines)


def main() -> None:
    """Train what is asked for and not there yet, then print the table."""
    parser = options(__doc__, "runs/classify-choices")
    parser.add_argument("--base", default="", help="a checkpoint or run of a decoder")
    parser.add_argument("--data", type=Path, default=Path("../shared/data/classify/sms-spam.tsv"))
    parser.add_argument("--epochs", type=float, default=5)
    parser.add_argument("--max-seq-len", type=int, default=96)
    parser.add_argument("--learning-rate", type=float, default=5e-4)
    parser.add_argument("--validate-every", type=int, default=33)
    words = parser.parse_args()
    if not (words.show or words.base):
        sys.exit("--base CHECKPOINT is missing")
    make(LINES, words, lambda name, seed: train(name, seed, words))
    print(table(words))


if __name__ == "__main__":
    main()
