"""/v1 of the studio: OpenAI's routes over all models of the pool, each request handed to the model that it names.

The body is read once to learn the name, and is then read again by the model's own application, which knows all else.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from smelt.core.extras import need
from smelt.serve.app import card, read_body
from smelt.serve.errors import ApiError, invalid
from smelt.studio.context import Studio, reply

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
        """Answer a request; raises ApiError where no model can."""
        request = Request(scope, receive)
        await self.studio.authorize(request)
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        if request.method == "GET" and path.rstrip("/") == "/models":
            await reply(self.models())(scope, receive, send)
            return
        body = await read_body(request)
        member = self.studio.pool.open(name_in(body))
        await self.studio.pool.get(member.name)
        sent = False

        async def again() -> Message:
            nonlocal sent
            if sent:
                return await receive()
            sent = True
            return {"type": "http.request", "body": body, "more_body": False}

        # The application of a model has the whole path: it is no part of this one.
        inner = {**scope, "path": f"/v1{path}", "raw_path": f"/v1{path}".encode(), "root_path": ""}
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
