"""Supervised fine-tuning on conversations: the same objective, with a label only where the assistant speaks.

Whole conversations are packed side by side into rows; segments keep them apart. The share of tokens that carry a
loss is printed, because a wrong template shows there first, and a conversation without any is refused. What is done to
conversations on their way to rows is in `train/chats`.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Sequence
from typing import Literal

from pydantic import Field, model_validator

from smelt.core.errors import ConfigError
from smelt.core.log import say
from smelt.data.mixing import Shuffled
from smelt.data.packing import pack_stream
from smelt.data.records import ChatRow, Message
from smelt.data.rendering import render
from smelt.data.shards import source_fingerprints
from smelt.tokenizers.base import END_OF_TEXT
from smelt.tokenizers.chat import ChatTemplate, named_template
from smelt.train.chats import Layout, conversations, lay_out
from smelt.train.objectives import OBJECTIVES, Objective
from smelt.train.objectives.noisy import NoisyEmbeddings
from smelt.train.recipes import RunRecipe, Sources, Texts, named
from smelt.train.sources import Rows
from smelt.train.stages.common import Job, StageResult, load_to_train, parents, recipe_of_run, run_job
from smelt.train.texts import TextRecipe, holds_text, remembered, replayed


class SftRecipe(RunRecipe):
    """Teach a base model to answer."""

    checkpoint: str
    """The model to start from."""
    data: Sources
    """Conversations: a file, folder or glob of messages, ShareGPT, Alpaca or prompt/completion rows; or a list of
    {path, weight, name}, of which each is drawn from by its weight, and of which some may be plain text."""
    validation: str | None = None
    """Held-out conversations; a part of the data when empty."""
    validation_fraction: float = Field(default=0.02, gt=0, lt=1)
    """Share of the rows held out when `validation` is empty."""
    remember: Texts = ()
    """Texts or token shards, a path or a list of {path, name}, measured before and after and not trained on: what is
    forgotten."""
    template: str = ""
    """A published chat template by name; empty takes the base model's own, else chatml."""
    on_long: Literal["error", "drop", "truncate"] = "drop"
    """What to do with a conversation longer than max_seq_len; the number is printed."""
    packing: bool = True
    """Lay conversations side by side into full rows; else each is a row, in batches of like lengths, uncompiled."""
    neftune_alpha: float = Field(default=0.0, ge=0)
    """Strength of the noise that NEFTune adds to the embeddings; 5 is usual, 0 = none."""

    @model_validator(mode="after")
    def one_shape(self) -> SftRecipe:
        """Refuse to compile what would be compiled anew for every length, and two texts of one name."""
        named((*self.data, *self.remember))
        if not self.packing and self.compile == "yes":
            raise ValueError("compile=yes needs rows of one length, and packing=false makes many")
        return self


def sft(recipe: SftRecipe, *, resume: bool = False) -> StageResult:
    """Run the stage; with `resume`, go on with the run of the same name where there is one.

    Raises:
        SmeltError: bad data, recipe, checkpoint or machine; see the message.
    """
    started = time.perf_counter()
    recipe, run = recipe_of_run(recipe, resume)
    model, tokenizer = load_to_train(recipe.checkpoint, recipe.max_seq_len, tune=recipe.tune)
    if model.spec.encoder is not None:
        what = f"checkpoint={recipe.checkpoint} is an encoder-decoder, which learns pairs of source and target"
        raise ConfigError(what, accepted="a decoder", fix="use it for seq2seq")
    template = ChatTemplate(tokenizer, named_template(recipe.template) if recipe.template else None)
    layout = Layout(recipe.max_seq_len, recipe.packing, recipe.on_long, tokenizer.special[END_OF_TEXT])
    chats, as_text = apart(recipe)
    texts, measured, files = replayed(as_text, tokenizer, run.path / "data") if as_text else ([], [], {})
    train, held_out = read(chats)
    rows = lay_out(train, template, layout, "training").with_texts(texts)
    stream_rows = functools.partial(pack_stream, max_seq_len=recipe.max_seq_len)
    measured += remembered(recipe.remember, stream_rows, tokenizer, run.path / "data", per_byte=True)
    sources = (*chats.data, *(as_text.data if as_text else ()))
    order = rows.order(sources, layout, recipe.batch_rows, recipe.seed)
    if not recipe.packing:
        recipe = recipe.model_copy(update={"compile": "no"})
    objective: Objective = OBJECTIVES["token_cross_entropy"]()
    if recipe.neftune_alpha:
        objective = NoisyEmbeddings(objective, recipe.neftune_alpha, recipe.seed)
    job = Job(
        stage="sft",
        recipe=recipe,
        run=run,
        model=model,
        tokenizer=tokenizer,
        template=template,
        rows=rows.rows,
        order=order,
        counts=lambda num_rows: rows.counts(order or Shuffled(rows.rows.num_rows, recipe.seed), num_rows),
        validation=lay_out_held_out(held_out, template, layout),
        measured=tuple(measured),
        objective=objective,
        started=started,
        prompts=[(text, template.render([Message("user", text)], add_reply=True)[0]) for text in recipe.sample_prompts],
        stop_ids=template.stop_ids,
        lineage={
            "parents": parents(recipe.checkpoint),
            "data": {
                "conversations": sum(len(found) for _, found in train),
                "sources": files
                | {file: sha for part in chats.data for file, sha in source_fingerprints(part.path).items()},
            },
        },
        next_steps=lambda checkpoint: (
            f"talk to it: `smelt chat {checkpoint}`",
            f"measure it: `smelt eval {checkpoint} --gold YOUR_GOLD.jsonl`",
        ),
    )
    return run_job(job)


def apart(recipe: SftRecipe) -> tuple[SftRecipe, TextRecipe | None]:
    """Return the recipe with its conversations alone, and as a recipe of text with the sources that are plain text.

    Raises:
        ConfigError: rows of text would stand beside conversations that are not packed, or there is nothing but text.
    """
    texts = [source for source in recipe.data if len(recipe.data) > 1 and holds_text(source.path)]
    if not texts:
        return recipe, None
    chats = tuple(source for source in recipe.data if source not in texts)
    if not chats:
        raise ConfigError("data is nothing but text", accepted="conversations, and text among them", fix="use pretrain")
    if not recipe.packing:
        raise ConfigError(
            f"packing=false with the text '{texts[0].name}' among the conversations",
            accepted="packed rows, which text fills",
            fix="packing=true, or leave the text out",
        )
    settings = {key: getattr(recipe, key) for key in ("name", "seed", "max_seq_len", "validation_fraction")}
    return recipe.model_copy(update={"data": chats}), TextRecipe(data=tuple(texts), **settings)


def read(recipe: SftRecipe) -> tuple[list[tuple[str, list[ChatRow]]], list[tuple[str, list[ChatRow]]]]:
    """Return training and held-out conversations by source; a held-out set of its own is one source."""
    fraction = None if recipe.validation else recipe.validation_fraction
    train, held_out = list[tuple[str, list[ChatRow]]](), list[tuple[str, list[ChatRow]]]()
    for source in recipe.data:
        kept, out = conversations(source.path, fraction, recipe.seed)
        train.append((source.name, kept))
        held_out += [(source.name, out)] if out else []
    if recipe.validation:
        held_out = [("validation", conversations(recipe.validation, None, recipe.seed)[0])]
    return train, held_out


def lay_out_held_out(parts: Sequence[tuple[str, list[ChatRow]]], template: ChatTemplate, layout: Layout) -> Rows | None:
    """Lay out the held-out conversations; where none is left the run goes without a validation loss, and says so."""
    if layout.on_long != "error":
        parts = [(name, rows) for name, rows in parts if any(fits(row, template, layout) for row in rows)]
    if not parts:
        say("warning: no held-out conversation fits max_seq_len; no validation loss")
        return None
    return lay_out(parts, template, layout, "validation").rows


def fits(row: ChatRow, template: ChatTemplate, layout: Layout) -> bool:
    """Tell whether a conversation is short enough."""
    return len(render(row, template)[0]) <= layout.max_seq_len
