"""Word vectors and what can be asked of them: a word's vector, its neighbours, its probability after others.

Three ways to come by them: `train`, a directory of smelt's, a text file of any tool (`text_file`). Only the first two
know the other side of training, so only they can predict; only fastText's have a vector for a word never seen.

A directory is sealed: `word_vectors.json` (words, sizes), `word_vectors.safetensors` (all matrices) and `vectors.txt`,
the same vectors for other tools.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from smelt.core.errors import CheckpointError, UsageError, nearest
from smelt.core.storage import atomic_directory, verify_directory, write_json
from smelt.models.word_vectors.predictor import Predictor
from smelt.models.word_vectors.subwords import Subwords
from smelt.models.word_vectors.text_file import read_text, write_text

Floats = NDArray[np.float32]
SETTINGS, TABLES, TEXT = "word_vectors.json", "word_vectors.safetensors", "vectors.txt"


@dataclass(frozen=True, eq=False)
class Ngrams:
    """fastText's other half: a vector for each row that n-grams are hashed into."""

    subwords: Subwords
    vectors: Floats  # (buckets, D)


@dataclass(frozen=True, eq=False)
class WordVectors:
    """A vector a word, the most frequent word first."""

    words: tuple[str, ...]
    vectors: Floats  # (V, D)
    kind: str = "text file"
    predictor: Predictor | None = None
    ngrams: Ngrams | None = None

    @cached_property
    def index(self) -> dict[str, int]:
        """Return the number of each word."""
        return {word: number for number, word in enumerate(self.words)}

    @cached_property
    def unit(self) -> Floats:
        """Return the vectors divided by their lengths (V, D), so that products are cosines; zero stays zero."""
        return _unit(self.vectors)

    def vector(self, word: str) -> Floats:
        """Return the vector of a word (D,); for one never seen, with n-grams, the mean of theirs.

        Raises UsageError for an unknown word that there is no other way to a vector for.
        """
        if word in self.index:
            row: Floats = self.vectors[self.index[word]]
            return row
        if self.ngrams is not None and (rows := self.ngrams.subwords.rows(word)):
            mean: Floats = self.ngrams.vectors[rows].mean(axis=0)
            return mean
        raise UsageError(
            f"the word '{word}' is not among the {len(self.words):,} known.{nearest(word, self.words)}",
            fix="vectors of --kind fasttext have one for any word",
        )

    def nearest(self, vector: Floats, count: int, without: Sequence[str] = ()) -> list[tuple[str, float]]:
        """Return the words with the largest cosines to a vector (D,), and these, some words left out."""
        cosines = self.unit @ _unit(vector[None])[0]
        for word in without:
            if word in self.index:
                cosines[self.index[word]] = -np.inf
        count = min(count, int(np.isfinite(cosines).sum()))
        best = np.argpartition(-cosines, count - 1)[:count].tolist() if count else []
        ranked = sorted(best, key=lambda number: (-cosines[number], number))
        return [(self.words[number], float(cosines[number])) for number in ranked]

    def similarity(self, one: str, other: str) -> float:
        """Return the cosine of two words."""
        return float(_unit(self.vector(one)[None])[0] @ _unit(self.vector(other)[None])[0])

    def save(self, directory: Path | str) -> None:
        """Write a sealed directory that appears whole or not at all, replacing earlier word vectors.

        Raises CheckpointError when the directory holds something else, ResourceError when the disk is full.
        """
        directory = Path(directory)
        if directory.is_dir() and any(directory.iterdir()) and not (directory / SETTINGS).is_file():
            raise CheckpointError(
                f"{directory}: holds files that are not word vectors, and saving would replace them",
                accepted="a new directory, an empty one, or earlier word vectors",
                fix="save to another path",
            )
        settings: dict[str, Any] = {"version": 1, "kind": self.kind, "dim": self.vectors.shape[1]}
        tables: dict[str, NDArray[Any]] = {"vectors": self.vectors}
        if self.predictor is not None:
            known = self.predictor
            settings["predictor"] = {name: getattr(known, name) for name in ("num_unknown", "window", "averages")}
            tables |= {name: getattr(known, name) for name in ("inputs", "outputs", "biases", "counts")}
        if self.ngrams is not None:
            settings["subwords"] = asdict(self.ngrams.subwords)
            tables["ngrams"] = self.ngrams.vectors
        with atomic_directory(directory) as folder:
            write_json(folder / SETTINGS, settings | {"words": self.words})
            save_file({name: np.ascontiguousarray(table) for name, table in tables.items()}, folder / TABLES)
            write_text(self.words, self.vectors, folder / TEXT)

    @classmethod
    def load(cls, path: Path | str) -> WordVectors:
        """Read a directory that `save` wrote, or a file in word2vec's text format.

        Raises CheckpointError for a directory with anything missing, altered or misfitting, DataError for a bad file.
        """
        path = Path(path)
        if not path.is_dir():
            return cls(*read_text(path))
        verify_directory(path)
        try:
            settings = json.loads((path / SETTINGS).read_text(encoding="utf-8"))
            return _parsed(settings, load_file(path / TABLES))
        except (OSError, ValueError, KeyError, TypeError, RecursionError, SafetensorError, UsageError) as error:
            raise CheckpointError(
                f"{path}: not readable word vectors ({error})",
                fix="train them again, or restore the directory from a copy",
            ) from error


def _unit(vectors: Floats) -> Floats:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    found: Floats = (vectors / np.where(lengths > 0, lengths, 1)).astype(np.float32, copy=False)
    return found


def _parsed(settings: Mapping[str, Any], tables: Mapping[str, NDArray[Any]]) -> WordVectors:
    """Return the vectors of a directory; raises ValueError, KeyError or TypeError where its files misfit."""
    words, kind, dim = tuple(settings["words"]), str(settings["kind"]), settings["dim"]
    if settings["version"] != 1 or not all(isinstance(word, str) for word in words) or len(set(words)) < len(words):
        raise ValueError(f"version {settings['version']!r}, or words that stand twice")
    expected: dict[str, tuple[str, tuple[int, ...]]] = {"vectors": ("<f4", (len(words), dim))}
    predictor = ngrams = None
    if "predictor" in settings:
        square, row = (len(words), dim), (len(words),)
        expected |= {"inputs": ("<f4", square), "outputs": ("<f4", square)}
        expected |= {"biases": ("<f4", row), "counts": ("<i8", row)}
    if "subwords" in settings:
        expected["ngrams"] = ("<f4", (settings["subwords"]["buckets"], dim))
    found = {name: (table.dtype.str, table.shape) for name, table in tables.items()}
    if found != expected:
        raise ValueError(f"{TABLES} holds {found}, {SETTINGS} says {expected}")
    if "predictor" in settings:
        sides = tables["inputs"], tables["outputs"], tables["biases"], tables["counts"]
        predictor = Predictor(*sides, **settings["predictor"])
    if "subwords" in settings:
        ngrams = Ngrams(Subwords(**settings["subwords"]), tables["ngrams"])
    return WordVectors(words, tables["vectors"], kind, predictor, ngrams)
