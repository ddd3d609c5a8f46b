"""Labelled texts from tables and lists of records, and the parts of them that train, validate and test.

A table's columns may have any names: they are given, or found by what such columns are usually called; with numbers for
names the table has no header, and its first row is a row like the others. Parts are drawn class by class, so that each
has the classes in the same shares, and are a pure function of the rows and the seed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from smelt.core.errors import DataError, nearest
from smelt.data.formats import TEXT_KEYS, as_text
from smelt.data.order import shuffled_index
from smelt.data.readers import describe, expand_paths, scan_file
from smelt.data.records import LabelRow

LABEL_NAMES = ("label", "labels", "class", "category", "target")
TEXT_NAMES = (*TEXT_KEYS, "sentence", "review", "message", "sms")
PARTS = ("training", "validation", "test")


@dataclass(frozen=True)
class Columns:
    """Name the columns of a table, or the keys of a record; an empty name stands for one that is found.

    Numbers ("2") are places in a table without a header. Without `second` rows are single texts.
    """

    text: str = ""
    label: str = ""
    second: str = ""

    @property
    def has_header(self) -> bool:
        """Tell whether a table's first row holds names."""
        return not (self.text.isdigit() and self.label.isdigit())


def read_labels(spec: str | Path, columns: Columns = Columns()) -> Iterator[LabelRow]:
    """Yield the labelled rows of a file, folder or glob; a row whose text is blank comes with the text "".

    Raises:
        DataError: a row that cannot be read, a column that is not there, or a row without a label.
    """
    for path in expand_paths(spec):
        for where, value in scan_file(path, header=columns.has_header):
            if isinstance(value, DataError):
                raise value
            if isinstance(value, str):
                raise DataError(
                    f"{where}: plain text, which has no labels", accepted="tsv, csv, jsonl, json or parquet"
                )
            yield parse_labelled(value, columns, where)


def parse_labelled(row: Mapping[str, object], columns: Columns, where: str) -> LabelRow:
    """Read the text and the labels of one row."""
    label = find_column(row, columns.label, LABEL_NAMES, "label", where)
    others = tuple(name for name in row if name != label)
    usual = others if len(others) == 1 else TEXT_NAMES
    text = find_column(row, columns.text, usual, "text", where)
    second = ""
    if columns.second:
        name = find_column(row, columns.second, (), "second", where)
        second = as_text(row[name], f"{where}: '{name}'")
    value = row[label]
    values = value if isinstance(value, list) else [value]
    names = tuple(dict.fromkeys(label_name(item, f"{where}: '{label}'") for item in values))
    found = as_text(row[text], f"{where}: '{text}'")
    return LabelRow(found if found.strip() else "", names, where, second)


def find_column(row: Mapping[str, object], wanted: str, usual: Sequence[str], kind: str, where: str) -> str:
    """Return the name of a row's column of this kind: the one that is wanted, else the first with a usual name.

    Raises:
        DataError: there is none; the message lists the columns and the one nearest to what was wanted.
    """
    names = {name.lower(): name for name in reversed(list(row))}
    if wanted in row:
        return wanted
    found = [] if wanted else [names[name.lower()] for name in usual if name.lower() in names]
    if found:
        return found[0]
    what = f"no column '{wanted}'.{nearest(wanted, row)}" if wanted else f"no column that is usually the {kind}"
    shown = ", ".join(f"{name!s:.40}" for name in list(row)[:12])
    raise DataError(
        f"{where}: {what}",
        accepted=f"{kind}_column = one of {shown}" if row else "a row with columns",
        fix="text_column=2 label_column=1 for a table without a header whose labels come first",
    )


def label_name(value: object, place: str) -> str:
    """Return a label as text: 1 -> "1", true -> "true"; raises DataError for one that is empty or no single value."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float) and value.is_integer():  # a column of numbers with gaps becomes one of floats
        return str(int(value))
    if isinstance(value, str) and value.strip():
        return as_text(value.strip(), place)
    raise DataError(f"{place} is {describe(value)}", accepted="a label: text or a whole number, or a list of them")


Item = TypeVar("Item")


def shuffled(items: Sequence[Item], seed: int, epoch: int = 0) -> list[Item]:
    """Return items in an order that follows from their number and the seed."""
    return [items[shuffled_index(i, num_rows=len(items), seed=seed, epoch=epoch)] for i in range(len(items))]


def by_labels(rows: Sequence[LabelRow]) -> dict[tuple[str, ...], list[LabelRow]]:
    """Return the rows of each class, or set of labels, in order."""
    found: dict[tuple[str, ...], list[LabelRow]] = defaultdict(list)
    for row in rows:
        found[row.labels].append(row)
    return found


def balance(rows: Sequence[LabelRow], seed: int) -> list[LabelRow]:
    """Return as many rows of each class as the smallest has, chosen by chance, in their own order."""
    groups = by_labels(rows)
    smallest = min(len(group) for group in groups.values())
    kept = {row.where for group in groups.values() for row in shuffled(group, seed)[:smallest]}
    return [row for row in rows if row.where in kept]


def split_labelled(rows: Sequence[LabelRow], shares: Sequence[float], seed: int) -> list[list[LabelRow]]:
    """Cut rows into parts of these shares, which sum to 1, class by class; each part is in an order of its own.

    10 rows of each of 2 classes, shares 0.7, 0.1, 0.2 -> parts of 14, 2 and 4 rows
    """
    parts: list[list[LabelRow]] = [[] for _ in shares]
    for group in by_labels(rows).values():
        mixed = shuffled(group, seed, epoch=1)
        ends = [round(len(mixed) * sum(shares[: number + 1])) for number in range(len(shares))]
        for part, start, end in zip(parts, [0, *ends], ends, strict=False):
            part += mixed[start:end]
    return [shuffled(part, seed, epoch=2) if part else part for part in parts]


def few_of_each(rows: Sequence[LabelRow], shots: int, seed: int, part: str) -> list[LabelRow]:
    """Return so many rows of each class, chosen by chance, in their own order.

    Raises:
        DataError: the part has fewer rows of a class.
    """
    kept = set[str]()
    for labels, group in sorted(by_labels(rows).items()):
        if len(group) < shots:
            raise DataError(
                f"the {part} part has {len(group)} rows of the label '{labels[0]}', and shots={shots}",
                accepted=f"up to {len(group)} shots",
                fix="add rows, or give the part a larger share with split",
            )
        kept |= {row.where for row in shuffled(group, seed, epoch=3)[:shots]}
    return [row for row in rows if row.where in kept]


def check_parts(parts: Sequence[Sequence[LabelRow]], *, least: int = 2) -> tuple[str, ...]:
    """Return the names of the labels, sorted, of parts that can be trained, validated and tested with.

    Raises:
        DataError: an empty part, a single class, a class with fewer than `least` rows to train with, or a label in
            validation or test that training never shows.
    """
    for name, part in zip(PARTS, parts, strict=True):
        if not part:
            raise DataError(
                f"the {name} part has no row", accepted="a row or more in each part", fix="change split, or add rows"
            )
    counts: dict[str, int] = defaultdict(int)
    for row in parts[0]:
        for label in row.labels:
            counts[label] += 1
    for name, part in zip(PARTS[1:], parts[1:], strict=True):
        for row in part:
            for label in row.labels:
                if label not in counts:
                    known = ", ".join(sorted(counts)[:12])
                    raise DataError(
                        f"{row.where}: the label '{label}' of the {name} part is in no training row."
                        f"{nearest(label, counts)}",
                        accepted=known,
                    )
    few = next((label for label in sorted(counts) if counts[label] < least), None)
    if few is not None:
        raise DataError(
            f"the label '{few}' has {counts[few]} training row",
            accepted=f"{least} rows or more of each label",
            fix="add rows, or remove the label",
        )
    if len(counts) < 2:
        raise DataError(f"every row has the label '{next(iter(counts))}'", accepted="two labels or more")
    return tuple(sorted(counts))
