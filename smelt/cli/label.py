"""`smelt label`: what kind of text this is, or what its words are, by whichever head a model has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from smelt.cli.common import Json, make_app, open_checkpoint, print_json, print_table, text_from
from smelt.core.errors import UsageError

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
    template: Annotated[
        str | None,
        typer.Option(help='Ask a language model: "{text} It was {word}"; its --word options are the labels.'),
    ] = None,
    word: Annotated[list[str] | None, typer.Option(help="LABEL=WORD for the template; may be repeated.")] = None,
    json: Json = False,
) -> None:
    """Label a text or its words.

    Example: smelt label runs/names --text "Ada lives in Paris."
    """
    given = text_from(text, text_file, option="--text-file").strip()
    from smelt.models.cloze import fill_labels, make_cloze
    from smelt.models.readings import classify

    directory, model, tokenizer = open_checkpoint(checkpoint)
    lineage = lineage_of(directory)
    asked = asked_for(template, word or [], lineage)
    if second is None and asked is None and any(task.name == "token" for task in model.spec.tasks):
        label_words(model, tokenizer, given, json)
        return
    seconds = [] if second is None else [second]
    temperature = 1.0 if template else float(lineage.get("metrics", {}).get("temperature", 1.0))
    if asked is None:
        [choices] = classify(model, tokenizer, [given], seconds=seconds, temperature=temperature)
    else:
        [choices] = fill_labels(make_cloze(model, tokenizer, **asked), model, [given], seconds, temperature)
    if json:
        print_json({"labels": {choice.text: choice.probability for choice in choices}})
        return
    rows = [(choice.text, f"{choice.probability:.4f}") for choice in choices]
    print_table(("label", "probability"), rows, numeric=("probability",))


def lineage_of(directory: Path) -> dict[str, Any]:
    """Return what a checkpoint says of how it was made, which has the temperature that was fitted and its template."""
    from smelt.models.hub import LINEAGE
    from smelt.models.shards import read_json

    return read_json(directory / LINEAGE) if (directory / LINEAGE).is_file() else {}


def asked_for(template: str | None, given: Sequence[str], lineage: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the template and words to ask with: those given, else those that a checkpoint was tuned with, else none.

    Raises:
        UsageError: a template without words, words without a template, or a word without a label.
    """
    if template is None and not given:
        found: dict[str, Any] | None = lineage.get("cloze")
        return found
    if template is None or not given:
        raise UsageError("--template or --word is missing", accepted="both", fix="--template T --word LABEL=WORD ...")
    words: dict[str, list[str]] = {}
    for pair in given:
        name, equals, word = pair.partition("=")
        if not (name and equals and word):
            raise UsageError(f"--word {pair}", accepted="LABEL=WORD")
        words.setdefault(name, []).append(word)
    if len(words) < 2:
        raise UsageError(f"--word names one label, '{next(iter(words))}'", accepted="two labels or more")
    return {"template": template, "words": words}


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
