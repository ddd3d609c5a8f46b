"""Home: what there is on this machine, at a glance."""

from __future__ import annotations

import os
import platform
from typing import Any

import psutil

from smelt import __version__
from smelt.core import runtime
from smelt.serve.store.chats import list_chats
from smelt.studio.context import Request, Response, Routes, Studio, owner, reply

MOST = 6  # of each kind


def routes(studio: Studio) -> Routes:
    """Return the routes of the page."""

    async def home(request: Request) -> Response:
        return reply(await studio.aside(lambda: overview(studio, owner(request))))

    return {"GET /home": home}


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
