"""The token lens: how likely a model found each token of a text, and what it expected instead.

What was expected is told by its likeliest tokens, its entropy, and the rank of the token that came. The page draws what
temperature and top-p make of it by itself: for the token that somebody looks at it fetches the logits of the whole
vocabulary, once. That is exact for any vocabulary, where a histogram of the tail is not, least of all under top-p,
whose cut falls on one token; and 4 bytes a token of one position are little, of every position they would be much.

Rows of logits are made a few at a time, so that a long text over a large vocabulary needs little memory.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from pydantic import Field
from torch import Tensor

from smelt.core.errors import SmeltError
from smelt.infer import Engine
from smelt.infer.sampling import Sampling
from smelt.serve.errors import from_smelt
from smelt.serve.prepare import Wanted, room_after
from smelt.studio.context import Request, Response, Routes, Studio, read, reply
from smelt.studio.lens import Reading, Text, packed, reading, spelled

MOST_TOKENS = 1024
MOST_NEW = 128
TOP = 20
ROWS = 64  # of logits at a time


class Branch(Text):
    """A text to go on from, and how."""

    max_tokens: int = Field(default=32, ge=1, le=MOST_NEW)
    temperature: float = Field(default=0, ge=0, le=2)
    top_p: float = Field(default=1, gt=0, le=1)
    seed: int = Field(default=0, ge=0, lt=1 << 53)


@dataclass(frozen=True)
class Expected:
    """What a model expected at a place: entropy in bits, the likeliest tokens, and how it found the one that came."""

    entropy: float
    top: Sequence[tuple[int, float]]
    logprob: float | None
    rank: int | None


def routes(studio: Studio) -> Routes:
    """Return the routes of the page."""

    async def texts(request: Request) -> Response:
        found = await reading(studio, await read(request, Text), MOST_TOKENS)
        expected = await found.compute(expectations)
        ids = [token for place in expected for token, _ in place.top]
        told = {"expected": [vars(place) for place in expected], "spelled": spelled(found.served.tokenizer, ids)}
        return reply({**found.told(), **told, "can_chat": found.served.template is not None})

    async def logits(request: Request) -> Response:
        """Tell the logits of what follows a text."""
        found = await reading(studio, await read(request, Text), MOST_TOKENS)
        return reply({"logits": packed(await found.compute(last_logits))})

    async def branch(request: Request) -> Response:
        given = await read(request, Branch)
        found = await reading(studio, given, MOST_TOKENS - 1)
        ids = await continued(found, given)
        return reply({"ids": found.ids + ids, "added": len(ids)})

    return {"POST /lens/tokens": texts, "POST /lens/logits": logits, "POST /lens/branch": branch}


def expectations(engine: Engine, ids: Tensor) -> list[Expected]:
    """Return what a model expects behind each of some tokens (1, T), the last too; T of them."""
    hidden = engine.model(ids, project=False).hidden[0]  # (T, D)
    came: list[int | None] = [*ids[0, 1:].tolist(), None]
    found = []
    for start in range(0, len(came), ROWS):
        logprobs = project(engine, hidden[start : start + ROWS]).log_softmax(dim=-1)  # (t, V)
        bits = torch.special.entr(logprobs.exp()).sum(dim=-1) / math.log(2)
        best, top = logprobs.topk(min(TOP, logprobs.shape[1]), dim=-1)
        for row, token in enumerate(came[start : start + ROWS]):
            own = None if token is None else float(logprobs[row, token])
            rank = None if own is None else int((logprobs[row] > own).sum()) + 1
            pairs = list(zip(top[row].tolist(), best[row].tolist(), strict=True))
            found.append(Expected(float(bits[row]), pairs, own, rank))
    return found


def last_logits(engine: Engine, ids: Tensor) -> Tensor:
    """Return the logits (V,) of what follows some tokens (1, T)."""
    return project(engine, engine.model(ids, project=False).hidden[0, -1:])[0]


def project(engine: Engine, hidden: Tensor) -> Tensor:
    """Return the logits of the tokens that there are: (t, D) -> (t, V)."""
    return engine.model.project(hidden)[:, : engine.vocab_size].float()


async def continued(found: Reading, given: Branch) -> list[int]:
    """Return the ids that the engine writes behind a text, as it would for anybody."""
    room = min(room_after(found.served, found.ids, "ids"), MOST_TOKENS - len(found.ids))
    try:
        sampling = Sampling(
            max_new_tokens=min(given.max_tokens, room),
            temperature=given.temperature,
            top_p=given.top_p,
            seed=given.seed,
        )
    except SmeltError as error:
        raise from_smelt(error) from error
    ids: list[int] = []
    done = False
    job = found.engine.open(secrets.token_hex(8))
    try:
        await job.submit([Wanted(tuple(found.ids), sampling)])
        while not done:
            for _, update in await job.next():
                ids += update.ids
                done = update.finish_reason is not None
    finally:
        job.close()
    return ids
