"""Triples as text, for a model that writes them: a line a triple, the same every time, and read back strictly.

    发动机 | 部件故障 | 熄火

A line that is no triple of known relation makes the whole answer count as far as it can be read: such lines are
counted, not repaired. A text that states nothing has the answer NOTHING.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from smelt.core.errors import DataError
from smelt.data.records import SpanRow, TripleRow
from smelt.data.triple_prompts import Names, names_of

BETWEEN = " | "
NOTHING = "-"


def write_names(triples: Iterable[Names], where: str = "") -> str:
    """Return triples as text, each once, in the order in which they are given.

    Raises:
        DataError: a name holds what stands between names, or a line end.
    """
    lines = []
    for triple in dict.fromkeys(triples):
        bad = next((name for name in triple if BETWEEN.strip() in name or "\n" in name or name != name.strip()), None)
        if bad is not None:
            raise DataError(
                f"{where}: {bad!r} cannot be written between '{BETWEEN.strip()}'",
                accepted="names of one line without it and without white space around them",
                fix="leave the triple out",
            )
        lines.append(BETWEEN.join(triple))
    return "\n".join(lines) or NOTHING


def read_names(text: str, relations: Sequence[str]) -> tuple[set[Names], int]:
    """Return the triples of an answer, and how many of its lines are none of a known relation."""
    lines = [line for line in text.strip().split("\n") if line.strip() != NOTHING]
    found, wrong = set[Names](), 0
    for line in lines:
        parts = [part.strip() for part in line.split(BETWEEN.strip())]
        if len(parts) == 3 and all(parts) and parts[1] in relations:
            found.add((parts[0], parts[1], parts[2]))
        else:
            wrong += 1
    return found, wrong


def triples_to_write(row: TripleRow, prompt: str = "{text}") -> dict[str, str]:
    """Return a text and its triples, in the order of their places, as a prompt with its completion."""
    ordered = sorted(row.triples, key=lambda triple: (triple.subject.start, triple.object.start, triple.relation))
    names = (tuple(name.strip() for name in names_of(triple)) for triple in ordered)
    completion = write_names(((first, relation, last) for first, relation, last in names), row.where)
    return {"prompt": prompt.replace("{text}", row.text), "completion": completion}


def answer_to_write(row: SpanRow) -> dict[str, str]:
    """Return a question with its text, and the first of its answers, as a prompt with its completion."""
    return {"prompt": f"{row.text}\n{row.prompt}", "completion": row.answers[0] if row.answers else NOTHING}
