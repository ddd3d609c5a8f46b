"""`smelt data synth`: let a teacher write instruction data, with the cost shown before.

What is written is a recipe, as key=value words or a file; who answers and how is said by options. Nothing here imports
torch unless the teacher is a checkpoint.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from smelt.cli.common import Json, RecipeCommand, Words, at_terminal, plural, print_json, recipe_of
from smelt.core.errors import UsageError
from smelt.core.log import say

if TYPE_CHECKING:
    from smelt.data.synth.job import Cost
    from smelt.data.synth.recipe import SynthRecipe
    from smelt.data.synth.teacher import Teacher
    from smelt.data.synth.write import SynthReport

MILLION = 1_000_000


class SynthCommand(RecipeCommand):
    """The command with the keys of its recipe in the help."""

    recipe = ("smelt.data.synth.recipe", "SynthRecipe")


def synth(
    words: Words = None,
    out: Annotated[
        Path | None, typer.Option(help="The file of rows, NAME.jsonl; one that was begun is gone on with.")
    ] = None,
    endpoint: Annotated[
        str | None, typer.Option(help="An OpenAI-compatible server, as http://127.0.0.1:8000/v1.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="The name of the model there.")] = None,
    checkpoint: Annotated[str | None, typer.Option(help="Or the teacher is this checkpoint or run.")] = None,
    key_file: Annotated[Path | None, typer.Option(help="A file that holds the server's key.")] = None,
    key_variable: Annotated[str | None, typer.Option(help="Or an environment variable that does.")] = None,
    parallel: Annotated[int, typer.Option(min=1, max=256, help="Requests under way at a time.")] = 4,
    price_in: Annotated[float, typer.Option(min=0, help="Price of a million tokens in a prompt.")] = 0.0,
    price_out: Annotated[float, typer.Option(min=0, help="Price of a million tokens of reply.")] = 0.0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan and its cost, ask nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before the start.")] = False,
    write_prompts: Annotated[
        Path | None, typer.Option(help="Only write the prompts to this file, to be changed.")
    ] = None,
    json: Json = False,
) -> None:
    """Let a teacher write instructions and answers: self-instruct, evol-instruct, explain, textbook.

    Example: smelt data synth method=self-instruct data=seeds.jsonl --endpoint URL --model NAME --out new.jsonl
    """
    from smelt.data.synth.recipe import SynthRecipe
    from smelt.data.synth.write import estimate_costs, synthesize

    if write_prompts is not None:
        copy_prompts(write_prompts)
        return
    recipe: SynthRecipe = recipe_of(SynthRecipe, words or [], resume=False)
    if (endpoint is None) == (checkpoint is None) or (endpoint is None) != (model is None) or out is None:
        raise UsageError(
            "who answers, and where to?", accepted="--endpoint URL --model NAME or --checkpoint PATH, and --out"
        )
    key = None if endpoint is None else key_from(key_file, key_variable)
    costs, prices = estimate_costs(recipe), (price_in, price_out)
    plan = [f"plan: {recipe.method} by {model or checkpoint} into {out}", *lines_of(costs, prices)]
    if dry_run:
        if json:
            print_json(plan_values(costs, prices))
        else:
            print("\n".join(plan))
        return
    say("\n".join(plan))
    if not yes and at_terminal() and not typer.confirm("start?", default=True, err=True):
        say("nothing was done")
        raise typer.Exit(1)
    report = synthesize(recipe, teacher_of(endpoint, model, checkpoint, key, parallel), out, parallel=parallel)
    if json:
        print_json({**report.as_dict(), "money": money(report.prompt_tokens, report.reply_tokens, prices)})
    else:
        show(report, prices)


def copy_prompts(path: Path) -> None:
    """Write the prompts of smelt to a file that is not there yet."""
    from smelt.data.synth.prompts import FILE

    if path.exists():
        raise UsageError(f"{path} is there already", fix="give another file")
    path.write_bytes(FILE.read_bytes())
    print(f"prompts  {path}\nnext     change them, and give prompts={path}")


def key_from(file: Path | None, variable: str | None) -> str | None:
    """Return the key that a file or an environment variable holds, None where neither is named."""
    from smelt.core.runtime import secret

    if file is not None and variable is not None:
        raise UsageError("--key-file and --key-variable", accepted="one of the two")
    if file is None and variable is None:
        return None
    if file is not None and not file.is_file():
        raise UsageError(f"--key-file {file}: no such file", fix="check the path")
    value = file.read_text(encoding="utf-8", errors="replace") if file is not None else secret(variable or "")
    if not value.strip():
        where = f"--key-file {file}" if file is not None else f"--key-variable {variable}"
        raise UsageError(f"{where} holds no key", fix="check its name")
    return value.strip()


def teacher_of(
    endpoint: str | None, model: str | None, checkpoint: str | None, key: str | None, parallel: int
) -> Teacher:
    """Return the teacher that the options name."""
    if endpoint is not None and model is not None:
        from smelt.data.synth.endpoint import EndpointTeacher

        return EndpointTeacher(endpoint, model, key=key)
    from smelt.core import runtime
    from smelt.infer.teacher import CheckpointTeacher

    assert checkpoint is not None, "the options were checked"
    runtime.prepare_process()
    return CheckpointTeacher(checkpoint, parallel=parallel)


def money(tokens_in: int | None, tokens_out: int | None, prices: tuple[float, float]) -> float | None:
    """Return what tokens cost, None where no price is given or the tokens are not known."""
    if not any(prices) or tokens_in is None or tokens_out is None:
        return None
    return (tokens_in * prices[0] + tokens_out * prices[1]) / MILLION


def plan_values(costs: Sequence[Cost], prices: tuple[float, float]) -> dict[str, Any]:
    """Return the plan as plain values."""
    totals = [
        sum(cost.requests for cost in costs),
        sum(cost.tokens_in for cost in costs),
        sum(c.tokens_out for c in costs),
    ]
    return {
        "requests": totals[0],
        "tokens_in": totals[1],
        "tokens_out": totals[2],
        "money": money(totals[1], totals[2], prices),
        "steps": {cost.what: cost.requests for cost in costs},
    }


def lines_of(costs: Sequence[Cost], prices: tuple[float, float]) -> list[str]:
    """Return the plan in lines: what is asked at most, and what it costs at most."""
    values = plan_values(costs, prices)
    steps = " + ".join(f"{cost.requests:,} {cost.what}" for cost in costs)
    lines = [
        f"  requests  at most {values['requests']:,}" + (f" = {steps}" if len(costs) > 1 else f" {steps.split()[-1]}"),
        f"  tokens    about {values['tokens_in']:,} in (4 bytes a token), at most {values['tokens_out']:,} out",
    ]
    if values["money"] is not None:
        lines.append(f"  money     at most {values['money']:,.2f}, at {prices[0]:g} and {prices[1]:g} a million tokens")
    return [*lines, "  time      told after the first request"]


def show(report: SynthReport, prices: tuple[float, float]) -> None:
    """Print what was made."""
    refused = ", ".join(f"{reason} {count:,}" for reason, count in report.refused.items())
    tokens = " · tokens not told"
    if report.prompt_tokens is not None and report.reply_tokens is not None:
        tokens = f" · {report.prompt_tokens:,} tokens in, {report.reply_tokens:,} out"
    spent = money(report.prompt_tokens, report.reply_tokens, prices)
    print(f"rows        {report.rows:,} in {report.file}")
    print(
        f"refused     {sum(report.refused.values()):,} in {report.refused_file}" + (f": {refused}" if refused else "")
    )
    print(f"asked       {plural(report.requests, 'request')}, {report.asked:,} of them now{tokens}")
    if spent is not None:
        print(f"money       {spent:,.4f}")
    if report.rows:
        print(f"next        smelt data inspect {report.file}")
