"""word2vec's text format: a line "N D", then a line a word: the word and its D numbers, space between them.

Nine digits are written, so that every float32 comes back as it was. gensim, fastText and spaCy read such files.
Ref: Mikolov's word2vec.c, 2013 (`-binary 0`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from smelt.core.errors import DataError
from smelt.core.storage import atomic_write_text

Floats = NDArray[np.float32]
HEADER = "a first line 'N D': the number of words and of numbers a word"


def write_text(words: Sequence[str], vectors: Floats, path: Path | str) -> None:
    """Write words and their vectors (V, D), the file appearing whole or not at all.

    Raises DataError for a word with white space in it, which no reader could tell from two.
    """
    spaced = next((word for word in words if not word or any(letter.isspace() for letter in word)), None)
    if spaced is not None:
        raise DataError(f"the word {spaced!r} is empty or has white space in it", accepted="words without any")
    lines = (
        f"{word} {' '.join([f'{x:.9g}' for x in row])}\n" for word, row in zip(words, vectors.tolist(), strict=True)
    )
    atomic_write_text(path, f"{len(words)} {vectors.shape[1]}\n" + "".join(lines))


def read_text(path: Path | str) -> tuple[tuple[str, ...], Floats]:
    """Read words and their vectors (V, D).

    Raises DataError, naming the line, where the file is cut off, a line has too few numbers, or is none of this format.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path}: no such file", fix="check the path")
    words: dict[str, None] = {}
    with open(path, encoding="utf-8", newline="\n") as handle:
        try:
            num_words, dim = _header(path, handle.readline())
            vectors = np.empty((num_words, dim), np.float32)
            for number, (word, row) in enumerate(_rows(path, handle, dim)):
                if number == num_words:
                    raise DataError(f"{path}:{number + 2}: more than the {num_words:,} words of the first line")
                if word in words:
                    raise DataError(f"{path}:{number + 2}: the word '{word}' stands here a second time")
                words[word] = None
                vectors[number] = row
        except UnicodeDecodeError as error:
            raise DataError(
                f"{path}: not UTF-8 ({error.reason})", accepted="word2vec's text format", fix="a file of `-binary 0`"
            ) from None
    if len(words) < num_words:
        raise DataError(
            f"{path}: ends after {len(words):,} of {num_words:,} words", fix="copy or download it again, it was cut off"
        )
    return tuple(words), vectors


def _header(path: Path, line: str) -> tuple[int, int]:
    fields = line.split()
    if len(fields) != 2 or not all(field.isascii() and field.isdigit() for field in fields):
        raise DataError(
            f"{path}:1: {line[:40].strip()!r} is no header", accepted=HEADER, fix="GloVe's files lack it: put it there"
        )
    num_words, dim = int(fields[0]), int(fields[1])
    size = path.stat().st_size
    if not 0 < num_words * dim <= size:  # a number takes two bytes; before so much memory is taken
        raise DataError(
            f"{path}:1: {num_words:,} words of {dim:,} numbers do not fit in {size:,} bytes", accepted=HEADER
        )
    return num_words, dim


def _rows(path: Path, lines: Iterator[str], dim: int) -> Iterator[tuple[str, Floats]]:
    for number, line in enumerate(lines, 2):
        word, *fields = line.rstrip(" \r\n").split(" ")
        if not line.endswith("\n") and len(fields) < dim:
            raise DataError(f"{path}:{number}: the file ends inside this line", fix="copy it again, it was cut off")
        if not word or len(fields) != dim:
            raise DataError(f"{path}:{number}: {len(fields)} numbers behind '{word[:40]}', the first line says {dim}")
        try:
            row = np.array(fields, dtype=np.float32)
        except ValueError:
            raise DataError(f"{path}:{number}: something behind '{word[:40]}' is not a number") from None
        if not np.isfinite(row).all():
            raise DataError(f"{path}:{number}: the vector of '{word[:40]}' is not finite")
        yield word, row
