"""/v1 of the studio: OpenAI's routes over all models of the pool, each request handed to the model that it names.

The body is read once to learn the name, and is then read again by the model's own application, which knows all else.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from smelt.core.extras import need
from smelt.serve.app import card, read_body
from smelt.serve.errors import ApiError, invalid
from smelt.serve.metrics import TALLY
from smelt.serve.streaming import Gone
from smelt.studio.context import Studio, owner, reply
from smelt.studio.usage import Entry

if TYPE_CHECKING:
    from fastapi import Request
    from starlette.types import Message, Receive, Scope, Send
else:
    Request = need("fastapi", extra="serve").Request


class Forward:
    """An ASGI application that hands a request on; mounted at /v1."""

    def __init__(self, studio: Studio) -> None:
        self.studio = studio

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request and note it; raises ApiError where no model can."""
        path = f"/v1{scope['path'].removeprefix(scope.get('root_path', ''))}"
        entry = self.studio.usage.begin(scope["method"], path)
        before = TALLY.set(entry.tally)

        async def noting(message: Message) -> None:
            if message["type"] == "http.response.start":
                entry.status = message["status"]
            await send(message)

        try:
            await self._answer(Request(scope, receive), path, entry, noting)
        except ApiError as error:
            entry.status = error.status
            raise
        except Exception as error:
            entry.status = 499 if isinstance(error, Gone) else 500
            raise
        finally:
            TALLY.reset(before)
            self.studio.usage.end(entry)

    async def _answer(self, request: Request, path: str, entry: Entry, send: Send) -> None:
        await self.studio.authorize(request)
        entry.owner = owner(request)
        if request.method == "GET" and path.rstrip("/") == "/v1/models":
            await reply(self.models())(request.scope, request.receive, send)
            return
        body = await read_body(request)
        member = self.studio.pool.open(name_in(body))
        entry.model = member.name
        await self.studio.pool.get(member.name)
        sent = False

        async def again() -> Message:
            nonlocal sent
            if sent:
                return await request.receive()
            sent = True
            return {"type": "http.request", "body": body, "more_body": False}

        # The application of a model has the whole path: it is no part of this one.
        inner = {**request.scope, "path": path, "raw_path": path.encode(), "root_path": ""}
        await member.app(inner, again, send)

    def models(self) -> dict[str, Any]:
        """Return the models that are loaded, as OpenAI lists them."""
        cards = [
            card(member.engine.served, member.name)
            for member in self.studio.pool.members.values()
            if member.engine.state == "ready"
        ]
        return {"object": "list", "data": cards}


def name_in(body: bytes) -> str:
    """Return the model that a body names; raises ApiError where it names none."""
    try:
        name = json.loads(body).get("model")
    except (ValueError, RecursionError, AttributeError):
        raise invalid("the body is no object of JSON") from None
    if not isinstance(name, str) or not name:
        raise ApiError(
            400, "model: which model is to answer? GET /v1/models lists those that are loaded", param="model"
        )
    return name
