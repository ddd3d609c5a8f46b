"""Responses that go on from earlier ones: between the routes, which must not wait, and the store, which takes its time.

What the store says goes into the log; a client is told whether another try can help.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from smelt.core.errors import SmeltError
from smelt.serve.errors import invalid, without_store
from smelt.serve.response_events import Reply
from smelt.serve.responses import Json, ResponseRequest, kept_form
from smelt.serve.store.database import NotFound, Store
from smelt.serve.store.responses import items_up_to, keep_response


async def earlier_items(store: Store | None, owner: str, request: ResponseRequest) -> list[Json]:
    """Return the items up to the response that a request goes on from; raises ApiError where there is none (400)."""
    name, previous = "previous_response_id", request.previous_response_id
    if previous is None:
        return []
    if store is None:
        raise invalid(f"{name}: this server keeps no responses; send the whole conversation as input", name)
    try:
        return await asyncio.to_thread(items_up_to, store, owner, previous)
    except NotFound:
        raise invalid(f"{name}: there is no such response", name, "previous_response_not_found") from None
    except SmeltError as error:
        raise without_store(error) from error


def keeper(store: Store | None, owner: str, request: ResponseRequest) -> Callable[[Reply], Awaitable[None]] | None:
    """Return what keeps a complete response; None where there is no store, or the request wants it forgotten."""
    if store is None or request.store is False:
        return None

    async def keep(reply: Reply) -> None:
        # Nobody can answer half a call, and no template can write it.
        output = [item for item in reply.output() if item["type"] == "message" or item["status"] == "completed"]
        items = kept_form([*request.input, *output])
        try:
            await asyncio.to_thread(keep_response, store, owner, reply.id, request.previous_response_id, items)
        except SmeltError as error:
            raise without_store(error) from error

    return keep
