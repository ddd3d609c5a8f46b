"""Votes: thumbs on a message of one's own chat, and blind comparisons of two answers.

Each voter has one vote on a thing, whatever is clicked twice. A thumb can be turned; a comparison is final, for whoever
has voted learns the models' names.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from smelt.core.errors import UsageError
from smelt.core.extras import need
from smelt.serve.store import tables
from smelt.serve.store.database import NotFound, Store, insert_once, insert_or_replace

if TYPE_CHECKING:
    import sqlalchemy as sql
else:
    sql = need("sqlalchemy", extra="serve")

Winner = Literal["a", "b", "tie", "both_bad"]


@dataclass(frozen=True)
class Comparison:
    """Two models' answers to one prompt."""

    id: str
    prompt: str
    model_a: str
    answer_a: str
    model_b: str
    answer_b: str
    created: float = field(default_factory=time.time)


@dataclass(frozen=True)
class Thumb:
    """A vote on a message: 1 or -1."""

    message: str
    voter: str
    value: int
    reason: str = ""
    created: float = field(default_factory=time.time)


@dataclass(frozen=True)
class Choice:
    """A vote on a comparison."""

    comparison: str
    voter: str
    winner: Winner
    reason: str = ""
    created: float = field(default_factory=time.time)


def rate_message(store: Store, thumb: Thumb) -> None:
    """Rate a message, in place of an earlier vote; raises NotFound for a message in another's chat."""
    if thumb.value not in (-1, 1):
        raise UsageError(f"a vote of {thumb.value}", accepted="1 or -1")
    messages, chats = tables.messages, tables.chats
    seen = messages.c.id == thumb.message, chats.c.owner == thumb.voter
    with store.write() as connection:
        if connection.execute(sql.select(messages.c.id).join(chats).where(*seen)).first() is None:
            raise NotFound(f"there is no message {thumb.message}")
        insert_or_replace(connection, tables.message_votes, asdict(thumb))


def withdraw_thumb(store: Store, voter: str, message: str) -> None:
    """Take a vote on a message back; where there is none, nothing happens."""
    columns = tables.message_votes.c
    with store.write() as connection:
        connection.execute(sql.delete(tables.message_votes).where(columns.message == message, columns.voter == voter))


def add_comparison(store: Store, comparison: Comparison) -> None:
    """Add two answers to compare; the same again is one. Raises Conflict for others of that id."""
    with store.write() as connection:
        insert_once(connection, tables.comparisons, asdict(comparison))


def choose(store: Store, choice: Choice) -> None:
    """Vote on a comparison; the same vote again is one.

    Raises NotFound for an unknown comparison, Conflict where this voter has voted otherwise.
    """
    if choice.winner not in tables.WINNERS:
        raise UsageError(f"a vote for {choice.winner!r}", accepted=", ".join(tables.WINNERS))
    known = sql.select(tables.comparisons.c.id).where(tables.comparisons.c.id == choice.comparison)
    with store.write() as connection:
        if connection.execute(known).first() is None:
            raise NotFound(f"there is no comparison {choice.comparison}")
        insert_once(connection, tables.comparison_votes, asdict(choice))


def thumbs_in(store: Store, chat: str) -> list[Thumb]:
    """Return the votes on a chat's messages."""
    votes, messages = tables.message_votes, tables.messages
    with store.read() as connection:
        return [
            Thumb(**row) for row in rows(connection, sql.select(votes).join(messages).where(messages.c.chat == chat))
        ]


def choices_on(store: Store, comparison: str) -> list[Choice]:
    """Return the votes on a comparison."""
    votes = tables.comparison_votes
    with store.read() as connection:
        return [Choice(**row) for row in rows(connection, sql.select(votes).where(votes.c.comparison == comparison))]


def rows(connection: sql.Connection, asked: sql.Select[Any]) -> sql.MappingResult:
    """Return what is asked for as mappings, the oldest first."""
    return connection.execute(asked.order_by("created")).mappings()
