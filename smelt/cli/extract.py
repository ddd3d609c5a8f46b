"""`smelt extract`: teach an encoder to point at pieces of a text.

The words are a recipe file and key=value settings; they and `smelt.train.stages.extract.extract` share one schema, from
which the help below the options is made.
"""

from __future__ import annotations

from smelt.cli.common import Json, RecipeCommand, Resume, Words, make_app, run_stage

app = make_app()


class ExtractCommand(RecipeCommand):
    """The verb with the keys of its recipe in the help."""

    recipe = ("smelt.train.stages.extract", "ExtractRecipe")


@app.command(cls=ExtractCommand)
def extract(words: Words = None, resume: Resume = False, json: Json = False) -> None:
    """Teach an encoder to point: at subjects and objects of relations, or at the answer to a question.

    Example: smelt extract name=faults data=faults.jsonl checkpoint=runs/encoder epochs=5
    """
    from smelt.train.stages.extract import ExtractRecipe
    from smelt.train.stages.extract import extract as stage

    run_stage("extract", ExtractRecipe, stage, words or [], resume=resume, as_json=json)
