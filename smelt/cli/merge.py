"""`smelt merge`: several checkpoints into one, an adapter into its base, or several adapters into one.

The parents are only read. Of checkpoints the result is written tensor by tensor, so that models larger than the memory
can be merged too.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Set
from pathlib import Path
from typing import Annotated, Any

import typer

from smelt.cli.common import Json, make_app, plural, print_json
from smelt.core.errors import UsageError
from smelt.core.log import LiveLine, say

app = make_app()


@app.command()
def merge(
    checkpoints: Annotated[list[str], typer.Argument(metavar="CKPT ...", help="Checkpoints or runs; or adapters.")],
    out: Annotated[Path, typer.Option(help="Directory for the new checkpoint.")],
    method: Annotated[
        str | None, typer.Option(help="linear, slerp, ties or task; of adapters stack or linear.")
    ] = None,
    weights: Annotated[str | None, typer.Option(help="A number for each, as 0.7,0.3 [default: equal ones]")] = None,
    base: Annotated[str | None, typer.Option(help="What all were tuned from, for ties and task.")] = None,
    density: Annotated[float | None, typer.Option(help="Share of the changes that ties keeps [default: 0.2]")] = None,
    scale: Annotated[float | None, typer.Option(help="Factor of the changes, for ties and task [default: 1]")] = None,
    rank: Annotated[int | None, typer.Option(help="Rank to cut a stack of adapters to [default: all of it]")] = None,
    json: Json = False,
) -> None:
    """Merge the weights of checkpoints of one network, an adapter into its base, or adapters of one base.

    Example: smelt merge runs/one runs/two --weights 0.7,0.3 --out merged
    """
    started = time.perf_counter()
    refuse_out(out, [*checkpoints, *([base] if base else [])])
    options = {"method": method, "weights": weights, "base": base, "density": density, "scale": scale, "rank": rank}
    given = [name for name, value in options.items() if value is not None]
    if are_adapters(checkpoints):
        if len(checkpoints) == 1:
            values = merge_into_base(checkpoints[0], out, given)
        else:
            refuse_options(given, {"method", "weights", "rank"}, "adapters")
            values = join(checkpoints, out, method or "stack", weights, rank)
    else:
        refuse_options(given, options.keys() - {"rank"}, "whole checkpoints")
        values = merge_weights(checkpoints, out, method or "linear", weights, base, density, scale)
    values["seconds"] = round(time.perf_counter() - started, 2)
    if json:
        print_json(values)
    else:
        show(values)


def are_adapters(checkpoints: list[str]) -> bool:
    """Tell whether adapters are to be merged; raises UsageError for one beside whole checkpoints."""
    from smelt.core.storage import checkpoint_at
    from smelt.peft.load import is_adapter

    adapters = [path for path in checkpoints if is_adapter(checkpoint_at(path))]
    if adapters and len(adapters) < len(checkpoints):
        raise UsageError(
            f"{adapters[0]} is an adapter, merged with other checkpoints",
            accepted="whole checkpoints, or adapters alone",
            fix=f"smelt merge {shlex.quote(adapters[0])} --out WHOLE, then merge WHOLE",
        )
    return bool(adapters)


def refuse_options(given: list[str], known: Set[str], what: str) -> None:
    """Raise UsageError for an option that nothing would look at."""
    for name in given:
        if name not in known:
            raise UsageError(f"--{name} with {what}", accepted=", ".join(f"--{each}" for each in sorted(known)))


def join(adapters: list[str], out: Path, method: str, weights: str | None, rank: int | None) -> dict[str, Any]:
    """Make one adapter of several and return what became of them."""
    from smelt.peft.joined import join_adapters

    given = None if weights is None else numbers(weights)
    joined = join_adapters(adapters, out, method=method, weights=given, rank=rank)
    return {
        "checkpoint": str(joined.out),
        "method": joined.method,
        "weights": list(joined.weights),
        "rank": joined.rank,
        "parents": joined.parents,
        "parameters": joined.num_parameters,
        "dtype": "float32",
    }


def merge_into_base(adapter: str, out: Path, options: list[str]) -> dict[str, Any]:
    """Merge an adapter into its base and return what became of it."""
    from smelt.peft.merged import merge_adapter

    if options:
        raise UsageError(f"--{options[0]} with {adapter}, an adapter", accepted="--out and --json alone")
    merged = merge_adapter(adapter, out)
    return {
        "checkpoint": str(out),
        "method": merged.method,
        "parents": merged.parents,
        "parameters": merged.num_parameters,
        "dtype": "float32",
        "largest_logit_difference": merged.largest_difference,
        "largest_logit": merged.largest_logit,
    }


def merge_weights(
    checkpoints: list[str],
    out: Path,
    method: str,
    weights: str | None,
    base: str | None,
    density: float | None,
    scale: float | None,
) -> dict[str, Any]:
    """Merge checkpoints and return what became of them."""
    from smelt.models.merge_files import Merge, merge_checkpoints

    given = None if weights is None else numbers(weights)
    settings = Merge.of(
        method, len(checkpoints), weights=given, has_base=base is not None, density=density, scale=scale
    )
    line = LiveLine()
    merged = merge_checkpoints(
        checkpoints, out, settings, base=base, on_progress=lambda done, total: line.update(f"tensor {done} of {total}")
    )
    line.close()
    if merged.num_straight:
        say(
            f"note: {merged.num_straight} of {plural(merged.num_tensors, 'tensor')} are nearly parallel or opposite; "
            "their slerp is linear"
        )
    values: dict[str, Any] = {"checkpoint": str(merged.out), **settings.settings(), "parents": merged.parents}
    values |= {"tensors": merged.num_tensors, "parameters": merged.num_parameters, "dtype": merged.dtype}
    return values | ({"straight_tensors": merged.num_straight} if method == "slerp" else {})


def numbers(text: str) -> list[float]:
    """Return the numbers of a list such as "0.7,0.3"; raises UsageError."""
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise UsageError(f"--weights {text}", accepted="numbers with commas between them, as 0.7,0.3") from None


def refuse_out(out: Path, sources: list[str]) -> None:
    """Refuse to write over a source, or over anything else."""
    for source in sources:
        if out.resolve().is_relative_to(Path(source).resolve()):
            raise UsageError(f"{out} would be written over its source, {source}", fix="--out ANOTHER_DIRECTORY")
    if out.is_file() or (out.is_dir() and any(out.iterdir())):
        raise UsageError(
            f"{out} is {'a file' if out.is_file() else 'not empty'}",
            accepted="a new directory",
            fix="--out ANOTHER_DIRECTORY",
        )


def show(values: dict[str, Any]) -> None:
    """Print what became of a merge."""
    print(f"checkpoint  {values['checkpoint']}")
    if "largest_logit_difference" in values:
        base = next(parent["path"] for parent in values["parents"] if parent["role"] == "base")
        difference, largest = values["largest_logit_difference"], values["largest_logit"]
        print(f"method      {values['method']} into {base}")
        print(
            f"logits      differ by {difference:.2g} at most from the unmerged adapter's (the largest is {largest:.3g})"
        )
    else:
        details = [f"{name} {values[name]:g}" for name in ("density", "scale", "rank") if name in values]
        weights = ", ".join(f"{weight:g}" for weight in values["weights"])
        print(f"method      {' · '.join([values['method'], f'weights {weights}', *details])}")
    print(f"result      {values['parameters']:,} parameters of {values['dtype']}")
