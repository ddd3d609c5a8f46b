"""Chats and their messages, each chat its owner's alone.

A message names its parent, the message that it answers or follows; the first ones of a chat have none. So an edited
question and an answer that was tried again are siblings of the first, and a conversation is the way from a message up.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from smelt.core.extras import need
from smelt.serve.store import tables
from smelt.serve.store.database import NotFound, Store, insert_once

if TYPE_CHECKING:
    import sqlalchemy as sql
else:
    sql = need("sqlalchemy", extra="serve")

IDS_AT_ONCE = 500  # in one statement


@dataclass(frozen=True)
class Chat:
    """A chat; `created` in seconds since 1970."""

    id: str
    owner: str
    title: str
    created: float = field(default_factory=time.time)


@dataclass(frozen=True)
class Message:
    """A message of a chat.

    Args:
        parent: the message before it; None for a first one.
        role: "system", "user", "assistant" or "tool".
        model: who wrote it, if a model did.
        details: what else is known of it, such as its usage and its times, as JSON.
    """

    id: str
    chat: str
    parent: str | None
    role: str
    content: str
    model: str | None = None
    details: dict[str, Any] = field(default_factory=dict)
    created: float = field(default_factory=time.time)


@dataclass(frozen=True)
class Found:
    """A chat that was looked for.

    Args:
        updated: when its newest message came, or it itself.
        num_messages: how many it has, on all its branches.
        excerpt: where its messages say what was looked for; "" where the title does, or all were asked for.
    """

    chat: Chat
    updated: float
    num_messages: int
    excerpt: str = ""


def create_chat(store: Store, chat: Chat) -> None:
    """Add a chat; the same again is one. Raises Conflict for another of its id."""
    with store.write() as connection:
        insert_once(connection, tables.chats, asdict(chat))


def list_chats(store: Store, owner: str) -> list[Chat]:
    """Return an owner's chats, the newest first."""
    asked = sql.select(tables.chats).where(tables.chats.c.owner == owner).order_by(tables.chats.c.created.desc())
    with store.read() as connection:
        return [Chat(**row) for row in connection.execute(asked).mappings()]


def find_chats(store: Store, owner: str, words: str = "", most: int = 200) -> list[Found]:
    """Return an owner's chats that say some words in their title or in a message; the last written to comes first."""
    chats, messages = tables.chats, tables.messages
    updated = sql.func.coalesce(sql.func.max(messages.c.created), chats.c.created)
    asked = (
        sql.select(chats, updated.label("updated"), sql.func.count(messages.c.id).label("num_messages"))
        .outerjoin(messages, messages.c.chat == chats.c.id)
        .where(chats.c.owner == owner)
        .group_by(*chats.c)
        .order_by(updated.desc(), chats.c.id)
        .limit(most)
    )
    said = messages.c.content.icontains(words, autoescape=True)
    if words:
        saying = sql.select(messages.c.chat).where(said)
        asked = asked.where(sql.or_(chats.c.title.icontains(words, autoescape=True), chats.c.id.in_(saying)))
    with store.read() as connection:
        found = [dict(row) for row in connection.execute(asked).mappings()]
        texts: dict[str, str] = {}
        if words:
            ids = [row["id"] for row in found]
            where = sql.select(messages.c.chat, messages.c.content).where(messages.c.chat.in_(ids), said)
            for chat, text in connection.execute(where.order_by(messages.c.created)):
                texts.setdefault(chat, excerpt(text, words))
    return [
        Found(
            Chat(row["id"], row["owner"], row["title"], row["created"]),
            row["updated"],
            row["num_messages"],
            texts.get(row["id"], ""),
        )
        for row in found
    ]


def excerpt(text: str, words: str, around: int = 40) -> str:
    """Return the part of a text with some words in it, on one line."""
    at = max(0, text.lower().find(words.lower()))
    start, end = max(0, at - around), at + len(words) + around
    return ("…" if start else "") + " ".join(text[start:end].split()) + ("…" if end < len(text) else "")


def read_chat(store: Store, owner: str, chat: str) -> Chat:
    """Return a chat; raises NotFound."""
    own = tables.chats.c.id == chat, tables.chats.c.owner == owner
    with store.read() as connection:
        row = connection.execute(sql.select(tables.chats).where(*own)).mappings().first()
    if row is None:
        raise NotFound(f"there is no chat {chat}")
    return Chat(**row)


def rename_chat(store: Store, owner: str, chat: str, title: str) -> None:
    """Give a chat another title; raises NotFound."""
    with store.write() as connection:
        check_owner(connection, owner, chat)
        connection.execute(sql.update(tables.chats).where(tables.chats.c.id == chat).values(title=title))


def delete_chat(store: Store, owner: str, chat: str) -> None:
    """Delete a chat with its messages and their votes; one that is gone already is left alone."""
    own = tables.chats.c.id == chat, tables.chats.c.owner == owner
    with store.write() as connection:
        if connection.execute(sql.select(tables.chats.c.id).where(*own)).first() is not None:
            part(connection, tables.messages.c.chat == chat)
            connection.execute(sql.delete(tables.chats).where(*own))


def add_message(store: Store, owner: str, message: Message) -> None:
    """Add a message; the same again is one.

    Raises NotFound for a chat that is not the owner's, or a parent that is not in it, and Conflict for another message
    of that id.
    """
    with store.write() as connection:
        check_owner(connection, owner, message.chat)
        if message.parent is not None:
            same = tables.messages.c.id == message.parent, tables.messages.c.chat == message.chat
            if connection.execute(sql.select(tables.messages.c.id).where(*same)).first() is None:
                raise NotFound(f"there is no message {message.parent} in chat {message.chat}")
        insert_once(connection, tables.messages, asdict(message))


def messages_of(store: Store, owner: str, chat: str) -> list[Message]:
    """Return all messages of a chat, in the order in which they came; raises NotFound."""
    asked = sql.select(tables.messages).where(tables.messages.c.chat == chat)
    with store.read() as connection:
        check_owner(connection, owner, chat)
        found = connection.execute(asked.order_by(tables.messages.c.created, tables.messages.c.id)).mappings()
        return [Message(**row) for row in found]


def delete_message(store: Store, owner: str, chat: str, message: str) -> None:
    """Delete a message with all that follow it; one that is gone already is left alone. Raises NotFound for no chat."""
    columns = tables.messages.c
    with store.write() as connection:
        check_owner(connection, owner, chat)
        below = sql.select(columns.id).where(columns.chat == chat, columns.id == message).cte(recursive=True)
        next_ones = sql.select(columns.id).join(below, columns.parent == below.c.id).where(columns.chat == chat)
        ids = list(connection.execute(sql.select(below.union_all(next_ones).c.id)).scalars())
        for start in range(0, len(ids), IDS_AT_ONCE):
            part(connection, columns.id.in_(ids[start : start + IDS_AT_ONCE]))
        for start in range(0, len(ids), IDS_AT_ONCE):
            connection.execute(sql.delete(tables.messages).where(columns.id.in_(ids[start : start + IDS_AT_ONCE])))


def part(connection: sql.Connection, which: sql.ColumnElement[bool]) -> None:
    """Take messages that are about to be deleted from their parents: SQLite follows a chain of 1,000 at most."""
    connection.execute(sql.update(tables.messages).where(which).values(parent=None))


def conversation(messages: Sequence[Message], last: str) -> list[Message]:
    """Return the messages from a first one down to the one whose id is `last`."""
    by_id = {message.id: message for message in messages}
    found = [by_id[last]]
    while (parent := found[-1].parent) is not None:
        found.append(by_id[parent])
    return found[::-1]


def check_owner(connection: sql.Connection, owner: str, chat: str) -> None:
    """Raise NotFound for a chat that is not there, or another's."""
    own = tables.chats.c.id == chat, tables.chats.c.owner == owner
    if connection.execute(sql.select(tables.chats.c.id).where(*own)).first() is None:
        raise NotFound(f"there is no chat {chat}")
