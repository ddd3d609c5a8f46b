"""Supervised fine-tuning on conversations: the same objective, with a label only where the assistant speaks.

Whole conversations are packed side by side into rows; segments keep them apart. The share of tokens that carry a
loss is printed, because a wrong template shows there first, and a run without any is refused.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from smelt.core.errors import ConfigError
from smelt.core.log import say
from smelt.data.formats import read_chats
from smelt.data.order import split_documents
from smelt.data.packing import pack_rows
from smelt.data.records import ChatRow, Message
from smelt.data.shards import source_fingerprints
from smelt.tokenizers.base import END_OF_TEXT
from smelt.tokenizers.chat import ChatTemplate, named_template
from smelt.tokenizers.pipeline import Pipeline
from smelt.train.objectives import OBJECTIVES
from smelt.train.recipes import RunRecipe
from smelt.train.sources import ArrayRows
from smelt.train.stages.common import Job, StageResult, load_to_train, parents, recipe_of_run, run_job


class SftRecipe(RunRecipe):
    """Teach a base model to answer."""

    checkpoint: str
    """The model to start from."""
    data: str
    """Conversations: a file, folder or glob of messages, ShareGPT, Alpaca or prompt/completion rows."""
    validation: str | None = None
    """Held-out conversations; a part of the data when empty."""
    validation_fraction: float = Field(default=0.02, gt=0, lt=1)
    """Share of the rows held out when `validation` is empty."""
    template: str = ""
    """A published chat template by name; empty takes the base model's own, else chatml."""
    on_long: Literal["error", "drop", "truncate"] = "drop"
    """What to do with a conversation longer than max_seq_len; the number is printed."""


def sft(recipe: SftRecipe, *, resume: bool = False) -> StageResult:
    """Run the stage; with `resume`, go on with the run of the same name where there is one.

    Raises:
        SmeltError: bad data, recipe, checkpoint or machine; see the message.
    """
    started = time.perf_counter()
    recipe, run = recipe_of_run(recipe, resume)
    model, tokenizer = load_to_train(recipe.checkpoint, recipe.max_seq_len)
    if model.spec.encoder is not None:
        what = f"checkpoint={recipe.checkpoint} is an encoder-decoder, which learns pairs of source and target"
        raise ConfigError(what, accepted="a decoder", fix="use it for seq2seq")
    template = ChatTemplate(tokenizer, named_template(recipe.template) if recipe.template else None)
    train, held_out = conversations(recipe)
    rows = pack(train, template, recipe, "training", tokenizer)
    job = Job(
        stage="sft",
        recipe=recipe,
        run=run,
        model=model,
        tokenizer=tokenizer,
        template=template,
        rows=rows,
        validation=pack_held_out(held_out, template, recipe, tokenizer),
        objective=OBJECTIVES["token_cross_entropy"](),
        started=started,
        prompts=[(text, template.render([Message("user", text)], add_reply=True)[0]) for text in recipe.sample_prompts],
        stop_ids=template.stop_ids,
        lineage={
            "parents": parents(recipe.checkpoint),
            "data": {"conversations": len(train), "sources": source_fingerprints(recipe.data)},
        },
        next_steps=lambda checkpoint: (
            f"talk to it: `smelt chat {checkpoint}`",
            f"measure it: `smelt eval {checkpoint} --gold YOUR_GOLD.jsonl`",
        ),
    )
    return run_job(job)


def pack_held_out(
    rows: Sequence[ChatRow], template: ChatTemplate, recipe: SftRecipe, tokenizer: Pipeline
) -> ArrayRows | None:
    """Pack the held-out conversations; where none is left the run goes without a validation loss, and says so."""
    fitting = [row for row in rows if len(template.render(row.messages)[0]) <= recipe.max_seq_len]
    if not fitting and recipe.on_long != "error":
        say("warning: no held-out conversation fits max_seq_len; no validation loss")
        return None
    return pack(rows, template, recipe, "validation", tokenizer)


def conversations(recipe: SftRecipe) -> tuple[list[ChatRow], list[ChatRow]]:
    """Return training and held-out conversations."""
    rows = list(read_chats(recipe.data))
    if recipe.validation is not None:
        return rows, list(read_chats(recipe.validation))
    if len(rows) < 2:
        return rows, []
    mask = split_documents(len(rows), recipe.validation_fraction, recipe.seed)
    return [r for r, out in zip(rows, mask, strict=True) if not out], [
        r for r, out in zip(rows, mask, strict=True) if out
    ]


def pack(
    rows: Sequence[ChatRow], template: ChatTemplate, recipe: SftRecipe, part: str, tokenizer: Pipeline
) -> ArrayRows:
    """Render and pack conversations, saying how much of them carries a loss."""
    rendered = [template.render(row.messages) for row in rows]
    packed, report = pack_rows(
        rendered,
        recipe.max_seq_len,
        on_long=recipe.on_long,
        where=[row.where for row in rows],
        pad_id=tokenizer.special[END_OF_TEXT],
    )
    share = report.num_supervised_tokens / max(1, report.num_tokens)
    say(
        f"{part}: {report.num_examples:,} conversations in {report.num_rows:,} rows, {report.fill:.0%} full; "
        f"{share:.0%} of the tokens carry a loss; {report.num_dropped} dropped, {report.num_truncated} cut"
    )
    return ArrayRows(packed)
