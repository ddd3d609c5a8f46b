"""The studio's application: its pages' routes under /studio, OpenAI's under /v1, and the built pages everywhere else.

An address that is no file is one of the page's own, so the page is sent for it: each view can be linked to. What a page
loads comes from here and from nowhere else, and no script stands in the page itself, which the guard's policy forbids.
"""

from __future__ import annotations

import mimetypes
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any

from smelt.core.extras import need
from smelt.serve.app import bare_app
from smelt.serve.errors import ApiError
from smelt.serve.guard import Guard
from smelt.serve.protocol import Fields
from smelt.studio import (
    api,
    arena,
    chats,
    choices,
    datasets,
    home,
    model_lens,
    models,
    runs,
    tokens,
    training,
)
from smelt.studio.context import COOKIE, Request, Response, Routes, Studio, owner, read, reply
from smelt.studio.forward import Forward

PAGES = (
    home.routes,
    choices.routes,
    chats.routes,
    arena.routes,
    tokens.routes,
    model_lens.routes,
    training.routes,
    runs.routes,
    datasets.routes,
    models.routes,
    api.routes,
)
"""What makes the routes of each page."""
YEAR_SECONDS = 31_536_000
NO_PAGE = b"<!doctype html><title>smelt</title><p>The pages are not built: npm install and npm run build in web/."


class KeyGiven(Fields):
    """A key that a person typed."""

    key: str


def make_studio(studio: Studio, *, hosts: Iterable[str] = ()) -> Guard:
    """Return the ASGI application of a studio."""
    fastapi = need("fastapi", extra="serve")

    @asynccontextmanager
    async def lifespan(_: Any) -> AsyncIterator[None]:
        yield
        studio.pool.stop()
        studio.threads.shutdown(wait=False, cancel_futures=True)

    app = bare_app("smelt studio", lifespan, openapi_url=None)
    guarded = fastapi.APIRouter(prefix="/studio", dependencies=[fastapi.Depends(authorizer(studio))])
    for make in PAGES:
        routes: Routes = make(studio)
        for name, route in routes.items():
            method, path = name.split(" ")
            guarded.add_api_route(path, route, methods=[method], response_model=None)
    guarded.add_api_route("/session", session, methods=["GET"], response_model=None)
    app.add_api_route("/studio/session", open_session(studio), methods=["POST"], response_model=None)
    app.include_router(guarded)
    app.mount("/v1", Forward(studio))
    app.add_api_route("/{path:path}", pages(files("smelt.studio") / "static"), methods=["GET"], response_model=None)
    return Guard(app, hosts=hosts, on_done=lambda route, status, seconds: None)


def authorizer(studio: Studio) -> Any:
    """Return what every route under /studio asks first."""

    async def authorize(request: Request) -> None:
        await studio.authorize(request)

    return authorize


async def session(request: Request) -> Response:
    """Say who asks, to whoever may."""
    return reply({"owner": owner(request)})


def open_session(studio: Studio) -> Any:
    """Return the route that turns a key into a cookie."""

    async def route(request: Request) -> Response:
        given = await read(request, KeyGiven)
        if studio.keys is not None:
            await studio.keys.check([f"Bearer {given.key}"], "models")
        made = reply({"ok": True})
        made.set_cookie(COOKIE, given.key, httponly=True, samesite="strict", secure=request.url.scheme == "https")
        return made

    return route


def pages(folder: Traversable) -> Any:
    """Return the route of everything else: a built file, whose name tells its content, or the page."""
    known = {f"assets/{file.name}": file for file in assets(folder)}

    async def route(request: Request) -> Response:
        path = request.path_params["path"]
        if (file := known.get(path)) is not None:
            media_type = mimetypes.guess_type(file.name)[0] or "application/octet-stream"
            kept = {"cache-control": f"public, max-age={YEAR_SECONDS}, immutable"}
            return Response(file.read_bytes(), media_type=media_type, headers=kept)
        if path.startswith(("assets/", "studio/")):
            raise ApiError(404, "there is nothing at this path", code="not_found")
        page = folder / "index.html"
        text = page.read_bytes() if page.is_file() else NO_PAGE
        return Response(text, media_type="text/html; charset=utf-8", headers={"cache-control": "no-cache"})

    return route


def assets(folder: Traversable) -> list[Traversable]:
    """Return the built files, none where nothing is built."""
    found = folder / "assets"
    return list(found.iterdir()) if found.is_dir() else []
