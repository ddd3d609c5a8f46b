"""`smelt generate`: continue a prompt with a model, in one piece or as it is written.

A prompt begins as documents began in training, unless `--chat` makes it a question to an assistant; an encoder-decoder
reads it whole, as a source, and writes the target; ChatGLM-6B reads it as a context, which `[gMASK]<sop>` ends. The
text alone goes to stdout, so that it can be piped on; `--json` has the ids too.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from smelt.cli.common import Json, make_app, open_checkpoint, print_json, text_from
from smelt.core.log import printable

if TYPE_CHECKING:
    from smelt.models.encoder_decoder import Network
    from smelt.tokenizers.pipeline import Pipeline

app = make_app()
BLANK = "[gMASK]"


@app.command()
def generate(
    checkpoint: Annotated[str, typer.Argument(metavar="CKPT", help="A checkpoint or a run directory.")],
    prompt: Annotated[str | None, typer.Option(help="Text to continue; else --prompt-file, or stdin.")] = None,
    prompt_file: Annotated[Path | None, typer.Option(help="Take the prompt from this file (UTF-8).")] = None,
    chat: Annotated[
        bool, typer.Option("--chat", help="Ask the prompt as a user and let the assistant answer.")
    ] = False,
    stream: Annotated[bool, typer.Option("--stream", help="Show the text while it is written.")] = False,
    max_new_tokens: Annotated[int, typer.Option(help="The most tokens to write.")] = 256,
    temperature: Annotated[float, typer.Option(help="0: always the likeliest token; higher: livelier.")] = 1.0,
    top_k: Annotated[int, typer.Option(help="Choose among this many likeliest tokens; 0: all.")] = 0,
    top_p: Annotated[float, typer.Option(help="Choose among the likeliest tokens of this total probability.")] = 1.0,
    min_p: Annotated[float, typer.Option(help="Leave out tokens less likely than this share of the likeliest.")] = 0.0,
    repetition_penalty: Annotated[float, typer.Option(help="Above 1: avoid tokens already there.")] = 1.0,
    presence_penalty: Annotated[float, typer.Option(help="Above 0: avoid tokens of the answer so far.")] = 0.0,
    frequency_penalty: Annotated[float, typer.Option(help="The same, for each time that they came.")] = 0.0,
    num_beams: Annotated[int, typer.Option(help="Above 1: search for the likeliest text instead of sampling.")] = 1,
    stop: Annotated[list[str] | None, typer.Option(help="End before this text; repeat for several.")] = None,
    seed: Annotated[int, typer.Option(help="The same seed gives the same text.")] = 0,
    json: Json = False,
) -> None:
    """Continue a prompt.

    Example: smelt generate runs/books --prompt "It was" --temperature 0.8 --stream
    """
    text = text_from(prompt, prompt_file, option="--prompt-file")
    from smelt.infer.engine import answers_of
    from smelt.infer.sampling import Sampling

    sampling = Sampling(
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        min_p=min_p,
        repetition_penalty=repetition_penalty,
        presence_penalty=presence_penalty,
        frequency_penalty=frequency_penalty,
        num_beams=num_beams,
        stop=tuple(stop or ()),
        seed=seed,
    )
    model, tokenizer = open_checkpoint(checkpoint)[1:]
    ids = prompt_ids(model, tokenizer, text, chat)
    answers = answers_of(model, tokenizer, stop_ids(model, tokenizer, chat))
    started = time.perf_counter()
    (found,) = answers([ids], sampling, write if stream else None)
    seconds = time.perf_counter() - started
    if stream or not json:
        print("" if stream else for_screen(found.text), flush=True)
    if json:
        print_json(
            {
                "text": found.text,
                "ids": found.ids,
                "prompt_ids": ids,
                "finish_reason": found.finish_reason,
                "tokens_per_second": round(len(found.ids) / max(seconds, 1e-9), 2),
            }
        )


def write(row: int, text: str) -> None:
    """Show a piece of text at once."""
    print(for_screen(text), end="", flush=True)


def for_screen(text: str) -> str:
    """Return text for stdout: as it is for a file or a pipe, without control characters for a terminal."""
    return printable(text) if sys.stdout.isatty() else text


def prompt_ids(model: Network, tokenizer: Pipeline, text: str, chat: bool) -> list[int]:
    """Return the ids a model continues: a question to an assistant, the beginning of a document, or a whole source.

    A model that answers a context fills the blank behind it, where its tokenizer has one: trained on texts alone it
    knows none.
    """
    from smelt.data.records import Message
    from smelt.tokenizers.base import END_OF_TEXT
    from smelt.tokenizers.chat import ChatTemplate
    from smelt.train.stages import pretrain, seq2seq

    if chat:
        return ChatTemplate(tokenizer).render([Message("user", text)], add_reply=True)[0]
    if model.spec.writes_answers or model.spec.encoder is not None:
        return seq2seq.source_ids(tokenizer, text, model.spec)
    if (context := model.spec.context) is not None and BLANK in tokenizer.spelling[context.blank_ids[0] :][:1]:
        return [*tokenizer.encode(text), context.blank_ids[0], context.begin_id]
    return pretrain.prompt_ids(tokenizer, text) if END_OF_TEXT in tokenizer.special else tokenizer.encode(text)


def stop_ids(model: Network, tokenizer: Pipeline, chat: bool) -> Sequence[int]:
    """Return the ids that end a text: those that the checkpoint names, and in a chat the end of the turn."""
    from smelt.tokenizers.chat import ChatTemplate

    named = model.spec.token_ids.end
    return (*named, *ChatTemplate(tokenizer).stop_ids) if chat else named
