"""`smelt sft`: teach a base model to answer.

The words are a recipe file and key=value settings; they and `smelt.train.stages.sft.sft` share one schema, from which
the help below the options is made.
"""

from __future__ import annotations

from smelt.cli.common import Json, RecipeCommand, Resume, Words, make_app, run_stage

app = make_app()


class SftCommand(RecipeCommand):
    """The verb with the keys of its recipe in the help."""

    recipe = ("smelt.train.stages.sft", "SftRecipe")


@app.command(cls=SftCommand)
def sft(words: Words = None, resume: Resume = False, json: Json = False) -> None:
    """Teach a base model to answer, on conversations.

    Example: smelt sft name=books-chat checkpoint=runs/books data=chats.jsonl epochs=3
    """
    from smelt.train.stages.sft import SftRecipe
    from smelt.train.stages.sft import sft as stage

    run_stage("sft", SftRecipe, stage, words or [], resume=resume, as_json=json)
