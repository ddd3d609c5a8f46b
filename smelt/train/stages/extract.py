"""Pointing at pieces of a text: an encoder reads a prompt with a text, and says where the pieces begin and end.

With pointer=spans a prompt has any number of pieces, none too; triples of subject, relation and object become prompts
in two hops, and the run's test asks the hops one after the other. With pointer=answer each question has one answer, and
that is SQuAD's task. Long texts are read in windows that overlap. Parts of the data are drawn text by text.

Ref: UIE, arXiv:2203.12277. Ref: BERT, arXiv:1810.04805, 4.2.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import TypeVar

import numpy as np
from pydantic import Field, model_validator

from smelt.core.errors import ConfigError, DataError
from smelt.core.log import say
from smelt.data.asked_spans import OfText, holds_triples, read_spans, split_by_text
from smelt.data.label_rows import TaggedRows
from smelt.data.labels import PARTS
from smelt.data.records import SpanRow, TripleRow
from smelt.data.shards import source_fingerprints
from smelt.data.triple_prompts import Schema, prompts_of, relations_of
from smelt.data.triples import read_triples
from smelt.models.span_head import for_spans
from smelt.models.span_readings import SCHEMA, TASK, Reader, kept_schema
from smelt.models.text_windows import STRIDE_TOKENS, Pieces, cut_pieces, marks, windows
from smelt.nn.spec import ModelSpec
from smelt.tokenizers.pipeline import Pipeline
from smelt.train import span_report
from smelt.train.objectives import OBJECTIVES
from smelt.train.objectives.pointing import Pointer
from smelt.train.stages.common import Job, StageResult, parents, recipe_of_run, run_job
from smelt.train.stages.headed import HeadedRecipe, starting_point
from smelt.train.stages.pretrain import ModelRecipe

Item = TypeVar("Item", bound=OfText)


class EncoderRecipe(ModelRecipe):
    """Which encoder to build."""

    family: str = "bert"
    """Published layout that a checkpoint is written in; one that reads both ways."""


class ExtractRecipe(HeadedRecipe):
    """Teach an encoder to point at pieces of a text."""

    data: str
    """Texts with triples {text, spo_list}, questions as SQuAD writes them, or rows of {prompt, text, spans}."""
    split: tuple[float, float, float] = (0.8, 0.1, 0.1)
    """Shares of the texts that train, validate and test; those of parts with files of their own do not count."""
    pointer: Pointer = "spans"
    """spans: any number of pieces answers a prompt; answer: exactly one piece."""
    second_prompt: str = "SUBJECT的RELATION"
    """Of triples: how a subject's objects are asked for; subjects are asked for by the relation alone."""
    negative_ratio: float = Field(default=1.0, ge=0)
    """Of triples: prompts that nothing in the text answers, for each that something does."""
    stride_tokens: int = Field(default=STRIDE_TOKENS, gt=0)
    """Tokens from the beginning of a window over a long text to that of the next."""
    max_answer_tokens: int = Field(default=30, gt=0)
    """Of pointer=answer: the longest answer that the test looks for."""
    model: EncoderRecipe = EncoderRecipe()
    """The network to build for random weights: an encoder."""

    @model_validator(mode="after")
    def prompts_for_both(self) -> ExtractRecipe:
        """Ask for a second prompt with both names."""
        if "SUBJECT" not in self.second_prompt or "RELATION" not in self.second_prompt:
            raise ValueError(f"second_prompt={self.second_prompt!r} lacks SUBJECT or RELATION")
        return self


@dataclass(frozen=True)
class Data:
    """Hold the prompts that train and validate, how a trained model is tested, and the schema of triples."""

    training: Sequence[SpanRow]
    validation: Sequence[SpanRow]
    test: Callable[[Reader], span_report.Examined]
    schema: Schema | None
    num_texts: dict[str, int]


def extract(recipe: ExtractRecipe, *, resume: bool = False) -> StageResult:
    """Run the stage; with `resume`, go on with the run of the same name where there is one.

    Raises:
        SmeltError: bad data, recipe, checkpoint or machine; see the message.
    """
    started = time.perf_counter()
    recipe, run = recipe_of_run(recipe, resume)
    data = read(recipe)
    model, tokenizer, new_parts = starting_point(recipe, for_spans)
    training, validation = (
        to_rows(rows, name, recipe, model.spec, tokenizer)
        for name, rows in zip(PARTS, (data.training, data.validation), strict=False)
    )
    reader = Reader(model, tokenizer, recipe.max_seq_len, recipe.stride_tokens)

    def examine(checkpoint: Path) -> span_report.Examined:
        return span_report.examine(reader, data.test, checkpoint)

    asks = "" if recipe.pointer == "spans" else "--question QUESTION "
    verb = "answer" if recipe.pointer == "answer" else "triples"
    job = Job(
        stage="extract",
        recipe=recipe,
        run=run,
        model=model,
        tokenizer=tokenizer,
        template=None,
        rows=training,
        validation=validation,
        objective=OBJECTIVES["pointing"](TASK, recipe.pointer),
        started=started,
        lineage={
            "parents": parents(recipe.checkpoint),
            "data": {"texts": data.num_texts, "sources": source_fingerprints(recipe.data)},
            **({} if data.schema is None else {SCHEMA: kept_schema(data.schema)}),
        },
        next_steps=lambda checkpoint: (f'read a text: `smelt {verb} {checkpoint} {asks}--text "A TEXT"`',),
        examine=examine,
        new_parts=new_parts,
    )
    return run_job(job)


def read(recipe: ExtractRecipe) -> Data:
    """Return the prompts of a recipe's data.

    Raises:
        DataError: rows that cannot be read, or an empty part.
        ConfigError: triples with pointer=answer.
    """
    if not holds_triples(recipe.data):
        parts = divide(recipe, read_spans)
        if recipe.pointer == "answer":
            refuse_unanswered([row for part in parts for row in part])
            parts[:2] = [[row for row in part if row.spans] for part in parts[:2]]  # of the test, words suffice
            refuse_empty(parts)
        sizes = {name: len({row.text for row in part}) for name, part in zip(PARTS, parts, strict=True)}
        return Data(parts[0], parts[1], span_report.questions(parts[2], recipe), None, sizes)
    if recipe.pointer == "answer":
        raise ConfigError("pointer=answer with triples, of which a text may have several", accepted="pointer=spans")
    texts = divide(recipe, read_triples)
    schema = Schema(relations_of(texts[0]), recipe.second_prompt)
    prompts = [
        [
            prompt
            for number, row in enumerate(merged(part))
            for prompt in prompts_of(row, schema, recipe.negative_ratio, Random(recipe.seed * 1_000_003 + number))
        ]
        for part in texts[:2]
    ]
    sizes = {name: len(merged(part)) for name, part in zip(PARTS, texts, strict=True)}
    return Data(prompts[0], prompts[1], span_report.triples(merged(texts[2]), schema), schema, sizes)


def divide(recipe: ExtractRecipe, read_file: Callable[[str], list[Item]]) -> list[list[Item]]:
    """Return the rows that train, validate and test; raises DataError where a part has none."""
    given = (None, recipe.validation, recipe.test)
    shares = [0.0 if path else share for path, share in zip(given, recipe.split, strict=True)]
    if not sum(shares):
        raise ConfigError(f"split={list(recipe.split)} leaves no text to train with", accepted="a share above 0")
    drawn = split_by_text(read_file(recipe.data), [share / sum(shares) for share in shares], recipe.seed)
    parts = [part if path is None else read_file(path) for path, part in zip(given, drawn, strict=True)]
    refuse_empty(parts)
    return parts


def refuse_empty(parts: Sequence[Sequence[OfText]]) -> None:
    """Raise DataError for a part without a row that can be used."""
    for name, part in zip(PARTS, parts, strict=True):
        if not part:
            raise DataError(
                f"the {name} part has no text with what it needs",
                accepted="a text or more in each part, with answers that stand where the file says",
                fix="change split, or correct the positions",
            )


def merged(rows: Sequence[TripleRow]) -> list[TripleRow]:
    """Return rows with each text once, which states what its rows state together."""
    found: dict[str, TripleRow] = {}
    for row in rows:
        before = found.get(row.text)
        both = row.triples if before is None else tuple(dict.fromkeys((*before.triples, *row.triples)))
        found[row.text] = TripleRow(row.text, both, row.where if before is None else before.where)
    return list(found.values())


def refuse_unanswered(rows: Sequence[SpanRow]) -> None:
    """Raise DataError for a question without an answer: with one piece a row, something is always pointed at."""
    empty = next((row for row in rows if not row.answers), None)
    if empty is not None:
        raise DataError(f"{empty.where}: a question without an answer", accepted="an answer", fix="pointer=spans")


def to_rows(
    rows: Sequence[SpanRow], part: str, recipe: ExtractRecipe, spec: ModelSpec, tokenizer: Pipeline
) -> TaggedRows:
    """Tokenize one part, saying how many windows it makes and how many pieces do not end where words do.

    Raises:
        DataError: a text without a token.
    """
    cut: dict[str, Pieces] = {}
    ids, types, labels = list[list[int]](), list[list[int]](), list[list[int]]()
    num_pieces = num_widened = num_broken = 0
    for row in rows:
        if row.text not in cut:
            cut[row.text] = cut_pieces(tokenizer, row.text)
        pieces = cut[row.text]
        if not pieces.ids:
            raise DataError(f"{row.where}: the tokenizer makes no token of this text", fix="remove the row")
        wanted = row.spans[:1] if recipe.pointer == "answer" else row.spans
        ends = [tokens for span in wanted if (tokens := pieces.tokens(*span)) is not None]
        num_pieces += len(wanted)
        num_widened += sum(pieces.characters(*tokens) not in wanted for tokens in ends) + len(wanted) - len(ends)
        shown = windows(tokenizer, row.prompt, pieces, recipe.max_seq_len, recipe.stride_tokens)
        num_broken += sum(not any(w.start <= a and b < w.stop for w in shown) for a, b in ends)
        for window in shown:
            ids.append(window.row.ids)
            types.append(window.row.types)
            labels.append(marks(window, ends, or_nothing=recipe.pointer == "answer"))
    say(
        f"{part}: {len(rows):,} prompts of {len(cut):,} texts, {sum(not row.spans for row in rows):,} of them with "
        f"nothing to find; {num_pieces:,} pieces, {num_widened} not at the ends of words and widened; {len(ids):,} "
        f"windows of up to {max(map(len, ids)):,} tokens, {num_broken} pieces whole in none"
    )
    most = max(spec.num_types - 1, 0)  # some models have one type for both texts
    return TaggedRows(
        [np.array(row, dtype=np.int32) for row in ids],
        [np.minimum(np.array(row, dtype=np.int32), most) for row in types],
        [np.array(row, dtype=np.int32) for row in labels],
        spec.token_ids.padding or 0,
    )
