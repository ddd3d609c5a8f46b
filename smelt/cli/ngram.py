"""`smelt ngram`: train an n-gram model with Kneser-Ney smoothing, measure it as `smelt eval` does, let it write.

A directory holds the tokenizer and, in `model/`, the n-grams; both are sealed together. The figures have the keys of
`smelt eval --text`, so that a neural model and the line it must beat can be put side by side.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from smelt.cli.common import Json, make_app, open_tokenizer, print_json, text_from
from smelt.core.errors import CheckpointError
from smelt.core.log import printable, say

if TYPE_CHECKING:
    from smelt.models.ngram import NgramModel
    from smelt.tokenizers.pipeline import Pipeline

MODEL = "model"
BYTES = "bytes"

Source = Annotated[Path, typer.Argument(metavar="NGRAM", help="A directory of `smelt ngram train`.")]

app = make_app(help="Train an n-gram model, measure it, let it write.")


@app.command()
def train(
    texts: Annotated[list[str], typer.Argument(metavar="TEXT ...", help="Files, folders or globs of text.")],
    order: Annotated[int, typer.Option(help="Tokens of the longest n-grams, one more than are looked back at.")] = 5,
    tokenizer: Annotated[
        str, typer.Option(help="A tokenizer, a checkpoint or a run; bytes: one token a byte.")
    ] = BYTES,
    out: Annotated[Path, typer.Option(help="Directory for the model and its tokenizer.")] = Path("ngram"),
    json: Json = False,
) -> None:
    """Count the n-grams of a text and smooth them.

    Example: smelt ngram train books/ --order 5 --tokenizer tokenizer --out ngram
    """
    import numpy as np

    from smelt.evals.ngram import start_ids
    from smelt.models.ngram import NgramModel

    refuse_other(out)
    found = open_tokenizer(tokenizer)
    started = time.perf_counter()
    say("encoding and counting")
    start = np.array(start_ids(found), np.int32)
    streams = [np.concatenate([start, found.encode_to_array([text], end_id=None)[0]]) for text in documents(texts)]
    model = NgramModel.train(streams, vocab_size=found.vocab_size, order=order)
    save(model, found, out)
    seconds = round(time.perf_counter() - started, 2)
    num_tokens = sum(map(len, streams)) - len(start) * len(streams)
    sizes = [len(level.keys) for level in model.levels]
    if json:
        values = {"ngram": str(out), "order": order, "vocab_size": model.vocab_size, "tokens": num_tokens}
        print_json(values | {"ngrams": sizes, "seconds": seconds})
        return
    print(f"model    {out} · order {order} · {model.vocab_size:,} tokens")
    print(f"counted  {num_tokens:,} tokens · {sum(sizes):,} different n-grams · {seconds:.1f} s")
    print(f"next     smelt ngram eval {out} --text TEXT")


@app.command(name="eval")
def evaluate(
    model: Source,
    text: Annotated[str, typer.Option(help="Text (file, folder or glob): bits per byte, perplexity.")],
    json: Json = False,
) -> None:
    """Measure how well the model predicts a text.

    Example: smelt ngram eval ngram --text held-out.txt
    """
    from smelt.evals.ngram import score_text

    score = score_text(*open_ngram(model), documents([text]))
    if json:
        values = {"bits_per_byte": score.bits_per_byte, "perplexity": score.perplexity, "bytes": score.num_bytes}
        print_json(values)
        return
    print(
        f"{text}: {score.bits_per_byte:.4f} bits per byte · perplexity {score.perplexity:,.2f} a token · "
        f"{score.num_bytes:,} bytes, {score.num_tokens:,} tokens"
    )


@app.command()
def generate(
    model: Source,
    prompt: Annotated[str | None, typer.Option(help="Text to continue [default: a new document]")] = None,
    prompt_file: Annotated[Path | None, typer.Option(help="Take the prompt from this file (UTF-8).")] = None,
    max_new_tokens: Annotated[int, typer.Option(help="The most tokens to write.")] = 256,
    temperature: Annotated[float, typer.Option(help="0: always the likeliest token; higher: livelier.")] = 1.0,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same text.")] = 0,
    json: Json = False,
) -> None:
    """Continue a prompt.

    Example: smelt ngram generate ngram --prompt "It was" --max-new-tokens 100
    """
    from smelt.evals.ngram import start_ids

    text = "" if prompt is None and prompt_file is None else text_from(prompt, prompt_file, option="--prompt-file")
    found, tokenizer = open_ngram(model)
    start = start_ids(tokenizer)
    ids = [*start, *tokenizer.encode(text)]
    started = time.perf_counter()
    written = found.generate(ids, max_new_tokens, seed, temperature)
    seconds = time.perf_counter() - started
    ends = [place for place, token in enumerate(written) if token in start]  # a document begins where another has ended
    kept = written[: ends[0]] if ends else written
    answer = tokenizer.decode(kept)
    if not json:
        print(printable(answer) if sys.stdout.isatty() else answer)
        return
    speed = round(len(written) / max(seconds, 1e-9), 2)
    reason = "stop" if ends else "length"
    print_json({"text": answer, "ids": kept, "prompt_ids": ids, "finish_reason": reason, "tokens_per_second": speed})


def documents(specs: list[str]) -> Iterator[str]:
    """Yield the documents of some files, folders or globs."""
    from smelt.data.formats import read_text

    return (row.text for spec in specs for row in read_text(spec))


def refuse_other(out: Path) -> None:
    """Refuse a directory that holds anything but an earlier n-gram model."""
    if out.exists() and not (out / MODEL).is_dir() and (not out.is_dir() or any(out.iterdir())):
        raise CheckpointError(
            f"{out}: holds something else, and saving would replace it",
            accepted="a new directory, an empty one, or an earlier n-gram model",
            fix="--out ANOTHER_DIRECTORY",
        )


def save(model: NgramModel, tokenizer: Pipeline, out: Path) -> None:
    """Write model and tokenizer as one sealed directory."""
    from smelt.core.storage import atomic_directory
    from smelt.tokenizers.formats import save_tokenizer

    with atomic_directory(out) as folder:
        save_tokenizer(tokenizer, folder, template=None)
        model.save(folder / MODEL)


def open_ngram(path: Path) -> tuple[NgramModel, Pipeline]:
    """Load the model and tokenizer of a directory of `train`; raises CheckpointError where it is none or damaged."""
    from smelt.core.storage import verify_directory
    from smelt.models.ngram import NgramModel
    from smelt.tokenizers.formats import load_tokenizer

    if path.is_dir() and not (path / MODEL).is_dir():
        raise CheckpointError(f"{path}: holds no n-gram model", accepted="a directory of `smelt ngram train`")
    verify_directory(path)
    return NgramModel.load(path / MODEL), load_tokenizer(path)
