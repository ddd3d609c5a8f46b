"""Rounds: the answers of two to four models to one prompt, compared without their names.

A round is written before its answers are, so that whoever comes back to it finds it, and its vote is final, for whoever
has voted learns the names. One vote a voter, whatever is clicked twice.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from smelt.core.errors import UsageError
from smelt.core.extras import need
from smelt.serve.store import tables
from smelt.serve.store.database import Conflict, NotFound, Store, insert_once

if TYPE_CHECKING:
    import sqlalchemy as sql
else:
    sql = need("sqlalchemy", extra="serve")

Winner = Literal["a", "b", "c", "d", "tie", "both_bad"]
FEWEST, MOST = 2, len(tables.SIDES)


@dataclass(frozen=True)
class Side:
    """A model and its answer, None until that is written to its end; `finish` says why it ended."""

    model: str
    answer: str | None = None
    finish: str | None = None


@dataclass(frozen=True)
class Round:
    """A prompt and its sides, in the order of their letters.

    Args:
        sampling: with what all sides were asked.
        shuffle_seed: of the order of the sides; None where it was not kept.
    """

    id: str
    owner: str
    prompt: str
    sides: tuple[Side, ...]
    sampling: dict[str, Any] = field(default_factory=dict)
    shuffle_seed: int | None = None
    created: float = field(default_factory=time.time)

    @property
    def by_letter(self) -> dict[str, Side]:
        """Return the sides by their letters."""
        return dict(zip(tables.SIDES, self.sides, strict=False))

    @property
    def complete(self) -> bool:
        """Tell whether all answers are written."""
        return all(side.answer is not None for side in self.sides)


@dataclass(frozen=True)
class Vote:
    """A vote on a round."""

    round: str
    voter: str
    winner: Winner
    reason: str = ""
    created: float = field(default_factory=time.time)


def add_round(store: Store, made: Round) -> None:
    """Add a round; the same again is one. Raises Conflict for another of that id, UsageError for too few sides."""
    if not FEWEST <= len(made.sides) <= MOST:
        raise UsageError(f"a round of {len(made.sides)}", accepted=f"{FEWEST} to {MOST} models")
    row = asdict(made)
    del row["sides"]
    with store.write() as connection:
        insert_once(connection, tables.rounds, row)
        for letter, side in made.by_letter.items():
            insert_once(connection, tables.round_sides, {"round": made.id, "side": letter, **asdict(side)})


def keep_answer(store: Store, name: str, letter: str, answer: str, finish: str) -> None:
    """Keep the answer of a side; one that is there already stays, for somebody may have voted on it."""
    sides = tables.round_sides.c
    there = sides.round == name, sides.side == letter, sides.answer.is_(None)
    with store.write() as connection:
        connection.execute(sql.update(tables.round_sides).where(*there).values(answer=answer, finish=finish))


def round_of(store: Store, owner: str, name: str) -> Round:
    """Return a round; raises NotFound for one that is not the owner's."""
    rounds = tables.rounds.c
    found = read_rounds(store, rounds.id == name, rounds.owner == owner)
    if not found:
        raise NotFound(f"there is no round {name}")
    return found[0]


def list_rounds(store: Store, owner: str, most: int) -> list[tuple[Round, Vote | None]]:
    """Return an owner's newest rounds, each with the owner's vote where there is one."""
    rounds, votes = tables.rounds.c, tables.round_votes.c
    newest = sql.select(rounds.id).where(rounds.owner == owner).order_by(rounds.created.desc(), rounds.id).limit(most)
    found = read_rounds(store, rounds.id.in_(newest))
    voted = {vote.round: vote for vote in read_votes(store, votes.voter == owner, votes.round.in_(newest))}
    return [(one, voted.get(one.id)) for one in found]


def vote_on(store: Store, vote: Vote) -> None:
    """Vote on a round; the same vote again is one.

    Raises UsageError for a winner that is no side of it, NotFound for an unknown round, Conflict where answers are
    still to be written, or this voter has voted otherwise.
    """
    sides = tables.round_sides
    asked = sql.select(sides.c.side, sides.c.answer).where(sides.c.round == vote.round).order_by(sides.c.side)
    with store.write() as connection:
        found: dict[str, str | None] = {letter: answer for letter, answer in connection.execute(asked)}
        if not found:
            raise NotFound(f"there is no round {vote.round}")
        known = (*found, "tie", "both_bad")
        if vote.winner not in known:
            raise UsageError(f"a vote for {vote.winner!r}", accepted=", ".join(known))
        if None in found.values():
            raise Conflict(f"round {vote.round} has answers that are not written to their end")
        insert_once(connection, tables.round_votes, asdict(vote))


def votes_on(store: Store, name: str) -> list[Vote]:
    """Return the votes on a round, the oldest first."""
    return read_votes(store, tables.round_votes.c.round == name)


def vote_of(store: Store, voter: str, name: str) -> Vote | None:
    """Return somebody's vote on a round, None where there is none."""
    votes = tables.round_votes.c
    return next(iter(read_votes(store, votes.round == name, votes.voter == voter)), None)


def voted_rounds(store: Store, voter: str) -> list[tuple[Round, Vote]]:
    """Return what somebody has voted on, with the votes, the oldest first."""
    votes = tables.round_votes.c
    mine = sql.select(votes.round).where(votes.voter == voter)
    found = {one.id: one for one in read_rounds(store, tables.rounds.c.id.in_(mine))}
    return [(found[vote.round], vote) for vote in read_votes(store, votes.voter == voter) if vote.round in found]


def read_votes(store: Store, *conditions: sql.ColumnElement[bool]) -> list[Vote]:
    """Return the votes that meet conditions, the oldest first."""
    asked = sql.select(tables.round_votes).where(*conditions).order_by(tables.round_votes.c.created)
    with store.read() as connection:
        return [Vote(**row) for row in connection.execute(asked).mappings()]


def read_rounds(store: Store, *conditions: sql.ColumnElement[bool]) -> list[Round]:
    """Return the rounds that meet conditions, the newest first."""
    rounds, sides = tables.rounds, tables.round_sides
    order = rounds.c.created.desc(), rounds.c.id
    columns = sides.c.round, sides.c.model, sides.c.answer, sides.c.finish
    of_round = sql.select(*columns).join(rounds).where(*conditions).order_by(sides.c.side)
    with store.read() as connection:
        by_round: dict[str, list[Side]] = {}
        for name, *side in connection.execute(of_round):
            by_round.setdefault(name, []).append(Side(*side))
        found = connection.execute(sql.select(rounds).where(*conditions).order_by(*order)).mappings()
        return [Round(**row, sides=tuple(by_round[row["id"]])) for row in found]
