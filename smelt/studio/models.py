"""Models: what there is, where it comes from, and what can be done with it: serve, merge, export, check, delete.

Looking is for everybody who may use the studio. What changes what everybody shares, which models are in memory and on
the disk, is for whoever administers it, where there are keys.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from pydantic import Field

from smelt.core.errors import CheckpointError, SmeltError, UsageError
from smelt.core.extras import need
from smelt.core.storage import verify_directory
from smelt.peft.load import base_of
from smelt.serve.errors import ApiError, from_smelt
from smelt.serve.protocol import Fields
from smelt.studio.checkpoints import card_of, file_table, files_of, steps_of, table
from smelt.studio.context import Request, Response, Routes, Studio, query, read, reply
from smelt.studio.deleting import check_deletable, delete, dependents, put_away
from smelt.studio.exporting import Export
from smelt.studio.lineage import Lineage, is_below
from smelt.studio.merges import Merges
from smelt.studio.pool import Member
from smelt.train.run import NAME

if TYPE_CHECKING:
    from fastapi.responses import StreamingResponse
else:
    StreamingResponse = need("fastapi.responses", extra="serve").StreamingResponse

ID = r"^[A-Za-z0-9_-]{1,64}$"


class Named(Fields):
    """A model."""

    name: str = Field(max_length=4096)


class Served(Named):
    """A model to load, as its weights are stored or as others: "int8"."""

    weights: str = Field(default="", max_length=16)


class Merging(Named):
    """An adapter, and what the merged model is to be called below runs/; `id` is made by the page."""

    id: str = Field(pattern=ID)
    out: str = Field(max_length=128)


class Deleting(Named):
    """A model, and its name as a person typed it."""

    typed: str = Field(max_length=4096)


def routes(studio: Studio) -> Routes:
    """Return the routes of the page."""
    page = Models(studio)
    return {
        "GET /models": page.show_all,
        "DELETE /models": page.delete,
        "GET /models/one": page.show_one,
        "GET /models/data": page.show_data,
        "POST /models/data": page.check_data,
        "GET /models/export": page.export,
        "POST /models/serve": page.serve,
        "POST /models/unserve": page.unserve,
        "POST /models/verify": page.verify,
        "GET /models/merges": page.show_merges,
        "POST /models/merges": page.merge,
    }


class Models:
    """The answers of the page."""

    def __init__(self, studio: Studio) -> None:
        self.studio, self.merging = studio, Merges()

    async def show_all(self, _: Request) -> Response:
        """Return all models and the graph of where they come from."""
        members = {name: state_of(member) for name, member in self.studio.pool.members.items()}

        def work() -> dict[str, Any]:
            lineage = Lineage.of(self.studio.workspace)
            shown = [
                {"name": name, **card.shown(), "loaded": loaded_as(name, members)}
                for name, card in lineage.cards.items()
            ]
            return {"models": shown, "graph": lineage.graph([name for name in members if "@" in name])}

        return reply({**await self.studio.aside(work), "most_loaded": self.studio.pool.limit})

    async def show_one(self, request: Request) -> Response:
        """Return all that is known of one model."""
        asked = query(request, "name")
        members = {name: state_of(member) for name, member in self.studio.pool.members.items()}

        def work() -> dict[str, Any]:
            lineage, name = self._look(asked)
            card = lineage.cards[name]
            return {
                "name": name,
                **card.shown(),
                "loaded": loaded_as(name, members),
                "files": file_table(card),
                "steps": steps_of(card) if card.is_run else [],
                "all_bytes": sum(path.stat().st_size for path in files_of(card.path)),
                "recipe": card.recipe or None,
                "merge": table(card.lineage.get("merge")) or None,
                "tokens": card.lineage.get("tokens"),
                "base": card.base and (lineage.at(card.base) or card.base),
                "needed_by": dependents(lineage, name),
            }

        found = await self.studio.aside(work)
        found["needed_by"] += self._users(self.studio.workspace.find(found["name"]))
        return reply({**found, "may_change": await self.studio.is_admin(request)})

    async def show_data(self, request: Request) -> Response:
        """Return the files that models were trained on, by the id of that version of them."""
        name = query(request, "id")
        return reply(await self.studio.aside(lambda: self._data(name, hashed=False)))

    async def check_data(self, request: Request) -> Response:
        """Read the files that models were trained on and say which are still the same."""
        asked = await read(request, Named)
        return reply(await self.studio.aside(lambda: self._data(asked.name, hashed=True)))

    async def serve(self, request: Request) -> Response:
        """Load a model, to stay until it is let go."""
        await self.studio.administer(request)
        asked = await read(request, Served)

        def work() -> str:
            lineage, name = self._look(asked.name)
            self._check_base(lineage.cards[name].directory)
            return name

        name = await self.studio.aside(work) + (f"@{asked.weights}" if asked.weights else "")
        pool = self.studio.pool
        if (known := pool.members.get(name)) is not None and known.engine.failure is not None:
            pool.close(name)  # to be tried again
        member = pool.open(name, kept=True)
        return reply({"name": name, **state_of(member)})

    async def unserve(self, request: Request) -> Response:
        """Let a model go, by the name under which it is loaded."""
        await self.studio.administer(request)
        asked = await read(request, Named)
        self.studio.pool.close(asked.name)
        return reply({"ok": True})

    async def verify(self, request: Request) -> Response:
        """Read every byte of a model and compare it with its manifest; return the hash of each file."""
        asked = await read(request, Named)

        def work() -> dict[str, Any]:
            lineage, name = self._look(asked.name)
            card, started, fault = lineage.cards[name], time.perf_counter(), ""
            try:
                if card.manifest or card.fault or card.lineage:
                    verify_directory(card.directory)
            except CheckpointError as error:
                fault = " ".join(str(error).splitlines())
            found = {"sealed": bool(card.manifest), "fault": fault, "files": file_table(card, hashed=not card.manifest)}
            return {**found, "seconds": round(time.perf_counter() - started, 2)}

        return reply(await self.studio.aside(work))

    async def show_merges(self, _: Request) -> Response:
        """Return what was merged since the studio began, the newest first."""
        return reply({"merges": [merge.shown() for merge in reversed(self.merging.known.values())]})

    async def merge(self, request: Request) -> Response:
        """Begin to merge an adapter into its base."""
        await self.studio.administer(request)
        asked = await read(request, Merging)

        def work() -> tuple[str, Path, Path]:
            lineage, name = self._look(asked.name)
            card, out = lineage.cards[name], self.studio.workspace.runs / asked.out
            if not card.is_adapter:
                raise UsageError(f"{name} is no adapter", accepted="a model with adapter_config.json")
            if not NAME.fullmatch(asked.out):
                accepted = "letters, digits, '.', '_' and '-', at most 128, not starting with a sign"
                raise UsageError(f"out: {asked.out!r}", accepted=accepted)
            if out.exists() and asked.id not in self.merging.known:
                raise UsageError(f"out: runs/{asked.out} is there", fix="choose another name")
            self._check_base(card.directory)
            return name, card.directory, out

        name, directory, out = await self.studio.aside(work)
        made = self.merging.start(asked.id, name, directory, out, self.studio.workspace.name(out))
        return reply(made.shown())

    async def export(self, request: Request) -> Response:
        """Send a model as a tar of its directory."""
        asked = query(request, "name")

        def work() -> Export:
            lineage, name = self._look(asked)
            card = lineage.cards[name]
            if card.fault:
                raise CheckpointError(card.fault)
            return Export(card, Path(name).name)

        made = await self.studio.aside(work)
        file = quote(f"{Path(asked).name}.tar", safe="")
        headers = {"content-disposition": f"attachment; filename*=UTF-8''{file}", "cache-control": "no-store"}
        headers["content-length"] = str(made.num_bytes)
        return StreamingResponse(self._sent(made), headers=headers, media_type="application/x-tar")

    async def _sent(self, made: Export) -> AsyncIterator[bytes]:
        pieces = made.pieces()
        while (piece := await self.studio.aside(partial(next, pieces, None))) is not None:
            yield piece

    async def delete(self, request: Request) -> Response:
        """Delete a model: all of its run, or of its directory."""
        await self.studio.administer(request)
        asked = await read(request, Deleting)

        def work() -> tuple[str, Path, list[dict[str, str]]]:
            lineage, name = self._look(asked.name)
            check_deletable(self.studio.workspace, lineage.cards[name].path, asked.typed)
            return name, lineage.cards[name].path, dependents(lineage, name)

        name, path, needed_by = await self.studio.aside(work)
        needed_by += self._users(path)
        if needed_by:
            names = ", ".join(f"{one['name']} ({one['kind']})" for one in needed_by)
            raise ApiError(409, f"{name} is needed by {names}", code="needed")
        aside = put_away(path)  # here, where no model can be loaded between the last look and this
        await self.studio.aside(lambda: delete(aside))
        return reply({"deleted": name})

    def _data(self, name: str, *, hashed: bool) -> dict[str, Any]:
        workspace = self.studio.workspace
        data, models = Lineage.of(workspace).data(name)
        return {"id": name, "path": data.path, "files": data.find(workspace, hashed=hashed), "models": models}

    def _look(self, asked: str) -> tuple[Lineage, str]:
        """Return all models and the name of one; raises UsageError for a name that is none of them."""
        path = self.studio.workspace.find(asked)
        lineage, name = Lineage.of(self.studio.workspace), self.studio.workspace.name(path)
        if name not in lineage.cards:
            raise UsageError(f"{asked[:200]} is no model", accepted="a run with a checkpoint, or a checkpoint")
        return lineage, name

    def _check_base(self, directory: Path) -> None:
        """Raise SmeltError for an adapter whose base is gone, or is none of the studio's to read."""
        card = card_of(directory)
        if card.is_adapter:
            self.studio.workspace.find(str(base_of(directory, card.config)))

    def _users(self, path: Path) -> list[dict[str, str]]:
        """Return what uses a model now: models in memory, merges."""
        found = [{"kind": "loaded", "name": name} for name in self.studio.pool.members if self._uses(name, path)]
        return found + [
            {"kind": "merge", "name": merge.out} for merge in self.merging.running() if self._uses(merge.adapter, path)
        ]

    def _uses(self, name: str, path: Path) -> bool:
        """Tell whether a model in memory is one, a step of one, or an adapter on one."""
        try:
            return is_below(self.studio.workspace.find(name.partition("@")[0]), path)
        except SmeltError:
            return False  # it was deleted by somebody else


def state_of(member: Member) -> dict[str, Any]:
    """Return how it stands with a model in memory."""
    failure = member.engine.failure
    told = from_smelt(failure).message if isinstance(failure, SmeltError) else "the log says why" if failure else ""
    return {"state": member.engine.state, "kept": member.kept, "answering": len(member.engine.jobs), "failure": told}


def loaded_as(name: str, members: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """Return under which names a model is loaded, and how each of them stands."""
    return [{"as": own, **state} for own, state in members.items() if own.partition("@")[0] == name]
