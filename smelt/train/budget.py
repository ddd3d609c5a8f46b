"""From a budget to a run: how large a model, on how many tokens, in which batches, and what loss to expect.

A budget is work (FLOPs), time (hours, at a rate) or text (tokens). The law gives N and D for it; then the nearest model
that exists is chosen and the budget is spent on that one exactly, by the same count of work that `smelt info` and a
run's own plan show: attention and the head included, where 6 N D leaves the one out and counts tables that are only
looked up. What a reader should doubt (an extrapolation, a size that was not to be had) is said in `notes`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from smelt.core.config import to_yaml, validate
from smelt.core.errors import UsageError
from smelt.core.storage import atomic_write_text
from smelt.models.build import blank, count_parameters
from smelt.models.families import Shape, spec_for
from smelt.models.scaling_fit import FittedLaw
from smelt.models.scaling_laws import (
    FEW_PASSES,
    FITTED_PARAMETERS,
    FITTED_TOKENS,
    FLOPS_PER_PARAMETER,
    HYPERPARAMETER_RANGE_FLOPS,
    ScalingLaw,
    batch_tokens,
    effective_tokens,
    learning_rate,
)
from smelt.models.shapes import count_without_tables, shape_near
from smelt.models.sizes import forward_flops
from smelt.nn.spec import ModelSpec
from smelt.optim.build import OptimizerName
from smelt.train.finished import RunGroup
from smelt.train.plan import MEMORY_LIMIT, Plan, bytes_of, gigabytes, make_plan
from smelt.train.stages.pretrain import PretrainRecipe

MAX_ROUNDS = 6  # of choosing a model for a rate and measuring the rate of that model
FIRST_GUESS = 1e6  # parameters of the model whose rate begins those rounds
FAR_OFF = 0.15  # a size that differs by more from the best is worth a word
FAR_AHEAD = 10.0  # so many times the work of the largest run is worth a word

Rate = Callable[[ModelSpec], float]  # FLOP/s at which a model trains


@dataclass(frozen=True)
class Budget:
    """What may be spent: exactly one of the first three; and on what kind of model and how much text."""

    flops: float | None = None
    hours: float | None = None
    tokens: float | None = None
    family: str = "llama"
    vocab_size: int = 8192
    max_seq_len: int = 256
    unique_tokens: float | None = None
    """New tokens there are; reading them again counts for less."""
    optimizer: OptimizerName = "muon"
    dtype: torch.dtype = torch.float32

    def check(self) -> None:
        """Raise UsageError unless there is exactly one budget, and every number is above zero."""
        kinds = {"--flops": self.flops, "--hours": self.hours, "--tokens": self.tokens}
        given = [name for name, value in kinds.items() if value is not None]
        if len(given) != 1:
            what = "no budget" if not given else f"{len(given)} budgets: {' and '.join(given)}"
            raise UsageError(what, accepted="exactly one of --flops, --hours and --tokens")
        for name, value in {**kinds, "--unique-tokens": self.unique_tokens}.items():
            if value is not None and not (value > 0 and math.isfinite(value)):
                raise UsageError(f"{name} {value:g}", accepted="a number above zero")


@dataclass(frozen=True)
class RunPlan:
    """A run that spends a budget; losses in the unit of the law, hours only where a rate is known."""

    shape: Shape
    spec: ModelSpec
    best_parameters: float
    best_tokens: float
    best_interval: tuple[float, float] | None
    """Where N may lie by a fitted law, in 90 %."""
    parameters: int
    parameters_without_tables: int
    tokens: int
    steps: int
    batch_rows: int
    learning_rate: float
    flops: float
    flops_per_second: float | None
    memory: Plan
    loss: float
    loss_interval: tuple[float, float] | None
    notes: tuple[str, ...]

    @property
    def hours(self) -> float | None:
        """Return the time that the work takes at the rate."""
        return None if self.flops_per_second is None else self.flops / self.flops_per_second / 3600

    @property
    def batch_tokens(self) -> int:
        """Return the tokens of an optimizer step."""
        return self.batch_rows * self.spec.max_seq_len


def plan_run(
    budget: Budget, law: ScalingLaw | FittedLaw, *, rate: Rate | None = None, largest_flops: float | None = None
) -> RunPlan:
    """Turn a budget into a run.

    Args:
        budget: what may be spent.
        law: a published law, or one fitted to finished runs, which also gives intervals.
        rate: FLOP/s at which a model trains; needed for a budget of hours.
        largest_flops: work of the largest run that the law was fitted to.

    Raises:
        UsageError: no budget or two, hours without a rate, an unknown family.
    """
    budget.check()
    formula = law.law if isinstance(law, FittedLaw) else law
    best_parameters, best_tokens, shape = choose(budget, formula, rate)
    spec = spec_for(budget.family, shape)
    a_token = 3 * forward_flops(spec, spec.max_seq_len)
    if budget.tokens is not None:
        wanted = budget.tokens
    elif budget.flops is not None:
        wanted = budget.flops / a_token
    else:
        assert budget.hours is not None and rate is not None
        wanted = budget.hours * 3600 * rate(spec) / a_token
    batch_rows = max(1, round(batch_tokens(wanted * a_token) / spec.max_seq_len))
    steps = max(1, round(wanted / (batch_rows * spec.max_seq_len)))
    tokens = steps * batch_rows * spec.max_seq_len
    parameters, counted = count_parameters(spec), counting(tokens, budget)
    made = RunPlan(
        shape=shape,
        spec=spec,
        best_parameters=best_parameters,
        best_tokens=best_tokens,
        best_interval=best_interval(law, budget, best_parameters * best_tokens) if isinstance(law, FittedLaw) else None,
        parameters=parameters,
        parameters_without_tables=count_without_tables(spec),
        tokens=tokens,
        steps=steps,
        batch_rows=batch_rows,
        learning_rate=float(f"{learning_rate(tokens * a_token):.2g}"),
        flops=tokens * a_token,
        flops_per_second=None if rate is None else rate(spec),
        memory=fitting(spec, tokens, batch_rows, budget),
        loss=float(formula.loss(parameters, counted)),
        loss_interval=law.loss_interval(parameters, counted) if isinstance(law, FittedLaw) else None,
        notes=(),
    )
    return replace(made, notes=tuple(notes(made, budget, law, largest_flops)))


def counting(tokens: float, budget: Budget) -> float:
    """Return how many new tokens a run's tokens are worth."""
    return tokens if budget.unique_tokens is None else float(effective_tokens(tokens, budget.unique_tokens))


def choose(budget: Budget, law: ScalingLaw, rate: Rate | None) -> tuple[float, float, Shape]:
    """Return the law's best N and D for a budget, and the shape nearest to that N.

    Hours become work by the rate of the model that they lead to, so model and rate are found in turns.
    """

    def nearest(parameters: float) -> Shape:
        return shape_near(
            parameters, family=budget.family, vocab_size=budget.vocab_size, max_seq_len=budget.max_seq_len
        )

    if budget.tokens is not None:
        parameters = law.best_parameters(counting(budget.tokens, budget))
        return parameters, budget.tokens, nearest(parameters)
    if budget.flops is not None:
        parameters, tokens = split(budget.flops, law, budget)
        return parameters, tokens, nearest(parameters)
    if rate is None:
        raise UsageError(
            "--hours without a rate", accepted="--rate FLOP/s, --measure, or --runs, whose own rate is taken"
        )
    assert budget.hours is not None
    shape = nearest(FIRST_GUESS)
    for _ in range(MAX_ROUNDS):
        before = shape
        parameters, tokens = split(budget.hours * 3600 * rate(spec_for(budget.family, shape)), law, budget)
        shape = nearest(parameters)
        if shape == before:
            break
    return parameters, tokens, shape


def split(flops: float, law: ScalingLaw, budget: Budget) -> tuple[float, float]:
    """Return the best N and D for some work."""
    if budget.unique_tokens is None:
        return law.best_split(flops)
    return law.best_split_repeating(flops, budget.unique_tokens)


def best_interval(law: FittedLaw, budget: Budget, product: float) -> tuple[float, float]:
    """Return where the best N lies for the samples of a fitted law, given N D, or D where that is the budget."""
    if budget.tokens is not None:
        tokens = counting(budget.tokens, budget)
        return law.interval(lambda one: one.best_parameters(tokens))
    return law.interval(lambda one: split(FLOPS_PER_PARAMETER * product, one, budget)[0])


def fitting(spec: ModelSpec, tokens: int, batch_rows: int, budget: Budget) -> Plan:
    """Return what the run costs in memory, in micro-batches of half the rows until it fits or a row is left."""
    plan = make_plan(
        blank(spec, device="meta"),
        tokens=tokens,
        micro_rows=batch_rows,
        max_seq_len=spec.max_seq_len,
        gradient_checkpointing=False,
        optimizer=budget.optimizer,
        dtype=budget.dtype,
    )
    lasting = plan.memory_bytes - bytes_of(plan, spec)
    while plan.memory_bytes > MEMORY_LIMIT * plan.free_bytes and plan.micro_rows > 1:
        plan = replace(plan, micro_rows=-(-plan.micro_rows // 2))
        plan = replace(plan, memory_bytes=lasting + bytes_of(plan, spec))
    return plan


def notes(plan: RunPlan, budget: Budget, law: ScalingLaw | FittedLaw, largest_flops: float | None) -> Iterator[str]:
    """Yield what a reader of a plan should doubt."""
    if isinstance(law, ScalingLaw):
        yield "the loss is that of the law's own text and tokenizer, not of yours; with --runs it is of yours"
        (small, large), (short, long) = FITTED_PARAMETERS, FITTED_TOKENS
        if not (small <= plan.parameters <= large and short <= plan.tokens <= long):
            yield (
                f"the law was fitted from {small:.0e} to {large:.1e} parameters and {short:.0e} to {long:.0e} tokens; "
                "this is outside"
            )
    elif largest_flops is not None and plan.flops > FAR_AHEAD * largest_flops:
        yield f"the plan is {plan.flops / largest_flops:,.0f} times the work of the largest run that was fitted"
    off = plan.parameters / plan.best_parameters - 1
    if abs(off) > FAR_OFF:
        how = "larger" if off > 0 else "smaller"
        yield f"the nearest model with this vocabulary is {abs(off):.0%} {how} than the best"
    low, high = HYPERPARAMETER_RANGE_FLOPS
    if not low * (1 - FAR_OFF) <= plan.flops <= high * (1 + FAR_OFF):
        yield f"batch and learning rate follow laws measured from {low:.0e} to {high:.0e} FLOPs; this is outside"
    passes = 0.0 if budget.unique_tokens is None else plan.tokens / budget.unique_tokens
    if passes > FEW_PASSES:
        yield f"the text is read {passes:,.1f} times; beyond {FEW_PASSES} reading again teaches little"
    if plan.memory.memory_bytes > MEMORY_LIMIT * plan.memory.free_bytes:
        yield f"it does not fit here: {gigabytes(plan.memory.memory_bytes)} of {gigabytes(plan.memory.free_bytes)} free"


def recipe_for(
    plan: RunPlan, group: RunGroup, *, name: str, data: str | None = None, tokenizer: str | None = None
) -> PretrainRecipe:
    """Return the recipe of a plan; what the plan does not say is as in the largest of the runs, or as by default.

    Raises:
        UsageError: there are no runs, and no text or tokenizer is named.
    """
    last = group.runs[-1].recipe if group.runs else None
    text, cut = data or (last and last.data), tokenizer or (last and last.tokenizer)
    if text is None or cut is None:
        raise UsageError("a recipe needs text and a tokenizer", accepted="--data TEXT --tokenizer TOKENIZER, or --runs")
    shape = plan.shape
    settings = {} if last is None else last.model_dump(exclude={"steps", "micro_rows", "model", "dtype", "compile"})
    if data is not None:
        settings["validation"] = None  # that of the runs was held out of other text
    micro_rows = plan.memory.micro_rows
    settings |= {
        "name": name,
        "data": text,
        "tokenizer": cut,
        "model": {
            "family": plan.spec.family,
            "dim": shape.dim,
            "num_layers": shape.num_layers,
            "num_heads": shape.num_heads,
        },
        "max_seq_len": shape.max_seq_len,
        "batch_rows": plan.batch_rows,
        "micro_rows": None if micro_rows == plan.batch_rows else micro_rows,
        "steps": plan.steps,
        "optimizer": {**settings.get("optimizer", {}), "learning_rate": plan.learning_rate},
    }
    return validate(PretrainRecipe, settings, source="the plan")


def write_recipe(path: Path, recipe: PretrainRecipe) -> None:
    """Write a recipe; raises UsageError where there is no such directory."""
    if not path.parent.is_dir():
        raise UsageError(f"{path}: there is no directory {path.parent}", fix="make it, or choose another")
    atomic_write_text(path, to_yaml(recipe))
