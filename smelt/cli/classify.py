"""`smelt classify`: teach a model to label texts.

The words are a recipe file and key=value settings; they and `smelt.train.stages.classify.classify` share one schema,
from which the help below the options is made.
"""

from __future__ import annotations

from smelt.cli.common import Json, RecipeCommand, Resume, Words, make_app, run_stage

app = make_app()


class ClassifyCommand(RecipeCommand):
    """The verb with the keys of its recipe in the help."""

    recipe = ("smelt.train.stages.classify", "ClassifyRecipe")


@app.command(cls=ClassifyCommand)
def classify(words: Words = None, resume: Resume = False, json: Json = False) -> None:
    """Teach a model to label texts: spam or not, praise or complaint.

    Example: smelt classify name=spam data=messages.tsv checkpoint=runs/books epochs=3
    """
    from smelt.train.stages.classify import ClassifyRecipe
    from smelt.train.stages.classify import classify as stage

    run_stage("classify", ClassifyRecipe, stage, words or [], resume=resume, as_json=json)
