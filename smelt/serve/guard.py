"""What stands before the routes: hosts, origins, request ids, headers, the log, and the last word on a fault.

A browser on this machine reaches a loopback port too, so a page from elsewhere must not be able to use it. Its requests
name another origin, and with a name that was bound anew to 127.0.0.1 another host; both are refused.

Ref: DNS rebinding and cross-site requests: OWASP.
"""

from __future__ import annotations

import ipaddress
import json
import re
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from smelt.serve.errors import ApiError, fault, log, traced
from smelt.serve.streaming import Gone, to_json

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
HEADER_BYTES = 16 << 10
HEADERS = {
    "content-security-policy": "default-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
    "frame-ancestors 'none'; object-src 'none'; base-uri 'none'; form-action 'self'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
}


class Guard:
    """An ASGI application around another one.

    Args:
        app: what answers.
        hosts: the names by which this server may be called, besides localhost and addresses.
        on_done: is told the route, the status and the seconds of each request.
    """

    def __init__(self, app: ASGIApp, *, hosts: Iterable[str], on_done: Callable[[str, int, float], None]) -> None:
        self.app, self.on_done = app, on_done
        self.hosts = frozenset({"localhost", *(host.lower() for host in hosts)})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, whatever happens."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers: dict[str, str] = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        request_id, started, status = self.request_id(headers), time.perf_counter(), 0
        scope.setdefault("state", {})["request_id"] = request_id

        async def send_more(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                more = {**HEADERS, "x-request-id": request_id}
                encoded = [(name.encode(), value.encode()) for name, value in more.items()]
                message = {**message, "headers": [*message["headers"], *encoded]}
            await send(message)

        try:
            if sum(len(name) + len(value) for name, value in scope["headers"]) > HEADER_BYTES:
                raise ApiError(431, f"the headers have more than {HEADER_BYTES:,} bytes")
            self.check_origin(headers)
            await self.app(scope, receive, send_more)
        except Gone:
            status = 499  # nobody reads it; the log says so in the way of proxies
        except ApiError as error:
            await respond(error, send_more)
        except Exception as error:
            log(f"request {request_id} failed\n{traced(error)}")
            if not status:
                await respond(fault(request_id), send_more)
        seconds = time.perf_counter() - started
        self.on_done(getattr(scope.get("route"), "path", "other"), status, seconds)
        self.log(request_id, scope, status, seconds)

    @staticmethod
    def request_id(headers: Mapping[str, str]) -> str:
        """Return the caller's id where it is a plain one, else a new one."""
        given = headers.get("x-request-id", "")
        return given if REQUEST_ID.fullmatch(given) else uuid.uuid4().hex

    def check_origin(self, headers: Mapping[str, str]) -> None:
        """Raise ApiError for a request that was meant for another host, or comes from a page of another one."""
        host = headers.get("host", "")
        if not self.knows(host):
            raise ApiError(400, "this server does not go by that Host; --allowed-host adds a name", code="invalid_host")
        origin = headers.get("origin")
        if origin is not None and origin.partition("://")[2].lower() != host.lower():
            raise ApiError(403, "pages of other origins may not use this server", kind="permission_error")

    def knows(self, host: str) -> bool:
        """Tell whether a Host header names this server; an address cannot be bound anew, so any will do."""
        name = re.sub(r":\d{1,5}$", "", host).lower()
        try:
            ipaddress.ip_address(name[1:-1] if name.startswith("[") and name.endswith("]") else name)
        except ValueError:
            return name in self.hosts
        return True

    @staticmethod
    def log(request_id: str, scope: Scope, status: int, seconds: float) -> None:
        """Write one line of JSON, in ASCII, so that no request can write a line of its own; no prompt, no key."""
        line: dict[str, Any] = {"request": request_id, "method": scope["method"], "path": scope["path"][:256]}
        log(json.dumps({**line, "status": status, "ms": round(seconds * 1000, 1)}))


async def respond(error: ApiError, send: Send) -> None:
    """Send an error as a whole response."""
    headers = {"content-type": "application/json", **error.headers}
    encoded = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": error.status, "headers": encoded})
    await send({"type": "http.response.body", "body": to_json(error.body)})
