"""`smelt quickstart`: from text to a chat model in one command, with a plan before and a summary after.

It asks before it starts when somebody sits at the terminal; `--yes`, a pipe and CI go straight on. Without text it
walks the generated town, whose entropy is known, so the figure at the end stands beside its floor.
"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from smelt.cli.common import Json, at_terminal, make_app, plural, print_json, print_table
from smelt.core.log import printable, say

if TYPE_CHECKING:
    from smelt.train.quickstart import QuickstartRecipe, QuickstartResult

app = make_app()


@app.command()
def quickstart(
    text: Annotated[str | None, typer.Option(help="Text (file, folder or glob) [default: the generated town]")] = None,
    instructions: Annotated[str | None, typer.Option(help="Conversations to learn to answer from.")] = None,
    minutes: Annotated[
        float | None, typer.Option(help="Time for everything, evaluation included [default: the demo's, under 8]")
    ] = None,
    preset: Annotated[str, typer.Option(help="Sizes of tokenizer and model: auto, town or small.")] = "auto",
    out: Annotated[str, typer.Option(help="Directory for everything that is made.")] = "runs/quickstart",
    seed: Annotated[int, typer.Option(help="Decides data, weights and order.")] = 0,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask; replace an earlier quickstart in --out.")] = False,
    json: Json = False,
) -> None:
    """From text to a chat model in one command.

    Example: smelt quickstart --text books/ --instructions chats.jsonl --minutes 10
    """
    from smelt.core.config import validate
    from smelt.train.quickstart import QuickstartRecipe
    from smelt.train.quickstart import quickstart as walk

    values: dict[str, Any] = {"text": text, "instructions": instructions, "preset": preset, "out": out, "seed": seed}
    if minutes is not None:
        values["minutes"] = minutes
    recipe = validate(QuickstartRecipe, values, source="the command line")
    for line in plan(recipe):
        say(line)
    if not yes and at_terminal() and not typer.confirm("start?", default=True, err=True):
        say("nothing was done")
        raise typer.Exit(1)
    result = walk(recipe, replace=yes)
    if json:
        print_json(result.as_dict())
    else:
        show(recipe, result)


def plan(recipe: QuickstartRecipe) -> list[str]:
    """Return what will happen, in lines; raises DataError for files that are not there."""
    from smelt.data.readers import expand_paths
    from smelt.models.build import count_parameters
    from smelt.train.quickstart import SIZES

    def files(spec: str) -> str:
        paths = expand_paths(spec)
        return f"{spec} ({plural(len(paths), 'file')}, {sum(path.stat().st_size for path in paths) / 1e6:,.1f} MB)"

    own = recipe.text is not None
    name = ("small" if own else "town") if recipe.preset == "auto" else recipe.preset
    sizes = SIZES[name]
    spec = sizes.model.spec(vocab_size=sizes.vocab_size, max_seq_len=sizes.max_seq_len)
    chats = files(recipe.instructions) if recipe.instructions else "none: a base model" if own else "the town's"
    return [
        f"plan for about {recipe.minutes:g} minutes, all of it in {recipe.out}:",
        f"  1  text          {files(recipe.text) if recipe.text is not None else 'the generated town'}",
        f"  2  tokenizer     {sizes.vocab_size:,} tokens",
        f"  3  pretraining   preset {name}: {count_parameters(spec):,} parameters, context {sizes.max_seq_len}",
        f"  4  instructions  {chats}",
        "  5  evaluation    bits per byte of held-out text" + ("" if own else ", exact match on held-out questions"),
    ]


def show(recipe: QuickstartRecipe, result: QuickstartResult) -> None:
    """Print the summary: figures, rates by kind, chats, how to go on."""
    floor = result.floor_bits_per_byte
    beside = "" if floor is None else f"   floor {floor:.4f} (the text's entropy)"
    print(f"\nvalidation  {result.validation_bits_per_byte:.4f} bits per byte{beside}")
    print(f"speed       {result.tokens_per_second:,.0f} tokens/s, {result.seconds:,.0f} s in all")
    if result.exact_match is not None:
        print(f"answers     {result.exact_match:.1%} exactly right, on worlds that training never saw\n")
        rows = list(result.intervals.items())
        print_table(("kind", "exact match (correct/rows, 95 % interval)"), rows)
    for chat in result.chats:
        print(f"\n> {printable(chat['question'])}\n{printable(chat['answer'])}")
    print("\nhow to go on")
    print_table(("", ""), next_steps(recipe, result.checkpoint))


def next_steps(recipe: QuickstartRecipe, checkpoint: str) -> list[tuple[str, str]]:
    """Return what can be done now, each with its command."""
    checkpoint, out = shlex.quote(checkpoint), shlex.quote(recipe.out)
    own = (("--text", recipe.text), ("--instructions", recipe.instructions))
    files = "".join(f"{option} {shlex.quote(path)} " for option, path in own if path is not None)
    base = recipe.text is not None and recipe.instructions is None
    return [
        ("  let it write", f"smelt generate {checkpoint} --prompt TEXT")
        if base
        else ("  talk to it", f"smelt chat {checkpoint}"),
        ("  look inside", f"smelt info {checkpoint}"),
        ("  see the curves", f"smelt runs list {out}, and {Path(recipe.out) / 'base' / 'report.md'}"),
        ("  train longer", f"smelt quickstart {files}--minutes {4 * recipe.minutes:g} --out ANOTHER_DIRECTORY"),
        ("  teach it more", f"smelt sft name=NAME checkpoint={checkpoint} data=YOUR_CHATS.jsonl"),
    ]
