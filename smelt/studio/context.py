"""What the routes of every page are given, and how they read a request and write an answer.

A route is `async def route(request) -> Response`, and gets everything from one `Studio`. Work that takes longer than a
moment, and all that touches the disk, is done in a few threads beside the event loop, by `aside`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from smelt.core.errors import SmeltError
from smelt.core.extras import need
from smelt.serve.app import read_body
from smelt.serve.errors import ApiError, from_smelt
from smelt.serve.keys import Keys
from smelt.serve.protocol import Fields, parse
from smelt.serve.store.database import Conflict, NotFound, Store
from smelt.serve.streaming import to_json
from smelt.studio.pool import Pool
from smelt.studio.usage import Usage
from smelt.studio.workspace import Workspace

if TYPE_CHECKING:
    from fastapi import Request, Response
else:
    Request, Response = (getattr(need("fastapi", extra="serve"), name) for name in ("Request", "Response"))

Result = TypeVar("Result")
Kind = TypeVar("Kind", bound=Fields)
OWNER = "local"  # whose everything is where no key is needed: the one who sits at this machine
COOKIE = "smelt_key"
THREADS = 4


@dataclass
class Studio:
    """What there is.

    Args:
        workspace: the folders that may be looked into.
        pool: the models that answer.
        store: keeps chats, votes and keys.
        keys: those that open the studio; None: nobody needs one.
        usage: what was asked of /v1, and by whom.
    """

    workspace: Workspace
    pool: Pool
    store: Store
    keys: Keys | None
    usage: Usage = field(default_factory=Usage)
    threads: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(THREADS, "studio"))

    async def authorize(self, request: Request) -> None:
        """Note who asks as `request.state.owner`; raises ApiError (401, 403) without a key where one is needed.

        A browser sends the key as a cookie that no script can read and no other site's page can have sent.
        """
        request.state.owner = OWNER
        if self.keys is not None:
            request.state.owner = await self.keys.check(keys_in(request), "models")

    async def administer(self, request: Request) -> None:
        """Raise ApiError (403) for a key that may not change what everybody shares: keys, trainings, and files."""
        if self.keys is not None:
            await self.keys.check(keys_in(request), "admin")

    async def is_admin(self, request: Request) -> bool:
        """Tell whether `administer` lets a request pass."""
        try:
            await self.administer(request)
        except ApiError as error:
            if error.status != 403:
                raise
            return False
        return True

    async def aside(self, work: Callable[[], Result]) -> Result:
        """Do work in a thread; what it refuses becomes an error of the API."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self.threads, work)
        except NotFound as error:
            raise ApiError(404, str(error), code="not_found") from error
        except Conflict as error:
            raise ApiError(409, str(error), code="conflict") from error
        except SmeltError as error:
            raise from_smelt(error) from error


def keys_in(request: Request) -> list[str]:
    """Return what a request says of its key, as Authorization headers."""
    cookie = request.cookies.get(COOKIE)
    return request.headers.getlist("authorization") or ([f"Bearer {cookie}"] if cookie else [])


async def read(request: Request, kind: type[Kind]) -> Kind:
    """Return a body as `kind`; raises ApiError for one that is not JSON or does not fit."""
    return parse(kind, await read_body(request))


def reply(value: object, status: int = 200) -> Response:
    """Return a response of JSON that no cache keeps."""
    return Response(to_json(value), status, {"cache-control": "no-store"}, "application/json")


def owner(request: Request) -> str:
    """Return who asks."""
    return str(request.state.owner)


def query(request: Request, name: str, most: int = 4096) -> str:
    """Return a word of the address, "" where it is not there; raises ApiError for a longer one."""
    value = str(request.query_params.get(name, ""))
    if len(value) > most:
        raise ApiError(400, f"{name} has more than {most:,} characters", param=name)
    return value


Routes = dict[str, Callable[[Request], Any]]
"""What a page answers: `"GET /chats/{chat}"` -> route; the path is below /studio."""
__all__ = ["Any", "Request", "Response", "Routes", "Studio", "owner", "query", "read", "reply"]
