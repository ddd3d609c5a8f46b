"""`smelt seq2seq`: teach an encoder-decoder to turn one text into another.

The words are a recipe file and key=value settings; they and `smelt.train.stages.seq2seq.seq2seq` share one schema, from
which the help below the options is made.
"""

from __future__ import annotations

from smelt.cli.common import Json, RecipeCommand, Resume, Words, make_app, run_stage

app = make_app()


class Seq2SeqCommand(RecipeCommand):
    """The verb with the keys of its recipe in the help."""

    recipe = ("smelt.train.stages.seq2seq", "Seq2SeqRecipe")


@app.command(cls=Seq2SeqCommand)
def seq2seq(words: Words = None, resume: Resume = False, json: Json = False) -> None:
    """Teach an encoder-decoder to turn a source into a target, on pairs.

    Example: smelt seq2seq name=en-de data=pairs.jsonl tokenizer=tokenizer epochs=10
    """
    from smelt.train.stages.seq2seq import Seq2SeqRecipe
    from smelt.train.stages.seq2seq import seq2seq as stage

    run_stage("seq2seq", Seq2SeqRecipe, stage, words or [], resume=resume, as_json=json)
