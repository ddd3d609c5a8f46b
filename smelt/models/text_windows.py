"""A prompt with a text, however long: windows over the text's tokens, each as a row beside the prompt.

Windows overlap, so a piece that one cuts off stands whole in the next. A token knows the word that it belongs to, and
pieces are made of whole words: what begins or ends inside a word is widened to it.

Ref: BERT, arXiv:1810.04805, its run_squad.py (sliding windows with a stride).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass

from smelt.core.errors import UsageError
from smelt.data.label_rows import BEGINS, ENDS
from smelt.data.packing import IGNORED
from smelt.models.readings import Row, surround
from smelt.models.word_readings import cut_words
from smelt.tokenizers.pipeline import Pipeline

STRIDE_TOKENS = 128
"""From the beginning of a window to that of the next, where a window has room for so many."""

Ends = tuple[int, int]


@dataclass(frozen=True)
class Pieces:
    """A text as tokens: `ids` (N), and of the word of each token its first character and the one behind its last."""

    text: str
    ids: tuple[int, ...]
    places: tuple[Ends, ...]

    def characters(self, first: int, last: int) -> Ends:
        """Return where in the text tokens `first` to `last`, both included, begin and end."""
        return self.places[first][0], self.places[last][1]

    def tokens(self, start: int, stop: int) -> Ends | None:
        """Return the first and last token of the words that text[start:stop] touches, None where it has none."""
        first = bisect_right(self.places, start, key=lambda place: place[1])
        last = bisect_right(self.places, stop - 1, key=lambda place: place[0]) - 1
        return (first, last) if first <= last else None


def cut_pieces(tokenizer: Pipeline, text: str) -> Pieces:
    """Return a text word by word as tokens; white space before a word is a part of it where the tokenizer keeps it."""
    ids, places, before = list[int](), list[Ends](), 0
    for start, stop in cut_words(text):
        part = tokenizer.encode(text[before:stop], continued=before > 0)
        ids += part
        places += [(start, stop)] * len(part)
        before = stop
    return Pieces(text, tuple(ids), tuple(places))


@dataclass(frozen=True)
class Window:
    """A row with the prompt and the text's tokens from number `start` on, which stand at `slots` of the row."""

    row: Row
    start: int
    slots: range

    @property
    def stop(self) -> int:
        """Return the number of the token behind the window's last."""
        return self.start + len(self.slots)


def windows(
    tokenizer: Pipeline, prompt: str, pieces: Pieces, max_seq_len: int, stride_tokens: int = STRIDE_TOKENS
) -> list[Window]:
    """Return the rows that together show the whole text beside the prompt.

    Raises:
        UsageError: a text without a token, or a prompt that leaves no room beside it.
    """
    if not pieces.ids:
        raise UsageError("a context without a word", accepted="a text that holds the answer")
    asked = tokenizer.encode(prompt)
    room = max_seq_len - len(surround(tokenizer, asked, ()).ids)
    if room < 1:
        raise UsageError(
            f"a prompt of {len(asked):,} tokens leaves no room for its text in {max_seq_len:,}: {prompt[:40]!r}",
            accepted="a shorter prompt, or a model with a longer context",
        )
    found, start = list[Window](), 0
    while True:
        row = surround(tokenizer, asked, pieces.ids[start : start + room])
        found.append(Window(row, start, row.places[1]))
        if start + room >= len(pieces.ids):
            return found
        start += min(stride_tokens, room)


def marks(window: Window, tokens: Iterable[Ends], *, or_nothing: bool) -> list[int]:
    """Return the labels of a window's slots for pieces that stand whole in it, of which (first, last) tokens are given.

    With `or_nothing` the first slot counts too, and is what a window without a piece points at.
    """
    labels = [IGNORED] * len(window.row.ids)
    labels[window.slots.start : window.slots.stop] = [0] * len(window.slots)
    inside = [ends for ends in tokens if window.start <= ends[0] and ends[1] < window.stop]
    for first, last in inside:
        labels[window.slots[first - window.start]] |= BEGINS
        labels[window.slots[last - window.start]] |= ENDS
    if or_nothing:
        labels[0] = 0 if inside else BEGINS | ENDS
    return labels
