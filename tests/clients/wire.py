"""HTTP with nothing between: requests as bytes or JSON, answers as they came, streams event by event."""

import http.client
import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from conftest import Address

SECONDS = 60


@dataclass(frozen=True)
class Reply:
    """A response; header names in small letters."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        """Return the error, which has OpenAI's four fields and no other."""
        assert set(self.json) == {"error"} and set(self.json["error"]) == {"message", "type", "param", "code"}
        return self.json["error"]

    @property
    def events(self) -> list[str]:
        """Return the data of all events."""
        assert self.headers["content-type"] == "text/event-stream; charset=utf-8" and self.body.endswith(b"\n\n")
        parts = self.body.decode("utf-8").removesuffix("\n\n").split("\n\n")
        return [part.removeprefix("data: ") for part in parts if not part.startswith(":")]


def call(address: Address, method: str, path: str, body: Any = None, **headers: str) -> Reply:
    """Send one request with the key; a body that is not bytes is sent as JSON."""
    data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    given = {"Authorization": f"Bearer {address.key}", "Content-Type": "application/json"}
    given |= {name.replace("_", "-"): value for name, value in headers.items()}
    connection = http.client.HTTPConnection("127.0.0.1", address.port, timeout=SECONDS)
    try:
        connection.request(method, path, data, given)
        return read(connection.getresponse())
    finally:
        connection.close()


def read(response: http.client.HTTPResponse) -> Reply:
    """Return a whole response."""
    headers = {name.lower(): value for name, value in response.getheaders()}
    return Reply(response.status, headers, response.read())


@contextmanager
def connected(address: Address) -> Iterator[socket.socket]:
    """Open a connection for bytes of any kind."""
    with socket.create_connection(("127.0.0.1", address.port), timeout=SECONDS) as connection:
        yield connection


def request(address: Address, body: bytes, *, path: str = "/v1/completions", head: str = "") -> bytes:
    """Return the bytes of a POST; `head` holds further header lines, and its length where it has to be told."""
    length = "" if "transfer-encoding" in head.lower() else f"Content-Length: {len(body)}\r\n"
    lines = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {address.key}\r\n"
    kind = "" if "content-type" in head.lower() else "Content-Type: application/json\r\n"
    return f"{lines}{kind}{length}{head}\r\n".encode() + body


def response_on(connection: socket.socket) -> Reply:
    """Read one response from a connection."""
    response = http.client.HTTPResponse(connection)
    response.begin()
    return read(response)
