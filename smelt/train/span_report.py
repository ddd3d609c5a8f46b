"""What a model that points is worth at the end of its run: figures of the test texts, in the report and beside it.

Triples are found as a user finds them, in two hops, so a wrong subject costs its objects too. Each kind of data has its
own measure: facts have precision, recall and F1, answers have exact match and F1, all with intervals over texts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

from smelt.core.log import say
from smelt.data.records import SpanRow, TripleRow
from smelt.data.triple_prompts import Names, Schema, names_of
from smelt.evals.extraction import Found, compare_facts
from smelt.evals.reading import compare_answers, is_chinese
from smelt.models.span_readings import Asked, Reader
from smelt.models.text_windows import Pieces, cut_pieces
from smelt.train.checkpoint import add_metrics
from smelt.train.objectives.pointing import Pointer

Examined = tuple[dict[str, Any], list[str]]
"""Metrics, and lines of the report."""


class Settings(Protocol):
    """What of a recipe a test depends on."""

    @property
    def pointer(self) -> Pointer:
        """Return whether prompts have pieces or an answer."""
        ...

    @property
    def max_answer_tokens(self) -> int:
        """Return the longest answer."""
        ...


def examine(reader: Reader, test: Callable[[Reader], Examined], checkpoint: Path) -> Examined:
    """Measure a trained model and write the metrics beside its weights."""
    reader.model.eval()
    metrics, lines = test(reader)
    add_metrics(checkpoint, metrics)
    return metrics, lines


def triples(rows: Sequence[TripleRow], schema: Schema) -> Callable[[Reader], Examined]:
    """Return what asks the texts for their triples: they count by names, without places."""
    there = [{names_of(triple) for triple in row.triples} for row in rows]

    def measure(reader: Reader) -> Examined:
        texts = [cut_pieces(reader.tokenizer, row.text) for row in rows]
        claimed = [set(found) for found in reader.triples(texts, schema)]
        each = {
            relation: compare_facts(of_relation(claimed, relation), of_relation(there, relation))
            for relation in schema.relations
        }
        return told("triples", compare_facts(claimed, there), each, len(rows))

    return measure


def of_relation(texts: Sequence[set[Names]], relation: str) -> list[set[Names]]:
    """Return of each text the facts of one relation."""
    return [{fact for fact in facts if fact[1] == relation} for facts in texts]


def questions(rows: Sequence[SpanRow], settings: Settings) -> Callable[[Reader], Examined]:
    """Return what asks questions with an answer each, or prompts with pieces, which count by their places."""

    def answers(reader: Reader) -> Examined:
        given = reader.answers(asked(rows, reader), settings.max_answer_tokens)
        chinese = is_chinese([row.answers[0] for row in rows])
        found = compare_answers(
            [answer.text for answer in given], [r.answers for r in rows], [r.text for r in rows], chinese=chinese
        )
        say(f"test: {found}")
        metrics = {f"test_{name}": value for name, value in asdict(found).items()}
        manner = "CMRC 2018" if chinese else "SQuAD"
        lines = ["## Test", "", f"{found.questions:,} questions, as {manner} counts: {found}.", ""]
        shown = ["| question | answer | right |", "|---|---|---|"]
        shown += [f"| {r.prompt} | {a.text} | {r.answers[0]} |" for r, a in zip(rows[:10], given, strict=False)]
        return metrics | {"test_measure": manner}, [*lines, *shown, ""]

    def pieces(reader: Reader) -> Examined:
        texts = {row.text: number for number, row in enumerate({row.text: row for row in rows}.values())}
        claimed: list[set[object]] = [set() for _ in texts]
        there: list[set[object]] = [set() for _ in texts]
        for row, found in zip(rows, reader.pieces(asked(rows, reader)), strict=True):
            claimed[texts[row.text]] |= {(row.prompt, piece.start, piece.stop) for piece in found}
            there[texts[row.text]] |= {(row.prompt, *span) for span in row.spans}
        return told("pieces", compare_facts(claimed, there), {}, len(texts))

    return answers if settings.pointer == "answer" else pieces


def asked(rows: Sequence[SpanRow], reader: Reader) -> list[Asked]:
    """Return rows as prompts with their texts, each text cut once."""
    cut: dict[str, Pieces] = {}
    for row in rows:
        if row.text not in cut:
            cut[row.text] = cut_pieces(reader.tokenizer, row.text)
    return [Asked(row.prompt, cut[row.text]) for row in rows]


def told(what: str, found: Found, each: dict[str, Found], num_texts: int) -> Examined:
    """Return figures of facts, over all and by relation, as metrics and as lines."""
    say(f"test: {found}")
    metrics = {f"test_{name}": value for name, value in asdict(found).items()} | {"test_texts": num_texts}
    if each:
        metrics["relations"] = {name: asdict(one) for name, one in each.items()}
    lines = [
        "## Test",
        "",
        f"{found.there:,} {what} in {num_texts:,} texts, {found.claimed:,} claimed, {found.right:,} right: {found}.",
        "",
        "| relation | precision | recall | F1 | there |",
        "|---|---|---|---|---|",
        *(
            f"| {name} | {one.precision:.3f} | {one.recall:.3f} | {one.f1:.3f} | {one.there:,} |"
            for name, one in {**each, "all": found}.items()
        ),
        "",
    ]
    return metrics, lines
