"""Thumbs on a message of one's own chat: one a voter, whatever is clicked twice; the latest counts."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from smelt.core.errors import UsageError
from smelt.core.extras import need
from smelt.serve.store import tables
from smelt.serve.store.database import NotFound, Store, insert_or_replace

if TYPE_CHECKING:
    import sqlalchemy as sql
else:
    sql = need("sqlalchemy", extra="serve")


@dataclass(frozen=True)
class Thumb:
    """A vote on a message: 1 or -1."""

    message: str
    voter: str
    value: int
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


def thumbs_in(store: Store, chat: str) -> list[Thumb]:
    """Return the votes on a chat's messages, the oldest first."""
    votes, messages = tables.message_votes, tables.messages
    asked = sql.select(votes).join(messages).where(messages.c.chat == chat).order_by(votes.c.created)
    with store.read() as connection:
        return [Thumb(**row) for row in connection.execute(asked).mappings()]
