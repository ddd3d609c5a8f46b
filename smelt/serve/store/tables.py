"""The tables, as the code of this version sees them; `migrations` brings a database there.

The messages of a chat are a tree: an answer that is tried again is a sibling, and so is a question that is edited. That
a parent is of the same chat, that a vote is one a voter, and that a value is one of those known is the database's
to keep. An answer of a round is null until it is written to its end. Times are in seconds since 1970.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from smelt.core.extras import need

if TYPE_CHECKING:
    import sqlalchemy as sql
else:
    sql = need("sqlalchemy", extra="serve")

NAME_CHARACTERS = 64
SIDES = ("a", "b", "c", "d")
WINNERS = (*SIDES, "tie", "both_bad")

metadata = sql.MetaData()

chats = sql.Table(
    "chats",
    metadata,
    sql.Column("id", sql.String(NAME_CHARACTERS), primary_key=True),
    sql.Column("owner", sql.String(NAME_CHARACTERS), nullable=False),
    sql.Column("title", sql.Text, nullable=False),
    sql.Column("created", sql.Double, nullable=False),
    sql.Index("chats_by_owner", "owner", "created"),
)

messages = sql.Table(
    "messages",
    metadata,
    sql.Column("id", sql.String(NAME_CHARACTERS), primary_key=True),
    sql.Column("chat", sql.ForeignKey("chats.id", ondelete="CASCADE"), nullable=False),
    sql.Column("parent", sql.String(NAME_CHARACTERS)),
    sql.Column("role", sql.Text, nullable=False),
    sql.Column("content", sql.Text, nullable=False),
    sql.Column("model", sql.Text),
    sql.Column("details", sql.JSON, nullable=False),
    sql.Column("created", sql.Double, nullable=False),
    sql.UniqueConstraint("chat", "id", name="messages_of_chat"),
    sql.ForeignKeyConstraint(
        ["chat", "parent"], ["messages.chat", "messages.id"], name="parent_in_chat", ondelete="CASCADE"
    ),
    sql.Index("messages_by_parent", "chat", "parent"),
)

message_votes = sql.Table(
    "message_votes",
    metadata,
    sql.Column("message", sql.ForeignKey("messages.id", ondelete="CASCADE"), primary_key=True),
    sql.Column("voter", sql.String(NAME_CHARACTERS), primary_key=True),
    sql.Column("value", sql.Integer, sql.CheckConstraint("value IN (-1, 1)"), nullable=False),
    sql.Column("reason", sql.Text, nullable=False),
    sql.Column("created", sql.Double, nullable=False),
)

rounds = sql.Table(
    "rounds",
    metadata,
    sql.Column("id", sql.String(NAME_CHARACTERS), primary_key=True),
    sql.Column("owner", sql.String(NAME_CHARACTERS), nullable=False),
    sql.Column("prompt", sql.Text, nullable=False),
    sql.Column("sampling", sql.JSON, nullable=False),
    sql.Column("shuffle_seed", sql.Integer),
    sql.Column("created", sql.Double, nullable=False),
    sql.Index("rounds_by_owner", "owner", "created"),
)

round_sides = sql.Table(
    "round_sides",
    metadata,
    sql.Column("round", sql.ForeignKey("rounds.id", ondelete="CASCADE"), primary_key=True),
    sql.Column("side", sql.String(1), sql.CheckConstraint(f"side IN {SIDES}"), primary_key=True),
    sql.Column("model", sql.Text, nullable=False),
    sql.Column("answer", sql.Text),
    sql.Column("finish", sql.Text),
)

round_votes = sql.Table(
    "round_votes",
    metadata,
    sql.Column("round", sql.ForeignKey("rounds.id", ondelete="CASCADE"), primary_key=True),
    sql.Column("voter", sql.String(NAME_CHARACTERS), primary_key=True),
    sql.Column("winner", sql.Text, sql.CheckConstraint(f"winner IN {WINNERS}"), nullable=False),
    sql.Column("reason", sql.Text, nullable=False),
    sql.Column("created", sql.Double, nullable=False),
)

keys = sql.Table(
    "keys",
    metadata,
    sql.Column("name", sql.String(NAME_CHARACTERS), primary_key=True),
    sql.Column("hash", sql.String(64), nullable=False, unique=True),
    sql.Column("scopes", sql.JSON, nullable=False),
    sql.Column("created", sql.Double, nullable=False),
    sql.Column("revoked", sql.Double),
)

responses = sql.Table(
    "responses",
    metadata,
    sql.Column("id", sql.String(NAME_CHARACTERS), primary_key=True),
    sql.Column("owner", sql.String(NAME_CHARACTERS), nullable=False),
    sql.Column("previous", sql.ForeignKey("responses.id")),
    sql.Column("items", sql.JSON, nullable=False),
    sql.Column("created", sql.Double, nullable=False),
)
