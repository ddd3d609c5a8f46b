"""What a person sees of a row before training on it: its length, and which of its tokens the model learns to say.

Formats and templates are those of training, so what is shown is what a run gets. The verb `smelt data inspect` and the
studio's page of data both show it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from smelt.core.errors import DataError
from smelt.data.formats import Typed, texts_of
from smelt.data.records import ChatRow, Message, PreferenceRow, TextRow
from smelt.data.rendering import render
from smelt.tokenizers.chat import ChatTemplate

PERCENTILES = (10, 50, 90, 99, 100)


def good_rows(rows: Iterable[tuple[str, Typed | DataError]]) -> Iterator[Typed]:
    """Yield the rows that training would read."""
    for _, row in rows:
        if not isinstance(row, DataError) and not (isinstance(row, TextRow) and not row.text):
            yield row


def row_length(row: Typed, template: ChatTemplate | None) -> int:
    """Return the length of a row: its rendered tokens, or without a template the bytes of its texts."""
    if template is None:
        return sum(len(text.encode()) for text in texts_of(row))
    if isinstance(row, ChatRow):
        return len(render(row, template)[0])
    return sum(len(template.tokenizer.encode(text)) + 1 for text in texts_of(row))


def learned_part(row: Typed, template: ChatTemplate) -> tuple[list[int], list[int]]:
    """Return ids and loss mask of a row; of a text all is learned, of a pair the target, of two replies the chosen."""
    if isinstance(row, PreferenceRow):
        row = ChatRow((*row.messages, Message("assistant", row.chosen)), row.where)
    if isinstance(row, ChatRow):
        return render(row, template)
    parts = [template.tokenizer.encode(text) for text in texts_of(row)]
    ends = [*[0] * (len(parts) - 1), 1]
    ids = [number for part in parts for number in part]
    return ids, [learned for part, learned in zip(parts, ends, strict=True) for _ in part]


def percentiles(lengths: Sequence[int]) -> dict[str, int]:
    """Return the lengths below which 10, 50, 90, 99 and 100 % of the rows lie; empty without rows."""
    ordered = sorted(lengths)
    names = {50: "median", 100: "longest"}
    return {
        names.get(share, f"{share} %"): ordered[max(0, -(-share * len(ordered) // 100) - 1)]
        for share in PERCENTILES
        if ordered
    }
