"""`smelt tokenizer`: train a tokenizer, encode and decode with it, look into it, compare and convert.

Nothing here imports torch. Wherever a tokenizer is wanted, a checkpoint or a run directory will do.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from smelt.cli.common import Json, make_app, open_tokenizer, print_json, text_from
from smelt.cli.tokenizer_compare import compare
from smelt.cli.tokenizer_extend import extend
from smelt.cli.tokenizer_ids import read_ids, write_ids
from smelt.cli.tokenizer_inspect import inspect
from smelt.cli.tokenizer_texts import Progress, safe_cut, stretches, texts_of
from smelt.core.errors import UsageError, nearest
from smelt.core.log import LiveLine, say

if TYPE_CHECKING:
    from smelt.tokenizers.pipeline import Pipeline

MEASURED_BYTES = 8 * 2**20  # of text, for bytes per token
DECODED_AT_ONCE = 1 << 20

Source = Annotated[
    str, typer.Argument(metavar="TOKENIZER", help="A tokenizer file, its directory, a checkpoint, a run.")
]
File = Annotated[Path | None, typer.Option("--file", help="Take the text from this file (UTF-8).")]

app = make_app(help="Train a tokenizer, encode and decode with it, look into it, compare and convert.")
app.command()(inspect)
app.command()(compare)
app.command()(extend)


@app.command()
def train(
    texts: Annotated[list[str], typer.Argument(metavar="TEXT ...", help="Files, folders or globs of text or chats.")],
    algorithm: Annotated[str, typer.Option(help="bpe, wordpiece or unigram.")] = "bpe",
    vocab_size: Annotated[int, typer.Option(help="Tokens altogether, alphabet and special tokens included.")] = 4096,
    pattern: Annotated[
        str | None,
        typer.Option(
            help="How bpe cuts text into words: gpt2, gpt4 (default), cl100k, o200k, qwen2, deepseek, han, or a regex."
        ),
    ] = None,
    special: Annotated[
        list[str] | None, typer.Option(help="One more special token, besides those of chats; may be repeated.")
    ] = None,
    column: Annotated[str | None, typer.Option(help="The column that holds the text, where it is not 'text'.")] = None,
    out: Annotated[Path, typer.Option(help="Directory for tokenizer.json and its companions.")] = Path("tokenizer"),
    json: Json = False,
) -> None:
    """Learn a tokenizer from text.

    Example: smelt tokenizer train books/ --vocab-size 4096 --out tokenizer
    """
    from smelt.core.runtime import keep_freed_memory
    from smelt.tokenizers.base import SPECIAL
    from smelt.tokenizers.chat import ChatTemplate
    from smelt.tokenizers.formats import save_tokenizer
    from smelt.tokenizers.training import check_algorithm, train_tokenizer

    check_algorithm(algorithm)
    keep_freed_memory()
    if pattern is not None and algorithm != "bpe":
        raise UsageError(f"--pattern {pattern} with --algorithm {algorithm}", accepted="a pattern with bpe only")
    refuse_checkpoint(out)
    started = time.perf_counter()
    line = LiveLine()
    counting, learning = Progress(line, "counting words", "MB", 1e6), Progress(line, "learning", "steps")
    tokenizer = train_tokenizer(
        texts_of(texts, column, counting),
        algorithm=algorithm,  # type: ignore[arg-type]  # checked above
        vocab_size=vocab_size,
        pattern=pattern or "gpt4",
        special=[*SPECIAL, *(special or [])],
        on_progress=learning.show,
    )
    line.close()
    ratio = bytes_per_token(tokenizer, texts_of(texts, column))
    save_tokenizer(tokenizer, out, template=ChatTemplate(tokenizer))
    seconds = round(time.perf_counter() - started, 2)
    if tokenizer.vocab_size < vocab_size:
        say(f"note: the text has no more to learn from; {tokenizer.vocab_size:,} of {vocab_size:,} tokens")
    if json:
        values = {"tokenizer": str(out), "vocab_size": tokenizer.vocab_size}
        print_json({**values, "bytes_per_token": ratio, "seconds": seconds})
        return
    print(f"tokenizer  {out}")
    print(f"tokens     {tokenizer.vocab_size:,} · {ratio:.2f} bytes a token · {seconds:.1f} s")
    print(f"next       smelt pretrain name=NAME data={texts[0]} tokenizer={out}")


def refuse_checkpoint(out: Path) -> None:
    """Refuse to write a tokenizer where it would ruin a model, or over a file."""
    if (out / "config.json").exists():
        raise UsageError(f"{out} holds a model, which another tokenizer would ruin", fix="--out ANOTHER_DIRECTORY")
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} is a file", accepted="a directory", fix="--out ANOTHER_DIRECTORY")


def bytes_per_token(tokenizer: Pipeline, texts: Iterator[str]) -> float:
    """Return the bytes a token stands for on average, over the first 8 MB of some texts."""
    num_bytes = num_tokens = 0
    for text in texts:
        text = text[:MEASURED_BYTES]
        num_bytes += len(text.encode())
        num_tokens += len(tokenizer.encode_to_array([text], end_id=None)[0])
        if num_bytes >= MEASURED_BYTES:
            break
    return round(num_bytes / max(1, num_tokens), 4)


@app.command()
def encode(
    tokenizer: Source,
    text: Annotated[str | None, typer.Argument(help="The text; else --file, or stdin.")] = None,
    file: File = None,
    out: Annotated[Path | None, typer.Option(help="Write the ids to this .npy file instead of printing them.")] = None,
    allow_special: Annotated[bool, typer.Option(help="Turn special tokens in the text into their ids.")] = False,
    json: Json = False,
) -> None:
    """Turn text into token ids; with --file and --out, of a file of any size.

    Example: smelt tokenizer encode tokenizer "Hello world"
    """
    found = open_tokenizer(tokenizer)
    if out is None:
        ids = found.encode(text_from(text, file, option="--file"), allow_special=allow_special)
        if json:
            print_json({"ids": ids, "num_tokens": len(ids)})
        else:
            print(" ".join(map(str, ids)))
        return
    if file is not None and text is None:
        pieces = stretches(file, safe_cut(found))
    else:
        pieces = iter([text_from(text, file, option="--file")])
    dtype = "uint16" if found.vocab_size < 1 << 16 else "uint32"
    num_tokens = write_ids((piece_ids(found, piece, allow_special) for piece in pieces), out, dtype)
    if json:
        print_json({"out": str(out), "num_tokens": num_tokens})
    else:
        print(f"{num_tokens:,} ids in {out}")


def piece_ids(tokenizer: Pipeline, text: str, allow_special: bool) -> Any:
    """Return the ids of a text: an array, but where special tokens are looked for."""
    if allow_special:
        return tokenizer.encode(text, allow_special=True)
    return tokenizer.encode_to_array([text], end_id=None)[0]


@app.command()
def decode(
    tokenizer: Source,
    ids: Annotated[list[str] | None, typer.Argument(metavar="[ID ...]", help="The ids; else --file, or stdin.")] = None,
    file: Annotated[Path | None, typer.Option("--file", help="Take the ids from this .npy file.")] = None,
    out: Annotated[Path | None, typer.Option(help="Write the text, byte for byte, to this file.")] = None,
    skip_special: Annotated[bool, typer.Option(help="Leave special tokens out.")] = False,
    json: Json = False,
) -> None:
    """Turn token ids into text.

    Example: smelt tokenizer decode tokenizer 39 425 78
    """
    found = open_tokenizer(tokenizer)
    numbers = read_ids(ids or [], file, read_stdin)
    if out is None:
        text = found.decode([int(number) for number in numbers], skip_special=skip_special)
        if json:
            print_json({"text": text, "num_tokens": len(numbers)})
        else:
            print(text)
        return
    from smelt.core.storage import atomic_write_bytes

    data = b"".join(decoded(found, numbers, skip_special)).removesuffix(found.decoder.trailing.encode())
    atomic_write_bytes(out, data)
    if json:
        print_json({"out": str(out), "num_tokens": len(numbers)})
    else:
        print(f"{len(data):,} bytes in {out}")


def decoded(tokenizer: Pipeline, numbers: Any, skip_special: bool) -> Iterator[bytes]:
    """Yield the bytes of many ids, some at a time."""
    hidden = frozenset(tokenizer.special.values()) if skip_special else frozenset()
    continued = False
    for start in range(0, len(numbers), DECODED_AT_ONCE):
        part = [number for number in map(int, numbers[start : start + DECODED_AT_ONCE]) if number not in hidden]
        yield tokenizer.decode_bytes(part, continued=continued)
        continued = continued or bool(part)


def read_stdin() -> str:
    """Return what is on stdin; raises UsageError where that is a keyboard."""
    if sys.stdin.isatty():
        raise UsageError("there are no ids", accepted="ids, --file FILE.npy, or ids on stdin")
    return text_from(None, None, option="--file")


@app.command()
def convert(
    source: Source,
    to: Annotated[str, typer.Option(help="The format: json, tiktoken, sentencepiece, vocab (BERT's) or gpt2.")],
    out: Annotated[Path, typer.Option(help="The file to write; a directory for gpt2, or for json and its companions.")],
    json: Json = False,
) -> None:
    """Write a tokenizer in another format; what that cannot express is refused with the reason.

    Example: smelt tokenizer convert llama2.model --to json --out llama2
    """
    from smelt.tokenizers.chat import ChatTemplate
    from smelt.tokenizers.formats import KINDS, save_as, save_tokenizer

    if to not in KINDS:
        raise UsageError(f"--to {to}: unknown format.{nearest(to, KINDS)}", accepted=", ".join(KINDS))
    refuse_source(Path(source), out)
    found = open_tokenizer(source)
    if to == "json" and out.suffix != ".json":
        refuse_checkpoint(out)
        save_tokenizer(found, out, template=ChatTemplate(found) if found.chat_template else None)
    else:
        save_as(found, out, to)
    if json:
        print_json({"tokenizer": str(out), "format": to, "vocab_size": found.vocab_size})
    else:
        print(f"{found.vocab_size:,} tokens in {out} ({to})")


def refuse_source(source: Path, out: Path) -> None:
    """Refuse to write over the tokenizer that is read, be it a file or a directory."""
    here, there = source.resolve(), out.resolve()
    if there in (here, here.parent) or (there.exists() and here in there.parents):
        raise UsageError(f"{out} is where {source} is", accepted="a place of its own", fix="--out ANOTHER_PATH")
