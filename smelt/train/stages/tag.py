"""Named entities: a head on an encoder or a decoder learns to mark what a text names, from random weights or a base.

Texts are read in stretches of max_seq_len tokens; each word is labelled B, I or O, and a CRF on top, unless it is left
out, scores the labels of neighbours together. What trains is the recipe's `tune`, as in every stage; the head is new
and always trains. A run ends with the test texts, which nothing before has looked at, tagged as `smelt label` does and
compared with all that they are given to name, the entities included that no labels of words can say.

Ref: Neural Architectures for Named Entity Recognition, arXiv:1603.01360. Ref: BERT, arXiv:1810.04805, 5.3.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
from pydantic import Field, model_validator

from smelt.core.errors import ConfigError, DataError, nearest
from smelt.core.log import say
from smelt.core.storage import sha256_file
from smelt.data.entities import entity_files, read_entities, renamed
from smelt.data.label_rows import TaggedRows
from smelt.data.labels import PARTS, shuffled
from smelt.data.packing import IGNORED
from smelt.data.records import EntityRow
from smelt.data.spans import mark_names, marks_of, without_overlaps
from smelt.models.readings import surround
from smelt.models.token_labels import TASK, for_token_labels, stretches_of
from smelt.models.transformer import Transformer
from smelt.tokenizers.pipeline import Pipeline
from smelt.train.objectives import OBJECTIVES
from smelt.train.stages.common import Job, StageResult, parents, recipe_of_run, run_job
from smelt.train.stages.headed import HeadedRecipe, starting_point
from smelt.train.tag_report import Lost, TagParts, examine


class TagRecipe(HeadedRecipe):
    """Teach a model to mark what a text names."""

    data: str
    """Texts with entities: records (jsonl, json, parquet) or a word a line (conll, txt, tsv)."""
    rename: dict[str, str] = Field(default_factory=dict)
    """Labels by another name; those of one name become one."""
    crf: bool = True
    """Score the labels of neighbours together (a CRF); else each word's by itself (a softmax)."""

    @model_validator(mode="after")
    def stays_eager(self) -> TagRecipe:
        """Refuse to compile what would be compiled anew for every length."""
        if self.compile == "yes":
            raise ValueError("each new length of rows would be compiled anew; leave compile out")
        return self


def tag(recipe: TagRecipe, *, resume: bool = False) -> StageResult:
    """Run the stage; with `resume`, go on with the run of the same name where there is one.

    Raises:
        SmeltError: bad data, recipe, checkpoint or machine; see the message.
    """
    started = time.perf_counter()
    recipe, run = recipe_of_run(recipe, resume)
    recipe = recipe.model_copy(update={"compile": "no"})
    texts = parts_of(recipe)
    labels = labels_of(texts)
    names = mark_names(labels)
    model, tokenizer, new_parts = starting_point(recipe, lambda spec: for_token_labels(spec, names, crf=recipe.crf))
    rows, lost = list[TaggedRows](), list[Lost]()
    for name, part in zip(PARTS, texts, strict=True):
        found, missing = to_rows(part, names, recipe.max_seq_len, model, tokenizer)
        say(f"{name}: {len(part):,} texts in {found.num_rows:,} rows, {missing.line}")
        rows.append(found)
        lost.append(missing)
    if not any((row != IGNORED).any() for row in rows[0].labels):
        raise DataError("no training text has a word that the tokenizer knows", fix="use the tokenizer of the texts")
    seen = {row.text for row in texts[0]}
    parts = TagParts(texts[1], texts[2], tuple(lost), sum(row.text in seen for row in texts[2]))
    job = Job(
        stage="tag",
        recipe=recipe,
        run=run,
        model=model,
        tokenizer=tokenizer,
        template=None,
        rows=rows[0],
        validation=rows[1],
        objective=OBJECTIVES["token_labels"](TASK),
        started=started,
        lineage={
            "parents": parents(recipe.checkpoint),
            "data": {
                "texts": len(texts[0]),
                "labels": labels,
                "sources": {path.name: sha256_file(path) for path in entity_files(recipe.data)},
            },
        },
        next_steps=lambda checkpoint: (f'mark a text: `smelt label {checkpoint} --text "A TEXT"`',),
        new_parts=new_parts,
    )
    job.examine = lambda checkpoint: examine(model, tokenizer, parts, checkpoint, recipe.max_seq_len)
    return run_job(job)


def parts_of(recipe: TagRecipe) -> list[list[EntityRow]]:
    """Return the texts that train, validate and test; those without a letter are left out and counted."""

    def read(spec: str, rename: dict[str, str]) -> list[EntityRow]:
        rows = read_entities(spec, rename)
        kept = [row for row in rows if row.text.strip()]
        if len(kept) < len(rows):
            say(f"{spec}: {len(rows) - len(kept)} of {len(rows):,} rows have no text and are left out")
        return kept

    rows = shuffled(read(recipe.data, recipe.rename), recipe.seed)
    given = (None, recipe.validation, recipe.test)
    shares = [0.0 if path else share for path, share in zip(given, recipe.split, strict=True)]
    if not sum(shares):
        raise ConfigError(f"split={list(recipe.split)} leaves no row to train with", accepted="a share above 0")
    ends = [round(len(rows) * sum(shares[: number + 1]) / sum(shares)) for number in range(len(shares))]
    drawn = [rows[start:end] for start, end in zip([0, *ends], ends, strict=False)]
    # A part of its own need not have every label that is renamed.
    return [
        part if path is None else [renamed(row, recipe.rename) for row in read(path, {})]
        for path, part in zip(given, drawn, strict=True)
    ]


def labels_of(parts: Sequence[Sequence[EntityRow]]) -> list[str]:
    """Return the labels that training shows, sorted.

    Raises:
        DataError: an empty part, no entity to learn from, or a label in validation or test that training never shows.
    """
    for name, part in zip(PARTS, parts, strict=True):
        if not part:
            raise DataError(f"the {name} part has no row", accepted="a row or more", fix="change split, or add rows")
    known = {entity.label for row in parts[0] for entity in row.entities}
    if not known:
        raise DataError("no training text names anything", accepted="texts with entities")
    for name, part in zip(PARTS[1:], parts[1:], strict=True):
        for row in part:
            for entity in row.entities:
                if entity.label not in known:
                    raise DataError(
                        f"{row.where}: the label '{entity.label}' of the {name} part is in no training text."
                        f"{nearest(entity.label, known)}",
                        accepted=", ".join(sorted(known)[:12]),
                    )
    return sorted(known)


def to_rows(
    texts: Sequence[EntityRow], names: Sequence[str], max_tokens: int, model: Transformer, tokenizer: Pipeline
) -> tuple[TaggedRows, Lost]:
    """Return texts as labelled rows, and how many of their entities no labels of words can say."""
    numbers = {name: number for number, name in enumerate(names)}
    ids, types, labels = list[np.ndarray](), list[np.ndarray](), list[np.ndarray]()
    most = max(model.spec.num_types - 1, 0)
    total = overlapping = in_words = said = num_cut = 0
    for text in texts:
        flat = without_overlaps(text.entities)
        stretches = stretches_of(tokenizer, text.text, max_tokens)
        total, overlapping = total + len(text.entities), overlapping + len(text.entities) - len(flat)
        num_cut += len(stretches) > 1
        _, whole = marks_of([place for stretch in stretches for place in stretch.places], flat)
        in_words += len(flat) - len(whole)
        for stretch in stretches:
            marks, inside = marks_of(stretch.places, whole)
            said += len(inside)
            row = surround(tokenizer, stretch.ids)
            found = np.full(len(row.ids), IGNORED, dtype=np.int32)
            places = [row.places[0].start + place for place in stretch.label_places(model.spec.is_causal)]
            found[places] = [numbers[mark] for mark in marks]
            ids.append(np.array(row.ids, dtype=np.int32))
            types.append(np.minimum(np.array(row.types, dtype=np.int32), most))
            labels.append(found)
    rows = TaggedRows(ids, types, labels, model.spec.token_ids.padding or 0)
    return rows, Lost(total, overlapping, in_words, total - overlapping - in_words - said, num_cut)
