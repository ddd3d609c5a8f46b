"""The arena: two to four models answer one prompt, a person judges without their names, and the votes become scores.

Names go with letters in the store alone until the vote is written there: no answer of these routes before it, and no
error, tells which model stands on which side. The sides are shuffled here, by a seed that is kept.
"""

from __future__ import annotations

import random
import secrets
from functools import partial
from typing import Any, get_args

from pydantic import Field

from smelt.infer.packing import Weights
from smelt.serve.app import id_of
from smelt.serve.errors import ApiError
from smelt.serve.protocol import Fields
from smelt.serve.store.database import NotFound, Store
from smelt.serve.store.rounds import (
    FEWEST,
    MOST,
    Round,
    Side,
    Vote,
    Winner,
    add_round,
    list_rounds,
    round_of,
    vote_of,
    vote_on,
)
from smelt.serve.streaming import EventStream, to_json, unless_gone
from smelt.studio.arena_answers import Answering, wanted_of
from smelt.studio.arena_votes import leaderboard, preference_pairs
from smelt.studio.context import Request, Response, Routes, Studio, owner, read, reply

RECENT = 12
SEEDS = 1 << 31


class RoundAsked(Fields):
    """A prompt, who is to answer it, and how; the same for all."""

    id: str = Field(pattern=r"^[0-9a-f]{32}$")
    prompt: str = Field(min_length=1, max_length=50_000)
    models: list[str] = Field(min_length=FEWEST, max_length=MOST)
    temperature: float = Field(default=0.7, ge=0, le=2)
    top_p: float = Field(default=1.0, gt=0, le=1)
    max_tokens: int = Field(default=256, ge=1, le=4096)
    seed: int = Field(default=0, ge=0, lt=SEEDS)

    @property
    def sampling(self) -> dict[str, Any]:
        """Return how all sides are asked."""
        return self.model_dump(include={"temperature", "top_p", "max_tokens", "seed"})


class VoteGiven(Fields):
    """Which side was best, and why."""

    winner: Winner
    reason: str = Field(default="", max_length=4000)


def routes(studio: Studio) -> Routes:
    """Return the routes of the page."""
    store = studio.store

    async def arena(request: Request) -> Response:
        return reply(await studio.aside(lambda: overview(studio, owner(request))))

    async def begin(request: Request) -> Response:
        asked = await read(request, RoundAsked)
        return reply(await begin_round(studio, owner(request), asked))

    async def show(request: Request) -> Response:
        return reply(await studio.aside(lambda: view(store, owner(request), request.path_params["round"])))

    async def answers(request: Request) -> Response:
        found = await studio.aside(lambda: round_of(store, owner(request), request.path_params["round"]))
        answering = Answering(studio, found)
        try:
            await unless_gone(request.receive, answering.begin(id_of(request)))
        except BaseException:
            answering.close()
            raise
        return EventStream(answering, answering.events(), {})

    async def vote(request: Request) -> Response:
        given = await read(request, VoteGiven)
        who, name = owner(request), request.path_params["round"]
        return reply(await studio.aside(lambda: judge(store, who, name, given)))

    async def board(request: Request) -> Response:
        return reply(await studio.aside(lambda: leaderboard(store, owner(request))))

    async def export(request: Request) -> Response:
        pairs, _ = await studio.aside(lambda: preference_pairs(store, owner(request)))
        lines = b"".join(to_json(pair) + b"\n" for pair in pairs)
        headers = {"cache-control": "no-store", "content-disposition": 'attachment; filename="preferences.jsonl"'}
        return Response(lines, 200, headers, "application/jsonl")

    return {
        "GET /arena": arena,
        "POST /arena/rounds": begin,
        "GET /arena/rounds/{round}": show,
        "POST /arena/rounds/{round}/answers": answers,
        "POST /arena/rounds/{round}/vote": vote,
        "GET /arena/leaderboard": board,
        "GET /arena/preferences.jsonl": export,
    }


def overview(studio: Studio, who: str) -> dict[str, Any]:
    """Return who may compete and the newest rounds; a prompt is shortened."""
    names = [studio.workspace.name(path) for path in studio.workspace.checkpoints()]
    recent = [
        {"id": one.id, "prompt": one.prompt[:200], "created": one.created, "voted": vote is not None}
        for one, vote in list_rounds(studio.store, who, RECENT)
    ]
    most = min(MOST, studio.pool.limit)
    return {"models": names, "weights": list(get_args(Weights)), "most": most, "rounds": recent}


async def begin_round(studio: Studio, who: str, asked: RoundAsked) -> dict[str, Any]:
    """Write a round down and return what may be seen of it; one that is there already is not shuffled again.

    All models are loaded and asked whether they have room for the prompt first, for what an error says of a model may
    be said only as long as it has no side.
    """
    if len(set(asked.models)) < len(asked.models):
        raise ApiError(400, "models: one of them is there twice; accepted: different models or weights", param="models")
    if len(asked.models) > studio.pool.limit:
        most = f"{studio.pool.limit} are loaded at the same time; smelt studio --models {len(asked.models)}"
        raise ApiError(400, f"models: {len(asked.models)} of them, and at most {most}", param="models")
    found = await studio.aside(lambda: known_round(studio.store, who, asked.id))
    if found is None:
        for model in asked.models:
            engine = await studio.pool.get(model)
            try:
                await studio.aside(partial(wanted_of, engine.served, asked.prompt, asked.sampling))
            except ApiError as error:
                raise ApiError(error.status, f"{model}: {error.message}", param=error.param) from error
        found = await studio.aside(lambda: write_round(studio.store, who, asked))
    if (found.prompt, found.sampling) != (asked.prompt, asked.sampling):
        raise ApiError(409, f"there is a round {asked.id} with another prompt", code="conflict")
    return await studio.aside(lambda: view(studio.store, who, asked.id))


def known_round(store: Store, who: str, name: str) -> Round | None:
    """Return a round, None where there is none."""
    try:
        return round_of(store, who, name)
    except NotFound:
        return None


def write_round(store: Store, who: str, asked: RoundAsked) -> Round:
    """Shuffle the sides and write a round down."""
    seed = secrets.randbelow(SEEDS)
    order = random.Random(seed).sample(sorted(asked.models), len(asked.models))
    made = Round(asked.id, who, asked.prompt, tuple(Side(model) for model in order), asked.sampling, seed)
    add_round(store, made)
    return made


def judge(store: Store, who: str, name: str, given: VoteGiven) -> dict[str, Any]:
    """Write a vote down and return the round with its names; raises NotFound for another's round, Conflict."""
    round_of(store, who, name)
    vote_on(store, Vote(name, who, given.winner, given.reason.strip()))
    return view(store, who, name)


def view(store: Store, who: str, name: str) -> dict[str, Any]:
    """Return what may be seen of a round: the names once it is voted on."""
    found, vote = round_of(store, who, name), vote_of(store, who, name)
    sides: list[dict[str, Any]] = [
        {"side": letter, "answer": side.answer, "finish": side.finish} for letter, side in found.by_letter.items()
    ]
    seen = {"id": found.id, "prompt": found.prompt, "sampling": found.sampling, "created": found.created}
    if vote is None:
        return {**seen, "sides": sides, "vote": None}
    named = [{**side, "model": found.by_letter[side["side"]].model} for side in sides]
    told = {"winner": vote.winner, "reason": vote.reason, "created": vote.created}
    return {**seen, "sides": named, "vote": told, "shuffle_seed": found.shuffle_seed}
