"""`smelt triples`: what a text states, as subject, relation and object, by an encoder that points at pieces."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from smelt.cli.common import Json, make_app, open_checkpoint, print_json, print_table, text_from

app = make_app()


@app.command()
def triples(
    checkpoint: Annotated[str, typer.Argument(metavar="CKPT", help="A checkpoint or a run directory.")],
    text: Annotated[str | None, typer.Option(help="The text; else --text-file, or stdin.")] = None,
    text_file: Annotated[Path | None, typer.Option(help="Take the text from this file (UTF-8).")] = None,
    prompt: Annotated[str | None, typer.Option(help="Show the pieces that this prompt asks for instead.")] = None,
    threshold: Annotated[float, typer.Option(help="How probable both ends of a piece must be.")] = 0.5,
    json: Json = False,
) -> None:
    """Find the triples of a text, asking for the relations that the checkpoint was trained on.

    Example: smelt triples runs/faults --text "The pump leaks."
    """
    given = text_from(text, text_file, option="--text-file")
    from smelt.models.span_readings import pieces_of, schema_of
    from smelt.models.span_readings import triples as find

    directory, model, tokenizer = open_checkpoint(checkpoint)
    if prompt is not None:
        pieces = pieces_of(model, tokenizer, prompt, given, threshold=threshold)
        if json:
            print_json({"pieces": [vars(piece) for piece in pieces]})
            return
        cells = [(piece.text, f"{piece.start} to {piece.stop}", f"{piece.probability:.4f}") for piece in pieces]
        print_table(("piece", "characters", "probability"), cells, numeric=("probability",))
        return
    found = find(model, tokenizer, given, schema_of(directory), threshold=threshold)
    if json:
        names = ("subject", "relation", "object")
        print_json({"triples": [dict(zip(names, triple, strict=True), probability=p) for triple, p in found.items()]})
        return
    rows = [(*triple, f"{probability:.4f}") for triple, probability in found.items()]
    print_table(("subject", "relation", "object", "probability"), rows, numeric=("probability",))
