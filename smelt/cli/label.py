"""`smelt label`: what kind of text this is, or what its words are, by whichever head a model has."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from smelt.cli.common import Json, make_app, open_checkpoint, print_json, print_table, text_from

if TYPE_CHECKING:
    from smelt.models.encoder_decoder import Network
    from smelt.tokenizers.pipeline import Pipeline

app = make_app()


@app.command()
def label(
    checkpoint: Annotated[str, typer.Argument(metavar="CKPT", help="A checkpoint or a run directory.")],
    text: Annotated[str | None, typer.Option(help="The text; else --text-file, or stdin.")] = None,
    text_file: Annotated[Path | None, typer.Option(help="Take the text from this file (UTF-8).")] = None,
    second: Annotated[str | None, typer.Option(help="A second text, where the model labels pairs.")] = None,
    json: Json = False,
) -> None:
    """Label a text or its words.

    Example: smelt label runs/names --text "Ada lives in Paris."
    """
    given = text_from(text, text_file, option="--text-file").strip()
    from smelt.models.readings import classify

    directory, model, tokenizer = open_checkpoint(checkpoint)
    if second is None and any(task.name == "token" for task in model.spec.tasks):
        label_words(model, tokenizer, given, json)
        return
    seconds = [] if second is None else [second]
    [choices] = classify(model, tokenizer, [given], seconds=seconds, temperature=temperature_of(directory))
    if json:
        print_json({"labels": {choice.text: choice.probability for choice in choices}})
        return
    rows = [(choice.text, f"{choice.probability:.4f}") for choice in choices]
    print_table(("label", "probability"), rows, numeric=("probability",))


def temperature_of(directory: Path) -> float:
    """Return the temperature that was fitted when a checkpoint was made, 1 where none was."""
    from smelt.models.hub import LINEAGE
    from smelt.models.shards import read_json

    lineage = read_json(directory / LINEAGE) if (directory / LINEAGE).is_file() else {}
    return float(lineage.get("metrics", {}).get("temperature", 1.0))


def label_words(model: Network, tokenizer: Pipeline, text: str, as_json: bool) -> None:
    """Show what the text names, by its words' labels."""
    from smelt.models.token_labels import find_entities

    [found] = find_entities(model, tokenizer, [text])
    spans = [(entity.label, entity.start, entity.stop) for entity in found]
    if as_json:
        shown = [{"label": kind, "start": start, "stop": stop, "text": text[start:stop]} for kind, start, stop in spans]
        print_json({"spans": shown})
        return
    rows = [(text[start:stop], kind, f"{start} to {stop}") for kind, start, stop in spans]
    print_table(("text", "label", "characters"), rows)
