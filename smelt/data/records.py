"""The typed rows that every dataset becomes before anything else looks at it.

Whatever a file calls its columns, the rest of smelt sees one of these frozen values, so a new dataset format is one
reader in `formats` and nothing else. Each row carries `where`, the place it came from ("chats.jsonl:17"), because an
error met three stages later is only useful when it can name the line to open. `where` costs one short string a row.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

ROLES = ("system", "user", "assistant", "tool")


@dataclass(frozen=True, slots=True)
class Message:
    """Hold one turn of a chat; `role` is one of ROLES.

    An assistant may think before it speaks and may call tools (`data/tools` has the shape); an answer of a tool names
    the call that it is for.
    """

    role: str
    content: str
    reasoning_content: str | None = None
    tool_calls: tuple[Mapping[str, Any], ...] | None = None
    tool_call_id: str | None = None


@dataclass(frozen=True, slots=True)
class TextRow:
    """Hold one document of plain text."""

    text: str
    where: str


@dataclass(frozen=True, slots=True)
class ChatRow:
    """Hold one conversation; `kind` names the skill it tests and `gold` the exact expected answer, where known.

    `tools` are those that the assistant is told of.
    """

    messages: tuple[Message, ...]
    where: str
    kind: str = ""
    gold: str = ""
    tools: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class PairRow:
    """Hold a text and what it is to be turned into: a sentence and its translation, an article and its summary."""

    source: str
    target: str
    where: str


@dataclass(frozen=True, slots=True)
class PreferenceRow:
    """Hold a conversation and two candidate replies, of which `chosen` is the better one."""

    messages: tuple[Message, ...]
    chosen: str
    rejected: str
    where: str


@dataclass(frozen=True, slots=True)
class LabelRow:
    """Hold a text, or a pair of texts, and the names of its labels: one class, or of several labels those that hold."""

    text: str
    labels: tuple[str, ...]
    where: str
    second: str = ""


@dataclass(frozen=True, slots=True)
class Piece:
    """Hold the characters `start` to `stop` (not included) of a text, and what stands there."""

    text: str
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class Triple:
    """Hold a fact that a text states: of `subject` and `object` the `relation` holds."""

    subject: Piece
    relation: str
    object: Piece

    @property
    def pieces(self) -> tuple[Piece, Piece]:
        """Return subject and object."""
        return self.subject, self.object


@dataclass(frozen=True, slots=True)
class TripleRow:
    """Hold a text and the triples that it states, if any."""

    text: str
    triples: tuple[Triple, ...]
    where: str


@dataclass(frozen=True, slots=True)
class Entity:
    """Say what the characters `start` to `stop` (not included) of a text are."""

    label: str
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class EntityRow:
    """Hold a text and the things that it names, if any, in order of their places."""

    text: str
    entities: tuple[Entity, ...]
    where: str
