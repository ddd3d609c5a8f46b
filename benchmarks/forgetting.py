"""Measure what training on a domain gains there and loses elsewhere, by the share of old text that is replayed.

    smelt pretrain recipes/pretrain/books.yaml
    python benchmarks/forgetting.py --base runs/books

The base learned English prose; the domain is Python source, by default smelt's own. Each line trains the same steps
from the same base with the same schedule, of which a share of the rows is old text; so the table also says what replay
costs the domain. Measured before and after, in bits per byte, is text that neither run trained on: what the base held
out, and a part of the domain. A finished run is kept in --out and not made again; --show prints what is there.
Intervals are 95 % of the mean over the seeds (Student's t), which decide the order of rows and the part held out.

Ref: replay in continued pretraining, arXiv:2403.08763, section 6.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
from pathlib import Path
from typing import Any

import smelt
from smelt.core.config import load_recipe
from smelt.core.storage import checkpoint_at
from smelt.data.formats import read_text
from smelt.data.order import split_documents
from smelt.data.shards import source_fingerprints, write_shards
from smelt.tokenizers.base import END_OF_TEXT
from smelt.train.stages.pretrain import PretrainRecipe, pretrain

REPLAYS = (0.0, 0.1, 0.3, 0.5)
T_95 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)
"""Student's t of 95 %, for 1 to 9 degrees of freedom."""


def train(replay: float, seed: int, words: argparse.Namespace) -> None:
    """Train one line with one seed, and keep the figures."""
    base = load_recipe(PretrainRecipe, Path(words.base) / "recipe.yaml")
    old = Path(words.base) / "data"
    training, held_out = domain_parts(words, seed)
    data: list[dict[str, Any]] = [{"path": str(training), "name": "domain", "weight": 1 - replay}]
    if replay:
        data.append({"path": str(old / "train"), "name": "replay", "weight": replay})
    recipe = PretrainRecipe.model_validate(
        dict(
            name=label(replay, seed),
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
    line = {
        "replay": replay,
        "seed": seed,
        "steps": result.steps,
        "domain": found["validation"],
        "general": found["general"],
        "domain_tokens": result.metrics["sources"]["domain"]["tokens"] if replay else result.tokens,
        "tokens": result.tokens,
        "seconds": result.seconds,
    }
    kept(words.out, replay, seed).write_text(json.dumps(line) + "\n", encoding="utf-8")


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


def label(replay: float, seed: int) -> str:
    """Return the name of a line's run: (0.1, 3) -> "replay-0.1-seed-3"."""
    return f"replay-{replay:g}-seed-{seed}"


def kept(out: Path, replay: float, seed: int) -> Path:
    """Return where the figures of a line and seed are kept."""
    return out / f"{label(replay, seed)}.json"


def interval(values: list[float]) -> str:
    """Return a mean with its 95 % interval over seeds: "-0.431 ± 0.020"; of one seed there is none."""
    mean = statistics.fmean(values)
    if not 2 <= len(values) <= len(T_95) + 1:
        return f"{mean:+.4f}"
    return f"{mean:+.4f} ± {T_95[len(values) - 2] * statistics.stdev(values) / math.sqrt(len(values)):.4f}"


def table(words: argparse.Namespace) -> str:
    """Return what is there as a Markdown table."""
    lines = [
        "| replay | domain after | change | general after | change | domain tokens | seconds | seeds |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for replay in words.replay:
        files = [kept(words.out, replay, seed) for seed in words.seeds if kept(words.out, replay, seed).is_file()]
        runs = [json.loads(file.read_text(encoding="utf-8")) for file in files]
        if not runs:
            continue
        cells = [f"{replay:.0%}"]
        for text in ("domain", "general"):
            cells.append(f"{statistics.fmean(run[text]['after'] for run in runs):.4f}")
            cells.append(interval([run[text]["change"] for run in runs]))
        tokens, seconds = (statistics.fmean(run[key] for run in runs) for key in ("domain_tokens", "seconds"))
        lines.append(f"| {' | '.join(cells)} | {tokens:,.0f} | {seconds:.0f} | {len(runs)} |")
    return "\n".join(lines)


def main() -> None:
    """Train what is asked for and not there yet, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", default="", help="a pretraining run of one text, with its token shards")
    parser.add_argument("--domain", default="smelt/**/*.py", help="text of the domain: a file, folder or glob")
    parser.add_argument(
        "--general", default="", help="old text that no run trained on; what the base held out if empty"
    )
    parser.add_argument("--out", type=Path, default=Path("runs/forgetting"))
    parser.add_argument("--replay", type=float, nargs="+", default=list(REPLAYS), help="shares of old text, below 1")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--max-seq-len", type=int, default=0, help="0: the base's")
    parser.add_argument("--batch-rows", type=int, default=0, help="0: the base's")
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--validation-fraction", type=float, default=0.1, help="of the domain")
    parser.add_argument("--compile", choices=("auto", "yes", "no"), default="auto")
    parser.add_argument("--show", action="store_true", help="print the table of what is there, train nothing")
    words = parser.parse_args()
    if not (words.show or (Path(words.base) / "data" / "validation").is_dir()):
        sys.exit(f"--base {words.base}: no run of one text with its shards (data/train and data/validation)")
    words.out.mkdir(parents=True, exist_ok=True)
    for replay in [] if words.show else words.replay:
        for seed in words.seeds:
            if not kept(words.out, replay, seed).is_file():
                train(replay, seed, words)
    print(table(words))


if __name__ == "__main__":
    main()
