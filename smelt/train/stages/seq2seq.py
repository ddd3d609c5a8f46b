"""Training on pairs: translation, summaries, answers; from nothing or from a checkpoint.

The objective is that of pretraining, on the target alone, and pairs are packed whole. An encoder-decoder reads a source
that ends with the end of text, as does the target, and begins with the token that the checkpoint names (a new model's
is the end of text). An encoder reads `[CLS] source [SEP]` both ways and writes the target behind it, up to another
`[SEP]`; its checkpoint names those as the tokens with which an answer begins and ends.

Ref: UniLM, arXiv:1905.03197, 2.6.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

from pydantic import Field, model_validator

from smelt.core.errors import ConfigError
from smelt.core.log import say
from smelt.data.corruption.written import pack_written, slots
from smelt.data.formats import read_pairs
from smelt.data.order import split_documents
from smelt.data.pairs import one_side, pack_pairs
from smelt.data.records import PairRow
from smelt.data.shards import source_fingerprints
from smelt.infer.generate import decoder_start
from smelt.models.build import build
from smelt.models.encoder_decoder import Network
from smelt.models.readings import surround
from smelt.nn.spec import ModelSpec, TokenIds
from smelt.tokenizers.base import END_OF_TEXT
from smelt.tokenizers.pipeline import Pipeline
from smelt.train.objectives import OBJECTIVES
from smelt.train.recipes import RunRecipe
from smelt.train.sources import ArrayRows, Rows
from smelt.train.stages.common import Job, StageResult, load_to_train, parents, recipe_of_run, run_job
from smelt.train.stages.pretrain import ModelRecipe, open_tokenizer


class PairModelRecipe(ModelRecipe):
    """Which model to build; both sides of an encoder-decoder have as many layers."""

    family: str = "t5"
    """Published layout that a checkpoint is written in: t5, mt5, transformer2017, or an encoder's, such as bert."""


class Seq2SeqRecipe(RunRecipe):
    """Teach an encoder-decoder, or an encoder, to turn a source into a target."""

    data: str
    """Pairs: a file, folder or glob of rows with source and target."""
    validation: str | None = None
    """Held-out pairs; a part of the data when empty."""
    validation_fraction: float = Field(default=0.02, gt=0, lt=1)
    """Share of the pairs held out when `validation` is empty."""
    tokenizer: str | None = None
    """A tokenizer.json, a directory with one, or "bytes" for one token a byte."""
    checkpoint: str | None = None
    """Continue from this checkpoint instead of building a model."""
    model: PairModelRecipe = PairModelRecipe()
    """The network to build."""
    on_long: Literal["error", "drop", "truncate"] = "drop"
    """What to do with a pair that has more than max_seq_len tokens on a side; the number is printed."""

    @model_validator(mode="after")
    def one_origin(self) -> Seq2SeqRecipe:
        """Ask for a tokenizer, or for a checkpoint that brings one."""
        if (self.tokenizer is None) == (self.checkpoint is None):
            raise ValueError("give either a tokenizer (new model) or a checkpoint (continue)")
        return self


def seq2seq(recipe: Seq2SeqRecipe, *, resume: bool = False) -> StageResult:
    """Run the stage; with `resume`, go on with the run of the same name where there is one.

    Raises:
        SmeltError: bad data, recipe, checkpoint or machine; see the message.
    """
    started = time.perf_counter()
    recipe, run = recipe_of_run(recipe, resume)
    model, tokenizer = starting_point(recipe)
    spec = model.spec
    train, held_out = pairs_of(recipe)
    rows = pack(train, tokenizer, spec, recipe, "training")
    assert rows is not None  # else there was an error
    job = Job(
        stage="seq2seq",
        recipe=recipe,
        run=run,
        model=model,
        tokenizer=tokenizer,
        template=None,
        rows=rows,
        validation=pack(held_out, tokenizer, spec, recipe, "validation"),
        objective=OBJECTIVES["token_cross_entropy"](),
        started=started,
        prompts=[(text, source_ids(tokenizer, text, spec)) for text in recipe.sample_prompts],
        stop_ids=spec.token_ids.end,
        lineage={
            "parents": parents(recipe.checkpoint),
            "data": {"pairs": len(train), "sources": source_fingerprints(recipe.data)},
        },
        next_steps=lambda checkpoint: (
            f'use it: `smelt generate {checkpoint} --prompt "A SOURCE" --temperature 0`',
            f"train longer: `smelt seq2seq name={recipe.name}-2 checkpoint={checkpoint} data={recipe.data}`",
        ),
    )
    return run_job(job)


def starting_point(recipe: Seq2SeqRecipe) -> tuple[Network, Pipeline]:
    """Return a new model with its tokenizer, or those of the checkpoint to continue from.

    Raises:
        ConfigError: it cannot read both ways and write, or does not say how a text ends.
    """
    if recipe.checkpoint is not None:
        model, tokenizer = load_to_train(recipe.checkpoint, recipe.max_seq_len, tune=recipe.tune)
        if model.spec.encoder is None:
            model.spec = taught(model.spec, tokenizer, f"checkpoint={recipe.checkpoint}", "use it for sft")
            return model, tokenizer
        decoder_start(model.spec)
        if not model.spec.token_ids.end:
            raise ConfigError(f"{recipe.checkpoint}: config.json has no eos_token_id", fix="add it")
        return model, tokenizer
    tokenizer = open_tokenizer(recipe.tokenizer or "")
    spec = recipe.model.spec(vocab_size=tokenizer.vocab_size, max_seq_len=recipe.max_seq_len)
    if spec.encoder is None:
        spec = taught(spec, tokenizer, f"model.family={spec.family}", "use it for pretrain")
        return build(spec, seed=recipe.seed), tokenizer
    if END_OF_TEXT not in tokenizer.special:
        raise ConfigError(f"tokenizer={recipe.tokenizer} has no {END_OF_TEXT}", fix="smelt tokenizer train")
    end = tokenizer.special[END_OF_TEXT]
    return build(replace(spec, token_ids=TokenIds(end, (end,), end, end)), seed=recipe.seed), tokenizer


def taught(spec: ModelSpec, tokenizer: Pipeline, what: str, otherwise: str) -> ModelSpec:
    """Return the spec of an encoder that begins and ends its answers with the mark behind a text.

    Raises:
        ConfigError: it is a decoder or has no head that writes; its tokenizer does not put a mark on both sides.
    """
    if spec.is_causal or not spec.language_head:
        lacks = "sees only earlier tokens" if spec.is_causal else "has no head that writes"
        accepted = "an encoder-decoder (t5, mt5, transformer2017), or an encoder with a language head (bert)"
        raise ConfigError(f"{what} {lacks}", accepted=accepted, fix=otherwise)
    marks = surround(tokenizer, []).ids
    if len(marks) != 2:
        names = " ".join(tokenizer.spelling[mark] for mark in marks) or "none"
        raise ConfigError(
            f"{what}: the tokenizer's marks around a text are {names}", accepted="two, as [CLS] and [SEP]"
        )
    begin, end = marks
    padding = spec.token_ids.padding
    return replace(spec, token_ids=TokenIds(begin, (end,), end if padding is None else padding, end))


def source_ids(tokenizer: Pipeline, text: str, spec: ModelSpec) -> list[int]:
    """Return a source as a model reads it: between an encoder's marks, or with the end of text behind it, if any."""
    ids = tokenizer.encode(text)
    return surround(tokenizer, ids).ids if spec.encoder is None else [*ids, *spec.token_ids.end[:1]]


def pairs_of(recipe: Seq2SeqRecipe) -> tuple[list[PairRow], list[PairRow]]:
    """Return training and held-out pairs."""
    rows = list(read_pairs(recipe.data))
    if recipe.validation is not None:
        return rows, list(read_pairs(recipe.validation))
    if len(rows) < 2:
        return rows, []
    mask = split_documents(len(rows), recipe.validation_fraction, recipe.seed)
    sides = [[row for row, out in zip(rows, mask, strict=True) if out == wanted] for wanted in (False, True)]
    return sides[0], sides[1]


def pack(
    rows: Sequence[PairRow], tokenizer: Pipeline, spec: ModelSpec, recipe: Seq2SeqRecipe, part: str
) -> Rows | None:
    """Tokenize and pack pairs, saying how full the rows are; where no held-out pair fits, say so and return none."""
    ids = spec.token_ids
    closing = ids.end[:1] if spec.encoder is not None else ()
    pairs = [([*tokenizer.encode(row.source), *closing], [*tokenizer.encode(row.target), *closing]) for row in rows]
    size = slots if spec.encoder is None else one_side
    fits = any(size(*pair) <= recipe.max_seq_len for pair in pairs)
    if part == "validation" and not fits and recipe.on_long != "error":
        say("warning: no held-out pair fits max_seq_len; no validation loss")
        return None
    start = ids.decoder_start
    assert start is not None  # the starting point has one
    given: dict[str, Any] = {"on_long": recipe.on_long, "where": [row.where for row in rows]}
    given["pad_id"] = ids.padding or 0
    made: Rows
    if spec.encoder is None:
        assert ids.begin is not None  # the starting point has one
        given |= {"class_id": ids.begin, "separator_id": start, "has_types": spec.num_types > 1}
        made, report = pack_written(pairs, recipe.max_seq_len, **given)
    else:
        packed, report = pack_pairs(pairs, recipe.max_seq_len, start_id=start, **given)
        made = ArrayRows(packed)
    say(
        f"{part}: {report.num_examples:,} pairs in {report.num_rows:,} rows, {report.fill:.0%} full; "
        f"{report.num_supervised_tokens:,} tokens to learn; {report.num_dropped} dropped, {report.num_truncated} cut"
    )
    return made
