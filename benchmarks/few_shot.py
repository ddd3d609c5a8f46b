"""Measure prompt learning against fine-tuning of a head, with 16 labelled reviews of each kind and the same base.

    python benchmarks/few_shot.py                       the base (10 minutes on two cores), then every line
    python benchmarks/few_shot.py --only "words*"       some lines of the table; --show prints what is there

The base is a small decoder, with a vocabulary of its own, that was pretrained on the reviews without their labels,
those of the test rows left out. 500 praising and 500 complaining reviews test, the same for all; a seed draws the 16 of
each label that train and the 16 that validate, the same for all lines. Every line has the same steps; of its learning
rates the one with the lowest mean loss on the validation rows counts. What is finished is kept in --out and not made
again. Intervals are those of Student's t over the seeds, also of the differences to plain fine-tuning (the first line:
all weights, a head over the last token) and to the best line with a head, which are taken seed by seed.

Ref: PET, arXiv:2001.07676. Ref: LM-BFF, arXiv:2012.15723 (seeds and validation rows). Ref: P-Tuning, arXiv:2103.10385.
"""

from __future__ import annotations

import argparse
import csv
import json
import statistics
from pathlib import Path
from typing import Any

from lines import make, markdown, mean_of, options, runs_of, spread

from smelt.data.labels import read_labels, split_labelled
from smelt.data.records import LabelRow
from smelt.tokenizers.formats import save_tokenizer
from smelt.tokenizers.training import train_tokenizer
from smelt.train.stages.classify import ClassifyRecipe, classify
from smelt.train.stages.pretrain import PretrainRecipe, pretrain

# Reviews say often, and in passing, how the service was: "，服务" and these four are single tokens of the base.
WORDS: dict[str, Any] = {
    "template": "{text}，服务{word}",
    "words": {"1": ["很好", "不错"], "0": ["很差", "太差"]},
}
LORA: dict[str, Any] = {"tune": {"method": "lora", "lora": {"rank": 8, "alpha": 16}}}
LINES: dict[str, dict[str, Any]] = {
    "head": {},
    "head-mean": {"reads": "mean"},
    "head-alone": {"tune": {"train": ["tasks"]}, "reads": "mean"},
    "head-lora": {**LORA, "reads": "mean"},
    "words": WORDS,
    "words-calibrated": {**WORDS, "content_free": [""]},
    "words-lora": {**WORDS, **LORA},
    "words-p-tuning": {**WORDS, "tune": {"method": "p-tuning", "p_tuning": {"num_virtual_tokens": 8}}},
    "words-prefix": {**WORDS, "tune": {"method": "prefix", "prefix": {"num_virtual_tokens": 8}}},
}
"""What each line changes: lines with a head, and lines whose labels are words."""
RATES: dict[str, tuple[float, ...]] = {"full": (3e-4, 1e-3), "lora": (3e-3,), "head alone": (1e-2,)}
PROMPT_RATES: tuple[float, ...] = (1e-2,)  # prompts and prefixes are not weights
TEST_ROWS = 500  # of each label


def rates_of(changes: dict[str, Any]) -> tuple[float, ...]:
    """Return the learning rates that a line tries."""
    tune = changes.get("tune", {})
    return RATES.get(tune.get("method", "head alone" if "train" in tune else "full"), PROMPT_RATES)


RUNS = {f"{name}-{rate:g}": (name, rate) for name, changes in LINES.items() for rate in rates_of(changes)}
"""Each line with each of its learning rates."""


def prepare(data: Path, out: Path) -> None:
    """Write the test rows, the others, and the texts of the others without labels, no text twice."""
    if (out / "texts.jsonl").is_file():
        return
    rows = list({row.text: row for row in read_labels(data) if row.text}.values())
    groups = [[row for row in rows if row.labels == (label,)] for label in ("0", "1")]
    parts: list[list[LabelRow]] = [[], []]
    for group in groups:
        drawn = split_labelled(group, [TEST_ROWS / len(group), 1 - TEST_ROWS / len(group)], seed=0)
        for part, found in zip(parts, drawn, strict=True):
            part += found
    for name, part in zip(("test", "others"), parts, strict=True):
        with (out / f"{name}.csv").open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([("label", "text"), *((row.labels[0], row.text) for row in part)])
    lines = [json.dumps({"text": row.text}, ensure_ascii=False) for row in parts[1]]
    (out / "texts.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


def base(words: argparse.Namespace) -> str:
    """Return the base, pretrained on texts without labels where it is not there yet."""
    out, run = words.out, words.out / "base"
    if not (out / "tokenizer").is_dir():
        texts = [json.loads(line)["text"] for line in (out / "texts.jsonl").read_text(encoding="utf-8").splitlines()]
        save_tokenizer(train_tokenizer(texts, vocab_size=3000), out / "tokenizer", template=None)
    if not (run / "report.md").is_file():
        pretrain(
            PretrainRecipe(
                name="base",
                out=str(out),
                data=str(out / "texts.jsonl"),
                tokenizer=str(out / "tokenizer"),
                model={"family": "llama", "dim": 128, "num_layers": 3, "num_heads": 4},
                max_seq_len=136,
                batch_rows=16,
                minutes=words.minutes,
                validate_every=200,
            ),
            resume=run.is_dir(),
        )
    return str(run)


def train(run: str, seed: int, words: argparse.Namespace, checkpoint: str) -> dict[str, Any]:
    """Train and test one line with one seed and learning rate, and return the figures."""
    name, rate = RUNS[run]
    result = classify(
        ClassifyRecipe(
            name=f"{run}-{seed}",
            out=str(words.out / "runs"),
            data=str(words.out / "others.csv"),
            test=str(words.out / "test.csv"),
            checkpoint=checkpoint,
            seed=seed,
            shots=words.shots,
            steps=words.steps,
            max_seq_len=128,  # eight virtual tokens take room of the base's 136
            batch_rows=8,
            validate_every=5,
            patience=1_000_000,  # all steps, then the best
            save_every=0,
            keep=1,
            optimizer={"name": "adamw", "learning_rate": rate},
            **LINES[name],
        )
    )
    return {**result.metrics, "validation_loss": result.validation_loss, "seconds": result.seconds}


def best_runs(name: str, words: argparse.Namespace) -> list[dict[str, Any]]:
    """Return a line's runs, by seed, with the learning rate that has the lowest mean validation loss."""
    found = []
    for run, (line, rate) in RUNS.items():
        runs = runs_of(run, words) if line == name else []
        if len(runs) == len(words.seeds):
            found.append([{"rate": rate, **figures} for figures in runs])
    return min(found, key=lambda runs: statistics.fmean(run["validation_loss"] for run in runs), default=[])


def table(words: argparse.Namespace) -> str:
    """Return what is there as a Markdown table."""
    runs = {name: found for name in LINES if (found := best_runs(name, words))}
    scores = {name: [100 * run["test_accuracy"] for run in found] for name, found in runs.items()}
    heads = [name for name in scores if name.startswith("head")]
    best = max(heads, key=lambda name: statistics.fmean(scores[name]), default="")

    def over(name: str, other: str) -> str:
        if other not in scores or name == other:
            return ""
        return spread([one - less for one, less in zip(scores[name], scores[other], strict=True)], "+.1f")

    rows = []
    for name, found in runs.items():
        share = f"{found[0]['trained_parameters'] / found[0]['parameters']:.2%}"
        before = f"{found[0]['zero_shot_accuracy']:.1%}" if "zero_shot_accuracy" in found[0] else ""
        score, seconds = spread(scores[name], ".1f"), mean_of(found, "seconds", ".0f")
        rate, gains = f"{found[0]['rate']:g}", (over(name, "head"), over(name, best))
        rows.append([name, share, rate, before, score, *gains, seconds])
    columns = ("line", "trained", "rate", "before training", "test accuracy, %")
    columns += ("over fine-tuning", "over the best head", "seconds")
    return markdown(columns, rows)


def main() -> None:
    """Train what is asked for and not there yet, then print the table."""
    parser = options(__doc__, "runs/few-shot")
    parser.set_defaults(seeds=[0, 1, 2, 3, 4])
    parser.add_argument("--data", type=Path, default=Path("../shared/data/classify/hotel-reviews-zh.csv"))
    parser.add_argument("--shots", type=int, default=16)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--minutes", type=float, default=10, help="of pretraining the base")
    words = parser.parse_args()
    checkpoint = ""
    if not words.show:
        words.out.mkdir(parents=True, exist_ok=True)
        prepare(words.data, words.out)
        checkpoint = base(words)
    make(RUNS, words, lambda run, seed: train(run, seed, words, checkpoint))
    print(table(words))


if __name__ == "__main__":
    main()
