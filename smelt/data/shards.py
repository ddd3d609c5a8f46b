"""Keep a tokenized text on disk as plain integer files that a training run maps into memory.

A directory holds tokens-00000.bin, tokens-00001.bin, ... (little-endian uint16, or uint32 for vocabularies above
65,536), document_ends.bin and document_bytes.bin (int64: where each document ends in the whole stream, and how many
bytes of UTF-8 it was, so that a loss per token becomes bits per byte), shards.json (what the numbers mean: vocabulary,
tokenizer fingerprint, counts, sources) and manifest.json (size and SHA-256 of each file). It appears whole or not at
all. Opening checks sizes and meaning in milliseconds; `verify=True` reads everything (about 1 GB/s).
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from smelt.core.errors import CheckpointError, DataError, nearest
from smelt.core.storage import atomic_directory, read_manifest, sha256_file, verify_directory, write_json
from smelt.data.readers import expand_paths

if TYPE_CHECKING:
    from smelt.tokenizers.base import Tokenizer

VERSION = 1
META, ENDS, BYTES = "shards.json", "document_ends.bin", "document_bytes.bin"
TOKENS = "tokens-{:05d}.bin"
REWRITE = "write the shards again with `smelt data pack`"


@dataclass(frozen=True)
class ShardsMeta:
    """Say what a shard directory holds; `sources` maps each source file's name to its SHA-256."""

    version: int
    dtype: str
    num_tokens: int
    num_documents: int
    num_text_bytes: int
    tokens_per_file: tuple[int, ...]
    vocab_size: int
    tokenizer_fingerprint: str
    sources: dict[str, str]


@dataclass(frozen=True)
class TokenShards:
    """Read a shard directory as one long token stream with document ends; get it from `TokenShards.open`."""

    directory: Path
    meta: ShardsMeta
    files: tuple[NDArray[np.unsignedinteger], ...]
    ends: NDArray[np.int64]
    text_bytes: NDArray[np.int64]

    @classmethod
    def open(
        cls, directory: Path | str, *, tokenizer_fingerprint: str | None = None, verify: bool = False
    ) -> TokenShards:
        """Map a shard directory into memory.

        Raises:
            DataError: it is missing, incomplete, altered, of another version, or made with another tokenizer than the
                one of `tokenizer_fingerprint`; with `verify` also a changed byte or an id beyond the vocabulary.
        """
        directory = Path(directory)
        meta = read_meta(directory, verify=verify)
        if tokenizer_fingerprint is not None and tokenizer_fingerprint != meta.tokenizer_fingerprint:
            raise DataError(
                f"{directory}: made with tokenizer {meta.tokenizer_fingerprint[:12]}, not {tokenizer_fingerprint[:12]}",
                accepted="shards and model with the same tokenizer",
                fix=REWRITE + " and this tokenizer",
            )
        names = [TOKENS.format(number) for number in range(len(meta.tokens_per_file))]
        shards = cls(
            directory=directory,
            meta=meta,
            files=tuple(
                map_file(directory / name, meta.dtype, count)
                for name, count in zip(names, meta.tokens_per_file, strict=True)
            ),
            ends=map_file(directory / ENDS, "<i8", meta.num_documents),
            text_bytes=map_file(directory / BYTES, "<i8", meta.num_documents),
        )
        shards.check_counts()
        if verify:
            shards.check_ids()
        return shards

    @cached_property
    def starts(self) -> NDArray[np.int64]:
        """Return the offset in the stream at which each file begins, and the end of the last."""
        return np.concatenate([[0], np.cumsum([len(file) for file in self.files])]).astype(np.int64)

    def read(self, start: int, stop: int) -> NDArray[np.unsignedinteger]:
        """Return the tokens from `start` up to `stop`, across files where needed."""
        first = int(np.searchsorted(self.starts, start, side="right")) - 1
        if first < len(self.files) and stop <= self.starts[first + 1]:
            return self.files[first][start - self.starts[first] : stop - self.starts[first]]
        pieces = [
            file[max(start - begin, 0) : max(stop - begin, 0)]
            for file, begin in zip(self.files, self.starts[:-1].tolist(), strict=True)
        ]
        return np.concatenate(pieces)

    def document(self, index: int) -> NDArray[np.unsignedinteger]:
        """Return the tokens of one document, its end token included."""
        return self.read(int(self.ends[index - 1]) if index else 0, int(self.ends[index]))

    def check_counts(self) -> None:
        """Check that the parts agree with each other.

        Raises:
            DataError: they do not.
        """
        tokens, ends = sum(self.meta.tokens_per_file), self.ends
        if tokens != self.meta.num_tokens or not len(ends) or ends[-1] != tokens:
            raise DataError(f"{self.directory}: its files disagree about the number of tokens", fix=REWRITE)

    def check_ids(self) -> None:
        """Check that every id is in the vocabulary and every document ends after it begins.

        Raises:
            DataError: one is not; the message holds the file and the place.
        """
        for number, file in enumerate(self.files):
            check_vocabulary(file, self.meta.vocab_size, str(self.directory / TOKENS.format(number)))
        if (np.diff(self.ends, prepend=0) < 0).any():
            raise DataError(f"{self.directory / ENDS}: document ends are not in ascending order", fix=REWRITE)


def write_shards(
    directory: Path | str,
    texts: Iterable[str],
    tokenizer: Tokenizer,
    *,
    end_id: int,
    sources: Mapping[str, str],
    max_file_tokens: int = 2**28,
) -> ShardsMeta:
    """Tokenize texts into a shard directory, each followed by `end_id`; an existing directory is replaced.

    A new file begins once one has reached `max_file_tokens`, always between documents. `sources` comes from
    `source_fingerprints`.

    Raises:
        DataError: there are no texts, or the tokenizer gave an id beyond its vocabulary.
        ResourceError: the disk is full; an existing directory is intact.
    """
    dtype = np.dtype("<u2" if tokenizer.vocab_size <= 2**16 else "<u4")
    tokens_per_file, num_tokens, num_documents, num_text_bytes = [0], 0, 0, 0
    with atomic_directory(directory) as folder:
        for batch in batches(texts):
            ids, ends = tokenizer.encode_to_array(batch, end_id=end_id)
            check_vocabulary(ids, tokenizer.vocab_size, f"texts {num_documents + 1} to {num_documents + len(batch)}")
            sizes = np.array([len(text.encode()) for text in batch], dtype=np.int64)
            if tokens_per_file[-1] >= max_file_tokens:
                tokens_per_file.append(0)
            append(folder / TOKENS.format(len(tokens_per_file) - 1), ids.astype(dtype))
            append(folder / ENDS, (ends + num_tokens).astype("<i8"))
            append(folder / BYTES, sizes.astype("<i8"))
            tokens_per_file[-1] += len(ids)
            num_tokens += len(ids)
            num_documents += len(batch)
            num_text_bytes += int(sizes.sum())
        if num_documents == 0:
            raise DataError(
                f"{directory}: no text to write", fix="check the source; `smelt data inspect` shows its rows"
            )
        meta = ShardsMeta(
            version=VERSION,
            dtype=dtype.str,
            num_tokens=num_tokens,
            num_documents=num_documents,
            num_text_bytes=num_text_bytes,
            tokens_per_file=tuple(tokens_per_file),
            vocab_size=tokenizer.vocab_size,
            tokenizer_fingerprint=tokenizer.fingerprint,
            sources=dict(sources),
        )
        write_json(folder / META, asdict(meta))
    return meta


def source_fingerprints(spec: Path | str) -> dict[str, str]:
    """Return the SHA-256 of each file that a path, folder or glob stands for, under its name below their common folder.

    Raises:
        DataError: see `expand_paths`.
    """
    paths = expand_paths(spec)
    folder = Path(os.path.commonpath([path.parent for path in paths]))
    return {path.relative_to(folder).as_posix(): sha256_file(path) for path in paths}


def batches(texts: Iterable[str], max_characters: int = 2**24) -> Iterator[list[str]]:
    """Yield lists of texts of about `max_characters` together, so that memory stays bounded."""
    batch: list[str] = []
    num_characters = 0
    for text in texts:
        batch.append(text)
        num_characters += len(text) + 1
        if num_characters >= max_characters:
            yield batch
            batch, num_characters = [], 0
    if batch:
        yield batch


def append(path: Path, array: NDArray[np.generic]) -> None:
    """Add an array's bytes to a file."""
    with open(path, "ab") as handle:
        handle.write(array.tobytes())


def check_vocabulary(ids: NDArray[np.unsignedinteger], vocab_size: int, place: str) -> None:
    """Refuse ids that no model with this vocabulary has an embedding for.

    Raises:
        DataError: one is vocab_size or more.
    """
    if len(ids) and int(ids.max()) >= vocab_size:
        raise DataError(
            f"{place}: token id {ids.max()} at offset {ids.argmax()} is beyond the vocabulary",
            accepted=f"ids below {vocab_size:,}",
            fix=REWRITE,
        )


def read_meta(directory: Path, *, verify: bool) -> ShardsMeta:
    """Return what shards.json says after its own content and the size of every file have been checked.

    Raises:
        DataError: a file is missing, has another size or, with `verify`, other content than the manifest says.
    """
    if not directory.is_dir():
        siblings = [path.name for path in directory.parent.iterdir()] if directory.parent.is_dir() else []
        raise DataError(f"{directory}: no such directory.{nearest(directory.name, siblings)}", fix="check the path")
    try:
        manifest = read_manifest(directory)
        if verify:
            verify_directory(directory)
    except CheckpointError as error:  # the same seal as a checkpoint's, but another remedy
        raise DataError(error.what, fix=REWRITE) from None
    if META not in manifest:
        raise DataError(f"{directory}: holds no token shards", accepted="a directory that `smelt data pack` wrote")
    for name, entry in manifest.items():
        path = directory / name
        size = path.stat().st_size if path.is_file() else None
        if size != entry["bytes"]:
            found = f"has {size:,} bytes" if size is not None else "is missing"
            raise DataError(f"{path} {found}; the manifest says {entry['bytes']:,} bytes", fix=REWRITE)
    if sha256_file(directory / META) != manifest[META]["sha256"]:
        raise DataError(f"{directory / META}: its content does not match its SHA-256", fix=REWRITE)
    return parse_meta(directory)


def parse_meta(directory: Path) -> ShardsMeta:
    """Read shards.json.

    Raises:
        DataError: it is of another version.
    """
    values = json.loads((directory / META).read_text(encoding="utf-8"))
    if values.get("version") != VERSION:
        raise DataError(
            f"{directory}: shards of version {values.get('version')}", accepted=f"version {VERSION}", fix=REWRITE
        )
    return ShardsMeta(**values | {"tokens_per_file": tuple(values["tokens_per_file"])})


def map_file(path: Path, dtype: str, count: int) -> NDArray[Any]:
    """Map a file of `count` integers into memory, read-only.

    Raises:
        DataError: it holds another number of them.
    """
    size = path.stat().st_size if path.is_file() else 0
    if size != count * np.dtype(dtype).itemsize or not count:
        raise DataError(f"{path}: {size:,} bytes do not hold {count:,} numbers of type {dtype}", fix=REWRITE)
    return np.memmap(path, dtype=dtype, mode="r", shape=(count,))
