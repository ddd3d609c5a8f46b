"""Triples of subject, relation and object: pointed at by an encoder, and written by a decoder that is tuned four ways.

    python benchmarks/triples.py --only "base-*"
    python benchmarks/triples.py --only pointer
    python benchmarks/triples.py --only "generation-*"
    python benchmarks/triples.py --show

All lines have the same texts to train, validate and test with and train for the same --minutes; the best checkpoint by
validation loss is tested. A triple is right when subject, relation and object are all the same words as one of the
text's. The encoder and the decoder are pretrained on the training texts first, --base-minutes each, which does not
count as a line's time. What the decoder writes is read strictly: a line that is no triple is lost, and so is a text
that leaves no room in the context. The interval of F1 is a bootstrap over the test texts, of several seeds Student's.

Ref: UIE, arXiv:2203.12277. Ref: P-Tuning v2, arXiv:2110.07602.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lines import make, markdown, mean_of, options, runs_of
from small_bases import CONTEXT_TOKENS, TEMPLATE, base, tuned, written

from smelt.core.storage import atomic_write_text
from smelt.data.asked_spans import split_by_text
from smelt.data.records import Triple, TripleRow
from smelt.data.triple_prompts import names_of, relations_of
from smelt.data.triple_text import read_names, triples_to_write
from smelt.data.triples import read_triples
from smelt.evals.extraction import compare_facts
from smelt.train.stages.extract import ExtractRecipe, extract, merged
from smelt.train.stages.sft import SftRecipe, sft

LINES: dict[str, tuple[tuple[str, float], dict[str, Any]]] = {
    "pointer": (("muon", 4e-3), {}),
    "generation-full": (("adamw", 1e-3), {}),
    "generation-freeze": (("adamw", 2e-3), {"last_blocks": 2}),
    "generation-lora": (("adamw", 2e-3), {"method": "lora", "lora": {"rank": 16, "alpha": 32}}),
    "generation-p-tuning-v2": (("adamw", 1e-2), {"method": "prefix", "prefix": {"num_virtual_tokens": 32}}),
}
"""Each line's optimizer with its learning rate, and what it asks of `tune`."""
BASES = ("base-encoder", "base-decoder")
"""What is pretrained first, by whichever line needs it."""
PARTS = ("training", "validation", "test")
SHARES = (0.8, 0.1, 0.1)
ANSWER_TOKENS = 160


def parts_of(words: argparse.Namespace) -> list[list[TripleRow]]:
    """Return the texts that train, validate and test, the same for all lines and seeds."""
    return [merged(part) for part in split_by_text(read_triples(words.data), SHARES, 0)]


def write_parts(parts: Sequence[Sequence[TripleRow]], out: Path) -> None:
    """Write each part as rows of triples, and as prompts with what is to be written."""
    for name, rows in zip(PARTS, parts, strict=True):
        spoken = [{"text": row.text, "spo_list": [as_row(triple) for triple in row.triples]} for row in rows]
        for file, content in (
            (f"{name}.jsonl", spoken),
            (f"{name}-written.jsonl", [triples_to_write(r) for r in rows]),
        ):
            lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in content)
            atomic_write_text(out / file, lines)


def as_row(triple: Triple) -> dict[str, Any]:
    """Return a triple as the data's files have it."""
    ends = [{"name": piece.text, "pos": [piece.start, piece.stop]} for piece in triple.pieces]
    return {"h": ends[0], "t": ends[1], "relation": triple.relation}


def train(name: str, seed: int, words: argparse.Namespace) -> dict[str, Any]:
    """Train and test one line with one seed, and return its figures."""
    started, parts = time.perf_counter(), parts_of(words)
    write_parts(parts, words.out)
    kind = "encoder" if name in ("pointer", "base-encoder") else "decoder"
    texts = [row.text for row in parts[0]]
    checkpoint = base(kind, texts, words.tokenizers[kind], words.out, words.base_minutes)
    if name in BASES:
        return {"checkpoint": checkpoint, "seconds": time.perf_counter() - started}
    started, (optimizer, tune) = time.perf_counter(), LINES[name]
    settings = tuned(f"{name}-{seed}", checkpoint, seed, optimizer, tune, words)
    figures = (point if name == "pointer" else write)(settings, parts, words)
    return {**figures, "seconds": time.perf_counter() - started}


def point(settings: dict[str, Any], parts: Sequence[Sequence[TripleRow]], words: argparse.Namespace) -> dict[str, Any]:
    """Train what points and return its figures."""
    files = {"data": "training.jsonl", "validation": "validation.jsonl", "test": "test.jsonl"}
    paths = {key: str(words.out / file) for key, file in files.items()}
    result = extract(
        ExtractRecipe(**settings, **paths, split=(1, 0, 0), max_seq_len=256, stride_tokens=192, batch_rows=16)
    )
    found = {key.removeprefix("test_"): value for key, value in result.metrics.items()}
    return {key: found[key] for key in ("f1", "f1_interval", "precision", "recall", "parameters", "trained_parameters")}


def write(settings: dict[str, Any], parts: Sequence[Sequence[TripleRow]], words: argparse.Namespace) -> dict[str, Any]:
    """Train what writes and return its figures."""
    paths = {
        "data": str(words.out / "training-written.jsonl"),
        "validation": str(words.out / "validation-written.jsonl"),
    }
    room = CONTEXT_TOKENS - settings["tune"].get("prefix", {}).get("num_virtual_tokens", 0)
    result = sft(SftRecipe(**settings, **paths, template=TEMPLATE, max_seq_len=room, batch_rows=8, compile="no"))
    texts, relations = [row.text for row in parts[2]], relations_of(parts[0])
    answers, num_too_long = written(result.checkpoint, texts, ANSWER_TOKENS)
    read = [read_names(answer, relations) for answer in answers]
    found = compare_facts(
        [names for names, _ in read], [{names_of(triple) for triple in row.triples} for row in parts[2]]
    )
    return {
        "f1": found.f1,
        "f1_interval": found.f1_interval,
        "precision": found.precision,
        "recall": found.recall,
        "parameters": result.metrics["parameters"],
        "trained_parameters": result.metrics["trained_parameters"],
        "lines_that_are_no_triple": sum(wrong for _, wrong in read),
        "texts_too_long": num_too_long,
        "example": answers[0],
    }


def table(words: argparse.Namespace) -> str:
    """Return what is there as a Markdown table."""
    rows = []
    for name in LINES:
        if runs := runs_of(name, words):
            low, high = runs[0]["f1_interval"]
            f1 = mean_of(runs, "f1") if len(runs) > 1 else f"{runs[0]['f1']:.3f} ({low:.3f} to {high:.3f})"
            shares = [mean_of(runs, key) for key in ("precision", "recall")]
            share = f"{runs[0]['trained_parameters']:,} ({runs[0]['trained_parameters'] / runs[0]['parameters']:.1%})"
            rows.append([name, f1, *shares, share, mean_of(runs, "seconds", ".0f"), str(len(runs))])
    return markdown(("line", "F1", "precision", "recall", "trained parameters", "seconds", "runs"), rows)


def main() -> None:
    """Train what is asked for and not there yet, then print the table."""
    parser = options(__doc__, "runs/triples")
    parser.add_argument("--data", default="../shared/data/extract/vehicle-faults-zh.jsonl")
    parser.add_argument("--encoder-tokenizer", default="../shared/data/tokenizers/bert-chinese-vocab.txt")
    parser.add_argument("--decoder-tokenizer", default="../shared/data/tokenizers/minimind")
    parser.add_argument("--minutes", type=float, default=7, help="training of a line [7]")
    parser.add_argument("--base-minutes", type=float, default=8, help="pretraining of each base [8]")
    words = parser.parse_args()
    words.tokenizers = {"encoder": words.encoder_tokenizer, "decoder": words.decoder_tokenizer}
    make((*BASES, *LINES), words, lambda name, seed: train(name, seed, words))
    print(table(words))


if __name__ == "__main__":
    main()
