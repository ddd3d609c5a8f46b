"""`smelt pretrain`: train a base model on text.

The words are a recipe file and key=value settings; they and `smelt.train.stages.pretrain.pretrain` share one schema,
from which the help below the options is made.
"""

from __future__ import annotations

from smelt.cli.common import Json, RecipeCommand, Resume, Words, make_app, run_stage

app = make_app()


class PretrainCommand(RecipeCommand):
    """The verb with the keys of its recipe in the help."""

    recipe = ("smelt.train.stages.pretrain", "PretrainRecipe")


@app.command(cls=PretrainCommand)
def pretrain(words: Words = None, resume: Resume = False, json: Json = False) -> None:
    """Train a base model on text, from nothing or from a checkpoint.

    Example: smelt pretrain name=books data=books/ tokenizer=tokenizer minutes=10
    """
    from smelt.train.stages.pretrain import PretrainRecipe
    from smelt.train.stages.pretrain import pretrain as stage

    run_stage("pretrain", PretrainRecipe, stage, words or [], resume=resume, as_json=json)
