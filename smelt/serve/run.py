"""The process of the server: its socket, its signals, its end.

SIGTERM or Ctrl-C drains: the server goes on to listen, so that a balancer sees `/ready` fail, refuses new work, gives
what is under way some time, ends it where it is and exits with 0. A second signal does not wait. A server that other
machines can reach needs keys: without, anyone could use it.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Callable, Collection, Sequence
from types import FrameType
from typing import TYPE_CHECKING, Any, Protocol

from smelt.core.errors import ResourceError, UsageError
from smelt.core.extras import need
from smelt.core.log import say
from smelt.infer import EngineSettings
from smelt.serve.app import make_app
from smelt.serve.errors import log
from smelt.serve.guard import HEADER_BYTES, Guard
from smelt.serve.keys import Keys
from smelt.serve.loop import EngineLoop
from smelt.serve.prepare import Served
from smelt.serve.store.database import Store

if TYPE_CHECKING:
    import uvicorn
    from uvicorn.protocols.http.h11_impl import H11Protocol
else:
    uvicorn = need("uvicorn", extra="serve")
    H11Protocol = need("uvicorn.protocols.http.h11_impl", extra="serve").H11Protocol

HEADER_SECONDS = 20.0
KEEP_ALIVE_SECONDS = 20
BACKLOG = 2048
IDLE_CONNECTIONS = 1024  # beyond the requests under way
CLOSING_SECONDS = 5  # for what is still to be sent after the drain


class Connection(H11Protocol):
    """A connection that must bring its first request in time."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin, and look again later."""
        super().connection_made(transport)
        self.loop.call_later(HEADER_SECONDS, self.close_if_silent)

    def close_if_silent(self) -> None:
        """Close a connection on which no request has begun."""
        if self.cycle is None:
            self.transport.close()


class Draining(Protocol):
    """What does the work of a server, and can end: one engine, or several."""

    @property
    def failure(self) -> BaseException | None:
        """Return why there is nothing to wait for."""

    @property
    def jobs(self) -> Collection[Any]:
        """Return what is under way."""

    async def drain(self, seconds: float) -> None:
        """Take nothing new and end in some time."""


class Server(uvicorn.Server):
    """A server whose signals drain it.

    Args:
        engine: is drained.
        drain_seconds: what requests under way are given.
    """

    def __init__(self, config: uvicorn.Config, engine: Draining, drain_seconds: float) -> None:
        super().__init__(config)
        self.engine, self.drain_seconds = engine, drain_seconds
        self._end: asyncio.Task[None] | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Drain at the first signal, end at the second."""
        asyncio.get_running_loop().call_soon_threadsafe(self.end)

    def end(self) -> None:
        """Begin to drain; where that was asked before, or there is no engine, give nobody any more time."""
        seconds = self.drain_seconds if self._end is None and self.engine.failure is None else 0
        if self._end is not None:
            self._end.cancel()
        self._end = asyncio.get_running_loop().create_task(self._drain(seconds))

    async def _drain(self, seconds: float) -> None:
        log(f"draining {len(self.engine.jobs)} requests, at most {seconds:g} seconds")
        await self.engine.drain(seconds)
        self.should_exit = True


def check_bind(host: str, keys: Keys | None) -> None:
    """Raise UsageError for an address that others can reach where no key is asked for."""
    try:
        loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = host == "localhost"
    if not loopback and keys is None:
        raise UsageError(
            f"--host {host} lets other machines in, and nothing asks them for a key",
            accepted="127.0.0.1, or a --store or a file of --keys that holds one",
            fix="smelt keys create NAME --store FILE",
        )


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket; raises ResourceError where there is none to be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Asyncio turns Nagle's delay off, 40 ms a response, on sockets whose protocol is said to be TCP, and on no others.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(BACKLOG)
        return listening
    except OSError as error:
        listening.close()
        raise ResourceError(f"{host}:{port}: {error.strerror}", fix="another --host or --port") from error


def make_server(
    load: Callable[[], Served],
    *,
    settings: EngineSettings,
    keys: Keys | None = None,
    store: Store | None = None,
    hosts: Sequence[str] = (),
    drain_seconds: float = 30,
) -> Server:
    """Return a server that loads its model as soon as it runs."""
    engine = EngineLoop(load, settings)
    made: list[Server] = []
    app = make_app(engine, keys=keys, store=store, hosts=hosts, on_failure=lambda: made[0].end())
    made.append(Server(make_config(app, engine.capacity), engine, drain_seconds))
    return made[0]


def make_config(app: Guard, capacity: int) -> uvicorn.Config:
    """Return how an application is served that has so many requests under way at most."""
    return uvicorn.Config(
        app,
        http=Connection,
        ws="none",
        loop="asyncio",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        h11_max_incomplete_event_size=HEADER_BYTES,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        limit_concurrency=capacity + IDLE_CONNECTIONS,
        timeout_graceful_shutdown=CLOSING_SECONDS,
    )


def serve(load: Callable[[], Served], *, host: str, port: int, keys: Keys | None, **settings: Any) -> None:
    """Serve a model until a signal ends it; `settings` are those of `make_server`.

    Raises:
        UsageError: others could reach the server without a key.
        ResourceError: the port is taken.
        Exception: what kept the model from being loaded, or an engine from being made.
    """
    check_bind(host, keys)
    run_server(make_server(load, keys=keys, **settings), host, port)


def run_server(server: Server, host: str, port: int) -> None:
    """Listen and serve until a signal ends it; raises like `serve`."""
    with listen(host, port) as listening:
        name = f"[{host}]" if ":" in host else host
        say(f"serving at http://{name}:{listening.getsockname()[1]} (Ctrl-C ends)")
        server.run(sockets=[listening])
    if server.engine.failure is not None:
        raise server.engine.failure
