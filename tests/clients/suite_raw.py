"""Bytes on a socket that no client library would send: each gets an answer, and the server goes on."""

import json
import socket
import time
from typing import Any

import pytest
from conftest import Address
from wire import Reply, call, connected, request, response_on

CHUNKED = "Transfer-Encoding: chunked\r\n"


@pytest.fixture(autouse=True)
def still_there(address: Address) -> Any:
    """Whatever a test sends, the next one finds a server that works."""
    yield
    assert call(address, "GET", "/ready").status == 200


@pytest.fixture
def body(address: Address) -> bytes:
    return json.dumps({"model": address.model, "prompt": "The mill", "max_tokens": 4, "temperature": 0}).encode()


def send(address: Address, data: bytes) -> Reply:
    """Send bytes and return the response."""
    with connected(address) as connection:
        connection.sendall(data)
        return response_on(connection)


def closed(connection: socket.socket) -> bool:
    """Tell whether the server ends the connection."""
    try:
        while connection.recv(65536):
            continue
    except ConnectionResetError:
        pass
    return True


def test_a_body_in_chunks(address: Address, body: bytes) -> None:
    pieces = [body[place : place + 7] for place in range(0, len(body), 7)]
    coded = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
    whole = send(address, request(address, body))
    chunked = send(address, request(address, coded, head=CHUNKED))
    assert whole.status == chunked.status == 200
    assert whole.json["choices"] == chunked.json["choices"]


@pytest.mark.parametrize("coded", [b"zz\r\nx", b"-5\r\nhello", b"f" * 22, b"5\r\nhelloworld"])
def test_chunks_that_are_none(address: Address, coded: bytes) -> None:
    assert send(address, request(address, coded + b"\r\n", head=CHUNKED)).status == 400


def test_a_slow_body_is_waited_for(address: Address, body: bytes) -> None:
    data = request(address, body)
    with connected(address) as connection:
        for place in range(0, len(data), 40):
            connection.sendall(data[place : place + 40])
            time.sleep(0.02)
        assert response_on(connection).status == 200


def test_two_requests_in_one_go(address: Address, body: bytes) -> None:
    with connected(address) as connection:
        connection.sendall(request(address, body) * 2)
        first, second = response_on(connection), response_on(connection)
    assert first.status == second.status == 200 and first.json["choices"] == second.json["choices"]


def test_one_that_has_said_all(address: Address, body: bytes) -> None:
    """A client that closes its sending side is taken for gone, as by most servers; nothing is left of its request."""
    with connected(address) as connection:
        connection.sendall(request(address, body))
        connection.shutdown(socket.SHUT_WR)
        assert closed(connection)
    until = time.monotonic() + 10
    while b"smelt_jobs 0.0" not in call(address, "GET", "/metrics").body:
        assert time.monotonic() < until
        time.sleep(0.05)


def test_half_a_body_and_gone(address: Address, body: bytes) -> None:
    with connected(address) as connection:
        connection.sendall(request(address, body)[:-5])
    with connected(address) as connection:
        connection.sendall(b"POST /v1/comple")


@pytest.mark.parametrize("size", [15 << 10, 17 << 10, 1 << 20])
def test_large_headers(address: Address, body: bytes, size: int) -> None:
    data = request(address, body, head=f"X-Large: {'x' * size}\r\n")
    with connected(address) as connection:
        try:
            connection.sendall(data)
            status = response_on(connection).status
        except (ConnectionResetError, BrokenPipeError):  # refused before all of it was sent
            status = 431
    assert status == 200 if size < 16 << 10 else status in (400, 431)


def test_many_headers(address: Address, body: bytes) -> None:
    head = "".join(f"X-{number}: {number}\r\n" for number in range(2000))
    assert send(address, request(address, body, head=head)).status in (400, 431)


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("text/plain", 415),
        ("application/x-www-form-urlencoded", 415),
        ("multipart/form-data; boundary=x", 415),
        ("application/jsonx", 415),
        ("application/json; charset=utf-8", 200),
        ("Application/JSON", 200),
    ],
)
def test_kinds_of_content(address: Address, body: bytes, kind: str, status: int) -> None:
    reply = send(address, request(address, body, head=f"Content-Type: {kind}\r\n"))
    assert reply.status == status
    assert status == 200 or "application/json" in reply.error["message"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b'{"model": "tiny", "prompt": "a", "prompt": "b"}', "one key twice"),
        (b'{"model": "tiny", "prompt": "a", "temperature": NaN}', "NaN"),
        (b'{"model": "tiny", "prompt": "a", "temperature": Infinity}', "Infinity"),
        (b'{"model": "tiny", "prompt": "a", "temperature": -Infinity}', "Infinity"),
        (b'{"model": "tiny", "prompt": "a", "temperature": 1e400}', "temperature"),
        (b'{"model": "tiny", "prompt": "\\ud83d"}', "surrogate"),
        (b'{"model": "tiny", "prompt": "\\udc00\\ud800"}', "surrogate"),
        (b'{"model": "tiny", "prompt": "\xff"}', "UTF-8"),
        (b'\xef\xbb\xbf{"model": "tiny", "prompt": "a"}', "JSON"),
        (b'{"model": "tiny", "prompt": "a"} {}', "JSON"),
        (b'{"model": "tiny", "prompt": "a",}', "JSON"),
        (b"{" * 100_000, "JSON"),
        (b'{"a":' * 100_000, "nested"),
        (b'{"model": "tiny", "prompt": "a", "seed": ' + b"1" * 10_000 + b"}", "JSON"),
        (b'["model"]', "an array"),
        (b"", "JSON"),
    ],
)  # fmt: skip
def test_bodies_that_are_no_json(address: Address, text: bytes, words: str) -> None:
    reply = send(address, request(address, text))
    assert reply.status == 400 and words in reply.error["message"] and reply.error["type"] == "invalid_request_error"


def test_whole_pairs_of_surrogates_are_characters(address: Address, body: bytes) -> None:
    text = body.replace(b'"The mill"', b'"\\ud83d\\ude00"')
    plain = body.replace(b'"The mill"', '"\N{GRINNING FACE}"'.encode())
    escaped, direct = (send(address, request(address, data)).json["choices"] for data in (text, plain))
    assert escaped == direct


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # TLS
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET /\r\n\r\n",
        b"\r\n\r\n\r\nnothing\r\n\r\n",
        b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX: a\x00b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost localhost\r\n\r\n",
    ],
)
def test_what_is_no_http(address: Address, data: bytes) -> None:
    reply = send(address, data)
    assert 400 <= reply.status < 506 and reply.status != 500


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
    ],
)
def test_hosts_that_are_not_ours(address: Address, data: bytes) -> None:
    assert send(address, data).status == 400


def test_a_length_and_chunks_at_once(address: Address, body: bytes) -> None:
    """Two ways to say where a body ends: the chunks are right, as the standard has it."""
    coded = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
    reply = send(address, request(address, coded, head=f"{CHUNKED}Content-Length: 3\r\n"))
    assert reply.status == 200 and reply.json["choices"]


def test_paths_and_methods(address: Address) -> None:
    assert call(address, "GET", "/v1/completions").status == 405
    assert call(address, "DELETE", "/v1/models").status == 405
    assert call(address, "GET", "/v1/../etc/passwd").error["code"] == "not_found"
    assert call(address, "GET", "/v1/models/%00").status == 404
    assert call(address, "GET", "/" + "a" * 10_000).status == 404
    assert call(address, "GET", "/v1/models", Authorization="Basic x").status == 401
