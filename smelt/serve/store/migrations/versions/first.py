"""Chats, votes, keys and responses: the first tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

from smelt.core.extras import need

if TYPE_CHECKING:
    import sqlalchemy as sql
    from alembic import op
else:
    sql, op = need("sqlalchemy", extra="serve"), need("alembic.op", extra="serve")

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create the tables."""
    create_chats()
    create_votes()
    op.create_table(
        "keys",
        sql.Column("name", sql.String(64), primary_key=True),
        sql.Column("hash", sql.String(64), nullable=False, unique=True),
        sql.Column("scopes", sql.JSON, nullable=False),
        sql.Column("created", sql.Double, nullable=False),
        sql.Column("revoked", sql.Double),
    )
    op.create_table(
        "responses",
        sql.Column("id", sql.String(64), primary_key=True),
        sql.Column("owner", sql.String(64), nullable=False),
        sql.Column("previous", sql.String(64), sql.ForeignKey("responses.id")),
        sql.Column("items", sql.JSON, nullable=False),
        sql.Column("created", sql.Double, nullable=False),
    )


def create_chats() -> None:
    """Create the tables of chats and of the messages in them."""
    op.create_table(
        "chats",
        sql.Column("id", sql.String(64), primary_key=True),
        sql.Column("owner", sql.String(64), nullable=False),
        sql.Column("title", sql.Text, nullable=False),
        sql.Column("created", sql.Double, nullable=False),
    )
    op.create_index("chats_by_owner", "chats", ["owner", "created"])
    op.create_table(
        "messages",
        sql.Column("id", sql.String(64), primary_key=True),
        sql.Column("chat", sql.String(64), sql.ForeignKey("chats.id", ondelete="CASCADE"), nullable=False),
        sql.Column("parent", sql.String(64)),
        sql.Column("role", sql.Text, nullable=False),
        sql.Column("content", sql.Text, nullable=False),
        sql.Column("model", sql.Text),
        sql.Column("details", sql.JSON, nullable=False),
        sql.Column("created", sql.Double, nullable=False),
        sql.UniqueConstraint("chat", "id", name="messages_of_chat"),
        sql.ForeignKeyConstraint(
            ["chat", "parent"], ["messages.chat", "messages.id"], name="parent_in_chat", ondelete="CASCADE"
        ),
    )
    op.create_index("messages_by_parent", "messages", ["chat", "parent"])


def create_votes() -> None:
    """Create the tables of votes, and of the pairs of answers that are compared."""
    op.create_table(
        "message_votes",
        sql.Column("message", sql.String(64), sql.ForeignKey("messages.id", ondelete="CASCADE"), primary_key=True),
        sql.Column("voter", sql.String(64), primary_key=True),
        sql.Column("value", sql.Integer, sql.CheckConstraint("value IN (-1, 1)"), nullable=False),
        sql.Column("reason", sql.Text, nullable=False),
        sql.Column("created", sql.Double, nullable=False),
    )
    op.create_table(
        "comparisons",
        sql.Column("id", sql.String(64), primary_key=True),
        *(
            sql.Column(name, sql.Text, nullable=False)
            for name in ("prompt", "model_a", "answer_a", "model_b", "answer_b")
        ),
        sql.Column("created", sql.Double, nullable=False),
    )
    winner_is_known = sql.CheckConstraint("winner IN ('a', 'b', 'tie', 'both_bad')")
    op.create_table(
        "comparison_votes",
        sql.Column(
            "comparison", sql.String(64), sql.ForeignKey("comparisons.id", ondelete="CASCADE"), primary_key=True
        ),
        sql.Column("voter", sql.String(64), primary_key=True),
        sql.Column("winner", sql.Text, winner_is_known, nullable=False),
        sql.Column("reason", sql.Text, nullable=False),
        sql.Column("created", sql.Double, nullable=False),
    )


def downgrade() -> None:
    """Drop the tables, those that others point to last."""
    for name in ("responses", "keys", "comparison_votes", "comparisons", "message_votes", "messages", "chats"):
        op.drop_table(name)
