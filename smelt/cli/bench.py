"""`smelt bench`: how fast a checkpoint answers on this machine, alone and for several at once."""

from __future__ import annotations

from typing import Annotated

import typer

from smelt.cli.common import Json, make_app, open_checkpoint, print_json, print_table
from smelt.core.errors import UsageError

app = make_app()
HEADINGS = ("streams", "first token ms", "between two ms", "tokens/s")


@app.command()
def bench(
    checkpoint: Annotated[str, typer.Argument(metavar="CKPT", help="A checkpoint or a run directory.")],
    streams: Annotated[str, typer.Option(help="How many at once, one after another.")] = "1,4,16",
    prompt_tokens: Annotated[int, typer.Option(help="Tokens of each prompt.")] = 128,
    new_tokens: Annotated[int, typer.Option(help="Tokens of each answer.")] = 128,
    weights: Annotated[
        str | None, typer.Option(help="fp32, bf16, int8 or int4 while decoding; else as the model has them.")
    ] = None,
    json: Json = False,
) -> None:
    """Time the first token, those that follow, and all of them together.

    Prompts are random tokens; nothing ends an answer early.

    Example: smelt bench runs/books --streams 1,4,16
    """
    from smelt.infer.engine import Engine
    from smelt.infer.limits import EngineSettings
    from smelt.infer.measure import measure

    counts = _counts(streams)
    model, tokenizer = open_checkpoint(checkpoint)[1:]
    most = max(counts)
    settings = EngineSettings(max_running=most, max_waiting=most, weights=weights)  # type: ignore[arg-type]  # checked there
    engine = Engine(model, tokenizer, settings=settings)
    measure(engine, 1, 1, 2)  # compiles, or loads what was compiled
    found = [measure(engine, count, prompt_tokens, new_tokens) for count in counts]
    if json:
        print_json(
            {
                "streams": counts,
                "ttft_ms": [round(one.ttft_ms, 3) for one in found],
                "inter_token_ms": [round(one.inter_token_ms, 4) for one in found],
                "tokens_per_second": [round(one.tokens_per_second, 2) for one in found],
            }
        )
        return
    rows = [
        (str(one.streams), f"{one.ttft_ms:.1f}", f"{one.inter_token_ms:.2f}", f"{one.tokens_per_second:,.0f}")
        for one in found
    ]
    print_table(HEADINGS, rows, numeric=HEADINGS)


def _counts(text: str) -> list[int]:
    """Return the numbers between commas."""
    try:
        counts = [int(part) for part in text.split(",")]
    except ValueError:
        counts = []
    if not counts or min(counts) < 1:
        raise UsageError(f"--streams '{text}'", accepted="whole numbers, 1 or more, between commas: 1,4,16")
    return counts
