"""Chinese reading comprehension: an encoder that points at the answer, and a decoder that writes it.

    python benchmarks/reading.py --only "base-*"
    python benchmarks/reading.py --only span
    python benchmarks/reading.py --show

Only CMRC 2018's dev file is at hand, so its paragraphs are divided: 70 % train, 10 % validate, 20 % test. All lines see
the same paragraphs and train for the same --minutes; both networks are pretrained on the training paragraphs first,
--base-minutes each, which does not count as a line's time. The decoder reads the paragraph, then the question, and what
it writes is its answer; a paragraph that leaves no room in the context has none. Exact match and F1 are CMRC's, with
intervals over paragraphs. Networks of this size know next to no Chinese from this little text: the table compares ways
of answering, and says nothing of what a published encoder would reach.

Ref: CMRC 2018, arXiv:1810.07366. Ref: BERT, arXiv:1810.04805, 4.2.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from typing import Any

from lines import make, markdown, mean_of, options, runs_of
from small_bases import CONTEXT_TOKENS, TEMPLATE, base, tuned, written

from smelt.core.storage import atomic_write_text
from smelt.data.asked_spans import read_spans, split_by_text
from smelt.data.records import SpanRow
from smelt.data.triple_text import answer_to_write
from smelt.evals.reading import compare_answers
from smelt.train.stages.extract import ExtractRecipe, extract
from smelt.train.stages.sft import SftRecipe, sft

LINES: dict[str, tuple[str, tuple[str, float], dict[str, Any]]] = {
    "span": ("encoder", ("adamw", 1e-3), {}),
    "generation-full": ("decoder", ("adamw", 1e-3), {}),
    "generation-lora": ("decoder", ("adamw", 2e-3), {"method": "lora", "lora": {"rank": 16, "alpha": 32}}),
}
"""Each line's base, its optimizer with its learning rate, and what it asks of `tune`."""
BASES = {"base-encoder": "encoder", "base-decoder": "decoder"}
"""What is pretrained first, by whichever line needs it."""
SHARES = (0.7, 0.1, 0.2)
ANSWER_TOKENS = 48
KEYS = ("exact_match", "exact_match_interval", "f1", "f1_interval")


def parts_of(words: argparse.Namespace) -> list[list[SpanRow]]:
    """Return the questions that train, validate and test, the same for all lines and seeds."""
    return split_by_text(read_spans(words.data), SHARES, 0)


def train(name: str, seed: int, words: argparse.Namespace) -> dict[str, Any]:
    """Train and test one line with one seed, and return its figures."""
    started, parts = time.perf_counter(), parts_of(words)
    kind = BASES.get(name) or LINES[name][0]
    paragraphs = list(dict.fromkeys(row.text for row in parts[0]))
    checkpoint = base(kind, paragraphs, words.tokenizers[kind], words.out, words.base_minutes)
    if name in BASES:
        return {"checkpoint": checkpoint, "seconds": time.perf_counter() - started}
    started, (_, optimizer, tune) = time.perf_counter(), LINES[name]
    settings = tuned(f"{name}-{seed}", checkpoint, seed, optimizer, tune, words)
    figures = (point if kind == "encoder" else write)(settings, parts, words)
    return {**figures, "seconds": time.perf_counter() - started}


def point(settings: dict[str, Any], parts: Sequence[Sequence[SpanRow]], words: argparse.Namespace) -> dict[str, Any]:
    """Train what points and return its figures."""
    paths = {}
    for key, rows in zip(("data", "validation", "test"), parts, strict=True):
        paths[key] = str(words.out / f"{key}.json")
        atomic_write_text(
            words.out / f"{key}.json", json.dumps([as_paragraph(row) for row in rows], ensure_ascii=False)
        )
    recipe = ExtractRecipe(
        **settings, **paths, pointer="answer", split=(1, 0, 0), max_seq_len=384, stride_tokens=256, batch_rows=16
    )
    result = extract(recipe)
    found = {key.removeprefix("test_"): value for key, value in result.metrics.items()}
    return {key: found[key] for key in (*KEYS, "questions", "parameters", "trained_parameters")}


def as_paragraph(row: SpanRow) -> dict[str, Any]:
    """Return a question as SQuAD's files have it; an answer without a place has one that cannot be."""
    places = {row.text[start:stop]: start for start, stop in row.spans}
    answers = [{"text": answer, "answer_start": places.get(answer, -1)} for answer in row.answers]
    return {"context": row.text, "qas": [{"question": row.prompt, "answers": answers}]}


def write(settings: dict[str, Any], parts: Sequence[Sequence[SpanRow]], words: argparse.Namespace) -> dict[str, Any]:
    """Train what writes and return its figures."""
    paths = {}
    for key, rows in zip(("data", "validation"), parts, strict=False):
        paths[key] = str(words.out / f"{key}-written.jsonl")
        lines = "".join(json.dumps(answer_to_write(row), ensure_ascii=False) + "\n" for row in rows)
        atomic_write_text(words.out / f"{key}-written.jsonl", lines)
    recipe = SftRecipe(**settings, **paths, template=TEMPLATE, max_seq_len=CONTEXT_TOKENS, batch_rows=8, compile="no")
    result = sft(recipe)
    test = parts[2]
    answers, num_too_long = written(result.checkpoint, [answer_to_write(row)["prompt"] for row in test], ANSWER_TOKENS)
    found = compare_answers(answers, [row.answers for row in test], [row.text for row in test], chinese=True)
    figures = {key: getattr(found, key) for key in (*KEYS, "questions")}
    sizes = {key: result.metrics[key] for key in ("parameters", "trained_parameters")}
    return {**figures, **sizes, "texts_too_long": num_too_long, "example": answers[0]}


def table(words: argparse.Namespace) -> str:
    """Return what is there as a Markdown table."""
    rows = []
    for name in LINES:
        if runs := runs_of(name, words):
            shares = [measured(runs, key) for key in ("exact_match", "f1")]
            share = f"{runs[0]['trained_parameters']:,} ({runs[0]['trained_parameters'] / runs[0]['parameters']:.1%})"
            rows.append([name, *shares, share, mean_of(runs, "seconds", ".0f"), str(len(runs))])
    return markdown(("line", "exact match", "F1", "trained parameters", "seconds", "runs"), rows)


def measured(runs: Sequence[dict[str, Any]], key: str) -> str:
    """Return a figure with its interval: over paragraphs of one run, over several runs Student's."""
    if len(runs) > 1:
        return mean_of(runs, key)
    low, high = runs[0][f"{key}_interval"]
    return f"{runs[0][key]:.3f} ({low:.3f} to {high:.3f})"


def main() -> None:
    """Train what is asked for and not there yet, then print the table."""
    parser = options(__doc__, "runs/reading")
    parser.add_argument("--data", default="../shared/data/eval/cmrc-dev-zh.json")
    parser.add_argument("--encoder-tokenizer", default="../shared/data/tokenizers/bert-chinese-vocab.txt")
    parser.add_argument("--decoder-tokenizer", default="../shared/data/tokenizers/minimind")
    parser.add_argument("--minutes", type=float, default=8, help="training of a line [8]")
    parser.add_argument("--base-minutes", type=float, default=8, help="pretraining of each base [8]")
    words = parser.parse_args()
    words.tokenizers = {"encoder": words.encoder_tokenizer, "decoder": words.decoder_tokenizer}
    make((*BASES, *LINES), words, lambda name, seed: train(name, seed, words))
    print(table(words))


if __name__ == "__main__":
    main()
