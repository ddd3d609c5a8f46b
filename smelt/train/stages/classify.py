"""Text classification: a head on a decoder or an encoder learns to label texts, from random weights or a checkpoint.

With a template and words for the labels there is no head: the language head scores the words (`models/cloze`).

Rows are single texts (or pairs), padded and not packed. What of the model trains is the recipe's `tune`, as in every
stage; the head is new and always trains. A run ends with the test rows, which nothing before has looked at: accuracy,
F1, a confusion table and calibration, whose temperature is fitted on the validation rows and kept with the checkpoint.

Ref: Improving Language Understanding by Generative Pre-Training (2018), 3.2. Ref: BERT, arXiv:1810.04805, 4.1.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Annotated, Literal

import numpy as np
from pydantic import BeforeValidator, Field, model_validator

from smelt.core import runtime
from smelt.core.errors import ConfigError, DataError, nearest
from smelt.core.log import say
from smelt.data.label_rows import LabelledRows, class_numbers
from smelt.data.labels import PARTS, Columns, balance, check_parts, few_of_each, label_name, read_labels, split_labelled
from smelt.data.records import LabelRow
from smelt.data.shards import source_fingerprints
from smelt.models.cloze import CLOZE, Cloze, calibrated, make_cloze
from smelt.models.readings import HeadLabels, LabelReading, Row
from smelt.models.text_labels import TASK, for_text_labels
from smelt.models.transformer import Transformer
from smelt.nn.spec import ModelSpec
from smelt.tokenizers.pipeline import Pipeline
from smelt.train.label_report import Parts, examine, scores_of
from smelt.train.objectives import OBJECTIVES
from smelt.train.recipes import resolve_dtype
from smelt.train.stages.common import Job, StageResult, load_to_train, parents, recipe_of_run, run_job
from smelt.train.stages.headed import HeadedRecipe, starting_point

Start = tuple[Transformer, Pipeline, tuple[str, ...], LabelReading]


def by_label(value: object) -> object:
    """Return words by label as texts: {1: "fine"} -> {"1": ("fine",)}."""
    if not isinstance(value, Mapping):
        return value
    return {label_name(name, "words"): (found,) if isinstance(found, str) else found for name, found in value.items()}


Words = Annotated[dict[str, tuple[str, ...]], BeforeValidator(by_label)]


class ClassifyRecipe(HeadedRecipe):
    """Teach a model to label texts."""

    data: str
    """Labelled texts: a file, folder or glob of tables (csv, tsv, parquet) or records (jsonl, json)."""
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
    template: str | None = None
    """Label without a head: the text and a gap for a word, as "{text} It was {word}"; {second} for pairs."""
    words: Words = Field(default_factory=dict)
    """The word, or list of words, that stands for each label at the gap."""
    content_free: tuple[str, ...] = ()
    """Texts that say nothing, such as "N/A": what the base makes of them is taken from the scores."""
    shots: int | None = Field(default=None, gt=0)
    """Train with this many rows of each label, and validate with as many; the test rows stay as they are."""
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
        """Refuse settings of one kind of label, or of a template, where there is another."""
        if self.multi_label and self.balance:
            raise ValueError("balance counts classes, and with multi_label a text has several; use class_weights")
        if self.multi_label and (self.shots or self.template):
            raise ValueError("shots and words are for one label of each text, and with multi_label it has several")
        if (self.template is None) != (not self.words):
            raise ValueError("give both a template and words, or neither")
        if self.template is None and self.content_free:
            raise ValueError("content_free is for a template")
        if self.template is not None and (self.checkpoint is None or self.reads is not None):
            raise ValueError("a template asks the language head of a checkpoint; give one, and no reads")
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
    model, tokenizer, new_parts, reading = network_of(recipe, names)
    rows = [to_rows(part, name, names, recipe, model.spec, reading) for name, part in zip(PARTS, labelled, strict=True)]
    seen = {row.text for row in labelled[0]}
    parts = Parts(rows[0], rows[1], rows[2], names, recipe.multi_label, sum(row.text in seen for row in labelled[2]))
    kept = {}
    if isinstance(reading, Cloze):
        kept = {CLOZE: reading.as_dict()}
        parts = replace(parts, zero_shot=zero_shot(model, reading, parts, recipe))
    job = Job(
        stage="classify",
        recipe=recipe,
        run=run,
        model=model,
        tokenizer=tokenizer,
        template=None,
        rows=parts.training,
        validation=parts.validation,
        objective=OBJECTIVES["text_labels"](reading, weights=weights, several=recipe.multi_label),
        started=started,
        lineage={
            "parents": parents(recipe.checkpoint),
            "data": {"texts": len(labelled[0]), "labels": list(names), "sources": source_fingerprints(recipe.data)},
            **kept,
        },
        next_steps=lambda checkpoint: (f'label a text: `smelt label {checkpoint} --text "A TEXT"`',),
        new_parts=new_parts,
    )
    micro_rows, dtype = recipe.micro_rows or recipe.batch_rows, resolve_dtype(recipe.dtype)
    job.examine = lambda checkpoint: examine(model, reading, parts, run, checkpoint, micro_rows, dtype)
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
    parts = [part if path is None else read(path) for path, part in zip(given, drawn, strict=True)]
    if recipe.shots is not None:
        for number, name in enumerate(PARTS[:2]):
            parts[number] = few_of_each(parts[number], recipe.shots, recipe.seed, name)
    return parts


def weights_of(recipe: ClassifyRecipe, rows: Sequence[LabelRow], names: Sequence[str]) -> list[float]:
    """Return each label's weight, none where all cost the same.

    Raises:
        ConfigError: weights were given for other labels.
    """
    if isinstance(recipe.class_weights, dict):
        check_labels("class_weights", "a weight", recipe.class_weights, names)
        return [recipe.class_weights[name] for name in names]
    if recipe.class_weights == "none":
        return []
    counts = [sum(name in row.labels for row in rows) for name in names]
    if recipe.multi_label:  # where a label holds counts as much as where it does not
        return [(len(rows) - count) / count for count in counts]
    return [len(rows) / (len(names) * count) for count in counts]


def check_labels(setting: str, what: str, given: Collection[str], names: Sequence[str]) -> None:
    """Raise ConfigError where a setting by label has one that there is not, or lacks one."""
    for name in [*given, *names]:
        if name not in names or name not in given:
            raise ConfigError(
                f"{setting}: '{name}' is {'not given' if name in names else 'no label'}."
                f"{nearest(name, {*names} - {name})}",
                accepted=f"{what} for each of {', '.join(names)}",
            )


def network_of(recipe: ClassifyRecipe, names: Sequence[str]) -> Start:
    """Return the network, its tokenizer, which of its parts are new, and how it is asked for these labels.

    It has a head for them, which is new, or its language head scores their words.

    Raises:
        ConfigError: nothing labels texts with this checkpoint or preset.
    """
    if recipe.checkpoint is not None and recipe.template is not None:
        return prompted(recipe, recipe.checkpoint, recipe.template, names)
    head = partial(for_text_labels, label_names=names, reads=recipe.reads, multi_label=recipe.multi_label)
    model, tokenizer, new_parts = starting_point(recipe, head)
    return model, tokenizer, new_parts, HeadLabels(tokenizer, TASK)


def prompted(recipe: ClassifyRecipe, checkpoint: str, template: str, names: Sequence[str]) -> Start:
    """Return the same of a checkpoint that is asked for the labels' words in a template.

    Raises:
        ConfigError: the template or a word does not fit, or another label has one.
    """
    check_labels("words", "a word", recipe.words, names)
    model, tokenizer = load_to_train(checkpoint, recipe.max_seq_len, tune=recipe.tune)
    cloze = make_cloze(model, tokenizer, template, {name: recipe.words[name] for name in names})
    assert isinstance(model, Transformer)
    if bool(recipe.second_column) != ("{second}" in template):
        raise ConfigError(
            f"template={template!r} with second_column={recipe.second_column!r}",
            accepted="{second} where the rows are pairs, and only there",
        )
    room = recipe.max_seq_len - len(cloze.surround([]).ids)
    if room < 1:
        raise ConfigError(
            f"the template takes {recipe.max_seq_len - room} tokens, and max_seq_len={recipe.max_seq_len} leaves none "
            "for the text",
            fix="shorten the template, or raise max_seq_len",
        )
    runtime.prepare_process()
    model.to(runtime.device())
    return model, tokenizer, (), calibrated(cloze, model, recipe.content_free) if recipe.content_free else cloze


def zero_shot(model: Transformer, cloze: Cloze, parts: Parts, recipe: ClassifyRecipe) -> float:
    """Return the share of test rows that the base labels rightly as it is, and say it."""
    rows = recipe.micro_rows or recipe.batch_rows
    found = scores_of(model, cloze, parts.test, rows, resolve_dtype(recipe.dtype))
    right = float((found.argmax(axis=1) == parts.test.targets).mean())
    say(f"before training: {right:.1%} of the test rows are labelled rightly")
    return right


def to_rows(
    labelled: Sequence[LabelRow],
    part: str,
    names: Sequence[str],
    recipe: ClassifyRecipe,
    spec: ModelSpec,
    reading: LabelReading,
) -> LabelledRows:
    """Tokenize one part, saying how long its texts are and how many were cut.

    Raises:
        DataError: a text without a token, or with on_long=error one that is too long.
    """
    rows, num_cut = list[Row](), 0
    for given in labelled:
        texts = reading.encode(given.text, given.second if recipe.second_column else None)
        over = len(reading.surround(texts).ids) - recipe.max_seq_len
        if not texts[0]:
            raise DataError(f"{given.where}: the tokenizer makes no token of this text", fix="remove the row")
        if over > 0 and recipe.on_long == "error":
            raise DataError(
                f"{given.where}: {recipe.max_seq_len + over:,} tokens, more than max_seq_len={recipe.max_seq_len:,}",
                fix="raise max_seq_len, or set on_long to 'truncate'",
            )
        num_cut += over > 0
        rows.append(reading.surround(shortened(texts, over)))
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
