"""Rounds of two to four answers in place of comparisons of two, which become rounds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from smelt.core.extras import need

if TYPE_CHECKING:
    import sqlalchemy as sql
    from alembic import op
else:
    sql, op = need("sqlalchemy", extra="serve"), need("alembic.op", extra="serve")

revision = "0002"
down_revision = "0001"

# A comparison had no owner; whoever voted on it first may read it.
COMPARISONS_TO_ROUNDS = (
    "INSERT INTO rounds (id, owner, prompt, sampling, created) SELECT id, COALESCE((SELECT MIN(voter) "
    "FROM comparison_votes WHERE comparison = comparisons.id), ''), prompt, '{}', created FROM comparisons",
    "INSERT INTO round_sides (round, side, model, answer) SELECT id, 'a', model_a, answer_a FROM comparisons",
    "INSERT INTO round_sides (round, side, model, answer) SELECT id, 'b', model_b, answer_b FROM comparisons",
    "INSERT INTO round_votes SELECT comparison, voter, winner, reason, created FROM comparison_votes",
)
# Rounds of three and four, and those without both answers, are what the older tables cannot say.
ROUNDS_TO_COMPARISONS = (
    "INSERT INTO comparisons (id, prompt, model_a, answer_a, model_b, answer_b, created) "
    "SELECT rounds.id, prompt, a.model, a.answer, b.model, b.answer, rounds.created FROM rounds "
    "JOIN round_sides a ON a.round = rounds.id AND a.side = 'a' JOIN round_sides b ON b.round = rounds.id "
    "AND b.side = 'b' WHERE a.answer IS NOT NULL AND b.answer IS NOT NULL "
    "AND NOT EXISTS (SELECT 1 FROM round_sides c WHERE c.round = rounds.id AND c.side = 'c')",
    "INSERT INTO comparison_votes SELECT round, voter, winner, reason, created FROM round_votes "
    "WHERE round IN (SELECT id FROM comparisons)",
)


def upgrade() -> None:
    """Create the tables of rounds and move the comparisons there."""
    op.create_table(
        "rounds",
        sql.Column("id", sql.String(64), primary_key=True),
        sql.Column("owner", sql.String(64), nullable=False),
        sql.Column("prompt", sql.Text, nullable=False),
        sql.Column("sampling", sql.JSON, nullable=False),
        sql.Column("shuffle_seed", sql.Integer),
        sql.Column("created", sql.Double, nullable=False),
    )
    op.create_index("rounds_by_owner", "rounds", ["owner", "created"])
    op.create_table(
        "round_sides",
        sql.Column("round", sql.String(64), sql.ForeignKey("rounds.id", ondelete="CASCADE"), primary_key=True),
        sql.Column("side", sql.String(1), sql.CheckConstraint("side IN ('a', 'b', 'c', 'd')"), primary_key=True),
        sql.Column("model", sql.Text, nullable=False),
        sql.Column("answer", sql.Text),
        sql.Column("finish", sql.Text),
    )
    create_votes("round_votes", "round", "rounds.id", "'a', 'b', 'c', 'd', 'tie', 'both_bad'")
    for statement in COMPARISONS_TO_ROUNDS:
        op.execute(statement)
    op.drop_table("comparison_votes")
    op.drop_table("comparisons")


def create_votes(name: str, thing: str, key: str, winners: str) -> None:
    """Create a table of one vote a thing and voter."""
    op.create_table(
        name,
        sql.Column(thing, sql.String(64), sql.ForeignKey(key, ondelete="CASCADE"), primary_key=True),
        sql.Column("voter", sql.String(64), primary_key=True),
        sql.Column("winner", sql.Text, sql.CheckConstraint(f"winner IN ({winners})"), nullable=False),
        sql.Column("reason", sql.Text, nullable=False),
        sql.Column("created", sql.Double, nullable=False),
    )


def downgrade() -> None:
    """Create the tables of comparisons again and move the rounds of two back."""
    op.create_table(
        "comparisons",
        sql.Column("id", sql.String(64), primary_key=True),
        *(
            sql.Column(name, sql.Text, nullable=False)
            for name in ("prompt", "model_a", "answer_a", "model_b", "answer_b")
        ),
        sql.Column("created", sql.Double, nullable=False),
    )
    create_votes("comparison_votes", "comparison", "comparisons.id", "'a', 'b', 'tie', 'both_bad'")
    for statement in ROUNDS_TO_COMPARISONS:
        op.execute(statement)
    for name in ("round_votes", "round_sides", "rounds"):
        op.drop_table(name)
