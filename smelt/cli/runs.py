"""`smelt runs`: what was trained, how far it came, and how two runs differ.

Everything is read from the run directories themselves (recipe.yaml, metrics.jsonl, events.jsonl), which any other
tool can read as well; there is no database that could disagree with them.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from smelt.cli.common import Json, make_app, print_json, print_table
from smelt.core.config import read_yaml
from smelt.core.errors import UsageError, nearest
from smelt.core.storage import read_pointer

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
    validations = [(event["step"], event["loss"]) for event in events if event["event"] == "validation"]
    checkpoints = sorted(path.name for path in (run / "checkpoints").glob("step-*") if path.is_dir())
    if json:
        print_json({**values, "last": last, "validations": validations, "checkpoints": checkpoints})
        return
    print(f"{run}: step {values['step']} of {values['steps'] or '?'}, last step {values['updated']}")
    print_table(("", ""), [(name, value_text(value)) for name, value in last.items()])
    if validations:
        rows = [(str(step), f"{loss:.4f}") for step, loss in validations]
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
    held_out = [{e["step"]: e["loss"] for e in read(path)[1] if e["event"] == "validation"} for path in paths]
    steps = spread(sorted(set(losses[0]) | set(losses[1])), NUM_POINTS)
    rows = [("training, " + str(step), *(number(table.get(step)) for table in losses)) for step in steps]
    both = spread(sorted(set(held_out[0]) | set(held_out[1])), NUM_POINTS)
    rows += [("validation, " + str(step), *(number(table.get(step)) for table in held_out)) for step in both]
    rows.append(("tokens/s", *(number(run["tokens_per_second"], ",.0f") for run in found)))
    print_table(("loss at step", *names), rows, numeric=names)


def check(run: Path) -> Path:
    """Return a run's path; raises UsageError with the nearest name where there is none."""
    if not (run / "recipe.yaml").is_file():
        siblings = [path.name for path in run.parent.iterdir() if path.is_dir()] if run.parent.is_dir() else []
        hint = nearest(run.name, [name for name in siblings if name != run.name])
        raise UsageError(f"{run} is not a run: no recipe.yaml there.{hint}", fix="smelt runs list")
    return run


def read(run: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return a run's metrics and events."""
    from smelt.train.run import RunDirectory

    files = RunDirectory(run.resolve().parent, run.resolve().name)
    return files.read_metrics(), files.read_events()


def facts(run: Path) -> dict[str, Any]:
    """Return what the list shows of a run; None for what is not there yet."""
    recipe = read_yaml(run / "recipe.yaml")
    metrics, events = read(run)
    last = metrics[-1] if metrics else {}
    held_out = [event["loss"] for event in events if event["event"] == "validation"]
    files = [path for name in ("metrics.jsonl", "recipe.yaml") if (path := run / name).is_file()]
    newest = read_pointer(run / "checkpoints" / "latest")
    return {
        "run": str(run),
        "step": last.get("step", 0),
        "steps": recipe.get("steps"),
        "train_loss": last.get("loss"),
        "validation_loss": held_out[-1] if held_out else None,
        "tokens_per_second": last.get("tokens_per_second"),
        "checkpoint": None if newest is None else str(newest),
        "updated": time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(files[0].stat().st_mtime)),
    }


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested settings under dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: value}
    return flat


def differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Return the keys whose values differ, with both; None stands for a key that is absent."""
    keys = [*one, *(key for key in other if key not in one)]
    return {key: (one.get(key), other.get(key)) for key in keys if one.get(key) != other.get(key)}


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
