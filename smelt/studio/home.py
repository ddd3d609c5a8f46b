"""Home: what there is on this machine, at a glance, and a first model where there is none."""

from __future__ import annotations

import os
import platform
from threading import Lock
from typing import Any

import psutil
from pydantic import Field

from smelt import __version__
from smelt.core import runtime
from smelt.serve.protocol import Fields
from smelt.serve.store.chats import list_chats
from smelt.studio.context import Request, Response, Routes, Studio, owner, query, read, reply
from smelt.studio.first_model import start_first, stop_first, watch_first
from smelt.studio.watching import Watcher

MOST = 6  # of each kind


class Wish(Fields):
    """What somebody asked for once, however often the request arrives."""

    id: str = Field(min_length=1, max_length=64)


def routes(studio: Studio) -> Routes:
    """Return the routes of the page."""
    watcher, starting = Watcher(), Lock()

    async def home(request: Request) -> Response:
        return reply(await studio.aside(lambda: overview(studio, owner(request))))

    async def first(request: Request) -> Response:
        after, file = query(request, "after"), query(request, "file")
        step = int(after) if after.isdecimal() else 0
        return reply({"first": await studio.aside(lambda: watch_first(studio.workspace, watcher, step, file))})

    def begin_once(wish: Wish) -> None:
        with starting:
            start_first(studio.workspace, wish.id)

    async def begin(request: Request) -> Response:
        await studio.administer(request)
        wish = await read(request, Wish)
        await studio.aside(lambda: begin_once(wish))
        return reply({"ok": True})

    async def stop(request: Request) -> Response:
        await studio.administer(request)
        await studio.aside(lambda: stop_first(studio.workspace))
        return reply({"ok": True})

    return {"GET /home": home, "GET /first": first, "POST /first": begin, "POST /first/stop": stop}


def overview(studio: Studio, who: str) -> dict[str, Any]:
    """Return the newest models, runs, data and chats, and the machine."""
    workspace = studio.workspace
    data, chats = workspace.data_files(), list_chats(studio.store, who)
    found: dict[str, list[dict[str, Any]]] = {
        "models": [{"name": workspace.name(path)} for path in workspace.checkpoints()],
        "runs": [{"name": workspace.name(path)} for path in workspace.run_directories()],
        "data": [{"name": workspace.name(path), "bytes": path.stat().st_size} for path in data],
        "chats": [{"id": chat.id, "title": chat.title, "created": chat.created} for chat in chats],
    }
    counts = {kind: len(things) for kind, things in found.items()}
    return {**{kind: things[:MOST] for kind, things in found.items()}, "counts": counts, "machine": machine(studio)}


def machine(studio: Studio) -> dict[str, Any]:
    """Describe this machine and what the studio does on it."""
    memory = psutil.virtual_memory()
    return {
        "cores": os.cpu_count(),
        "memory_bytes": memory.total,
        "free_bytes": memory.available,
        "device": str(runtime.device()),
        "system": f"{platform.system()} {platform.machine()}",
        "version": __version__,
        "folder": str(studio.workspace.root),
        "loaded": sorted(studio.pool.members),
        "answering": len(studio.pool.jobs),
    }
