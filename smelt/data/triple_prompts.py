"""Triples as questions in two hops: a relation asks for its subjects, a subject with its relation for its objects.

    部件故障 -> 发动机        发动机的部件故障 -> 熄火

A text also gets prompts that nothing in it answers, at a stated ratio to those that something does, because a model
that never saw one answers every prompt: relations that the text does not state, subjects under another relation, and
objects as subjects. Which ones follows from the seed and the text's place.

Ref: UIE, arXiv:2203.12277, 2 and 3 (the schema as a prompt; asking for what is not there).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from smelt.core.errors import DataError
from smelt.data.records import SpanRow, Triple, TripleRow

Names = tuple[str, str, str]


@dataclass(frozen=True)
class Schema:
    """What is asked of a text: relations, and how the second question is put, "SUBJECT的RELATION"."""

    relations: tuple[str, ...]
    second_prompt: str

    def ask(self, subject: str, relation: str) -> str:
        """Return the prompt for a subject's objects."""
        return self.second_prompt.replace("RELATION", relation).replace("SUBJECT", subject)


def names_of(triple: Triple) -> Names:
    """Return what a triple says without its places: subject, relation, object."""
    return triple.subject.text, triple.relation, triple.object.text


def relations_of(rows: Sequence[TripleRow]) -> tuple[str, ...]:
    """Return the relations of some texts, the most frequent first; raises DataError where there is none."""
    counts: dict[str, int] = defaultdict(int)
    for row in rows:
        for triple in row.triples:
            counts[triple.relation] += 1
    if not counts:
        raise DataError("no text states a relation", accepted="texts with triples, of which some state one")
    return tuple(sorted(counts, key=lambda name: (-counts[name], name)))


def prompts_of(row: TripleRow, schema: Schema, negative_ratio: float, random: Random) -> list[SpanRow]:
    """Return the prompts of a text with what answers them, and up to `negative_ratio` times as many without answer.

    A text that states nothing counts as one with one answered prompt, rounded up.
    """
    found: dict[str, set[tuple[int, int]]] = defaultdict(set)
    for triple in row.triples:
        found[triple.relation].add((triple.subject.start, triple.subject.stop))
        found[schema.ask(triple.subject.text, triple.relation)].add((triple.object.start, triple.object.stop))
    subjects = dict.fromkeys(triple.subject.text for triple in row.triples)
    objects = dict.fromkeys(triple.object.text for triple in row.triples)
    first = [relation for relation in schema.relations if relation not in found]
    asked = (schema.ask(name, relation) for name in [*subjects, *objects] for relation in schema.relations)
    second = [prompt for prompt in dict.fromkeys(asked) if prompt not in found]
    random.shuffle(first)
    random.shuffle(second)
    room = round(negative_ratio * len(found)) if found else math.ceil(negative_ratio)
    # Half of them of each kind, as far as there are so many.
    of_first = min(len(first), max(room - room // 2, room - len(second)))
    prompts = [*found, *first[:of_first], *second[: room - of_first]]
    return [span_row(row, prompt, found.get(prompt, set())) for prompt in prompts]


def span_row(row: TripleRow, prompt: str, places: set[tuple[int, int]]) -> SpanRow:
    """Return one prompt of a text."""
    spans = tuple(sorted(places))
    return SpanRow(prompt, row.text, spans, row.where, tuple(row.text[start:stop] for start, stop in spans))
