"""The entry point `smelt`: find the verb, import its module alone, turn errors into lines and exit codes.

`smelt --help` lists the verbs from the table below without importing any of them, because torch alone costs seconds
and help should cost a tenth of one. Whatever goes wrong ends here: at most three lines on stderr and exit code 1
(failed), 2 (usage or configuration) or 130 (interrupted); `--debug`, anywhere among the words, adds the traceback.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from importlib import import_module
from typing import Annotated, Any, NoReturn

import typer

from smelt.cli.common import NearestGroup
from smelt.core.errors import SmeltError, UsageError, nearest
from smelt.core.log import printable, say

VERBS: dict[str, tuple[str, str]] = {
    "quickstart": ("smelt.cli.quickstart", "From text to a chat model in one command."),
    "tokenizer": ("smelt.cli.tokenizer", "Train a tokenizer, encode with it, look into it."),
    "data": ("smelt.cli.data", "Inspect rows, pack text into shards, make rows."),
    "pretrain": ("smelt.cli.pretrain", "Train a base model on text, from nothing or from a checkpoint."),
    "sft": ("smelt.cli.sft", "Teach a base model to answer, on conversations."),
    "distill": ("smelt.cli.distill", "Teach a smaller model what a larger one knows."),
    "classify": ("smelt.cli.classify", "Teach a model to label texts: spam or not, praise or complaint."),
    "extract": ("smelt.cli.extract", "Teach an encoder to point at triples or answers in a text."),
    "tag": ("smelt.cli.tag", "Teach a model to mark names in a text: people, places, faults."),
    "seq2seq": ("smelt.cli.seq2seq", "Teach an encoder-decoder to turn one text into another, on pairs."),
    "merge": ("smelt.cli.merge", "Merge the weights of checkpoints, or an adapter into its base."),
    "eval": ("smelt.cli.eval", "Bits per byte of a text, answers and vectors against references, memorization."),
    "generate": ("smelt.cli.generate", "Continue a prompt."),
    "chat": ("smelt.cli.chat", "Talk to a model."),
    "serve": ("smelt.cli.serve", "Serve a model to OpenAI's clients, and a chat page."),
    "studio": ("smelt.cli.studio", "See, compare, judge and steer your models in the browser."),
    "keys": ("smelt.cli.keys", "Make, list and revoke the keys of a server."),
    "bench": ("smelt.cli.bench", "Time a model's answers, alone and for several at once."),
    "plan": ("smelt.cli.plan", "From a budget to a model, its text and the loss to expect."),
    "vectors": ("smelt.cli.vectors", "Train word vectors, look into them, measure them."),
    "ngram": ("smelt.cli.ngram", "Train an n-gram model, measure it, let it write."),
    "fill": ("smelt.cli.fill", "Fill the masks of a text with an encoder."),
    "embed": ("smelt.cli.embed", "Turn texts into vectors with an encoder."),
    "label": ("smelt.cli.label", "Label a text or its words."),
    "answer": ("smelt.cli.answer", "Find the answer to a question in a text with an encoder."),
    "triples": ("smelt.cli.triples", "Find the triples that a text states with an encoder."),
    "info": ("smelt.cli.info", "Show a model layer by layer, with its parameters."),
    "runs": ("smelt.cli.runs", "List, show and compare training runs."),
    "doctor": ("smelt.cli.doctor", "Check this machine and the installation."),
}

INTERRUPTED = 130


class Verbs(NearestGroup):
    """The root command: names and one-line help from `VERBS`, code from the verb's own module."""

    noun = "verb"

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names of the verbs."""
        return list(VERBS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Import a verb's module and return its command; None for an unknown name."""
        if cmd_name not in VERBS:
            return None
        return typer.main.get_command(import_module(VERBS[cmd_name][0]).app)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the list of verbs without importing one."""
        with formatter.section("Verbs"):
            formatter.write_dl([(name, line) for name, (_, line) in VERBS.items()])


app = typer.Typer(
    cls=Verbs,
    add_completion=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="`smelt VERB --help` shows a verb's options; --debug, anywhere, shows the traceback of an error.",
    subcommand_metavar="VERB [recipe.yaml] [key=value ...]",
)


def show_version(wanted: bool) -> None:
    """Print the version and end, where `--version` was given."""
    if wanted:
        from smelt import __version__

        print(__version__)
        raise typer.Exit()


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """From raw text to a language model you can talk to."""


def run() -> NoReturn:
    """Run the command line of this process and end it with the exit code."""
    sys.exit(main(sys.argv[1:]))


def main(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code; no exception leaves."""
    words, debug = take_debug(arguments)
    try:
        code = invoke(words or ["--help"])
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        # The reader has gone: stay quiet, also when the interpreter flushes at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (KeyboardInterrupt, typer.Abort):
        say("interrupted")
        return INTERRUPTED
    except Exception as error:
        if debug:
            traceback.print_exc()
        say(f"error: {printable(explain(error))}")
        return getattr(error, "exit_code", 1)


def take_debug(arguments: Sequence[str]) -> tuple[list[str], bool]:
    """Return the words without `--debug`, and whether it was among them; behind `--` it is an ordinary word."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    kept = [word for word in arguments[:end] if word != "--debug"]
    return [*kept, *arguments[end:]], len(kept) < end


def invoke(words: list[str]) -> int:
    """Parse the words and run the verb; return its exit code."""
    command = typer.main.get_command(app)
    try:
        with command.make_context("smelt", words) as context:
            command.invoke(context)
    except typer.Exit as end:
        return end.exit_code
    return 0


def explain(error: Exception) -> str:
    """Return what a user is told: the error's own lines, or for a fault of ours how to see more of it."""
    if isinstance(error, SmeltError):
        return str(error)
    if hasattr(error, "format_message"):  # the parser's own errors, whose class typer does not publish
        return str(from_parser(error))
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename or 'the system'}: {error.strerror}"
    return f"unexpected {type(error).__name__}: {error}\ntry: the same command with --debug shows where"


def from_parser(error: Any) -> UsageError:
    """Turn an error of the argument parser into one of ours, with the nearest option for one it does not know."""
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "smelt"
    wanted = getattr(error, "option_name", "")
    known = [] if context is None else [name for option in context.command.get_params(context) for name in option.opts]
    options = [name for name in known if name.startswith("-")]
    if wanted and wanted not in options:
        return UsageError(
            f"{path} has no option '{wanted}'.{nearest(wanted, options)}",
            accepted=", ".join(options),
            fix=f"{path} --help",
        )
    message = " ".join(error.format_message().split())
    return UsageError(f"{path}: {message[:1].lower()}{message[1:]}", fix=f"{path} --help")


if __name__ == "__main__":
    run()
