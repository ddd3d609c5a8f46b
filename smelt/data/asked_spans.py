"""Questions with answers that stand in a text: SQuAD's nested files and plain lines, and the parts of them that train.

    {"data": [{"paragraphs": [{"context": ..., "qas": [{"question": ..., "answers": [{"text", "answer_start"}]}]}]}]}
    {"prompt": ..., "text": ..., "spans": [{"start": 4, "end": 8}]}

An answer whose position does not agree with its text keeps its words and loses its place, and is counted.
Parts are drawn text by text, so no text is in two of them.

Ref: SQuAD, arXiv:1606.05250. Ref: CMRC 2018, arXiv:1810.07366.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

from smelt.core.errors import DataError
from smelt.core.log import say
from smelt.data.formats import as_text
from smelt.data.labels import shuffled
from smelt.data.readers import describe, expand_paths, read_documents, scan_file
from smelt.data.records import SpanRow

ACCEPTED = "SQuAD's paragraphs with qas, {prompt, text, spans: [{start, end}]}, or {text, spo_list}"


class OfText(Protocol):
    """Anything that belongs to a text."""

    @property
    def text(self) -> str:
        """Return the text."""
        ...


Item = TypeVar("Item", bound=OfText)


def holds_triples(spec: str | Path) -> bool:
    """Tell whether the first row of a file, folder or glob is a text with triples."""
    _, row = next(scan_file(expand_paths(spec)[0]), ("", ""))
    if isinstance(row, DataError):
        raise row
    return isinstance(row, dict) and "spo_list" in row


def read_spans(spec: str | Path) -> list[SpanRow]:
    """Return the questions of a file, folder or glob, saying how many answers do not stand where the file says.

    Raises:
        DataError: a row that cannot be read, or a span outside its text.
    """
    rows = list[SpanRow]()
    for where, row in read_documents(spec):
        if isinstance(row, dict) and ("paragraphs" in row or "data" in row or "qas" in row):
            rows += parse_squad(row, where)
        elif isinstance(row, dict) and "spans" in row:
            rows.append(parse_plain(row, where))
        else:
            raise DataError(f"{where}: no questions with places", accepted=ACCEPTED)
    if not rows:
        raise DataError(f"{spec}: no questions", accepted=ACCEPTED)
    answers, placed = sum(len(row.answers) for row in rows), sum(len(row.spans) for row in rows)
    if placed < answers:
        say(f"{spec}: {answers - placed} of {answers:,} answers do not stand where the file says; they only test")
    return rows


def parse_plain(row: Mapping[str, object], where: str) -> SpanRow:
    """Read a row of our own."""
    prompt, text = (as_text(row.get(key), f"{where}: '{key}'") for key in ("prompt", "text"))
    if not isinstance(row["spans"], list):
        raise DataError(f"{where}: 'spans' is {describe(row['spans'])}", accepted='[{"start": 4, "end": 8}]')
    spans = []
    for number, span in enumerate(row["spans"]):
        start, end = (span.get("start"), span.get("end")) if isinstance(span, dict) else (None, None)
        if type(start) is not int or type(end) is not int or not 0 <= start < end <= len(text):
            raise DataError(
                f"{where}: spans[{number}] is {span!r:.80}",
                accepted=f"start < end, in characters of the text, which has {len(text):,}",
            )
        spans.append((start, end))
    return SpanRow(prompt, text, tuple(spans), where, tuple(text[start:stop] for start, stop in spans))


def parse_squad(row: Mapping[str, object], where: str) -> Iterator[SpanRow]:
    """Yield the questions of a nested file, of one of its articles, or of a paragraph."""
    for key in ("data", "paragraphs"):
        if key in row:
            for number, inner in enumerate(members(row, key, where)):
                yield from parse_squad(inner, f"{where}: {key}[{number}]" if key == "data" else f"{where}[{number}]")
            return
    text = as_text(row.get("context"), f"{where}: 'context'")
    for number, question in enumerate(members(row, "qas", where)):
        place = f"{where}: qas[{number}]"
        spans, answers = list[tuple[int, int]](), list[str]()
        for answer in members(question, "answers", place):
            words, start = as_text(answer.get("text"), f"{place}: an answer's text"), answer.get("answer_start")
            if type(start) is not int:
                raise DataError(f"{place}: answer_start is {start!r:.40}", accepted="a whole number of characters")
            answers.append(words)
            if words and start >= 0 and text[start : start + len(words)] == words:
                spans.append((start, start + len(words)))
        yield SpanRow(
            as_text(question.get("question"), f"{place}: 'question'"), text, tuple(spans), place, tuple(answers)
        )


def members(row: Mapping[str, object], key: str, where: str) -> list[dict[str, object]]:
    """Return a list of objects inside a row; raises DataError where there is none."""
    found = row.get(key)
    if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
        raise DataError(f"{where}: '{key}' is {describe(found)}", accepted="a list of objects")
    return found


def split_by_text(rows: Sequence[Item], shares: Sequence[float], seed: int) -> list[list[Item]]:
    """Cut rows into parts of these shares of the texts, which sum to 1; rows of one text stay together, in order.

    10 texts with 3 questions each, shares 0.8, 0.1, 0.1 -> parts of 24, 3 and 3 rows
    """
    groups: dict[str, list[Item]] = defaultdict(list)
    for row in rows:
        groups[row.text].append(row)
    mixed = shuffled(list(groups.values()), seed)
    ends = [round(len(mixed) * sum(shares[: number + 1])) for number in range(len(shares))]
    starts = [0, *ends]
    return [[row for group in mixed[start:end] for row in group] for start, end in zip(starts, ends, strict=False)]
