"""From text to the rows of a pretraining run: tokenize once, hold a part out, mix several sources by weight, count.

Text becomes memory-mapped shards inside the run directory, each source once and by itself, so that a resumed run starts
at once and rows and tokens by source are exact. Of each source a part is held out by the same rule, whether it is text
or shards; with the seed, share and files of an earlier run these are the very documents that it held out.

    data/train, data/validation                          one source
    data/1-code/train, data/1-code/validation, data/2-books/train, ...    several
    data/remember-1-books                                text that is measured and not trained on
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field

from smelt.core.errors import ConfigError, DataError
from smelt.core.log import say
from smelt.data.chosen import ChosenDocuments
from smelt.data.formats import read_pairs, read_text, scan_rows
from smelt.data.mixing import Mixed
from smelt.data.order import split_documents, split_tail
from smelt.data.packing import StreamRows, pack_stream
from smelt.data.records import TextRow
from smelt.data.shards import META, TokenShards, source_fingerprints, write_shards
from smelt.tokenizers.pipeline import Pipeline
from smelt.train.forgetting import HeldOut
from smelt.train.joined import JoinedRows
from smelt.train.pretraining.rows import MakeRows, Setup, document_end, row_maker, similar_rows
from smelt.train.recipes import DataSource, NamedText, RunRecipe, Sources, Texts
from smelt.train.sources import Rows, to_batch

Stream = TokenShards | ChosenDocuments
PER_BYTE = ("causal",)
"""Objectives whose loss is of every token of a text, and so bits per byte of it."""


class TextRecipe(RunRecipe):
    """What a run over text is told of its text."""

    data: Sources
    """Text (file, folder or glob) or a directory of token shards; or a list of {path, weight, name}, of which each is
    drawn from by its weight."""
    validation: str | None = None
    """Held-out text or shards; a part of each source when empty."""
    validation_fraction: float = Field(default=0.02, gt=0, lt=1)
    """Share of the data held out when `validation` is empty."""
    validation_split: Literal["documents", "tail"] = "documents"
    """Hold out whole documents, or the end of every document (for one long text)."""
    remember: Texts = ()
    """Texts or token shards, a path or a list of {path, name}, measured before and after and not trained on: what is
    forgotten."""


@dataclass(frozen=True)
class TextRows:
    """Hold what a run trains on, what it is validated and measured with, and what its lineage says of them.

    `validation` is the rows of all parts of `measured` that count in the validation loss, None where there are none.
    """

    rows: Rows
    order: Mixed | None
    names: tuple[str, ...]
    validation: Rows | None
    measured: tuple[HeldOut, ...]
    facts: dict[str, object]

    def counts(self, num_rows: int) -> dict[str, dict[str, float]]:
        """Return what the first `num_rows` draws took from each of several sources."""
        if self.order is None:
            return {}
        width = to_batch(self.rows.take([0])).ids.shape[1]
        return {
            name: {"rows": taken, "tokens": taken * width, "passes": round(taken / size, 2)}
            for name, taken, size in zip(self.names, self.order.taken(num_rows), self.order.sizes, strict=True)
        }


def texts(recipe: TextRecipe, setup: Setup, folder: Path) -> TextRows:
    """Return the rows of streams of documents, tokenized into `folder` unless that was done before.

    Raises:
        SmeltError: text that cannot be read or is too short, or a tokenizer without what the objective needs.
    """
    rows_of = row_maker(setup)  # before anything is tokenized: it knows what is missing
    trained, measured, facts = list[Rows](), list[HeldOut](), dict[str, dict[str, str]]()
    num_tokens = 0
    per_byte = setup.settings.name in PER_BYTE

    def hold_out(name: str, stream: Stream, weight: float) -> None:
        rows = validation_rows(stream, rows_of, setup.max_seq_len, f" of {name}" if len(recipe.data) > 1 else "")
        if rows is not None:
            measured.append(HeldOut(name, rows, weight, bytes_per_token(stream) if per_byte else None))

    for number, source in enumerate(recipe.data, start=1):
        place = folder if len(recipe.data) == 1 else folder / f"{number}-{slug(source.name)}"
        stream, held_out = corpus(recipe, source, setup.tokenizer, place)
        trained.append(rows_of(stream))
        facts[source.name] = fingerprints_of(stream)
        num_tokens += int(stream.ends[-1])
        if held_out is not None:
            hold_out(source.name, held_out, source.weight)
    if recipe.validation is not None:
        hold_out("validation", open_or_write(recipe.validation, setup.tokenizer, folder / "validation"), 1.0)
    measured += remembered(recipe.remember, rows_of, setup.tokenizer, folder, per_byte=per_byte)
    return mixture(recipe, trained, measured, {"tokens": num_tokens}, facts)


def similar_texts(recipe: TextRecipe, setup: Setup) -> TextRows:
    """Return the same of pairs of texts, which stay in memory: rows of a source and a target.

    Raises:
        ConfigError: there are texts to remember, which are no pairs.
    """
    if recipe.remember:
        raise ConfigError("remember is text, and objective=similar_pairs measures pairs", fix="leave remember out")
    rows_of = similar_rows(setup)
    trained, measured, facts, num_pairs = list[Rows](), list[HeldOut](), dict[str, dict[str, str]](), 0
    for source in recipe.data:
        pairs = [(row.source, row.target) for row in read_pairs(source.path)]
        if recipe.validation is None:
            mask = split_documents(len(pairs), recipe.validation_fraction, recipe.seed)
            held_out = [pair for pair, out in zip(pairs, mask, strict=True) if out]
            pairs = [pair for pair, out in zip(pairs, mask, strict=True) if not out]
            measured.append(HeldOut(source.name, rows_of(held_out), source.weight, None))
        trained.append(rows_of(pairs))
        facts[source.name] = source_fingerprints(source.path)
        num_pairs += len(pairs)
    if recipe.validation is not None:
        given = [(row.source, row.target) for row in read_pairs(recipe.validation)]
        measured.append(HeldOut("validation", rows_of(given), 1.0, None))
    return mixture(recipe, trained, measured, {"pairs": num_pairs}, facts)


def mixture(
    recipe: TextRecipe,
    trained: Sequence[Rows],
    measured: Sequence[HeldOut],
    sizes: dict[str, int],
    fingerprints: dict[str, dict[str, str]],
) -> TextRows:
    """Return the rows of all sources as one set; several are drawn from by weight."""
    held_out = tuple(held.rows for held in measured if held.weight)
    several = len(trained) > 1
    files = {
        f"{name}/{file}" if several else file: sha
        for name, found in fingerprints.items()
        for file, sha in found.items()
    }
    weights = [source.weight for source in recipe.data]
    return TextRows(
        rows=JoinedRows(tuple(trained)) if several else trained[0],
        order=Mixed([rows.num_rows for rows in trained], weights, recipe.seed) if several else None,
        names=tuple(source.name for source in recipe.data),
        validation=(JoinedRows(held_out) if len(held_out) > 1 else held_out[0]) if held_out else None,
        measured=tuple(measured),
        facts={**sizes, "sources": files},
    )


def remembered(
    given: Sequence[NamedText], rows_of: MakeRows, tokenizer: Pipeline, folder: Path, *, per_byte: bool
) -> list[HeldOut]:
    """Return texts, or shards, that are measured and do not count in the validation loss."""
    found = []
    for number, text in enumerate(given, start=1):
        stream = open_or_write(text.path, tokenizer, folder / f"remember-{number}-{slug(text.name)}")
        size = bytes_per_token(stream) if per_byte else None
        found.append(HeldOut(text.name, rows_of(stream), 0.0, size, is_like_training=False))
    return found


def replayed(
    recipe: TextRecipe, tokenizer: Pipeline, folder: Path
) -> tuple[list[tuple[str, StreamRows]], list[HeldOut], dict[str, str]]:
    """Return rows of texts that are mixed into data of another kind, what is held out of them, and their files."""
    rows, measured, files = list[tuple[str, StreamRows]](), list[HeldOut](), dict[str, str]()
    rows_of = functools.partial(pack_stream, max_seq_len=recipe.max_seq_len)
    for number, source in enumerate(recipe.data, start=1):
        place = folder / f"replay-{number}-{slug(source.name)}"
        stream, held_out = corpus(recipe, source, tokenizer, place)
        assert held_out is not None  # the recipe names no validation text
        rows.append((source.name, rows_of(stream)))
        kept = validation_rows(held_out, rows_of, recipe.max_seq_len, f" of {source.name}")
        if kept is not None:
            measured.append(HeldOut(source.name, kept, 0.0, bytes_per_token(held_out)))
        files |= {f"{source.name}/{file}": sha for file, sha in fingerprints_of(stream).items()}
    return rows, measured, files


def holds_text(path: str) -> bool:
    """Tell by the first row whether data are plain text; token shards are.

    Raises:
        DataError: the first row cannot be read.
    """
    if is_shards(path):
        return True
    first = next((row for _, row in scan_rows(path)), None)
    if isinstance(first, DataError):
        raise first
    return isinstance(first, TextRow)


def corpus(recipe: TextRecipe, source: DataSource, tokenizer: Pipeline, folder: Path) -> tuple[Stream, Stream | None]:
    """Return what trains and what is held out of a source, None where the run has validation text of its own."""
    if recipe.validation is not None:
        return open_or_write(source.path, tokenizer, folder / "train"), None
    if is_shards(source.path):
        return divide_shards(TokenShards.open(source.path, tokenizer_fingerprint=tokenizer.fingerprint), recipe)
    fingerprints = source_fingerprints(source.path)
    parts = [reusable(folder / part, tokenizer, fingerprints) for part in ("train", "validation")]
    if parts[0] is None or parts[1] is None:
        say(f"tokenizing {source.path}")
        held_out, kept = divide([row.text for row in read_text(source.path)], recipe)
        for part, chosen in (("train", kept), ("validation", held_out)):
            write_shards(folder / part, chosen, tokenizer, end_id=document_end(tokenizer), sources=fingerprints)
    opened = [
        TokenShards.open(folder / part, tokenizer_fingerprint=tokenizer.fingerprint) for part in ("train", "validation")
    ]
    return opened[0], opened[1]


def divide(documents: Sequence[str], recipe: TextRecipe) -> tuple[list[str], list[str]]:
    """Return the held-out texts and the others."""
    if recipe.validation_split == "tail":
        pairs = [split_tail(text, recipe.validation_fraction) for text in documents]
        return [tail for _, tail in pairs], [body for body, _ in pairs]
    mask = split_documents(len(documents), recipe.validation_fraction, recipe.seed)
    return [t for t, out in zip(documents, mask, strict=True) if out], [
        t for t, out in zip(documents, mask, strict=True) if not out
    ]


def divide_shards(shards: TokenShards, recipe: TextRecipe) -> tuple[ChosenDocuments, ChosenDocuments]:
    """Return the documents of shards that train and those that are held out, the same as of the text that they hold.

    Raises:
        ConfigError: the tails of documents were to be held out, which shards cannot tell from their bodies.
    """
    if recipe.validation_split == "tail":
        raise ConfigError(
            f"validation_split=tail, but {shards.directory} holds token shards",
            accepted="validation_split=documents, or text",
            fix="validation_split=documents, or validation=SHARDS_OR_TEXT",
        )
    mask = split_documents(len(shards.ends), recipe.validation_fraction, recipe.seed)
    return ChosenDocuments(shards, np.flatnonzero(~mask)), ChosenDocuments(shards, np.flatnonzero(mask))


def is_shards(path: str) -> bool:
    """Tell whether a path is a directory of token shards."""
    return (Path(path) / META).exists()


def open_or_write(path: str, tokenizer: Pipeline, folder: Path) -> TokenShards:
    """Open shards, or tokenize text into `folder` unless that was done before."""
    if is_shards(path):
        return TokenShards.open(path, tokenizer_fingerprint=tokenizer.fingerprint)
    fingerprints = source_fingerprints(path)
    if (found := reusable(folder, tokenizer, fingerprints)) is not None:
        return found
    say(f"tokenizing {path}")

    def documents() -> Iterator[str]:
        for row in read_text(path):
            yield row.text

    write_shards(folder, documents(), tokenizer, end_id=document_end(tokenizer), sources=fingerprints)
    return TokenShards.open(folder, tokenizer_fingerprint=tokenizer.fingerprint)


def reusable(folder: Path, tokenizer: Pipeline, fingerprints: dict[str, str]) -> TokenShards | None:
    """Return shards that were made before from the same files with the same tokenizer."""
    if not (folder / META).exists():
        return None
    shards = TokenShards.open(folder)
    same = shards.meta.sources == fingerprints and shards.meta.tokenizer_fingerprint == tokenizer.fingerprint
    return shards if same else None


def validation_rows(stream: Stream, rows_of: MakeRows, max_seq_len: int, whose: str = "") -> Rows | None:
    """Return the rows of the held-out part; with too few tokens for one row the run goes without, and says so."""
    num_tokens = int(stream.ends[-1])
    rows = rows_of(stream) if num_tokens > max_seq_len else None
    if rows is not None and rows.num_rows:
        return rows
    say(f"warning: the held-out part{whose} has {num_tokens} tokens, less than one row; no validation loss{whose}")
    return None


def bytes_per_token(stream: Stream) -> float:
    """Return how many bytes of text a token of a stream stands for."""
    return float(stream.text_bytes.sum() / stream.ends[-1])


def fingerprints_of(stream: Stream) -> dict[str, str]:
    """Return the files that a stream was made of, with their SHA-256."""
    return (stream.shards if isinstance(stream, ChosenDocuments) else stream).meta.sources


def slug(name: str) -> str:
    """Return a name as part of a file name: "a b/c" -> "a_b_c"."""
    return re.sub(r"[^\w.-]", "_", name)
