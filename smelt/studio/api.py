"""The API page: keys, what was asked of /v1 and by whom, the bounds, and what a snippet needs to be true.

Whoever has a key sees what that key did; all keys and everybody's requests are shown to whoever administers the studio,
which is everybody on a studio that asks for no key. A key that is made here opens the studio from its next start on
where it asked for none until then: a page in use is not locked out of what it is doing.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from pydantic import Field

from smelt.serve.keys import SCOPES
from smelt.serve.protocol import MAX_ANSWERS, MAX_BODY_BYTES, MAX_MESSAGES, MAX_PROMPTS, MAX_TEXTS, Fields
from smelt.serve.store.keys import create_key, list_keys, revoke_key
from smelt.studio.checkpoints import Card, card_of
from smelt.studio.context import Request, Response, Routes, Studio, owner, read, reply
from smelt.studio.pool import CACHE_TOKENS, MAX_RUNNING, MAX_WAITING

MOST_SHOWN = 200  # of the log


class NewKey(Fields):
    """A key to make."""

    name: str = Field(max_length=64)
    scopes: list[str] = Field(min_length=1, max_length=len(SCOPES))


def routes(studio: Studio) -> Routes:
    """Return the routes of the page."""
    page = Api(studio)
    return {
        "GET /api": page.about,
        "GET /api/usage": page.usage,
        "GET /api/keys": page.keys,
        "POST /api/keys": page.make,
        "DELETE /api/keys/{name}": page.revoke,
    }


class Api:
    """The answers of the page."""

    def __init__(self, studio: Studio) -> None:
        self.studio = studio

    async def about(self, request: Request) -> Response:
        """Return who may do what, which models answer, and the bounds."""
        studio = self.studio
        templates = {
            name: member.engine.served.template is not None
            for name, member in studio.pool.members.items()
            if member.engine.state == "ready"
        }

        def work() -> tuple[list[dict[str, Any]], bool]:
            found = {studio.workspace.name(path): card_of(path) for path in studio.workspace.checkpoints()}
            cards = {name: card for name, card in found.items() if can_answer(card)}
            names = [*templates, *(name for name in cards if name not in templates)]
            shown = [
                {
                    "name": name,
                    "loaded": name in templates,
                    "chat": templates.get(name, name in cards and cards[name].chats),
                }
                for name in names
            ]
            return shown, bool(list_keys(studio.store))

        models, has_keys = await studio.aside(work)
        return reply(
            {
                "models": models,
                "open": studio.keys is None,
                "locked_next": studio.keys is None and has_keys,
                "admin": await studio.is_admin(request),
                "owner": owner(request),
                "scopes": SCOPES,
                "limits": {
                    "models": studio.pool.limit,
                    "running": MAX_RUNNING,
                    "waiting": MAX_WAITING,
                    "cache_tokens": CACHE_TOKENS,
                    "body_bytes": MAX_BODY_BYTES,
                    "messages": MAX_MESSAGES,
                    "prompts": MAX_PROMPTS,
                    "answers": MAX_ANSWERS,
                    "texts": MAX_TEXTS,
                },
            }
        )

    async def usage(self, request: Request) -> Response:
        """Return the sums and the last requests, the newest first: everybody's, or the asking key's alone."""
        usage, me, all_of_them = self.studio.usage, owner(request), await self.studio.is_admin(request)
        sums = [
            {"owner": who, "model": model, **asdict(total)}
            for (who, model), total in usage.sums.items()
            if all_of_them or who == me
        ]
        log = [entry.shown() for entry in reversed(usage.log) if all_of_them or entry.owner == me]
        engines = [
            {
                "name": name,
                "state": member.engine.state,
                "answering": len(member.engine.jobs),
                **asdict(member.engine.load),
            }
            for name, member in self.studio.pool.members.items()
        ]
        shown = {"since": usage.since, "sums": sums, "log": log[:MOST_SHOWN], "engines": engines, "all": all_of_them}
        return reply(shown)

    async def keys(self, request: Request) -> Response:
        """List the keys, those that are revoked too."""
        await self.studio.administer(request)
        found = await self.studio.aside(lambda: list_keys(self.studio.store))
        return reply({"keys": [asdict(key) for key in found]})

    async def make(self, request: Request) -> Response:
        """Make a key and return it, for the only time."""
        await self.studio.administer(request)
        asked = await read(request, NewKey)
        scopes: Any = asked.scopes  # checked where the key is made
        key = await self.studio.aside(lambda: create_key(self.studio.store, asked.name, scopes))
        return reply({"name": asked.name, "key": key}, 201)

    async def revoke(self, request: Request) -> Response:
        """Let a key open nothing any more."""
        await self.studio.administer(request)
        name = request.path_params["name"]
        await self.studio.aside(lambda: revoke_key(self.studio.store, name))
        return reply({"revoked": name})


def can_answer(card: Card) -> bool:
    """Tell whether a model may write texts, as far as its files say: one with labels or without a head does not."""
    return not card.fault and card.stage not in ("classify", "tag", "extract", "reward", "seq2seq")
