"""The texts that a tokenizer learns from or encodes: read in stretches, with progress while they are read.

A text file may be larger than memory, so it is read some million characters at a time. Where a stretch ends matters to
the ids of what follows: `safe_cut` gives the places that make no difference to a tokenizer. To learn from, the end of
any line is good enough.
"""

from __future__ import annotations

import io
import re
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from smelt.core.errors import DataError, nearest
from smelt.core.log import LiveLine

if TYPE_CHECKING:
    from smelt.tokenizers.pipeline import Pipeline

STRETCH_CHARACTERS = 1 << 21
TEXT_FILES = (".txt", ".md")
LINE_END = r"(?<=\n)"
SHOWN_EVERY_SECONDS = 0.1


class Progress:
    """A line that says how far a piece of work is, how fast it goes and how long it will take.

    counting words · 12.0 of 44.0 MB · 31.0 MB/s · 2 s left
    """

    def __init__(self, line: LiveLine, what: str, unit: str, scale: float = 1) -> None:
        self._line, self._what, self._unit, self._scale = line, what, unit, scale
        self._first: tuple[float, float] | None = None  # when the work had begun, and how much was done by then
        self._shown = float("-inf")

    def show(self, done: float, wanted: float) -> None:
        """Show that so much is done; `wanted` may turn out to be too little."""
        now = time.monotonic()
        if now - self._shown < SHOWN_EVERY_SECONDS:
            return
        self._shown = now
        self._first = self._first or (now, done)
        digits = 0 if self._scale == 1 else 1
        amounts = f"{done / self._scale:,.{digits}f} of {max(done, wanted) / self._scale:,.{digits}f} {self._unit}"
        seconds, more = now - self._first[0], done - self._first[1]
        speed = f" · {more / seconds / self._scale:,.{digits}f} {self._unit}/s" if more > 0 else ""
        left = f" · {duration((wanted - done) * seconds / more)} left" if more > 0 and wanted > done else ""
        self._line.update(f"{self._what} · {amounts}{speed}{left}")


def duration(seconds: float) -> str:
    """Return a time in the unit that suits it: duration(90) -> "1.5 min"."""
    for length, unit in ((3600, "h"), (60, "min")):
        if seconds >= length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.0f} s"


def texts_of(specs: Sequence[str], column: str | None = None, progress: Progress | None = None) -> Iterator[str]:
    """Yield every text and every message of some files, long text files in stretches.

    Args:
        specs: files, folders or globs.
        column: where rows of tables and JSON keep their text; by default that follows from the names of the columns.
        progress: shown while files are read.

    Raises:
        DataError: at the first file or row that cannot be read.
    """
    from smelt.data.readers import expand_paths, suffix_of

    paths = [path for spec in specs for path in expand_paths(spec)]
    sizes = [path.stat().st_size for path in paths]
    for number, path in enumerate(paths):
        texts = stretches(path, LINE_END) if suffix_of(path) in TEXT_FILES else row_texts(path, column)
        num_bytes = 0
        for text in texts:
            yield text
            # A row is more than its text, and a file may be packed: it counts as a whole when it is through.
            num_bytes = min(sizes[number], num_bytes + (len(text) if text.isascii() else len(text.encode("utf-8"))))
            if progress is not None:
                progress.show(sum(sizes[:number]) + num_bytes, sum(sizes))


def row_texts(path: Path, column: str | None) -> Iterator[str]:
    """Yield the texts and messages of the rows of a file, or what one column holds."""
    from smelt.data.formats import parse_text, scan_rows, texts_of
    from smelt.data.readers import read_documents

    if column is not None:
        for where, value in read_documents(path):
            if not isinstance(value, dict) or column not in value:
                names = [str(name) for name in value] if isinstance(value, dict) else []
                what = f"{where}: no column '{column}'.{nearest(column, names)}"
                raise DataError(what, accepted=", ".join(names))
            yield parse_text({"text": value[column]}, where).text
        return
    for _, row in scan_rows(path):
        if isinstance(row, DataError):
            raise row
        yield from texts_of(row)


def stretches(path: Path, cut: str | None) -> Iterator[str]:
    """Yield a text file (UTF-8, line ends as a newline) in stretches that end where the expression `cut` matches.

    A stretch goes on until there is such a place; without `cut` the whole text is one.

    Raises:
        DataError: the file is missing, empty, blank or not UTF-8; the message tells the byte.
    """
    from smelt.data.readers import decode, open_checked, open_file

    if not path.is_file():
        raise DataError(f"{path}: no such file", fix="check the path")
    pending, blank = "", True
    with open_checked(path) as raw, io.TextIOWrapper(raw, encoding="utf-8-sig") as handle:
        try:
            while block := handle.read(STRETCH_CHARACTERS):
                blank = blank and not block.strip()
                place = last_match(cut, block) if cut is not None else 0
                if place:
                    yield pending + block[:place]
                    pending = block[place:]
                else:
                    pending += block
        except UnicodeDecodeError:
            with open_file(path) as again:  # to find the byte, and what encoding it may be
                decode(again.read(), path)
            raise
    if blank:
        raise DataError(f"{path}: holds only white space", fix="check that the file was written completely")
    if pending:
        yield pending


def last_match(expression: str, text: str) -> int:
    """Return the last place in a text where an expression of no width matches, 0 if there is none."""
    import regex

    found = regex.search(rf"(?r){expression}", text)
    return found.start() if found else 0


def safe_cut(tokenizer: Pipeline) -> str | None:
    """Return where a text may be cut so that its ids are those of its parts, as an expression; None if nowhere.

    Between a letter and the space behind it every published pattern ends a word, and so do BERT and SentencePiece's
    words; a normalizer that looks at one character and its marks makes no difference.
    """
    from smelt.tokenizers import normalize, splitters
    from smelt.tokenizers.bert import BertPreTokenizer
    from smelt.tokenizers.charsmap import Precompiled
    from smelt.tokenizers.pretokenize import PATTERNS

    local = (
        normalize.NFC, normalize.NFD, normalize.NFKC, normalize.NFKD, normalize.Lowercase, normalize.StripAccents,
        normalize.BertNormalizer, normalize.Nmt, Precompiled,
    )  # fmt: skip
    if any(token.rstrip or re.search(r"\s", token.content) for token in tokenizer.added):
        return None
    if not all(isinstance(step, local) for step in tokenizer.normalizers):
        return None
    match tokenizer.splitters:
        case (BertPreTokenizer() | splitters.Whitespace() | splitters.WhitespaceSplit(), *_):
            return r"(?<=\p{L})(?=[ \n])"
        case (splitters.Metaspace(split=True), *_):  # before anything but a space it may put a mark of its own
            return r"(?<=\p{L})(?= )"
        case _ if tokenizer.pattern in PATTERNS:
            return r"(?<=\p{L})(?=[ \n])"
    return None
