"""`smelt data`: look at rows before training on them, pack text into token shards, write the town or have rows written.

`inspect` is the place to see a loss mask: what the model will be taught to say stands in colour. It reads the same
formats through the same functions as training, so what it shows is what a run gets.
"""

from __future__ import annotations

import time
from dataclasses import asdict
from itertools import groupby, islice
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from smelt.cli.common import Json, console, make_app, open_tokenizer, plural, print_json
from smelt.cli.data_synth import SynthCommand, synth
from smelt.core.errors import TokenizerError, UsageError
from smelt.core.log import printable, say
from smelt.data.formats import Summary, scan_rows, summarize
from smelt.data.looking import good_rows, learned_part, percentiles, row_length
from smelt.data.shards import META, TokenShards, source_fingerprints, write_shards
from smelt.tokenizers.base import END_OF_TEXT
from smelt.tokenizers.bpe_train import byte_tokenizer
from smelt.tokenizers.chat import ChatTemplate, named_template

NUM_EXAMPLES = 3
SHOWN_CHARACTERS = 500  # of one part of an example
FLOOR_DOCUMENTS = 2000

app = make_app(help="Inspect rows, pack text into token shards, generate the town, have a teacher write rows.")
app.command(cls=SynthCommand)(synth)


@app.command()
def inspect(
    source: Annotated[str, typer.Argument(metavar="FILE", help="A file, folder or glob, or a shard directory.")],
    tokenizer: Annotated[str | None, typer.Option(help="Count lengths in this tokenizer's tokens.")] = None,
    template: Annotated[str | None, typer.Option(help="A published chat template by name.")] = None,
    json: Json = False,
) -> None:
    """Show a dataset's format, its bad rows, lengths, and three examples with the loss mask in colour.

    Example: smelt data inspect chats.jsonl --tokenizer tokenizer
    """
    if (Path(source) / META).is_file():
        inspect_shards(source, json)
        return
    found = open_tokenizer(tokenizer) if tokenizer is not None else None
    summary = summarize(source)
    jinja = None if template is None else named_template(template)
    measured = None if found is None else ChatTemplate(found, jinja)
    lengths = percentiles([row_length(row, measured) for row in good_rows(scan_rows(source))])
    unit = "bytes" if found is None else "tokens"
    if json:
        print_json({**asdict(summary), "lengths": lengths, "length_unit": unit})
        return
    show_summary(source, summary)
    if lengths:
        print(f"lengths  {', '.join(f'{name} {value:,}' for name, value in lengths.items())} {unit}")
    show_examples(source, ChatTemplate(found or byte_tokenizer(), jinja))


def inspect_shards(source: str, as_json: bool) -> None:
    """Verify a directory of token shards and print its counts."""
    meta = TokenShards.open(source, verify=True).meta
    if as_json:
        print_json(asdict(meta))
        return
    print(f"{source}: token shards, every byte as its manifest says")
    print(f"tokens   {meta.num_tokens:,} in {meta.num_documents:,} documents, {meta.num_text_bytes:,} bytes of text")
    print(f"made by  a tokenizer of {meta.vocab_size:,} tokens, {meta.tokenizer_fingerprint[:12]}")


def show_summary(source: str, summary: Summary) -> None:
    """Print counts, formats and the first bad rows."""

    def counted(table: dict[str, int]) -> str:
        return ", ".join(f"{name} {count:,}" for name, count in table.items())

    empty = f", {summary.num_empty:,} without text" if summary.num_empty else ""
    print(f"{source}: {summary.num_bytes:,} bytes of text in {plural(summary.num_files, 'file')}")
    print(f"rows     {summary.num_ok:,} good, {summary.num_bad:,} bad{empty}")
    for name, found in (("format", summary.formats), ("roles", summary.roles), ("kinds", summary.kinds)):
        if found:
            print(f"{name:<8} {counted(found)}")
    for message in summary.first_bad:
        print("bad      " + printable(message).replace("\n", "\n         "))
    if summary.num_bad > len(summary.first_bad):
        print(f"         and {summary.num_bad - len(summary.first_bad):,} more")


def show_examples(source: str, template: ChatTemplate) -> None:
    """Print the first rows as the model sees them; what it learns to say is green, or in [[ ]] without colours."""
    screen, tokenizer = console(), template.tokenizer
    for row in islice(good_rows(scan_rows(source)), NUM_EXAMPLES):
        ids, mask = learned_part(row, template)
        text = Text()
        for learned, part in groupby(zip(ids, mask, strict=True), key=lambda pair: pair[1]):
            piece = printable(shorten(tokenizer.decode([number for number, _ in part])))
            marked = piece if screen.is_terminal or not learned else f"[[{piece}]]"
            text.append(marked, style="bold green" if learned else "dim")
        share = sum(mask) / max(1, len(mask))
        print(f"\nexample  {row.where}, {share:.0%} learned")
        screen.print(text)


def shorten(text: str) -> str:
    """Return a long text with its middle left out."""
    left_out = len(text) - SHOWN_CHARACTERS
    if left_out <= 0:
        return text
    half = SHOWN_CHARACTERS // 2
    return f"{text[:half]} ... {left_out:,} characters ... {text[-half:]}"


@app.command()
def pack(
    source: Annotated[str, typer.Argument(metavar="TEXT", help="A file, folder or glob of text.")],
    tokenizer: Annotated[str, typer.Option(help="A tokenizer.json, a checkpoint or a run.")],
    out: Annotated[Path, typer.Option(help="Directory for the shards; earlier shards there are replaced.")],
    json: Json = False,
) -> None:
    """Tokenize text once into memory-mapped shards, for corpora that are used often or do not fit memory.

    Example: smelt data pack books/ --tokenizer tokenizer --out shards/books
    """
    from smelt.data.formats import read_text

    if out.exists() and not (out / META).is_file() and not (out.is_dir() and not any(out.iterdir())):
        raise UsageError(f"{out} is not empty and holds no token shards", fix="--out ANOTHER_DIRECTORY")
    found = open_tokenizer(tokenizer)
    if END_OF_TEXT not in found.special:
        raise TokenizerError(f"{tokenizer}: no special token {END_OF_TEXT} to set between documents")
    started = time.perf_counter()
    texts = (row.text for row in read_text(source))
    meta = write_shards(out, texts, found, end_id=found.special[END_OF_TEXT], sources=source_fingerprints(source))
    values: dict[str, Any] = {
        "shards": str(out),
        "num_documents": meta.num_documents,
        "num_tokens": meta.num_tokens,
        "num_bytes": meta.num_text_bytes,
        "bytes_per_token": round(meta.num_text_bytes / meta.num_tokens, 4),
        "seconds": round(time.perf_counter() - started, 2),
    }
    if json:
        print_json(values)
        return
    print(f"shards  {out}")
    print(
        f"tokens  {meta.num_tokens:,} in {meta.num_documents:,} documents · {values['bytes_per_token']} bytes a token"
    )


@app.command()
def town(
    out: Annotated[Path, typer.Option(help="Directory for the .jsonl files.")],
    documents: Annotated[int, typer.Option(min=0, help="Stories and pages, for pretraining.")] = 0,
    instructions: Annotated[int, typer.Option(min=0, help="Conversations with gold answers.")] = 0,
    preferences: Annotated[int, typer.Option(min=0, help="Pairs of a right and a wrong answer.")] = 0,
    labels: Annotated[int, typer.Option(min=0, help="Sentences with the label of their event.")] = 0,
    split: Annotated[str, typer.Option(help="train or heldout: worlds that share no name and no fact.")] = "train",
    language: Annotated[list[str] | None, typer.Option(help="en, zh; repeat for several [default: all]")] = None,
    seed: Annotated[int, typer.Option(help="Decides every row.")] = 0,
    json: Json = False,
) -> None:
    """Write rows of the generated town, a world whose facts are all known.

    Example: smelt data town --out town --documents 5000 --instructions 5000
    """
    from smelt.data import town as generated

    if not documents + instructions + preferences + labels:
        raise UsageError("nothing to write", fix="--documents N, --instructions N, --preferences N or --labels N")
    languages: Any = language or generated.LANGUAGES
    kind: Any = split
    files = generated.write(
        out,
        seed=seed,
        split=kind,
        num_documents=documents,
        num_instructions=instructions,
        num_preferences=preferences,
        num_labels=labels,
        languages=languages,
    )
    floor = None
    if documents:
        num = min(documents, FLOOR_DOCUMENTS)
        rate = generated.entropy_rate(seed=seed, split=kind, num_documents=num, languages=languages)
        floor = round(rate.bits_per_byte, 4)
    if json:
        print_json({"directory": str(out), "files": files, "floor_bits_per_byte": floor})
        return
    for name, num_bytes in files.items():
        print(f"{out / name}  {num_bytes:,} bytes")
    if floor is not None:
        say(f"no model can do better on this text than {floor} bits per byte (over the first {num:,} documents)")
