"""The models that answer: each a checkpoint with an engine of its own, loaded when it is asked for.

A model is named by its checkpoint's name in the workspace, and by what its weights become while decoding, where that
is not what they are: `runs/demo/chat` and `runs/demo/chat@int8` are two models. At most `limit` are loaded; for one
more, the one that was asked longest ago and has nothing to do is let go.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast, get_args

from smelt.core.errors import SmeltError, UsageError
from smelt.core.storage import checkpoint_at
from smelt.infer import EngineSettings
from smelt.infer.packing import Weights
from smelt.models.shards import read_json
from smelt.peft.files import CONFIG as ADAPTER_CONFIG
from smelt.peft.load import base_of, is_adapter
from smelt.serve.app import make_app
from smelt.serve.errors import ApiError, from_smelt, log, overloaded, unavailable
from smelt.serve.keys import Keys
from smelt.serve.loading import served
from smelt.serve.loop import EngineLoop
from smelt.serve.prepare import Served
from smelt.serve.store.database import Store
from smelt.studio.workspace import Workspace

CACHE_TOKENS = 16_384  # of each model: several share the memory
MAX_RUNNING, MAX_WAITING = 16, 64  # answers of each model
LOADING_SECONDS = 0.02  # between two looks at a model that loads


@dataclass
class Member:
    """A model of the pool: its engine, the application that answers for it, and when it was last asked."""

    name: str
    engine: EngineLoop
    app: Any
    kept: bool = False  # somebody asked that it be served, so it is not let go for another
    asked: float = field(default_factory=time.monotonic)


class Pool:
    """The models that are loaded.

    Args:
        workspace: where checkpoints are.
        keys: those that open /v1, if any are needed.
        store: keeps responses.
        limit: the most models at once.
    """

    def __init__(self, workspace: Workspace, keys: Keys | None, store: Store | None, limit: int = 4) -> None:
        self.workspace, self.keys, self.store, self.limit = workspace, keys, store, limit
        self.members: dict[str, Member] = {}
        self.draining = False

    async def get(self, name: str) -> EngineLoop:
        """Return the engine of a model once it is ready, loading it first where it is not.

        Raises ApiError for a name that means no model (400), where all others are busy (429), and for a model that
        cannot be loaded (400).
        """
        member = self.open(name)
        while member.engine.state == "loading":
            await asyncio.sleep(LOADING_SECONDS)
        if (failure := member.engine.failure) is not None:
            self.members.pop(name, None)
            if isinstance(failure, SmeltError):
                raise from_smelt(failure)
            raise unavailable(f"{name} could not be loaded; the log says why", code="server_failed")
        return member.engine

    def open(self, name: str, *, kept: bool = False) -> Member:
        """Return a member, which may still load; raises ApiError like `get`."""
        if self.draining:
            raise unavailable("the studio is ending", code="server_draining")
        if name not in self.members:
            load, settings = self._loader(name)
            self._make_room()
            engine = EngineLoop(load, settings)
            app = make_app(engine, keys=self.keys, store=self.store, on_failure=lambda: None)
            self.members[name] = Member(name, engine, app.app)  # without its guard: the studio has one
            engine.start(lambda: log(f"{name} could not be loaded: {engine.failure}"))
        member = self.members[name]
        member.asked, member.kept = time.monotonic(), member.kept or kept
        return member

    def close(self, name: str) -> None:
        """Let a model go; raises ApiError (409) while it answers. One that is not loaded is left alone."""
        if (member := self.members.get(name)) is None:
            return
        if member.engine.jobs:
            raise ApiError(409, f"{name} is answering", code="model_busy")
        del self.members[name]
        asyncio.get_running_loop().run_in_executor(None, member.engine.stop)  # it waits for the thread

    @property
    def jobs(self) -> set[Any]:
        """Return what is under way."""
        return {job for member in self.members.values() for job in member.engine.jobs}

    @property
    def failure(self) -> BaseException | None:
        """Return None: a model that fails does not end the studio."""
        return None

    async def drain(self, seconds: float) -> None:
        """Take nothing new, give what is under way some time, then end it with what it has."""
        self.draining = True
        await asyncio.gather(*(member.engine.drain(seconds) for member in self.members.values()))

    def stop(self) -> None:
        """End all engines' threads."""
        for member in self.members.values():
            member.engine.stop()

    def _loader(self, name: str) -> tuple[Callable[[], Served], EngineSettings]:
        """Return what loads a model, and its engine's settings; raises ApiError for no model of this name."""
        path, _, weights = name.partition("@")
        try:
            if weights and weights not in get_args(Weights):
                raise UsageError(f"{name}: weights of {weights!r}", accepted=", ".join(get_args(Weights)))
            directory = self.workspace.find(path)
            if (own := self.workspace.name(directory)) != path:
                raise UsageError(f"{name}: this model goes by another name", accepted=own)  # else it were two models
        except SmeltError as error:
            raise from_smelt(error) from error
        settings = EngineSettings(
            max_running=MAX_RUNNING,
            max_waiting=MAX_WAITING,
            cache_tokens=CACHE_TOKENS,
            weights=cast("Weights", weights) or None,
        )

        def load() -> Served:
            checkpoint = checkpoint_at(directory)
            if is_adapter(checkpoint):  # its file says where its base is, which could be anywhere
                self.workspace.find(str(base_of(checkpoint, read_json(checkpoint / ADAPTER_CONFIG))))
            return served(directory, name, {}, None)

        return load, settings

    def _make_room(self) -> None:
        """Let the model go that was asked longest ago, where there are as many as there may be."""
        if len(self.members) < self.limit:
            return
        idle = [
            member
            for member in self.members.values()
            if not (member.engine.jobs or member.kept or member.engine.state == "loading")  # somebody waits for that
        ]
        if not idle:
            raise overloaded(f"{self.limit} models are loaded and busy or served, which is the most")
        self.close(min(idle, key=lambda member: member.asked).name)
