"""`smelt runs`: what was trained, how far it came, and how two runs differ.

What is shown is read by `train.reading` from the run directories themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from smelt.cli.common import Json, make_app, print_json, print_table
from smelt.core.config import read_yaml
from smelt.core.errors import UsageError
from smelt.train.reading import check, differences, facts, flatten, validations

NUM_POINTS = 10  # losses shown side by side
RECIPE_PLACES = ("*/recipe.yaml", "*/*/recipe.yaml")  # runs/books and runs/quickstart/base
ABSENT = "-"

Run = Annotated[Path, typer.Argument(metavar="RUN", help="A run directory.")]
app = make_app(help="List, show and compare training runs.")


@app.command(name="list")
def list_runs(
    root: Annotated[Path, typer.Argument(help="Directory that holds the runs.")] = Path("runs"), json: Json = False
) -> None:
    """List the runs below a directory, newest first.

    Example: smelt runs list
    """
    if not root.is_dir():
        raise UsageError(f"{root}: no such directory", fix="smelt runs list DIRECTORY")
    paths = [path.parent for place in RECIPE_PLACES for path in root.glob(place)]
    found = sorted((facts(path) for path in paths), key=lambda run: str(run["updated"]), reverse=True)
    if json:
        print_json({"runs": found})
        return
    rows = [
        (
            run["run"],
            f"{run['step']}/{run['steps'] or '?'}",
            number(run["train_loss"]),
            number(run["validation_loss"]),
            number(run["tokens_per_second"], ",.0f"),
            run["updated"],
        )
        for run in found
    ]
    numeric = ("steps", "loss", "validation", "tokens/s")
    print_table(("run", *numeric, "last step"), rows, numeric=numeric)
    if not rows:
        print(f"no run in {root}")


@app.command()
def show(run: Run, json: Json = False) -> None:
    """Show a run's last metrics, its validations and its checkpoints.

    Example: smelt runs show runs/books
    """
    values = facts(check(run))
    events = read(run)[1]
    last = (read(run)[0] or [{}])[-1]
    held_out = validations(events)
    checkpoints = sorted(path.name for path in (run / "checkpoints").glob("step-*") if path.is_dir())
    if json:
        print_json({**values, "last": last, "validations": held_out, "checkpoints": checkpoints})
        return
    print(f"{run}: step {values['step']} of {values['steps'] or '?'}, last step {values['updated']}")
    print_table(("", ""), [(name, value_text(value)) for name, value in last.items()])
    if held_out:
        rows = [(str(step), f"{loss:.4f}") for step, loss in held_out]
        print_table(("step", "validation loss"), rows, numeric=("step", "validation loss"))
    print(f"checkpoints: {', '.join(checkpoints) or 'none'}, newest {values['checkpoint'] or 'none'}")
    if (run / "report.md").is_file():
        print(f"report: {run / 'report.md'}")


@app.command()
def compare(
    first: Run,
    second: Run,
    json: Json = False,
) -> None:
    """Show where two recipes differ, and their losses side by side.

    Example: smelt runs compare runs/books runs/books-2
    """
    paths = [check(first), check(second)]
    recipes = [flatten(read_yaml(path / "recipe.yaml")) for path in paths]
    changed = differences(*recipes)
    found = [facts(path) for path in paths]
    if json:
        print_json({"differences": changed, "runs": found})
        return
    names = tuple(str(path) for path in paths)
    rows: list[tuple[str, ...]] = [(key, value_text(one), value_text(other)) for key, (one, other) in changed.items()]
    print_table(("recipe", *names), rows)
    print()
    losses = [{line["step"]: line["loss"] for line in read(path)[0]} for path in paths]
    held_out = [dict(validations(read(path)[1])) for path in paths]
    steps = spread(sorted(set(losses[0]) | set(losses[1])), NUM_POINTS)
    rows = [("training, " + str(step), *(number(table.get(step)) for table in losses)) for step in steps]
    both = spread(sorted(set(held_out[0]) | set(held_out[1])), NUM_POINTS)
    rows += [("validation, " + str(step), *(number(table.get(step)) for table in held_out)) for step in both]
    rows.append(("tokens/s", *(number(run["tokens_per_second"], ",.0f") for run in found)))
    print_table(("loss at step", *names), rows, numeric=names)


def read(run: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return a run's metrics and events."""
    from smelt.train.run import RunDirectory

    files = RunDirectory(run.resolve().parent, run.resolve().name)
    return files.read_metrics(), files.read_events()


def spread(steps: Sequence[int], num: int) -> list[int]:
    """Return about `num` steps at equal distances, with the first and the last."""
    if len(steps) <= num:
        return list(steps)
    return [steps[round(place * (len(steps) - 1) / (num - 1))] for place in range(num)]


def number(value: float | None, form: str = ".4f") -> str:
    """Return a number in a form, or a dash where there is none."""
    return ABSENT if value is None else format(value, form)


def value_text(value: Any) -> str:
    """Return a setting or a metric for people."""
    if value is None:
        return ABSENT
    return f"{value:,.6g}" if isinstance(value, float) else str(value)
