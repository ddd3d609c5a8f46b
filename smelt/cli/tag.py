"""`smelt tag`: teach a model to mark what a text names.

The words are a recipe file and key=value settings; they and `smelt.train.stages.tag.tag` share one schema, from which
the help below the options is made.
"""

from __future__ import annotations

from smelt.cli.common import Json, RecipeCommand, Resume, Words, make_app, run_stage

app = make_app()


class TagCommand(RecipeCommand):
    """The verb with the keys of its recipe in the help."""

    recipe = ("smelt.train.stages.tag", "TagRecipe")


@app.command(cls=TagCommand)
def tag(words: Words = None, resume: Resume = False, json: Json = False) -> None:
    """Teach a model to mark what a text names: people, places, parts, faults.

    Example: smelt tag name=names data=names.conll checkpoint=bert-base-cased epochs=3
    """
    from smelt.train.stages.tag import TagRecipe
    from smelt.train.stages.tag import tag as stage

    run_stage("tag", TagRecipe, stage, words or [], resume=resume, as_json=json)
