"""What a training would cost, before any of it is done: does it fit, how long does it take, how many tokens are read.

Parameters and memory come from shapes alone, as in a run's own plan. The rate is measured by a few steps of the very
network on random tokens, without compiling. The text is counted by reading it for some seconds with a sample of it
tokenized, so of a long text it is known that there is at least so much. All of it runs in a process of its own, which
gives back what it took: torch's threads and memory are no concern of the one that answers pages.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from smelt.core.config import validate
from smelt.core.errors import DataError, SmeltError
from smelt.core.storage import checkpoint_at
from smelt.data.formats import scan_rows, texts_of
from smelt.data.readers import expand_paths, scan_file
from smelt.data.shards import META, read_meta
from smelt.models.build import blank, count_parameters
from smelt.models.hub import load_its_tokenizer, load_spec
from smelt.models.scaling_laws import LAWS
from smelt.models.shards import read_json
from smelt.models.sizes import forward_flops
from smelt.nn.spec import ModelSpec
from smelt.optim.build import OptimizerRecipe
from smelt.peft.files import CONFIG
from smelt.peft.load import base_of, is_adapter
from smelt.studio.recipe_forms import recipe_kind
from smelt.tokenizers.base import Tokenizer
from smelt.train.budget import Budget, RunPlan, plan_run
from smelt.train.measure import measured_flops_per_second
from smelt.train.plan import FLOAT_BYTES, MEMORY_LIMIT, make_plan, refuse_what_does_not_fit
from smelt.train.recipes import resolve_dtype, resolve_steps
from smelt.train.stages.common import STEP_OVERHEAD
from smelt.train.stages.pretrain import open_tokenizer
from smelt.train.tuning import WHOLE

READ_SECONDS = 4.0  # of counting the text
SAMPLE_TEXTS = 200  # that are tokenized
PACKED = ("pretrain", "sft", "distill")  # whose rows are filled to their end; elsewhere a row is an example
LAW = "besiroglu"
HOURS = {"short": 1 / 6, "hour": 1.0, "night": 8.0}


@dataclass(frozen=True)
class Amount:
    """How much there is to train on; `whole` is false where there was more than could be counted in time."""

    rows: int
    tokens: int | None
    whole: bool


def dry_run(verb: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a recipe would cost; raises SmeltError where it could not begin."""
    recipe: Any = validate(recipe_kind(verb), values, source="the recipe")
    spec, tokenizer = network_of(recipe)
    dtype = resolve_dtype(recipe.dtype)
    micro_rows = min(recipe.micro_rows or recipe.batch_rows, recipe.batch_rows)
    model = blank(spec, device="meta")
    if recipe.tune.method != WHOLE:
        model.requires_grad_(False)  # what a method adds is small beside the model, and is left out
    plan = make_plan(
        model,
        tokens=0,
        micro_rows=micro_rows,
        max_seq_len=recipe.max_seq_len,
        gradient_checkpointing=recipe.gradient_checkpointing,
        optimizer=recipe.optimizer.name,
        dtype=dtype,
    )
    if teacher := getattr(recipe, "teacher", None):
        plan = replace(plan, memory_bytes=plan.memory_bytes + FLOAT_BYTES * count_parameters(spec_of(teacher)))
    advice = ""
    try:
        refuse_what_does_not_fit(plan, spec)
    except SmeltError as error:
        advice = error.fix
    amount = amount_of(verb, recipe, tokenizer)
    measured = None if advice else rate_of(recipe, spec, dtype)
    tokens_per_step = recipe.batch_rows * recipe.max_seq_len
    flops_per_step = 3 * forward_flops(spec, recipe.max_seq_len) * tokens_per_step
    seconds_per_step = flops_per_step / measured * STEP_OVERHEAD if measured else None
    known = seconds_per_step is not None or recipe.minutes is None
    steps = resolve_steps(recipe, recipe.minutes, amount.rows, seconds_per_step or math.inf) if known else None
    return {
        "fits": not advice,
        "advice": advice,
        "memory_bytes": plan.memory_bytes,
        "limit_bytes": int(MEMORY_LIMIT * plan.free_bytes),
        "parameters": plan.parameters,
        "data_tokens": amount.tokens,
        "data_rows": amount.rows,
        "data_whole": amount.whole,
        "steps": steps,
        "tokens": steps and steps * tokens_per_step,
        "passes": steps and steps * recipe.batch_rows / amount.rows,
        "flops": steps and steps * flops_per_step,
        "tokens_per_second": seconds_per_step and tokens_per_step / seconds_per_step,
        "seconds": steps and seconds_per_step and steps * seconds_per_step,
    }


def network_of(recipe: Any) -> tuple[ModelSpec, Tokenizer]:
    """Return the network that a recipe trains, and the tokenizer of its text."""
    teacher, layers = getattr(recipe, "teacher", None), getattr(recipe, "layers", ())
    if (origin := recipe.checkpoint or teacher) is None:
        tokenizer = open_tokenizer(recipe.tokenizer or "")
        return recipe.model.spec(vocab_size=tokenizer.vocab_size, max_seq_len=recipe.max_seq_len), tokenizer
    spec, tokenizer = spec_of(origin), load_its_tokenizer(checkpoint_at(origin))
    if recipe.checkpoint is None and layers:
        spec = replace(spec, layers=tuple(spec.layers[place] for place in layers))
    elif recipe.checkpoint is None:
        spec = recipe.model.spec(vocab_size=tokenizer.vocab_size, max_seq_len=recipe.max_seq_len)
    return spec, tokenizer


def spec_of(checkpoint: str) -> ModelSpec:
    """Return the spec of a checkpoint or a run, of an adapter that of its base."""
    directory = checkpoint_at(checkpoint)
    return load_spec(base_of(directory, read_json(directory / CONFIG)) if is_adapter(directory) else directory)


def rate_of(recipe: Any, spec: ModelSpec, dtype: torch.dtype) -> float | None:
    """Return the FLOP/s of training here, None for a network that writes nothing, which is not measured."""
    if not (spec.is_causal and spec.language_head) or spec.encoder is not None:
        return None
    return measured_flops_per_second(replace(spec, max_seq_len=recipe.max_seq_len), recipe.optimizer, dtype)


def amount_of(verb: str, recipe: Any, tokenizer: Tokenizer) -> Amount:
    """Return how much a recipe's data is, less what is held out."""
    paths = [recipe.data] if isinstance(recipe.data, str) else [source.path for source in recipe.data]
    found = [counted(path, tokenizer) if verb in PACKED else rows_in(path) for path in paths]
    rows, whole = sum(one.rows for one in found), all(one.whole for one in found)
    held_out = 0.0 if recipe.validation else getattr(recipe, "validation_fraction", 0.0)
    if (split := getattr(recipe, "split", None)) is not None:
        held_out = 1 - split[0]
    if verb not in PACKED:
        return Amount(max(1, round(rows * (1 - held_out))), None, whole)
    tokens = round(sum(one.tokens or 0 for one in found) * (1 - held_out))
    packing = getattr(recipe, "packing", True)
    return Amount(max(1, tokens // recipe.max_seq_len if packing else rows), tokens, whole)


def counted(path: str, tokenizer: Tokenizer) -> Amount:
    """Return how many texts and tokens there are, reading for some seconds and tokenizing a sample.

    Raises:
        DataError: nothing can be read, or the first row is none.
    """
    if (Path(path) / META).is_file():
        meta = read_meta(Path(path), verify=False)
        return Amount(meta.num_documents, meta.num_tokens, True)
    rows = letters = sample_letters = sample_tokens = 0
    until = time.monotonic() + READ_SECONDS
    for _, row in scan_rows(path):
        if rows and time.monotonic() > until:
            return Amount(rows, round(letters * sample_tokens / max(1, sample_letters)), False)
        if isinstance(row, DataError):
            if rows == 0:
                raise row
            continue
        texts = texts_of(row)
        rows, letters = rows + 1, letters + sum(len(text) for text in texts)
        if rows <= SAMPLE_TEXTS:
            cut = [text[:100_000] for text in texts]
            sample_letters += sum(len(text) for text in cut)
            sample_tokens += sum(len(tokenizer.encode(text)) + 1 for text in cut)
    return Amount(rows, round(letters * sample_tokens / max(1, sample_letters)), True)


def rows_in(path: str) -> Amount:
    """Return how many rows there are, reading for some seconds."""
    rows, until = 0, time.monotonic() + READ_SECONDS
    for one in expand_paths(path):
        for _ in scan_file(one):
            rows += 1
            if time.monotonic() > until:
                return Amount(rows, None, False)
    return Amount(rows, None, True)


def presets(tokenizer: str, max_seq_len: int) -> list[dict[str, Any]]:
    """Return the runs that this machine can spend ten minutes, an hour and a night on best, by a published law.

    The rate is measured once, on the model of the shortest; larger ones are a little faster per operation.
    """
    vocab_size = open_tokenizer(tokenizer).vocab_size
    dtype = resolve_dtype("auto")
    first = Budget(hours=HOURS["short"], vocab_size=vocab_size, max_seq_len=max_seq_len, dtype=dtype)
    guess = plan_run(first, LAWS[LAW], rate=lambda spec: 1e11).spec
    rate = measured_flops_per_second(guess, OptimizerRecipe(), dtype)
    made = {
        name: plan_run(replace(first, hours=hours), LAWS[LAW], rate=lambda spec: rate) for name, hours in HOURS.items()
    }
    return [{"name": name, **as_preset(plan)} for name, plan in made.items()]


def as_preset(plan: RunPlan) -> dict[str, Any]:
    """Return what a plan puts into the form, and what is said of it."""
    shape, micro_rows = plan.shape, plan.memory.micro_rows
    values = {
        "model.dim": shape.dim,
        "model.num_layers": shape.num_layers,
        "model.num_heads": shape.num_heads,
        "max_seq_len": shape.max_seq_len,
        "batch_rows": plan.batch_rows,
        "micro_rows": None if micro_rows == plan.batch_rows else micro_rows,
        "minutes": round(60 * (plan.hours or 0)),
        "optimizer.learning_rate": plan.learning_rate,
    }
    return {"values": values, "parameters": plan.parameters, "tokens": plan.tokens, "notes": list(plan.notes)}
