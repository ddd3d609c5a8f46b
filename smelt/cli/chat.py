"""`smelt chat`: talk to a model in the terminal, or through a pipe with one message a line.

The conversation is rendered anew each turn with the template of training; when it outgrows the context the oldest
turns are left out of the prompt, with a notice, and stay in what `/save` writes. Answers go to stdout, all else to
stderr, so `smelt chat CKPT < questions.txt > answers.txt` does what it says.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from smelt.cli.common import make_app, open_checkpoint
from smelt.cli.generate import for_screen
from smelt.core.errors import SmeltError, UsageError, nearest
from smelt.core.log import printable, say
from smelt.core.storage import atomic_write_text
from smelt.data.records import Message
from smelt.tokenizers.chat import ChatTemplate

if TYPE_CHECKING:
    from smelt.infer.engine import Answers
    from smelt.infer.sampling import Sampling
    from smelt.models.encoder_decoder import Network
    from smelt.tokenizers.pipeline import Pipeline

ANSWER_SHARE = 4  # a quarter of the context is kept free for the answer, or what it may use at most
app = make_app()


@dataclass
class Session:
    """A conversation with one model; `messages` has all turns without the system text."""

    model: Network
    tokenizer: Pipeline
    answers: Answers
    temperature: float
    top_p: float
    max_new_tokens: int
    seed: int
    system: str = ""
    messages: list[Message] = field(default_factory=list)
    num_left_out: int = 0
    saved: set[Path] = field(default_factory=set)
    over: bool = False


@app.command()
def chat(
    checkpoint: Annotated[str, typer.Argument(metavar="CKPT", help="A checkpoint or a run directory.")],
    system: Annotated[str, typer.Option(help="What the assistant is told before the first message.")] = "",
    temperature: Annotated[float, typer.Option(help="0: always the likeliest token; higher: livelier.")] = 0.7,
    top_p: Annotated[float, typer.Option(help="Choose among the likeliest tokens of this total probability.")] = 0.95,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="The most tokens in an answer.")] = 256,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same answers.")] = 0,
) -> None:
    """Talk to a model; /help lists the commands, Ctrl-D or /quit ends.

    Example: smelt chat runs/books-chat --temperature 0.7
    """
    _, model, tokenizer = open_checkpoint(checkpoint)
    from smelt.infer.engine import answers_of

    answers = answers_of(model, tokenizer, ChatTemplate(tokenizer).stop_ids)
    session = Session(model, tokenizer, answers, temperature, top_p, max_new_tokens, seed, system)
    sampling(session)  # an impossible temperature is told before the first message
    warn_of_template(tokenizer)
    say("/help lists the commands, /quit ends")
    while not session.over and (line := read_line()) is not None:
        try:
            if line.startswith("/"):
                command(session, line)
            elif line.strip():
                answer(session, line)
        except SmeltError as error:
            say(printable(str(error)))


def warn_of_template(tokenizer: Pipeline) -> None:
    """Say so when the model was not trained with the turns that it will see here."""
    if tokenizer.chat_template is None:
        say("warning: a base model, which has not learned to answer; `smelt sft` teaches it, `smelt generate` suits it")


def read_line() -> str | None:
    """Return the next message, or None at the end of the input."""
    if sys.stdin.isatty():
        try:
            return input("> ")
        except EOFError:
            say("")
            return None
    line = sys.stdin.readline()
    return line.rstrip("\n") if line else None


def sampling(session: Session) -> Sampling:
    """Return the session's settings; raises UsageError for one that is not possible."""
    from smelt.infer.sampling import Sampling

    top_p = 1.0 if session.temperature == 0 else session.top_p
    return Sampling(session.max_new_tokens, temperature=session.temperature, top_p=top_p, seed=session.seed)


def answer(session: Session, text: str) -> None:
    """Answer a message, showing the text as it comes; Ctrl-C ends the answer, which is kept as far as it came."""
    asked = Message("user", text)
    ids = render(session, asked)
    said: list[str] = []

    def show(row: int, piece: str) -> None:
        said.append(piece)
        print(for_screen(piece), end="", flush=True)

    try:
        session.answers([ids], sampling(session), show)
    except KeyboardInterrupt:
        say("\n(answer cut short)")
    print(flush=True)
    session.messages += [asked, Message("assistant", "".join(said))]
    session.seed += 1


def render(session: Session, asked: Message) -> list[int]:
    """Return the prompt for the next answer, with a notice when turns had to be left out of it."""
    lead = [Message("system", session.system)] if session.system else []
    context = session.model.max_text_tokens
    room = context - min(session.max_new_tokens, context // ANSWER_SHARE)
    ids, num_left_out = fit_history(ChatTemplate(session.tokenizer), lead, [*session.messages, asked], room)
    if num_left_out > session.num_left_out:
        say(f"(the first {num_left_out} messages no longer fit the context of {context:,} tokens and are left out)")
    session.num_left_out = num_left_out
    return ids


def fit_history(
    template: ChatTemplate, lead: Sequence[Message], messages: Sequence[Message], room_tokens: int
) -> tuple[list[int], int]:
    """Return the rendered ids of a conversation that leave out as few of the oldest turns as will fit, and how many.

    Turns go in pairs of user and assistant; `lead` stays. Raises UsageError when the last message alone is too long.
    """
    for first in range(0, len(messages), 2):
        ids, _ = template.render([*lead, *messages[first:]], add_reply=True)
        if len(ids) <= room_tokens:
            return ids, first
    raise UsageError(
        f"this message takes {len(ids):,} tokens with its marks; there is room for {room_tokens:,} before an answer",
        fix="a shorter message" + (" or /system text" if lead else ""),
    )


def command(session: Session, line: str) -> None:
    """Do what a line that begins with a slash asks for; raises UsageError for an unknown command."""
    name, _, rest = line.partition(" ")
    if name not in COMMANDS:
        raise UsageError(f"no command '{name}'.{nearest(name, COMMANDS)}", accepted=", ".join(COMMANDS))
    COMMANDS[name][0](session, rest.strip())


def reset(session: Session, rest: str) -> None:
    """Forget the conversation."""
    session.messages, session.num_left_out = [], 0
    say("(a new conversation)")


def set_system(session: Session, rest: str) -> None:
    """Replace the system text and begin anew."""
    session.system = rest
    reset(session, "")


def set_temperature(session: Session, rest: str) -> None:
    """Change the temperature; raises UsageError for one that is not possible."""
    before = session.temperature
    try:
        session.temperature = float(rest)
        sampling(session)
    except ValueError:
        raise UsageError(f"/temperature '{rest}' is not a number", accepted="0 (greedy) or 0.001 to 100") from None
    except UsageError:
        session.temperature = before
        raise
    say(f"(temperature {session.temperature:g})")


def save(session: Session, rest: str) -> None:
    """Write the conversation as one row that `smelt sft` reads; raises UsageError for a file that is there already."""
    import json

    if not rest:
        raise UsageError("/save needs a file name", accepted="/save chats.jsonl")
    path = Path(rest).expanduser()
    if path.exists() and path not in session.saved:
        raise UsageError(f"{path} exists already", fix="/save ANOTHER_FILE")
    lead = [Message("system", session.system)] if session.system else []
    turns = [{"role": message.role, "content": message.content} for message in [*lead, *session.messages]]
    atomic_write_text(path, json.dumps({"messages": turns}, ensure_ascii=False) + "\n")
    session.saved.add(path)
    say(f"({len(turns)} messages in {path})")


def show_help(session: Session, rest: str) -> None:
    """List the commands."""
    for name, (_, text) in COMMANDS.items():
        say(f"{name:<13} {text}")


def leave(session: Session, rest: str) -> None:
    """End the chat."""
    session.over = True


COMMANDS: dict[str, tuple[Callable[[Session, str], None], str]] = {
    "/reset": (reset, "forget the conversation"),
    "/system": (set_system, "TEXT: set what the assistant is told first, and begin anew"),
    "/temperature": (set_temperature, "NUMBER: 0 is always the likeliest token"),
    "/save": (save, "FILE: write the conversation as a row of .jsonl"),
    "/help": (show_help, "this list"),
    "/quit": (leave, "end, as does Ctrl-D"),
}
