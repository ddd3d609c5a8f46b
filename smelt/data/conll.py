"""Files of columns, one word a line with its tag last, an empty line between sentences.

    Ada NNP B-PER
    lives VBZ O
    in IN O
    Paris NNP B-LOC

Words become a text again: a space between them, except where one of both touches with a letter that is written without
(Chinese, Japanese). So what is taught from such a file is read the same way as any other text.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import regex

from smelt.core.errors import DataError
from smelt.data.records import Entity, EntityRow
from smelt.data.spans import MARKS, NOTHING, spans_of

DOCUMENT = "-DOCSTART-"
_DENSE = regex.compile(r"[\p{Han}\p{Hiragana}\p{Katakana}\u3000-\u303f\uff00-\uffef]")


def parse_conll(text: str, path: str) -> Iterator[EntityRow]:
    """Yield the sentences of a file; columns stand between tabs where a line has any, else between white space.

    Raises:
        DataError: a line of one column, or a last column that is no tag.
    """
    words, tags, first = list[str](), list[str](), 1
    for number, line in enumerate([*text.split("\n"), ""], start=1):
        if line.strip() and not line.startswith(DOCUMENT):
            first = first if words else number
            columns = [column.strip() for column in line.split("\t")] if "\t" in line else line.split()
            if len(columns) < 2 or not columns[0]:
                raise DataError(f"{path}:{number}: {line.strip()!r:.60} is one column", accepted="WORD .. TAG")
            words.append(columns[0])
            tags.append(columns[-1])
        elif words:
            yield from_words(words, tags, f"{path}:{first}")
            words, tags = [], []


def from_words(words: Sequence[str], tags: Sequence[str], where: str) -> EntityRow:
    """Return the text of some words, with the entities that their tags mark.

    Raises:
        DataError: as many tags as words are not there, or one of another scheme.
    """
    if len(words) != len(tags):
        raise DataError(f"{where}: {len(words)} words and {len(tags)} tags", accepted="as many of both")
    for tag in tags:
        mark, dash, label = tag.partition("-")
        if tag != NOTHING and not (dash and label and mark in MARKS):
            raise DataError(
                f"{where}: the tag {tag!r:.40}", accepted="O, or a mark and a label such as B-PER (BIO, IOB1, BIOES)"
            )
    text, places = "", list[tuple[int, int]]()
    for word in words:
        apart = bool(text) and not (_DENSE.match(text[-1]) or _DENSE.match(word))
        start = len(text) + apart
        text += " " * apart + word
        places.append((start, len(text)))
    found = [Entity(span.label, places[span.start][0], places[span.stop - 1][1]) for span in spans_of(tags)]
    return EntityRow(text, tuple(found), where)
