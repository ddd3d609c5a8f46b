"""Distillation: a student learns what its teacher would say, and how likely, beside what the text says.

The data are text, as for pretraining, or conversations, as for fine-tuning; rows are made by those stages. What differs
is the loss, and that a share of the rows may be the student's own words (`on_policy`). The student is a checkpoint, a
new model, or some blocks of its teacher. The held-out loss is the plain cross-entropy, so it compares with that of a
model that had no teacher.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from smelt.core.errors import ConfigError, DataError
from smelt.data.formats import scan_rows
from smelt.data.records import ChatRow, Message
from smelt.data.shards import META, source_fingerprints
from smelt.models.build import build
from smelt.models.encoder_decoder import Network
from smelt.models.transformer import Transformer
from smelt.tokenizers.base import END_OF_TEXT
from smelt.tokenizers.chat import ChatTemplate, named_template
from smelt.tokenizers.pipeline import Pipeline
from smelt.train.chats import Layout, lay_out
from smelt.train.objectives import OBJECTIVES, Objective
from smelt.train.objectives.divergences import DIVERGENCES, jensen_shannon
from smelt.train.on_policy import OnPolicyRows
from smelt.train.pretraining.recipe import ObjectiveRecipe
from smelt.train.pretraining.rows import Setup, document_end
from smelt.train.recipes import RunRecipe
from smelt.train.sources import Rows
from smelt.train.stages import pretrain, sft
from smelt.train.stages.common import Job, StageResult, load_to_train, parents, recipe_of_run, run_job
from smelt.train.students import check_pair, open_teacher, some_blocks
from smelt.train.texts import texts

USES: dict[str, tuple[str, ...]] = {
    "forward_kl": ("temperature", "hard_weight", "on_policy"),
    "reverse_kl": ("temperature", "hard_weight", "on_policy"),
    "jsd": ("temperature", "hard_weight", "on_policy", "beta"),
    "hidden": ("hard_weight", "match"),
    "triple": ("temperature",),
}
"""Which settings each loss looks at."""


class DistillRecipe(RunRecipe):
    """Teach a student what its teacher knows."""

    teacher: str
    """The model to learn from: a checkpoint or a run."""
    checkpoint: str | None = None
    """The student to start from. Give one of checkpoint, layers and model."""
    layers: tuple[int, ...] = ()
    """Begin as these blocks of the teacher, from 0, with its embeddings and its head."""
    model: pretrain.ModelRecipe | None = None
    """Begin as a new network of this shape."""
    data: str
    """Text or token shards, as for pretrain, or conversations, as for sft: the first row tells."""
    validation: str | None = None
    """Held-out data of the same kind; a part of the data when empty."""
    validation_fraction: float = Field(default=0.02, gt=0, lt=1)
    """Share of the data held out when `validation` is empty."""
    validation_split: Literal["documents", "tail"] = "documents"
    """Hold out whole documents, or the end of every document (text)."""
    template: str = ""
    """A published chat template by name; empty takes the teacher's own, else chatml (conversations)."""
    on_long: Literal["error", "drop", "truncate"] = "drop"
    """What to do with a conversation longer than max_seq_len; the number is printed."""
    loss: Literal["forward_kl", "reverse_kl", "jsd", "hidden", "triple"] = "forward_kl"
    """How far from the teacher: by the probabilities of tokens (forward_kl, reverse_kl, jsd), by the blocks' outputs
    (hidden), or DistilBERT's three terms (triple)."""
    temperature: float = Field(default=1.0, gt=0)
    """What the logits of both are divided by (all but hidden)."""
    hard_weight: float = Field(default=0.5, ge=0, le=1)
    """Weight of the text's own tokens beside the teacher (all but triple)."""
    beta: float = Field(default=0.5, gt=0, lt=1)
    """Between forward_kl (near 0) and reverse_kl (near 1) (jsd)."""
    match: tuple[int, ...] = ()
    """The teacher's block, from 0, for each of the student's; evenly spread when empty (hidden)."""
    on_policy: float = Field(default=0.0, ge=0, le=1)
    """Share of the rows that the student continues by itself at every step (forward_kl, reverse_kl, jsd)."""

    @model_validator(mode="after")
    def settings_belong(self) -> DistillRecipe:
        """Ask for one student, and refuse a setting that the loss would not look at."""
        given = [key for key in ("checkpoint", "layers", "model") if getattr(self, key)]
        if len(given) != 1:
            raise ValueError(f"give one of checkpoint, layers and model, not {' and '.join(given) or 'none'}")
        for key in {name for names in USES.values() for name in names} - set(USES[self.loss]):
            if getattr(self, key) != type(self).model_fields[key].default:
                raise ValueError(f"{key} is no setting of loss={self.loss}, which has {', '.join(USES[self.loss])}")
        return self


@dataclass(frozen=True)
class Lesson:
    """What a stage makes of data: rows, held-out rows, the chat template, ids that end a text, what lineage says."""

    rows: Rows
    validation: Rows | None
    template: ChatTemplate | None
    stop_ids: tuple[int, ...]
    facts: dict[str, Any]
    prompt: Callable[[str], list[int]]


def distill(recipe: DistillRecipe, *, resume: bool = False) -> StageResult:
    """Run the stage; with `resume`, go on with the run of the same name where there is one.

    Raises:
        SmeltError: bad data, recipe, checkpoint or machine, or two models that do not fit; see the message.
    """
    started = time.perf_counter()
    recipe, run = recipe_of_run(recipe, resume)
    teacher, tokenizer = open_teacher(recipe.teacher, recipe.max_seq_len)
    student = student_of(recipe, teacher, tokenizer)
    is_chat = holds_chats(recipe.data)
    refuse_encoder(recipe, teacher, is_chat)
    lesson = (of_chats if is_chat else of_text)(recipe, student, tokenizer, run.path / "data")
    rows = lesson.rows
    if recipe.on_policy:
        size = min(tokenizer.vocab_size, student.spec.vocab_size)
        rows = OnPolicyRows(rows, student, lesson.stop_ids, size, recipe.on_policy, recipe.seed)
    job = Job(
        stage="distill",
        recipe=recipe,
        run=run,
        model=student,
        tokenizer=tokenizer,
        template=lesson.template,
        rows=rows,
        validation=lesson.validation,
        objective=objective_of(recipe, teacher, student),
        started=started,
        prompts=[(text, lesson.prompt(text)) for text in recipe.sample_prompts],
        stop_ids=lesson.stop_ids,
        lineage={"parents": [*parents(recipe.checkpoint), *parents(recipe.teacher)], "data": lesson.facts},
        next_steps=lambda checkpoint: (
            f"beside its teacher: `smelt runs compare {run.path} {recipe.teacher}`",
            f"measure it: `smelt eval {checkpoint} --text HELD_OUT.txt`",
        ),
    )
    return run_job(job)


def student_of(recipe: DistillRecipe, teacher: Transformer, tokenizer: Pipeline) -> Network:
    """Return the student as it begins.

    Raises:
        ConfigError: it cannot learn from this teacher.
    """
    if recipe.checkpoint is not None:
        student, its_tokenizer = load_to_train(recipe.checkpoint, recipe.max_seq_len, tune=recipe.tune)
        check_pair(teacher, student, (tokenizer, its_tokenizer), (recipe.teacher, recipe.checkpoint))
        return student
    if recipe.layers:
        return some_blocks(teacher, recipe.layers).to("cpu")
    assert recipe.model is not None  # the recipe asked for one
    spec = recipe.model.spec(vocab_size=teacher.spec.vocab_size, max_seq_len=recipe.max_seq_len)
    student = build(spec, seed=recipe.seed)
    check_pair(teacher, student, (tokenizer, tokenizer), (recipe.teacher, f"of the family {spec.family}"))
    return student


def holds_chats(data: str) -> bool:
    """Tell by the first row whether data are conversations; token shards are text.

    Raises:
        DataError: the first row cannot be read, or is a pair.
    """
    if (Path(data) / META).exists():
        return False
    first = next((row for _, row in scan_rows(data)), None)
    if isinstance(first, DataError):
        raise first
    return isinstance(first, ChatRow)


def refuse_encoder(recipe: DistillRecipe, teacher: Network, is_chat: bool) -> None:
    """Refuse what an encoder cannot do.

    Raises:
        ConfigError: conversations, samples or on_policy with an encoder.
    """
    if teacher.spec.is_causal:
        return
    for key, given in (("data", is_chat), ("sample_prompts", recipe.sample_prompts), ("on_policy", recipe.on_policy)):
        if given:
            what = f"data={recipe.data}, which are conversations," if key == "data" else f"{key} with"
            raise ConfigError(f"{what} an encoder, which does not write", accepted="text, and masks to fill in")


def of_chats(recipe: DistillRecipe, student: Network, tokenizer: Pipeline, folder: Path) -> Lesson:
    """Return what fine-tuning makes of conversations."""
    as_sft = sft.SftRecipe.model_validate({**shared(recipe, sft.SftRecipe), "checkpoint": recipe.teacher})
    template = ChatTemplate(tokenizer, named_template(recipe.template) if recipe.template else None)
    layout = Layout(recipe.max_seq_len, True, recipe.on_long, tokenizer.special[END_OF_TEXT])
    train, held_out = sft.read(as_sft)
    return Lesson(
        rows=lay_out(train, template, layout, "training").rows,
        validation=sft.lay_out_held_out(held_out, template, layout),
        template=template,
        stop_ids=template.stop_ids,
        facts={"conversations": sum(len(found) for _, found in train), "sources": source_fingerprints(recipe.data)},
        prompt=lambda text: template.render([Message("user", text)], add_reply=True)[0],
    )


def of_text(recipe: DistillRecipe, student: Network, tokenizer: Pipeline, folder: Path) -> Lesson:
    """Return what pretraining makes of text: next tokens for a decoder, masked ones for an encoder."""
    as_text = pretrain.PretrainRecipe.model_validate(
        {**shared(recipe, pretrain.PretrainRecipe), "checkpoint": recipe.teacher, "model": {}}
    )
    settings = ObjectiveRecipe(name="causal" if student.spec.is_causal else "masked")
    setup = Setup(settings, student.spec, tokenizer, recipe.max_seq_len, recipe.seed, recipe.teacher)
    found = texts(as_text, setup, folder)
    return Lesson(
        found.rows,
        found.validation,
        template=None,
        stop_ids=(document_end(tokenizer),),
        facts=found.facts,
        prompt=functools.partial(pretrain.prompt_ids, tokenizer),
    )


def shared(recipe: DistillRecipe, kind: type[RunRecipe]) -> dict[str, Any]:
    """Return the settings that a recipe has in common with another stage's."""
    return {key: getattr(recipe, key) for key in kind.model_fields if key in type(recipe).model_fields}


def objective_of(recipe: DistillRecipe, teacher: Transformer, student: Network) -> Objective:
    """Return the loss of a recipe."""
    objective: Objective
    if recipe.loss == "triple":
        objective = OBJECTIVES["distillation"](teacher, student.spec, temperature=recipe.temperature)
    elif recipe.loss == "hidden":
        objective = OBJECTIVES["hidden_match"](
            teacher, student.spec, hard_weight=recipe.hard_weight, match=recipe.match, seed=recipe.seed
        )
    else:
        divergence = DIVERGENCES[recipe.loss]
        if recipe.loss == "jsd":
            divergence = functools.partial(jensen_shannon, beta=recipe.beta)
        objective = OBJECTIVES["token_distillation"](
            teacher, divergence, temperature=recipe.temperature, hard_weight=recipe.hard_weight
        )
    return objective
