"""Training of an encoder-decoder on pairs: translation, summaries, sums; from nothing or from a checkpoint.

The objective is that of pretraining, on the target alone. A source ends with the end of text and so does a target, the
decoder begins with the token that the checkpoint names (a new model's is the end of text), and pairs are packed whole.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from pydantic import Field, model_validator

from smelt.core.errors import ConfigError
from smelt.core.log import say
from smelt.data.formats import read_pairs
from smelt.data.order import split_documents
from smelt.data.pairs import pack_pairs
from smelt.data.records import PairRow
from smelt.data.shards import source_fingerprints
from smelt.infer.generate import decoder_start
from smelt.models.build import build
from smelt.models.encoder_decoder import Network
from smelt.nn.spec import TokenIds
from smelt.tokenizers.base import END_OF_TEXT, Tokenizer
from smelt.tokenizers.pipeline import Pipeline
from smelt.train.objectives import OBJECTIVES
from smelt.train.recipes import RunRecipe
from smelt.train.sources import ArrayRows
from smelt.train.stages.common import Job, StageResult, load_to_train, parents, recipe_of_run, run_job
from smelt.train.stages.pretrain import ModelRecipe, open_tokenizer


class PairModelRecipe(ModelRecipe):
    """Which encoder-decoder to build; both sides have as many layers."""

    family: str = "t5"
    """Published layout that a checkpoint is written in: t5, mt5 or transformer2017."""


class Seq2SeqRecipe(RunRecipe):
    """Teach an encoder-decoder to turn a source into a target."""

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
    ids = model.spec.token_ids
    train, held_out = pairs_of(recipe)
    rows = pack(train, tokenizer, ids, recipe, "training")
    assert rows is not None  # else there was an error
    job = Job(
        stage="seq2seq",
        recipe=recipe,
        run=run,
        model=model,
        tokenizer=tokenizer,
        template=None,
        rows=rows,
        validation=pack(held_out, tokenizer, ids, recipe, "validation"),
        objective=OBJECTIVES["token_cross_entropy"](),
        started=started,
        prompts=[(text, source_ids(tokenizer, text, ids)) for text in recipe.sample_prompts],
        stop_ids=ids.end,
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
        ConfigError: it is no encoder-decoder, or does not say how a text ends.
    """
    if recipe.checkpoint is not None:
        model, tokenizer = load_to_train(recipe.checkpoint, recipe.max_seq_len, tune=recipe.tune)
        if model.spec.encoder is None:
            what = f"checkpoint={recipe.checkpoint} is a {model.spec.family}, which has no encoder"
            raise ConfigError(what, accepted="a t5, mt5 or transformer2017", fix="use it for sft")
        decoder_start(model.spec)
        if not model.spec.token_ids.end:
            raise ConfigError(f"{recipe.checkpoint}: config.json has no eos_token_id", fix="add it")
        return model, tokenizer
    tokenizer = open_tokenizer(recipe.tokenizer or "")
    if END_OF_TEXT not in tokenizer.special:
        raise ConfigError(f"tokenizer={recipe.tokenizer} has no {END_OF_TEXT}", fix="smelt tokenizer train")
    spec = recipe.model.spec(vocab_size=tokenizer.vocab_size, max_seq_len=recipe.max_seq_len)
    if spec.encoder is None:
        what = f"a {spec.family} has no encoder"
        raise ConfigError(what, accepted="model.family=t5, mt5 or transformer2017", fix="use it for pretrain")
    end = tokenizer.special[END_OF_TEXT]
    return build(replace(spec, token_ids=TokenIds(end, (end,), end, end)), seed=recipe.seed), tokenizer


def source_ids(tokenizer: Tokenizer, text: str, ids: TokenIds) -> list[int]:
    """Return a text as an encoder reads it: with the end of text behind it, where the checkpoint names one."""
    return [*tokenizer.encode(text), *ids.end[:1]]


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
    rows: Sequence[PairRow], tokenizer: Pipeline, ids: TokenIds, recipe: Seq2SeqRecipe, part: str
) -> ArrayRows | None:
    """Tokenize and pack pairs, saying how full the rows are; where no held-out pair fits, say so and return none."""
    pairs = [(source_ids(tokenizer, row.source, ids), source_ids(tokenizer, row.target, ids)) for row in rows]
    fits = any(max(map(len, pair)) <= recipe.max_seq_len for pair in pairs)
    if part == "validation" and not fits and recipe.on_long != "error":
        say("warning: no held-out pair fits max_seq_len; no validation loss")
        return None
    start = ids.decoder_start
    assert start is not None  # the starting point has one
    where = [row.where for row in rows]
    packed, report = pack_pairs(
        pairs, recipe.max_seq_len, start_id=start, on_long=recipe.on_long, where=where, pad_id=ids.padding or 0
    )
    say(
        f"{part}: {report.num_examples:,} pairs in {report.num_rows:,} rows, {report.fill:.0%} full; "
        f"{report.num_supervised_tokens:,} tokens to learn; {report.num_dropped} dropped, {report.num_truncated} cut"
    )
    return ArrayRows(packed)
