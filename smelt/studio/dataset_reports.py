"""What a data file is like as a whole: counts, lengths, duplicates, languages, traces of people, what filters would do.

Each report looks at a bounded number of rows and a bounded time, and says how many it saw, and whether that is all.
Counts, duplicates and filters need rows that stand together, so they take the first; lengths, languages and traces take
rows that are spread evenly over the file.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from typing import Any

from smelt.core.errors import DataError
from smelt.core.log import printable
from smelt.data.clean.duplicates import exact_duplicates, near_duplicates
from smelt.data.clean.filters import Filter, FilterRecipe
from smelt.data.clean.languages import can_tell_languages, language_of
from smelt.data.clean.scripts import script_of
from smelt.data.clean.traces import traces
from smelt.data.formats import Typed, parse_row, summary_of, texts_of
from smelt.data.looking import percentiles, row_length
from smelt.data.paging import Numbered, PagedFile
from smelt.data.records import TextRow
from smelt.tokenizers.chat import ChatTemplate

Stop = Callable[[], bool]
COUNTED_ROWS = 20_000
COMPARED_ROWS = 4_000  # by the slower of the two comparisons
SPREAD_ROWS = 2_000
SECONDS = 20.0  # of one report
SHOWN_BAD, SHOWN_GROUPS, SHOWN_MEMBERS, SHOWN_HITS = 50, 20, 8, 40
PREVIEW_CHARACTERS = 160
BARS = 20
AROUND = 24  # characters on both sides of a hit
MEASURED_CHARACTERS = 200_000  # of one text


class Sample:
    """Rows for a report, up to its time: after going through it, how many were seen and whether they are all.

    Args:
        file: where they are.
        count: the most of them.
        spread: evenly over the file instead of its first.
        stop: tells whether nobody waits any more.
    """

    def __init__(self, file: PagedFile, count: int, stop: Stop, *, spread: bool = False) -> None:
        self.file, self.count, self.stop, self.spread = file, count, stop, spread
        self.seen = 0
        self.until = time.monotonic() + SECONDS

    def __iter__(self) -> Iterator[tuple[Numbered, str, Typed | DataError]]:
        expected = ""
        for row in self.file.spread(self.count) if self.spread else self.file.head(self.count):
            if self.stop() or time.monotonic() > self.until:
                return
            self.seen += 1
            expected, typed = parse_row(row.value, row.where, expected)
            yield row, expected, typed

    def good(self) -> Iterator[tuple[int, Typed]]:
        """Yield number and typed row of those that training would read."""
        for row, _, typed in self:
            if not isinstance(typed, DataError) and not (isinstance(typed, TextRow) and not typed.text):
                yield row.number, typed

    @property
    def said(self) -> dict[str, Any]:
        """Return what a reader must know of the rows that were looked at."""
        everything = self.file.total is not None and self.file.total <= self.seen
        return {"seen": self.seen, "all": everything, "spread": self.spread and not everything}


def summary(file: PagedFile, stop: Stop) -> dict[str, Any]:
    """Return the counts of `smelt data inspect`, and the first bad rows."""
    sample = Sample(file, COUNTED_ROWS, stop)
    bad: list[dict[str, Any]] = []

    def rows() -> Iterator[tuple[str, Typed | DataError]]:
        for row, name, typed in sample:
            if isinstance(typed, DataError) and len(bad) < SHOWN_BAD:
                bad.append({"row": row.number, "fault": printable(str(typed))[:2000]})
            yield name, typed

    counts = asdict(summary_of(rows(), max_bad=0))
    kinds = Counter[str](counts["kinds"]).most_common(12)
    shown = {name: counts[name] for name in ("num_ok", "num_bad", "num_empty", "num_bytes", "formats", "roles")}
    return {**shown, "kinds": {printable(kind)[:80]: number for kind, number in kinds}, "bad": bad, **sample.said}


def lengths(file: PagedFile, template: ChatTemplate, stop: Stop) -> dict[str, Any]:
    """Return the lengths of rows in tokens: percentiles, and bars of equal width up to the longest but for a few."""
    sample = Sample(file, SPREAD_ROWS, stop, spread=True)
    found: list[int] = []
    refused, fault, too_long = 0, "", 0
    for _, row in sample.good():
        if sum(map(len, texts_of(row))) > MEASURED_CHARACTERS:
            too_long += 1
            continue
        try:
            found.append(row_length(row, template))
        except DataError as error:
            refused, fault = refused + 1, fault or printable(str(error))[:2000]
    at = percentiles(found)
    width = nice(-(-at["99 %"] // BARS)) if at else 1
    bars = Counter(min(length // width, BARS) for length in found)
    longest = max(bars, default=0)
    return {
        "percentiles": at,
        "total": sum(found),
        "width": width,
        "bars": [bars[place] for place in range(longest + 1)],
        "open_end": longest == BARS,
        "refused": refused,
        "too_long": too_long,
        "fault": fault,
        **sample.said,
    }


def nice(value: int) -> int:
    """Return the next number of 1, 2, 5, 10, 20, ... that is not below a value."""
    size = 1
    while True:
        for step in (size, 2 * size, 5 * size):
            if step >= value:
                return step
        size *= 10


def duplicates(file: PagedFile, stop: Stop) -> dict[str, Any]:
    """Return the groups of rows that are the same, and of those that are nearly."""
    sample = Sample(file, COUNTED_ROWS, stop)
    rows = [(number, "\n".join(texts_of(row))) for number, row in sample.good()]
    texts = [text for _, text in rows]
    exact = exact_duplicates(texts)
    compared = texts[:COMPARED_ROWS]
    again = {place for group in exact for place in group[1:]}
    near = near_duplicates(compared, stop=lambda: stop() or time.monotonic() > sample.until + SECONDS)
    near = [kept for group in near if len(kept := [place for place in group if place not in again]) > 1]

    def shown(groups: Iterable[list[int]]) -> list[dict[str, Any]]:
        return [
            {
                "size": len(group),
                "rows": [rows[place][0] for place in group[:SHOWN_MEMBERS]],
                "text": line(texts[group[0]]),
            }
            for group in list(groups)[:SHOWN_GROUPS]
        ]

    counts = {
        "exact": sum(len(group) - 1 for group in exact),
        "near": sum(len(group) - 1 for group in near),
        "exact_groups": len(exact),
        "near_groups": len(near),
    }
    return {**counts, "same": shown(exact), "alike": shown(near), "compared": len(compared), **sample.said}


def content(file: PagedFile, stop: Stop) -> dict[str, Any]:
    """Return scripts and languages of the rows, and what in them seems to tell of people.

    Languages are None where their detector is not installed.
    """
    sample = Sample(file, SPREAD_ROWS, stop, spread=True)
    scripts, kinds = Counter[str](), Counter[str]()
    languages = Counter[str]() if can_tell_languages() else None
    hits: list[dict[str, Any]] = []
    for number, row in sample.good():
        texts = [text[:MEASURED_CHARACTERS] for text in texts_of(row)]
        scripts[script_of("\n".join(texts))] += 1
        if languages is not None:
            languages[language_of("\n".join(texts))] += 1
        for text in texts:
            for trace in traces(text):
                kinds[trace.kind] += 1
                if len(hits) < SHOWN_HITS:
                    hits.append({"row": number, "kind": trace.kind, **around(text, trace.start, trace.stop)})
    return {
        "scripts": dict(scripts.most_common()),
        "languages": None if languages is None else dict(languages.most_common()),
        "kinds": dict(kinds.most_common()),
        "hits": hits,
        **sample.said,
    }


def around(text: str, start: int, stop: int) -> dict[str, str]:
    """Return a piece of a text with what stands before and behind it."""
    before, behind = text[max(0, start - AROUND) : start], text[stop : stop + AROUND]
    return {"before": line(before), "text": line(text[start:stop]), "behind": line(behind)}


def line(text: str) -> str:
    """Return the beginning of a text on one line."""
    return printable(" ".join(text[: 2 * PREVIEW_CHARACTERS].split())[:PREVIEW_CHARACTERS])


def try_filters(file: PagedFile, recipe: FilterRecipe, stop: Stop) -> dict[str, Any]:
    """Return how many rows filters would leave, and how many each would take."""
    sample, judge, out = Sample(file, COUNTED_ROWS, stop), Filter(recipe), Counter[str]()
    for _, _, typed in sample:
        if reason := judge.reason(None if isinstance(typed, DataError) else typed):
            out[reason] += 1
    return {"before": sample.seen, "after": sample.seen - out.total(), "left_out": dict(out), **sample.said}


PARTS: dict[str, Callable[[PagedFile, Stop], dict[str, Any]]] = {
    "summary": summary,
    "duplicates": duplicates,
    "content": content,
}
