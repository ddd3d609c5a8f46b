"""Compare the ways of tuning on one task: the same base, instructions, order of rows and number of steps.

    smelt pretrain recipes/pretrain/books.yaml
    python benchmarks/tuning_methods.py --base runs/books --seeds 0 1 2
    python benchmarks/tuning_methods.py --only "lora*" --show

The loss is that of the held-out conversations at the best validation. Every way has the learning rate that suits its
size, the best of three tried with seed 0 (--rates tries others). Time is of training alone, and a small base flatters
nobody: what is added costs the more of a step the smaller the base is.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

from lines import make, markdown, mean_of, options, runs_of

from smelt.train.stages.sft import SftRecipe, sft

LINES: dict[str, tuple[float, dict[str, Any]]] = {
    "full": (1e-3, {}),
    "last-block": (2e-3, {"last_blocks": 1}),
    "last-two-blocks": (2e-3, {"last_blocks": 2}),
    "norms": (1e-2, {"train": ["*norm"]}),
    "layer-decay": (1e-3, {"layer_decay": 0.8}),
    "lora": (2e-3, {"method": "lora"}),
    "lora-rank-2": (2e-3, {"method": "lora", "lora": {"rank": 2, "alpha": 4}}),
    "lora-rank-32": (2e-3, {"method": "lora", "lora": {"rank": 32, "alpha": 64}}),
    "lora-attention": (2e-3, {"method": "lora", "lora": {"targets": ["attention.*"]}}),
    "rslora-rank-32": (1e-3, {"method": "lora", "lora": {"rank": 32, "alpha": 16, "stabilized": True}}),
    "dora": (2e-3, {"method": "lora", "lora": {"dora": True}}),
    "lora-plus": (1e-3, {"method": "lora", "lora": {"up_rate_ratio": 16}}),
    "qlora": (2e-3, {"method": "lora", "base_bits": 4}),
    "adalora": (5e-3, {"method": "adalora"}),
    "ia3": (2e-2, {"method": "ia3"}),
    "bottleneck": (2e-3, {"method": "bottleneck"}),
    "prompt": (2e-2, {"method": "prompt"}),
    "p-tuning": (5e-3, {"method": "p-tuning"}),
    "prefix": (1e-2, {"method": "prefix"}),
    "llama-adapter": (1e-2, {"method": "llama-adapter"}),
}
"""Each line's learning rate, and what it asks of `tune`."""


def train(name: str, seed: int, words: argparse.Namespace) -> dict[str, Any]:
    """Train one line with one seed and return its figures."""
    rate, tune = LINES[name]
    recipe = SftRecipe(
        name=f"{name}-{seed}",
        out=str(words.out),
        checkpoint=words.base,
        data=words.data,
        validation_fraction=0.1,
        seed=seed,
        max_seq_len=256,
        batch_rows=8,
        epochs=words.epochs,
        validate_every=10,
        patience=1_000_000,  # all epochs, then the best
        save_every=0,
        keep=1,
        tune=tune,
        optimizer={"name": "adamw", "learning_rate": words.rates.get(name, rate)},
    )
    result = sft(recipe)
    names = ("parameters", "trained_parameters")
    figures: dict[str, Any] = {key: value for key, value in result.metrics.items() if key in names}
    figures |= {"seconds": result.seconds, "tokens_per_second": result.tokens_per_second, "steps": result.steps}
    return {**figures, "train_loss": result.train_loss, "validation_loss": result.validation_loss}


def table(words: argparse.Namespace) -> str:
    """Return what is there as a Markdown table."""
    rows = []
    for name, (rate, tune) in LINES.items():
        if runs := runs_of(name, words):
            told = json.dumps(tune).translate(str.maketrans("", "", '{}"')) or "everything trains"
            share = f"{runs[0]['trained_parameters'] / runs[0]['parameters']:.2%}"
            loss, speed = mean_of(runs, "validation_loss"), mean_of(runs, "tokens_per_second", ",.0f")
            rows.append([name, told, f"{rate:g}", share, loss, speed, str(len(runs))])
    return markdown(("line", "tune", "rate", "trained", "validation loss", "tokens/s", "runs"), rows)


def main() -> None:
    """Train what is asked for and not there yet, then print the table."""
    parser = options(__doc__, "runs/tuning-methods")
    parser.add_argument("--base", default="runs/books", help="a checkpoint or run of a decoder")
    parser.add_argument("--data", default="../shared/data/instruct/raschka-1100.json")
    parser.add_argument("--epochs", type=float, default=3)
    parser.add_argument("--rates", type=json.loads, default={}, help='other learning rates: {"lora": 1e-3}')
    words = parser.parse_args()
    make(LINES, words, lambda name, seed: train(name, seed, words))
    print(table(words))


if __name__ == "__main__":
    main()
