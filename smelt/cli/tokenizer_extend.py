"""`smelt tokenizer extend`: change the vocabulary of a tokenizer, or of a whole model with it.

A bare tokenizer is written as `smelt tokenizer train` writes one. Of a checkpoint the model is given the rows of the
new vocabulary, and both are saved as one artefact that says where it came from. The source is only read.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from smelt.cli.common import Json, plural, print_json
from smelt.cli.tokenizer_texts import texts_of
from smelt.core.errors import UsageError
from smelt.core.log import LiveLine, say

if TYPE_CHECKING:
    from smelt.tokenizers.pipeline import Pipeline

Texts = Annotated[list[str] | None, typer.Argument(metavar="[TEXT ...]", help="Text to learn from and to measure on.")]
Special = Annotated[list[str] | None, typer.Option("--add-special", help="Add a control token; may be repeated.")]
Literal = Annotated[list[str] | None, typer.Option("--add", help="Add a text that is always one token; likewise.")]


@dataclass(frozen=True)
class Change:
    """A new vocabulary, and where its rows come from."""

    tokenizer: Pipeline
    kept: list[int]  # the old id of each of the first ids
    new: list[list[int]]  # the old ids that each further one stood for


def extend(
    source: Annotated[str, typer.Argument(metavar="TOKENIZER", help='A tokenizer, "bytes", a checkpoint or a run.')],
    texts: Texts = None,
    add_special: Special = None,
    add: Literal = None,
    num_tokens: Annotated[int, typer.Option(min=0, help="Learn so many tokens from the text.")] = 0,
    prune_to: Annotated[int | None, typer.Option(help="First leave out all but so many tokens.")] = None,
    out: Annotated[Path, typer.Option(help="Directory for the new tokenizer or checkpoint.")] = Path("extended"),
    json: Json = False,
) -> None:
    """Add tokens to a vocabulary or leave some out; a checkpoint's model follows.

    Example: smelt tokenizer extend runs/books medicine/ --num-tokens 2000 --out books-medicine
    """
    from smelt.cli.common import open_tokenizer
    from smelt.cli.tokenizer import bytes_per_token

    started = time.perf_counter()
    specs = texts or []
    if not (add_special or add or num_tokens or prune_to is not None):
        raise UsageError("nothing to change", accepted="--add-special, --add, --num-tokens or --prune-to")
    if num_tokens and not specs:
        raise UsageError(f"--num-tokens {num_tokens} without text to learn from", fix="name files, folders or globs")
    checkpoint = checkpoint_of(source)
    refuse_out(out, checkpoint or Path(source), is_model=checkpoint is not None)
    old = open_tokenizer(source)
    change = changed(old, specs, add_special or [], add or [], num_tokens, prune_to)
    ratios = [bytes_per_token(tokenizer, texts_of(specs)) if specs else None for tokenizer in (old, change.tokenizer)]
    values: dict[str, Any] = {"out": str(out), "old_vocab_size": old.vocab_size}
    values |= {"vocab_size": change.tokenizer.vocab_size, "kept": len(change.kept), "added": len(change.new)}
    values |= {"old_bytes_per_token": ratios[0], "bytes_per_token": ratios[1]}
    if checkpoint is None:
        save_bare(change.tokenizer, Path(source), out)
    else:
        values["parameters"] = save_resized(change, checkpoint, out)
    values["seconds"] = round(time.perf_counter() - started, 2)
    if num_tokens + len(add_special or []) + len(add or []) > len(change.new):
        say(f"note: the text ran out of pairs that occur twice; {plural(len(change.new), 'token')} added")
    show(values, is_model=checkpoint is not None, as_json=json)


def show(values: dict[str, Any], *, is_model: bool, as_json: bool) -> None:
    """Print what became of the vocabulary."""
    if as_json:
        print_json(values)
        return
    out, before, after = values["out"], values["old_bytes_per_token"], values["bytes_per_token"]
    print(f"{'checkpoint' if is_model else 'tokenizer':<11} {out}")
    print(f"tokens      {values['old_vocab_size']:,} -> {values['vocab_size']:,}: {values['added']:,} new")
    if before is not None:
        print(f"text        {before:.2f} -> {after:.2f} bytes a token")
    if is_model:
        print(f"parameters  {values['parameters']:,}")
        print(f"next        smelt pretrain name=NAME checkpoint={out} data=TEXT: new rows are only a guess")


def checkpoint_of(source: str) -> Path | None:
    """Return the checkpoint that a path means, None where it means a tokenizer without a model."""
    from smelt.core.errors import CheckpointError
    from smelt.core.storage import checkpoint_at

    if source == "bytes" or Path(source).is_file():
        return None
    try:
        return checkpoint_at(source)
    except CheckpointError:
        return None


def refuse_out(out: Path, source: Path, *, is_model: bool) -> None:
    """Refuse to write over the source, or over anything where a model is to stand."""
    from smelt.cli.tokenizer import refuse_checkpoint

    target, home = out.resolve(), (source.parent if source.is_file() else source).resolve()
    if target == home or (is_model and target.is_relative_to(home)):
        raise UsageError(f"{out} would be written over its source, {source}", fix="--out ANOTHER_DIRECTORY")
    refuse_checkpoint(out)
    if is_model and out.is_dir() and any(out.iterdir()):
        raise UsageError(f"{out} is not empty", accepted="a new directory", fix="--out ANOTHER_DIRECTORY")


def changed(
    old: Pipeline,
    specs: list[str],
    special: Sequence[str],
    literal: Sequence[str],
    num_tokens: int,
    prune_to: int | None,
) -> Change:
    """Return the new vocabulary: pruned, then grown from text, then with added tokens."""
    from smelt.tokenizers.growth import merge_vocabulary
    from smelt.tokenizers.surgery import add_tokens, old_encodings, prune

    pruned, kept = (old, list(range(old.vocab_size))) if prune_to is None else prune(old, prune_to)
    new = pruned
    if num_tokens:
        line = LiveLine()

        def progress(done: int, wanted: int) -> None:
            if done % 64 == 0:
                line.update(f"tokens {done:,} of {wanted:,}")

        new = merge_vocabulary(new, texts_of(specs), num_tokens, on_progress=progress)
        line.close()
    if special or literal:
        new = add_tokens(new, special, literal)
    return Change(new, kept, [[kept[number] for number in row] for row in old_encodings(pruned, new)])


def save_bare(tokenizer: Pipeline, source: Path, out: Path) -> None:
    """Save a tokenizer as its source was saved."""
    from smelt.tokenizers.formats import save_tokenizer, settings_beside

    save_tokenizer(tokenizer, out, **settings_beside(source.parent if source.is_file() else source, tokenizer))


def save_resized(change: Change, checkpoint: Path, out: Path) -> int:
    """Save a checkpoint's model with the rows of the new vocabulary; return the number of its parameters."""
    import torch

    from smelt.core.storage import atomic_directory, sha256_file, write_json
    from smelt.models.hub import CONFIG, LINEAGE, load, save_model
    from smelt.models.resize import resize_embeddings
    from smelt.models.shards import read_json
    from smelt.tokenizers.formats import save_tokenizer, settings_beside

    config = read_json(checkpoint / CONFIG)
    dtype = getattr(torch, str(config.get("dtype") or config.get("torch_dtype")), torch.float32)
    model, old = load(checkpoint, dtype=dtype)
    resize_embeddings(model, change.kept, change.new)
    lineage = read_json(checkpoint / LINEAGE) if (checkpoint / LINEAGE).is_file() else {}
    files = sorted(checkpoint.glob("*.safetensors"))
    lineage = {
        "stage": "extend",
        "step": lineage.get("step", 0),
        "parents": [{"path": str(checkpoint), "weights_sha256": sha256_file(file)} for file in files],
        "vocabulary": {"old": old.vocab_size, "kept": len(change.kept), "added": len(change.new)},
        "tokenizer_sha256": change.tokenizer.fingerprint,
    }
    with atomic_directory(out) as directory:
        # Not hub.publish: the token ids and the chat template of the source stay, whatever they are.
        save_model(model, directory)
        save_tokenizer(change.tokenizer, directory, **settings_beside(checkpoint, change.tokenizer))
        write_json(directory / LINEAGE, lineage)
    return sum(parameter.numel() for parameter in model.parameters())
