"""`smelt plan`: from a budget in FLOPs, hours or tokens to a model, its text, its batches and the loss to expect.

Without `--runs` a published law decides; with them a law is fitted to the user's own finished runs, and what it
predicts for the next one has an interval. The plan can be written as a recipe for `smelt pretrain`, and as a plot.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from smelt.cli.common import Json, make_app, print_json, print_table
from smelt.cli.tokenizer_compare import check_plot
from smelt.core.errors import UsageError, nearest
from smelt.core.log import say

if TYPE_CHECKING:
    from smelt.models.scaling_fit import FittedLaw
    from smelt.models.scaling_laws import ScalingLaw
    from smelt.train.budget import Budget, Rate, RunPlan
    from smelt.train.finished import RunGroup

DEFAULT_LAW = "besiroglu"
DEFAULT_FAMILY, DEFAULT_VOCABULARY, DEFAULT_CONTEXT = "llama", 8192, 256
OWN = "runs"  # the name of a law that was fitted to them
app = make_app()


@app.command()
def plan(
    more: Annotated[list[Path] | None, typer.Argument(metavar="[RUN ...]", help="More of --runs.")] = None,
    flops: Annotated[float | None, typer.Option(help="Budget: work of forward and backward, such as 1e17.")] = None,
    hours: Annotated[float | None, typer.Option(help="Budget: time, at a rate.")] = None,
    tokens: Annotated[float | None, typer.Option(help="Budget: tokens to train on.")] = None,
    rate: Annotated[float | None, typer.Option(help="FLOP/s at which a model trains [default: the runs']")] = None,
    measure: Annotated[bool, typer.Option("--measure", help="Measure the rate here, for some seconds.")] = False,
    runs: Annotated[list[Path] | None, typer.Option(help="Finished runs to fit a law to, or their folder.")] = None,
    law: Annotated[str | None, typer.Option(help=f"Published law [default: {DEFAULT_LAW}, or one of --runs]")] = None,
    family: Annotated[str | None, typer.Option(help=f"Family [default: the runs', or {DEFAULT_FAMILY}]")] = None,
    vocab_size: Annotated[
        int | None, typer.Option(help=f"Vocabulary [default: the tokenizer's, the runs', or {DEFAULT_VOCABULARY}]")
    ] = None,
    max_seq_len: Annotated[
        int | None, typer.Option(min=2, help=f"Tokens in a row [default: the runs', or {DEFAULT_CONTEXT}]")
    ] = None,
    unique_tokens: Annotated[float | None, typer.Option(help="New tokens there are [default: the runs']")] = None,
    tokenizer: Annotated[str | None, typer.Option(help="Tokenizer of the recipe [default: the runs']")] = None,
    data: Annotated[str | None, typer.Option(help="Text of the recipe [default: the runs']")] = None,
    out: Annotated[Path | None, typer.Option(help="Write a recipe for `smelt pretrain` to this file.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Write a plot to this .png, .svg or .pdf file.")] = None,
    json: Json = False,
) -> None:
    """Plan a run from a budget, by a published law or by one fitted to finished runs.

    Example: smelt plan --hours 8 --measure --runs runs/* --plot plan.png --out next.yaml
    """
    from smelt.train.budget import plan_run, recipe_for, write_recipe
    from smelt.train.finished import read_runs

    if plot is not None:
        check_plot(plot, option="--plot")
    group = read_runs([*(runs or ()), *(more or ())])
    for path, reason in group.skipped:
        say(f"left out: {path} {reason}")
    own = law is None and bool(runs or more)
    named, chosen = (OWN, fitted(group)) if own else published(law or DEFAULT_LAW)
    given = {"family": family, "vocab_size": vocabulary(vocab_size, tokenizer), "max_seq_len": max_seq_len}
    amounts = {"flops": flops, "hours": hours, "tokens": tokens, "unique_tokens": unique_tokens}
    budget = make_budget(group, given, amounts, own=own)
    largest = group.runs[-1].flops if own else None
    made = plan_run(budget, chosen, rate=choose_rate(group, budget, rate, measure), largest_flops=largest)
    if out is not None:
        write_recipe(out, recipe_for(made, group, name=out.stem, data=data, tokenizer=tokenizer))
    if plot is not None:
        from smelt.cli.plan_plot import draw

        draw(plot, made, budget, chosen, group if own else None)
    if json:
        print_json(as_values(made, named, chosen, group, out))
        return
    show(made, named, chosen, group)
    for what, written in (("plot", plot), ("recipe", out)):
        if written is not None:
            print(f"{what:<15}{written}")


def fitted(group: RunGroup) -> FittedLaw:
    """Fit a law to the runs."""
    from smelt.models.scaling_fit import fit

    return fit(group.observations())


def published(name: str) -> tuple[str, ScalingLaw]:
    """Return a published law with its name; raises UsageError with the nearest for an unknown one."""
    from smelt.models.scaling_laws import LAWS

    if name not in LAWS:
        raise UsageError(f"no law '{name}'.{nearest(name, LAWS)}", accepted=", ".join(LAWS))
    return name, LAWS[name]


def vocabulary(vocab_size: int | None, tokenizer: str | None) -> int | None:
    """Return the vocabulary that is asked for, by number or by a tokenizer; raises UsageError for both."""
    from smelt.train.stages.pretrain import open_tokenizer

    if tokenizer is None:
        return vocab_size
    if vocab_size is not None:
        raise UsageError("--vocab-size and --tokenizer", accepted="one of the two")
    return open_tokenizer(tokenizer).vocab_size


def make_budget(group: RunGroup, given: Mapping[str, Any], amounts: Mapping[str, float | None], *, own: bool) -> Budget:
    """Return the budget, with what is not given taken from the largest run.

    Raises:
        UsageError: a setting that the runs of a fitted law did not have.
    """
    from smelt.core import runtime
    from smelt.optim.build import OptimizerRecipe
    from smelt.train.budget import Budget

    last = group.runs[-1] if group.runs else None
    usual = {"family": DEFAULT_FAMILY, "vocab_size": DEFAULT_VOCABULARY, "max_seq_len": DEFAULT_CONTEXT}
    sizes: dict[str, Any] = {name: getattr(last, name, default) for name, default in usual.items()}
    for name, value in given.items():
        if own and value not in (None, sizes[name]):
            raise UsageError(
                f"{name} {value}, but the runs have {sizes[name]}",
                accepted="what the law was fitted to",
                fix="leave it out, or plan by a published law with --law",
            )
        sizes[name] = sizes[name] if value is None else value
    quantities: dict[str, Any] = dict(amounts)
    if quantities["unique_tokens"] is None and last is not None:
        quantities["unique_tokens"] = last.unique_tokens
    optimizer = (OptimizerRecipe() if last is None else last.recipe.optimizer).name
    return Budget(**quantities, **sizes, optimizer=optimizer, dtype=runtime.training_dtype())


def choose_rate(group: RunGroup, budget: Budget, rate: float | None, measure: bool) -> Rate | None:
    """Return FLOP/s as a function of the model: given, measured, those of the run nearest in size, or unknown."""
    from smelt.models.build import count_parameters
    from smelt.optim.build import OptimizerRecipe
    from smelt.train.finished import rate_of_nearest
    from smelt.train.measure import measured_flops_per_second

    if rate is not None and measure:
        raise UsageError("--rate and --measure", accepted="one of the two")
    if rate is not None:
        if not rate > 0:
            raise UsageError(f"--rate {rate:g}", accepted="FLOP/s above zero, such as 2e11")
        return lambda spec: rate
    if measure:
        optimizer = OptimizerRecipe(name=budget.optimizer)
        return cache(lambda spec: measured_flops_per_second(spec, optimizer, budget.dtype))
    return (lambda spec: rate_of_nearest(group, count_parameters(spec))) if group.runs else None


def show(plan: RunPlan, name: str, law: ScalingLaw | FittedLaw, group: RunGroup) -> None:
    """Print the plan, the runs that it rests on, and what to doubt."""
    print_table(("", ""), list(rows_of(plan, name, law, group)))
    if group.runs:
        print()
        print_runs(group, law)
    for note in plan.notes:
        print(f"note: {note}")


def rows_of(plan: RunPlan, name: str, law: ScalingLaw | FittedLaw, group: RunGroup) -> Iterator[tuple[str, str]]:
    """Yield the lines of the plan."""
    from smelt.models.scaling_fit import FittedLaw
    from smelt.train.plan import gigabytes

    formula = law.law if isinstance(law, FittedLaw) else law
    unit = group.unit if name == OWN else "nats a token"
    terms = f"{formula.A:.4g} / N^{formula.alpha:.3f} + {formula.B:.4g} / D^{formula.beta:.3f}"
    yield "law", f"{name}: {formula.E:.3f} + {terms} {unit}"
    if isinstance(law, FittedLaw):
        parts = [
            f"{letter} {low:.3g} to {high:.3g}"
            for letter in ("E", "alpha", "beta")
            for low, high in [law.interval(lambda one, letter=letter: getattr(one, letter))]  # type: ignore[misc]
        ]
        yield "  90 % within", ", ".join(parts)
    span = "" if plan.best_interval is None else " ({:,.0f} to {:,.0f} in 90 %)".format(*plan.best_interval)
    yield "best N, D", f"{plan.best_parameters:,.0f} parameters{span}, {plan.best_tokens:,.0f} tokens"
    shape = plan.shape
    sizes = f"{shape.num_layers} layers of width {shape.dim}, {shape.num_heads} heads, vocabulary {shape.vocab_size:,}"
    yield "model", f"{plan.spec.family}, {sizes}"
    yield "parameters", f"{plan.parameters:,}, of them {plan.parameters_without_tables:,} in the blocks and norms"
    yield "tokens", f"{plan.tokens:,} ({plan.tokens / plan.parameters:,.1f} a parameter)"
    rows = f"{plan.batch_rows:,} rows of {shape.max_seq_len:,}"
    yield "steps", f"{plan.steps:,} of {plan.batch_tokens:,} tokens ({rows})"
    yield "learning rate", f"{plan.learning_rate:g}"
    yield "work", f"{plan.flops:.3g} FLOPs"
    if plan.flops_per_second is not None:
        a_second = plan.tokens / plan.flops * plan.flops_per_second
        yield "time", f"{duration(plan.hours or 0)} at {plan.flops_per_second:.3g} FLOP/s, {a_second:,.0f} tokens/s"
    pieces = f", {plan.memory.micro_rows:,} rows at a time" if plan.memory.micro_rows < plan.batch_rows else ""
    yield "memory", f"about {gigabytes(plan.memory.memory_bytes)} of {gigabytes(plan.memory.free_bytes)} free{pieces}"
    between = "" if plan.loss_interval is None else " ({:.3f} to {:.3f} in 90 %)".format(*plan.loss_interval)
    yield "loss", f"{plan.loss:.3f}{between} {unit}"


def print_runs(group: RunGroup, law: ScalingLaw | FittedLaw) -> None:
    """Print the runs, with what the law says of each."""
    from smelt.models.scaling_fit import FittedLaw

    formula = law.law if isinstance(law, FittedLaw) else law
    rows = []
    for run, point in zip(group.runs, group.observations(), strict=True):
        predicted = float(formula.loss(point.parameters, point.tokens))
        counts = (f"{run.parameters:,}", f"{run.parameters_without_tables:,}", f"{run.tokens:,}", f"{run.flops:.2e}")
        off = f"{predicted / point.loss - 1:+.1%}"
        rows.append((str(run.path), *counts, f"{point.loss:.4f}", f"{predicted:.4f}", off))
    numeric = ("parameters", "in blocks", "tokens", "FLOPs", "loss", "law", "off")
    print_table(("run", *numeric), rows, numeric=numeric)


def duration(hours: float) -> str:
    """Write hours for people."""
    if hours < 1 / 60:
        return f"{hours * 3600:,.0f} seconds"
    return f"{hours * 60:,.1f} minutes" if hours < 1 else f"{hours:,.1f} hours"


def as_values(
    plan: RunPlan, name: str, law: ScalingLaw | FittedLaw, group: RunGroup, out: Path | None
) -> dict[str, Any]:
    """Return the plan as JSON has it."""
    from dataclasses import asdict

    from smelt.models.scaling_fit import FittedLaw

    formula = law.law if isinstance(law, FittedLaw) else law
    sizes = asdict(plan.shape)
    same = ("parameters", "tokens", "steps", "batch_rows", "batch_tokens", "learning_rate", "flops", "hours")
    letters = asdict(formula)
    constants: dict[str, Any] = {"name": name, **letters, "unit": group.unit if name == OWN else "nats a token"}
    if isinstance(law, FittedLaw):
        constants["intervals"] = {letter: law.interval(lambda one, k=letter: getattr(one, k)) for letter in letters}  # type: ignore[misc]
    return {
        **{key: getattr(plan, key) for key in same},
        "parameters_in_blocks": plan.parameters_without_tables,
        "best_parameters": plan.best_parameters,
        "best_tokens": plan.best_tokens,
        "best_parameters_interval": plan.best_interval,
        "memory_bytes": plan.memory.memory_bytes,
        "loss": plan.loss,
        "loss_interval": plan.loss_interval,
        "law": constants,
        "model": {"family": plan.spec.family, **sizes},
        "runs": [str(run.path) for run in group.runs],
        "left_out": dict(group.skipped),
        "notes": plan.notes,
        "recipe": out,
    }
