"""`smelt answer`: the piece of a text that answers a question, by an encoder that points at spans."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from smelt.cli.common import Json, make_app, open_checkpoint, print_json, text_from
from smelt.cli.generate import for_screen

app = make_app()


@app.command()
def answer(
    checkpoint: Annotated[str, typer.Argument(metavar="CKPT", help="A checkpoint or a run directory.")],
    question: Annotated[str, typer.Option(help="The question.")],
    text: Annotated[
        str | None, typer.Option(help="The text that holds the answer; else --text-file, or stdin.")
    ] = None,
    text_file: Annotated[Path | None, typer.Option(help="Take the text from this file (UTF-8).")] = None,
    max_answer_tokens: Annotated[int, typer.Option(min=1, help="The longest answer.")] = 30,
    json: Json = False,
) -> None:
    """Find the answer to a question in a text.

    Example: smelt answer runs/squad --question "Where is the mill?" --text-file town.txt
    """
    given = text_from(text, text_file, option="--text-file")
    from smelt.models.span_readings import answer as find_answer

    model, tokenizer = open_checkpoint(checkpoint)[1:]
    found = find_answer(model, tokenizer, question, given, max_answer_tokens=max_answer_tokens)
    if json:
        print_json({"answer": found.text, "start": found.start, "stop": found.stop, "probability": found.probability})
        return
    print(for_screen(found.text))
