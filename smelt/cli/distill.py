"""`smelt distill`: teach a student what its teacher knows, or let the teacher write what others learn from.

The words are a recipe file and key=value settings; they and `smelt.train.stages.distill.distill` share one schema, from
which the help below the options is made. With `--write-answers` they are those of `smelt.train.answers`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from smelt.cli.common import Json, RecipeCommand, Resume, Words, make_app, print_json, recipe_of, run_stage

app = make_app()


class DistillCommand(RecipeCommand):
    """The verb with the keys of its recipe in the help."""

    recipe = ("smelt.train.stages.distill", "DistillRecipe")


@app.command(cls=DistillCommand)
def distill(
    words: Words = None,
    resume: Resume = False,
    write_answers: Annotated[
        Path | None,
        typer.Option(
            help="Train nothing: let the teacher answer the questions of `data` into this file, which sft reads. "
            "Keys: teacher, data, template, max_new_tokens, temperature, top_p, seed."
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Teach a student what its teacher knows.

    Example: smelt distill name=small teacher=runs/big layers=[0,2,4] data=books/ epochs=1
    """
    if write_answers is not None:
        from smelt.core import runtime
        from smelt.train.answers import AnswersRecipe
        from smelt.train.answers import write_answers as write

        runtime.prepare_process()
        report = write(recipe_of(AnswersRecipe, words or [], resume=False), write_answers)
        if json:
            print_json(report.as_dict())
        else:
            print(f"answers     {report.file}")
            print(f"result      {report.answers:,} answers · {report.left_out:,} questions left out")
            print(f"next        smelt sft name=NAME checkpoint=STUDENT data={report.file}")
        return
    from smelt.train.stages.distill import DistillRecipe
    from smelt.train.stages.distill import distill as stage

    run_stage("distill", DistillRecipe, stage, words or [], resume=resume, as_json=json)
