"""Spans of words and the marks that say the same word by word: B begins one, I goes on, O is none.

Files use several such schemes. In all of them a span is read off the same way: B and S (or U) begin one, whatever
stands before, I, M, E (or L) go on where one of their label is open and begin one where none is, and behind E, S, L and
U nothing goes on. So BIO, IOB1 (where B stands only between neighbours of one label), BIOES and BILOU need no name.

Ref: Text Chunking using Transformation-Based Learning, cmp-lg/9505040. Ref: conlleval.pl, CoNLL-2000.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from smelt.data.records import Entity

NOTHING = "O"
OPENING, CLOSING = ("B", "S", "U"), ("E", "S", "L", "U")
MARKS = ("B", "I", "M", "E", "S", "L", "U")


@dataclass(frozen=True)
class Span:
    """Words `start` to `stop` (not included) of a sentence, which are one thing of this kind."""

    label: str
    start: int
    stop: int


def spans_of(labels: Sequence[str]) -> list[Span]:
    """Put words together by the marks before their labels.

    B-PER I-PER O B-LOC -> [Span("PER", 0, 2), Span("LOC", 3, 4)]; a label without a mark is a span of its own.
    """
    found, is_open = list[Span](), False
    for place, label in enumerate(labels):
        mark, _, kind = label.partition("-") if "-" in label else ("S", "-", label)
        if label == NOTHING:
            is_open = False
            continue
        if is_open and mark not in OPENING and found[-1].label == kind:
            found[-1] = Span(kind, found[-1].start, place + 1)
        else:
            found.append(Span(kind, place, place + 1))
        is_open = mark not in CLOSING
    return found


def marks_of(places: Sequence[tuple[int, int]], entities: Sequence[Entity]) -> tuple[list[str], list[Entity]]:
    """Return a mark, O, B or I, for the words at these places, and those entities that the marks say.

    An entity is left out that does not begin where a word does and end where one does. Entities must not overlap.
    Words at (0, 3) and (4, 8), an entity LOC from 4 to 8 -> O B-LOC
    """
    starts = {start: number for number, (start, _) in enumerate(places)}
    stops = {stop: number for number, (_, stop) in enumerate(places)}
    marks, said = [NOTHING] * len(places), list[Entity]()
    for entity in entities:
        if entity.start not in starts or entity.stop not in stops:
            continue
        first, last = starts[entity.start], stops[entity.stop]
        marks[first : last + 1] = [f"B-{entity.label}"] + [f"I-{entity.label}"] * (last - first)
        said.append(entity)
    return marks, said


def mark_names(labels: Sequence[str]) -> tuple[str, ...]:
    """Return the names of all marks for these labels: (LOC,) -> (O, B-LOC, I-LOC)."""
    return (NOTHING, *(f"{mark}-{label}" for label in labels for mark in "BI"))


def without_overlaps(entities: Sequence[Entity]) -> list[Entity]:
    """Return entities of which no two share a character, in order of their places.

    The longest stay, of equally long ones the first: a mark a word can say one thing, and the longer one holds the
    place of the shorter.
    """
    kept = list[Entity]()
    for entity in sorted(entities, key=lambda one: (one.start - one.stop, one.start)):
        if all(entity.stop <= other.start or other.stop <= entity.start for other in kept):
            kept.append(entity)
    return sorted(kept, key=lambda one: one.start)
