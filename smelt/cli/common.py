"""What the verbs share: printing results, opening checkpoints and tokenizers, recipes made of command-line words.

Imported by `smelt --help`, so everything heavy is imported inside the function that needs it. Tables and colours are
rich's; away from a terminal there is no colour and no line is wrapped or cut. Text from outside loses its control
characters before it is shown.
"""

from __future__ import annotations

import json
import math
import os
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args, get_origin

import typer
from typer.core import TyperCommand, TyperGroup

from smelt.core.errors import UsageError, nearest
from smelt.core.log import printable, say

if TYPE_CHECKING:
    from pydantic import BaseModel
    from rich.console import Console

    from smelt.models.encoder_decoder import Network
    from smelt.tokenizers.pipeline import Pipeline

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line of stdout.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with the run of this recipe from its last checkpoint.")]
Words = Annotated[list[str] | None, typer.Argument(metavar="[recipe.yaml] [key=value ...]", show_default=False)]


class NearestGroup(TyperGroup):
    """A command with subcommands that answers an unknown name with the nearest one."""

    noun = "command"

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Return the subcommand; raises UsageError for an unknown one."""
        known = self.list_commands(ctx)
        if args[0] not in known and not args[0].startswith("-"):
            raise UsageError(
                f"{ctx.command_path} has no {self.noun} '{args[0]}'.{nearest(args[0], known)}",
                accepted=", ".join(known),
                fix=f"{ctx.command_path} --help",
            )
        return super().resolve_command(ctx, args)


class RecipeCommand(TyperCommand):
    """A command whose help also lists the keys of its recipe, from the schema itself."""

    recipe: tuple[str, str]  # module and class, imported only for the help

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """Write the keys."""
        module, name = self.recipe
        with formatter.section("Recipe keys, in the file or as key=value"):
            formatter.write_dl(list(recipe_keys(getattr(import_module(module), name))), col_max=28)


def make_app(**settings: Any) -> typer.Typer:
    """Return a typer application with the settings of all verbs."""
    return typer.Typer(cls=NearestGroup, add_completion=False, rich_markup_mode=None, **settings)


def recipe_keys(kind: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield (dotted key, description with type and default) for every key of a recipe."""
    from smelt.core.config import config_inside

    for name, field in kind.model_fields.items():
        inner = config_inside(field.annotation)
        if inner is not None:
            yield from recipe_keys(inner, f"{prefix}{name}.")
            continue
        bounds = [
            f"{sign} {getattr(bound, key)}"
            for bound in field.metadata
            for key, sign in (("gt", ">"), ("ge", ">="), ("lt", "<"), ("le", "<="))
            if hasattr(bound, key)
        ]
        shown = " ".join([type_name(field.annotation), " and ".join(bounds)]).strip()
        default = "required" if field.is_required() else f"default: {default_text(field.default)}"
        yield prefix + name, f"{field.description or ''} [{shown}; {default}]"


def type_name(annotation: Any) -> str:
    """Return a type in words: `int | None` -> "whole number"."""
    options = [option for option in get_args(annotation) if option is not type(None)]
    if get_origin(annotation) is Literal:
        return "|".join(str(option) for option in options)
    if get_origin(annotation) is tuple:
        return f"list of {type_name(options[0])}"
    if options:
        return " or ".join(type_name(option) for option in options)
    words = {"str": "text", "int": "whole number", "float": "number", "bool": "true|false"}
    name = getattr(annotation, "__name__", str(annotation))
    return words.get(name, name)


def default_text(value: object) -> str:
    """Return a default as it would be written in a recipe."""
    if value in (None, (), ""):
        return "empty"
    return str(value).lower() if isinstance(value, bool) else str(value)


def recipe_of(kind: type[Any], words: Sequence[str], *, resume: bool) -> Any:
    """Build a recipe from words: at most one path (a recipe file or a run directory), the rest key=value.

    Resuming from a run's own recipe means that run, wherever it stands now and whatever `out` it was started with.
    """
    from smelt.core.config import load_recipe

    files = [word for word in words if "=" not in word or os.path.exists(word)]
    if len(files) > 1:
        raise UsageError(
            f"two recipes: '{files[0]}' and '{files[1]}'",
            accepted="one recipe file, then key=value words without spaces around '='",
        )
    path = Path(files[0]) if files else None
    if path is not None and (path / "recipe.yaml").is_file():
        path = path / "recipe.yaml"
    overrides = [word for word in words if word not in files]
    if resume and path is not None and (path.parent / "checkpoints").is_dir():
        run = path.parent.resolve()
        overrides = [f"out={json.dumps(str(relative(run.parent)))}", f"name={json.dumps(run.name)}", *overrides]
    return load_recipe(kind, path, overrides)


def relative(path: Path) -> Path:
    """Return a path as seen from the working directory where it lies below it."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


def run_stage(
    verb: str, kind: type[Any], stage: Callable[..., Any], words: Sequence[str], *, resume: bool, as_json: bool
) -> None:
    """Train, show the result; where Ctrl-C ended the run, say how to go on and exit with 130."""
    result = stage(recipe_of(kind, words, resume=resume), resume=resume)
    interrupted = result.stopped == "interrupted"
    if as_json:
        print_json(result.as_dict())
    else:
        validation = "" if result.validation_loss is None else f" · validation loss {result.validation_loss:.4f}"
        print(f"checkpoint  {result.checkpoint}")
        print(f"report      {result.run}/report.md")
        print(
            f"result      {result.steps:,} steps · {result.tokens:,} tokens · "
            f"{result.tokens_per_second:,.0f} tokens/s · training loss {result.train_loss:.4f}{validation}"
        )
        for name, found in result.metrics.get("sources", {}).items():
            counts = ", ".join(f"{number:,} {what.replace('_', ' ')}" for what, number in found.items())
            print(f"drawn from  {name}: {counts}")
        if not interrupted:
            labels = "label {} --text TEXT"
            points = "answer {} --question QUESTION" if "test_exact_match" in result.metrics else "triples {}"
            talk = {"sft": "chat {}", "classify": labels, "tag": labels, "extract": f"{points} --text TEXT"}.get(
                verb, "generate {} --prompt TEXT"
            )
            print(f"next        smelt {talk.format(shlex.quote(result.checkpoint))}")
    if interrupted:
        recipe = shlex.quote(f"{result.run}/recipe.yaml")
        say(f"interrupted after step {result.steps:,}, which is saved; to go on:\n  smelt {verb} {recipe} --resume")
        raise typer.Exit(130)


def open_checkpoint(path: str) -> tuple[Path, Network, Pipeline]:
    """Load the model and tokenizer of a checkpoint, or of the newest checkpoint of a run directory."""
    from smelt.core import runtime
    from smelt.core.storage import checkpoint_at
    from smelt.peft.load import load

    runtime.prepare_process()
    directory = checkpoint_at(path)
    model, tokenizer = load(directory)
    return directory, model.to(runtime.device()), tokenizer


def open_tokenizer(path: str) -> Pipeline:
    """Load a tokenizer from a file, a directory that holds one, a checkpoint, a run or a published id, or "bytes"."""
    from smelt.core.download import is_id
    from smelt.core.storage import checkpoint_at
    from smelt.tokenizers.bpe_train import byte_tokenizer
    from smelt.tokenizers.formats import has_tokenizer, load_tokenizer

    if path == "bytes":
        return byte_tokenizer()
    directory = Path(path)
    if (directory.is_dir() and not has_tokenizer(directory)) or (not directory.exists() and is_id(path)):
        directory = checkpoint_at(directory)
    return load_tokenizer(directory)


def text_from(text: str | None, file: Path | None, *, option: str) -> str:
    """Return the text given as a word, in a file (UTF-8, line ends as "\\n", as in training) or on stdin.

    Raises UsageError for none of them or two, DataError for a file that is missing or not UTF-8.
    """
    from smelt.core.errors import DataError
    from smelt.data.readers import decode

    if text is not None and file is not None:
        raise UsageError(f"a text and {option} {file}", accepted="one of the two")
    if text is not None:
        return text
    if file is None and sys.stdin.isatty():
        raise UsageError("there is no text", accepted=f"a text, {option} FILE, or a text on stdin")
    if file is not None and not file.is_file():
        raise DataError(f"{file}: no such file", fix="check the path")
    data = sys.stdin.buffer.read() if file is None else file.read_bytes()
    return decode(data, file or Path("stdin")).replace("\r\n", "\n").replace("\r", "\n")


def at_terminal() -> bool:
    """Tell whether somebody can answer a question."""
    return sys.stdin.isatty()


def print_json(values: Mapping[str, Any]) -> None:
    """Print one JSON object on a line of its own, in ASCII; what is no number (NaN, infinity) becomes null."""
    print(json.dumps(plain(values), allow_nan=False), flush=True)


def plain(value: Any) -> Any:
    """Return a value that JSON can hold."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def plural(num: int, noun: str) -> str:
    """Return a count with its noun: plural(2, "file") -> "2 files"."""
    return f"{num:,} {noun}{'' if num == 1 else 's'}"


def console() -> Console:
    """Return a console for stdout: as wide as the terminal, or without a limit where there is none."""
    from rich.console import Console

    width = None if sys.stdout.isatty() else 1000
    return Console(highlight=False, emoji=False, markup=False, width=width)


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, numeric: Sequence[str] = ()) -> None:
    """Print a plain table; the columns named in `numeric` are set flush right."""
    from rich.table import Table
    from rich.text import Text

    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold", show_header=any(columns))
    for column in columns:
        made.add_column(column, justify="right" if column in numeric else "left", overflow="fold")
    for row in rows:
        made.add_row(*(Text(printable(cell)) for cell in row))
    screen = console()
    with screen.capture() as captured:
        screen.print(made)
    print("\n".join(line.rstrip() for line in captured.get().splitlines()))
