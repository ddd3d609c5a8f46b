"""Measure what training on a domain gains there and loses elsewhere, by the share of old text that is replayed.

    smelt pretrain recipes/pretrain/books.yaml
    python benchmarks/forgetting.py --base runs/books --seeds 0 1 2

The base learned English prose; the domain is Python source, by default smelt's own. Each line trains the same steps
from the same base with the same schedule, of which a share of the rows is old text; so the table also says what replay
costs the domain. Measured before and after, in bits per byte, is text that neither run trained on: what the base held
out, and a part of the domain. A finished run is kept in --out and not made again; --show prints what is there.
Intervals are 95 % of the mean over the seeds (Student's t), which decide the order of rows and the part held out.

Ref: replay in continued pretraining, arXiv:2403.08763, section 6.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from lines import make, markdown, mean_of, options, runs_of, spread

import smelt
from smelt.core.config import load_recipe
from smelt.core.storage import checkpoint_at
from smelt.data.formats import read_text
from smelt.data.order import split_documents
from smelt.data.shards import source_fingerprints, write_shards
from smelt.tokenizers.base import END_OF_TEXT
from smelt.train.stages.pretrain import PretrainRecipe, pretrain

LINES = {"replay-0": 0.0, "replay-10": 0.1, "replay-30": 0.3, "replay-50": 0.5}
"""Each line's share of old text."""


def train(name: str, seed: int, words: argparse.Namespace) -> dict[str, Any]:
    """Train one line with one seed, and return the figures."""
    replay = LINES[name]
    base = load_recipe(PretrainRecipe, Path(words.base) / "recipe.yaml")
    old = Path(words.base) / "data"
    training, held_out = domain_parts(words, seed)
    data: list[dict[str, Any]] = [{"path": str(training), "name": "domain", "weight": 1 - replay}]
    if replay:
        data.append({"path": str(old / "train"), "name": "replay", "weight": replay})
    recipe = PretrainRecipe.model_validate(
        dict(
            name=f"{name}-{seed}",
            out=str(words.out / "runs"),
            data=data,
            validation=str(held_out),
            remember=[{"path": words.general or str(old / "validation"), "name": "general"}],
            checkpoint=words.base,
            seed=seed,
            steps=words.steps,
            max_seq_len=words.max_seq_len or base.max_seq_len,
            batch_rows=words.batch_rows or base.batch_rows,
            validate_every=0,
            save_every=0,
            keep=1,
            compile=words.compile,
            optimizer={"name": base.optimizer.name, "learning_rate": words.learning_rate, "schedule": "wsd"},
        )
    )
    result = pretrain(recipe)
    found = result.metrics["forgetting"]
    return {
        "domain": found["validation"],
        "general": found["general"],
        "domain_tokens": result.metrics["sources"]["domain"]["tokens"] if replay else result.tokens,
        "tokens": result.tokens,
        "seconds": result.seconds,
    }


def domain_parts(words: argparse.Namespace, seed: int) -> tuple[Path, Path]:
    """Return token shards of what trains and what is held out of the domain, made where they are not there yet."""
    parts = (words.out / f"domain-{seed}" / "train", words.out / f"domain-{seed}" / "validation")
    if not all(part.is_dir() for part in parts):
        tokenizer = smelt.load_tokenizer(checkpoint_at(words.base))
        texts = [row.text for row in read_text(words.domain)]
        mask = split_documents(len(texts), words.validation_fraction, seed)
        for part, wanted in zip(parts, (False, True), strict=True):
            chosen = [text for text, out in zip(texts, mask, strict=True) if bool(out) == wanted]
            end, sources = tokenizer.special[END_OF_TEXT], source_fingerprints(words.domain)
            write_shards(part, chosen, tokenizer, end_id=end, sources=sources)
    return parts


def table(words: argparse.Namespace) -> str:
    """Return what is there as a Markdown table."""
    rows = []
    for name, replay in LINES.items():
        if not (runs := runs_of(name, words)):
            continue
        cells = [f"{replay:.0%}"]
        for text in ("domain", "general"):
            cells.append(spread([run[text]["after"] for run in runs], ".4f"))
            cells.append(spread([run[text]["change"] for run in runs], "+.4f"))
        counts = mean_of(runs, "domain_tokens", ",.0f"), mean_of(runs, "seconds", ".0f"), str(len(runs))
        rows.append([*cells, *counts])
    heads = ("replay", "domain after", "change", "general after", "change", "domain tokens", "seconds", "seeds")
    return markdown(heads, rows)


def main() -> None:
    """Train what is asked for and not there yet, then print the table."""
    parser = options(__doc__, "runs/forgetting")
    parser.add_argument("--base", default="", help="a pretraining run of one text, with its token shards")
    parser.add_argument("--domain", default="smelt/**/*.py", help="text of the domain: a file, folder or glob")
    parser.add_argument(
        "--general", default="", help="old text that no run trained on; what the base held out if empty"
    )
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--max-seq-len", type=int, default=0, help="0: the base's")
    parser.add_argument("--batch-rows", type=int, default=0, help="0: the base's")
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--validation-fraction", type=float, default=0.1, help="of the domain")
    parser.add_argument("--compile", choices=("auto", "yes", "no"), default="auto")
    words = parser.parse_args()
    if not (words.show or (Path(words.base) / "data" / "validation").is_dir()):
        sys.exit(f"--base {words.base}: no run of one text with its shards (data/train and data/validation)")
    make(LINES, words, lambda name, seed: train(name, seed, words))
    print(table(words))


if __name__ == "__main__":
    main()
