"""`smelt fill`: the likeliest words for the masks of a text, by an encoder with a language head."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from smelt.cli.common import Json, make_app, open_checkpoint, print_json, print_table, text_from

app = make_app()


@app.command()
def fill(
    checkpoint: Annotated[str, typer.Argument(metavar="CKPT", help="A checkpoint or a run directory.")],
    text: Annotated[str | None, typer.Option(help="Text with [MASK] where words are missing; else stdin.")] = None,
    text_file: Annotated[Path | None, typer.Option(help="Take the text from this file (UTF-8).")] = None,
    top_k: Annotated[int, typer.Option(min=1, help="Show so many words for each mask.")] = 5,
    json: Json = False,
) -> None:
    """Fill the masks of a text.

    Example: smelt fill runs/bert --text "The [MASK] is by the river."
    """
    given = text_from(text, text_file, option="--text-file").strip()
    from smelt.models.readings import fill as fill_masks

    model, tokenizer = open_checkpoint(checkpoint)[1:]
    [masks] = fill_masks(model, tokenizer, [given], top_k=top_k)
    if json:
        shown = [[{"text": choice.text, "probability": choice.probability} for choice in mask] for mask in masks]
        print_json({"masks": shown})
        return
    rows = [
        (str(number), choice.text, f"{choice.probability:.4f}")
        for number, mask in enumerate(masks, start=1)
        for choice in mask
    ]
    print_table(("mask", "word", "probability"), rows, numeric=("mask", "probability"))
