"""Text classification: a head on a decoder or an encoder learns to label texts, from random weights or a checkpoint.

Rows are single texts (or pairs), padded and not packed. What of the model trains is the recipe's `tune`, as in every
stage; the head is new and always trains. A run ends with the test rows, which nothing before has looked at: accuracy,
F1, a confusion table and calibration, whose temperature is fitted on the validation rows and kept with the checkpoint.

Ref: Improving Language Understanding by Generative Pre-Training (2018), 3.2. Ref: BERT, arXiv:1810.04805, 4.1.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
from pydantic import model_validator

from smelt.core.errors import ConfigError, DataError, nearest
from smelt.core.log import say
from smelt.data.label_rows import LabelledRows, class_numbers
from smelt.data.labels import PARTS, Columns, balance, check_parts, read_labels, split_labelled
from smelt.data.records import LabelRow
from smelt.data.shards import source_fingerprints
from smelt.models.build import blank, build
from smelt.models.partial import under_another_top
from smelt.models.readings import Row, surround
from smelt.models.text_labels import for_text_labels
from smelt.models.transformer import Transformer
from smelt.nn.spec import ModelSpec
from smelt.tokenizers.base import END_OF_TEXT
from smelt.tokenizers.pipeline import Pipeline
from smelt.train.label_report import Parts, examine
from smelt.train.objectives import OBJECTIVES
from smelt.train.recipes import RunRecipe, resolve_dtype
from smelt.train.stages.common import Job, StageResult, load_to_train, parents, recipe_of_run, run_job
from smelt.train.stages.pretrain import ModelRecipe, open_tokenizer

PADDINGS = (END_OF_TEXT, "[PAD]", "<pad>", "</s>", "<|end_of_text|>")
"""Tokens that pad, in the order in which a tokenizer is published with them."""


class ClassifyRecipe(RunRecipe):
    """Teach a model to label texts."""

    data: str
    """Labelled texts: a file, folder or glob of tables (csv, tsv, parquet) or records (jsonl, json)."""
    validation: str | None = None
    """Labelled texts to validate with; a part of the data when empty."""
    test: str | None = None
    """Labelled texts to test with at the end; a part of the data when empty."""
    split: tuple[float, float, float] = (0.7, 0.1, 0.2)
    """Shares of the data that train, validate and test; those of parts with files of their own do not count."""
    text_column: str | int = ""
    """Column of the text; found by its usual names when empty. A number counts columns of a table without header."""
    label_column: str | int = ""
    """Column of the label, likewise; in records it may be a list."""
    second_column: str | int = ""
    """Column of a second text, where pairs are labelled."""
    balance: bool = False
    """Take as many rows of each class as the smallest has."""
    multi_label: bool = False
    """A text may have several labels, each true or not by itself."""
    class_weights: Literal["none", "balanced"] | dict[str, float] = "none"
    """What an error costs by class: the same, by how rare the class is, or {label: weight}."""
    checkpoint: str | None = None
    """Start from this checkpoint instead of random weights."""
    tokenizer: str | None = None
    """For random weights: a tokenizer.json, a directory with one, or "bytes" for one token a byte."""
    model: ModelRecipe = ModelRecipe()
    """The network to build for random weights."""
    reads: Literal["last", "first", "mean", "pooled"] | None = None
    """What the head reads: of a decoder the last token (when empty), the first or the mean; an encoder has its own."""
    pad: Literal["longest", "full"] = "longest"
    """Pad rows to the longest of those computed together, or all of them to max_seq_len."""
    on_long: Literal["truncate", "error"] = "truncate"
    """What to do with a text of more than max_seq_len tokens; the number of those cut is printed."""
    compile: Literal["auto", "yes", "no"] = "no"
    """Compile the blocks; each new length of rows is compiled anew, so it needs pad=full to pay."""

    @model_validator(mode="after")
    def fits_together(self) -> ClassifyRecipe:
        """Ask for one origin and for shares of the data; refuse what a classifier has not."""
        if (self.tokenizer is None) == (self.checkpoint is None):
            raise ValueError("give either a tokenizer (random weights) or a checkpoint")
        if min(self.split) < 0 or abs(sum(self.split) - 1) > 1e-6:
            raise ValueError(f"the shares {self.split} of split do not sum to 1")
        if self.multi_label and self.balance:
            raise ValueError("balance counts classes, and with multi_label a text has several; use class_weights")
        if self.sample_prompts or self.sample_every:
            raise ValueError("a classifier writes no samples; leave sample_prompts and sample_every out")
        return self


def classify(recipe: ClassifyRecipe, *, resume: bool = False) -> StageResult:
    """Run the stage; with `resume`, go on with the run of the same name where there is one.

    Raises:
        SmeltError: bad data, recipe, checkpoint or machine; see the message.
    """
    started = time.perf_counter()
    recipe, run = recipe_of_run(recipe, resume)
    labelled = parts_of(recipe)
    names = check_parts(labelled)
    weights = weights_of(recipe, labelled[0], names)
    model, tokenizer, new_parts = starting_point(recipe, names)
    rows = [
        to_rows(part, name, names, recipe, model.spec, tokenizer) for name, part in zip(PARTS, labelled, strict=True)
    ]
    seen = {row.text for row in labelled[0]}
    parts = Parts(rows[0], rows[1], rows[2], names, recipe.multi_label, sum(row.text in seen for row in labelled[2]))
    task = model.spec.tasks[0].name
    job = Job(
        stage="classify",
        recipe=recipe,
        run=run,
        model=model,
        tokenizer=tokenizer,
        template=None,
        rows=parts.training,
        validation=parts.validation,
        objective=OBJECTIVES["text_labels"](task, weights=weights, several=recipe.multi_label),
        started=started,
        lineage={
            "parents": parents(recipe.checkpoint),
            "data": {"texts": len(labelled[0]), "labels": list(names), "sources": source_fingerprints(recipe.data)},
        },
        next_steps=lambda checkpoint: (f'label a text: `smelt label {checkpoint} --text "A TEXT"`',),
        new_parts=new_parts,
    )
    micro_rows, dtype = recipe.micro_rows or recipe.batch_rows, resolve_dtype(recipe.dtype)
    job.examine = lambda checkpoint: examine(model, task, parts, run, checkpoint, micro_rows, dtype)
    return run_job(job)


def parts_of(recipe: ClassifyRecipe) -> list[list[LabelRow]]:
    """Return the rows that train, validate and test; those of `data` are balanced before they are divided."""
    columns = Columns(str(recipe.text_column), str(recipe.label_column), str(recipe.second_column))

    def read(spec: str) -> list[LabelRow]:
        rows = list(read_labels(spec, columns))
        kept = [row for row in rows if row.text]
        if len(kept) < len(rows):
            say(f"{spec}: {len(rows) - len(kept)} of {len(rows):,} rows have no text and are left out")
        several = next((row for row in kept if len(row.labels) != 1), None)
        if several is not None and not recipe.multi_label:
            raise DataError(f"{several.where}: {len(several.labels)} labels", accepted="one", fix="multi_label=true")
        if not kept:
            raise DataError(f"{spec}: no row holds any text", fix="check that the file was written completely")
        return kept

    rows = read(recipe.data)
    if recipe.balance:
        rows = balance(rows, recipe.seed)
    given = (None, recipe.validation, recipe.test)
    shares = [0.0 if path else share for path, share in zip(given, recipe.split, strict=True)]
    if not sum(shares):
        raise ConfigError(f"split={list(recipe.split)} leaves no row to train with", accepted="a share above 0")
    drawn = split_labelled(rows, [share / sum(shares) for share in shares], recipe.seed)
    return [part if path is None else read(path) for path, part in zip(given, drawn, strict=True)]


def weights_of(recipe: ClassifyRecipe, rows: Sequence[LabelRow], names: Sequence[str]) -> list[float]:
    """Return each label's weight, none where all cost the same.

    Raises:
        ConfigError: weights were given for other labels.
    """
    if isinstance(recipe.class_weights, dict):
        for name in [*recipe.class_weights, *names]:
            if name not in names or name not in recipe.class_weights:
                raise ConfigError(
                    f"class_weights: '{name}' is {'not given' if name in names else 'no label'}."
                    f"{nearest(name, {*names} - {name})}",
                    accepted=f"a weight for each of {', '.join(names)}",
                )
        return [recipe.class_weights[name] for name in names]
    if recipe.class_weights == "none":
        return []
    counts = [sum(name in row.labels for row in rows) for name in names]
    if recipe.multi_label:  # where a label holds counts as much as where it does not
        return [(len(rows) - count) / count for count in counts]
    return [len(rows) / (len(names) * count) for count in counts]


def starting_point(recipe: ClassifyRecipe, names: Sequence[str]) -> tuple[Transformer, Pipeline, tuple[str, ...]]:
    """Return the network with a head for these labels, its tokenizer, and which of its parts are new.

    Raises:
        ConfigError: nothing labels texts with this checkpoint or preset.
    """

    def labelling(spec: ModelSpec, tokenizer: Pipeline) -> ModelSpec:
        padded = replace(spec, token_ids=replace(spec.token_ids, padding=padding_of(spec, tokenizer)))
        return for_text_labels(padded, names, reads=recipe.reads, multi_label=recipe.multi_label)

    if recipe.checkpoint is None:
        tokenizer = open_tokenizer(recipe.tokenizer or "")
        spec = recipe.model.spec(vocab_size=tokenizer.vocab_size, max_seq_len=recipe.max_seq_len)
        model = build(labelling(spec, tokenizer), seed=recipe.seed)
        assert isinstance(model, Transformer)  # only such have a layout with labels
        return model, tokenizer, ()
    base, tokenizer = load_to_train(recipe.checkpoint, recipe.max_seq_len, writes=False, tune=recipe.tune)
    spec = labelling(base.spec, tokenizer)
    ours, theirs = ({name for name, _ in net.named_parameters()} for net in (blank(base.spec, device="meta"), base))
    if ours != theirs:
        raise ConfigError(
            f"checkpoint={recipe.checkpoint} is an adapter that cannot be merged", accepted="a base, or a LoRA of one"
        )
    base.spec = replace(base.spec, token_ids=spec.token_ids)
    model, report = under_another_top(base, spec, seed=recipe.seed, where=recipe.checkpoint)
    assert isinstance(model, Transformer)
    return model, tokenizer, tuple(sorted({name.partition(".")[0] for name in report.new}))


def padding_of(spec: ModelSpec, tokenizer: Pipeline) -> int:
    """Return the id that rows are padded with, by which readers of the layout find a text's last token.

    Raises:
        ConfigError: neither tokenizer nor checkpoint has a token for it.
    """
    if spec.position_offset:
        return spec.position_offset - 1
    named = tokenizer.named_tokens.get("pad_token")
    for name in (END_OF_TEXT, *([named] if named else []), *PADDINGS):
        if name in tokenizer.special:
            return tokenizer.special[name]
    found = [number for number in (spec.token_ids.padding, *spec.token_ids.end) if number is not None]
    if not found:
        raise ConfigError("the tokenizer has no token to pad with", accepted=f"one of {', '.join(PADDINGS)}")
    return found[0]


def to_rows(
    labelled: Sequence[LabelRow],
    part: str,
    names: Sequence[str],
    recipe: ClassifyRecipe,
    spec: ModelSpec,
    tokenizer: Pipeline,
) -> LabelledRows:
    """Tokenize one part, saying how long its texts are and how many were cut.

    Raises:
        DataError: a text without a token, or with on_long=error one that is too long.
    """
    rows, num_cut = list[Row](), 0
    for given in labelled:
        texts = [tokenizer.encode(given.text)]
        if recipe.second_column:
            texts.append(tokenizer.encode(given.second))
        over = len(surround(tokenizer, *texts).ids) - recipe.max_seq_len
        if not texts[0]:
            raise DataError(f"{given.where}: the tokenizer makes no token of this text", fix="remove the row")
        if over > 0 and recipe.on_long == "error":
            raise DataError(
                f"{given.where}: {recipe.max_seq_len + over:,} tokens, more than max_seq_len={recipe.max_seq_len:,}",
                fix="raise max_seq_len, or set on_long to 'truncate'",
            )
        num_cut += over > 0
        rows.append(surround(tokenizer, *shortened(texts, over)))
    lengths = [len(row.ids) for row in rows]
    say(
        f"{part}: {len(rows):,} texts of {min(lengths)} to {max(lengths)} tokens, "
        f"{np.mean(lengths):.0f} on average; {num_cut} cut"
    )
    most = max(spec.num_types - 1, 0)  # some models have one type for both texts
    return LabelledRows(
        [np.array(row.ids, dtype=np.int32) for row in rows],
        [np.minimum(np.array(row.types, dtype=np.int32), most) for row in rows],
        class_numbers([row.labels for row in labelled], names, several=recipe.multi_label),
        spec.token_ids.padding or 0,
        recipe.max_seq_len if recipe.pad == "full" else None,
    )


def shortened(texts: Sequence[list[int]], over: int) -> list[list[int]]:
    """Return texts with so many tokens less together, taken one by one from the end of the longer: [[1, 2], [3]], 1."""
    sizes = [len(text) for text in texts]
    for _ in range(max(over, 0)):
        sizes[sizes.index(max(sizes))] -= 1
    return [text[:size] for text, size in zip(texts, sizes, strict=True)]
