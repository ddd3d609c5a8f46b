"""What a language must bring to the town: its words, the sentences of each fact, and the questions about it.

A fact is a kind ("put") and named fields; its sentences and questions are templates over one-letter slots, the
same letters in every language, so that worlds, stories and exercises are written once for all languages:
P, Q people, T town, o thing (os plural, m measure word), c colour, n number, l place, d day, r role, g building,
v verb (past; vb base, vp participle), a, b, s the two terms and the result of a sum.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

Language = Literal["en", "zh"]
Fields = dict[str, str]

# Forms of a word that come with it.
_SLOT_OF = {"os": "o", "m": "o", "vb": "v", "vp": "v"}


def words(text: str) -> tuple[str, ...]:
    """Split a table that is written as one text."""
    return tuple(text.split())


def slots_of(template: str) -> tuple[str, ...]:
    """List the slots that a template names, in order, without repeats: "{P} has {os}" -> ("P", "o")."""
    fields = re.findall(r"\{(\w+)\}", template)
    return tuple(dict.fromkeys(_SLOT_OF.get(field, field) for field in fields))


@dataclass(frozen=True)
class Ask:
    """A question about a fact: the slot it asks for, the question, the answer, and what to say where it was not told.

    Without an `untold` of its own a question gets the lexicon's `unknown`.
    """

    slot: str
    question: str
    answer: str
    untold: str = ""

    @cached_property
    def needs(self) -> tuple[str, ...]:
        """The slots that the question names."""
        return slots_of(self.question)


@dataclass(frozen=True)
class Check:
    """A yes-or-no question about a fact, and the slot that makes it false when changed."""

    slot: str
    question: str

    @property
    def shown(self) -> str:
        """The form of the slot that the question shows: a thing may stand in its plural."""
        return "os" if self.slot == "o" and "{os}" in self.question else self.slot


@dataclass(frozen=True)
class FactWords:
    """How one kind of fact is told, asked and checked."""

    texts: tuple[str, ...]
    asks: tuple[Ask, ...]
    checks: tuple[Check, ...] = ()


@dataclass(frozen=True, eq=False)
class Lexicon:
    """The closed lists and templates of one language; `pools` maps a slot to values ready for templates.

    `tasks` are the wordings of instructions, `notes` those of documents, `answers` the replies of both, `texts` the
    sentences of exercises and stories, `labelled` those of each label, `steps` what is told before events in order.
    """

    language: Language
    space: str
    comma: str
    pools: Mapping[str, tuple[Fields, ...]]
    facts: Mapping[str, FactWords]
    tasks: Mapping[str, tuple[str, ...]]
    notes: Mapping[str, str]
    answers: Mapping[str, str]
    texts: Mapping[str, tuple[str, ...]]
    labelled: Mapping[str, tuple[str, ...]]
    steps: tuple[str, ...]
    yes: str
    no: str
    unknown: str

    def listed(self, slot: str) -> list[str]:
        """List the words of a closed list in its own order."""
        return [fields[slot] for fields in self.pools[slot]]
