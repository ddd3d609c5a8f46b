"""Clients that leave, queues that are full, faults, and ends: nothing stays behind, and nobody waits in vain."""

import http.client
import json
import signal
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from .conftest import COMPILING_SECONDS, CONTEXT, NAME, Live, Watched, eventually

NEVER_ENDS = {"256": -100, "257": -100, "258": -100}  # the marks of a byte tokenizer
LONG = {"model": NAME, "prompt": "x", "max_tokens": CONTEXT, "logit_bias": NEVER_ENDS}


def read_until(connection: socket.socket, mark: bytes) -> bytes:
    """Return what arrives up to a mark, or to the end."""
    data = b""
    while mark not in data and (piece := connection.recv(65536)):
        data += piece
    return data


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("when", ["at once", "while it is written"])
def test_a_client_that_leaves_frees_the_engine(live: Live, stream: bool, when: str) -> None:
    Watched.seconds = 0.05
    connection = live.open("/v1/completions", {**LONG, "stream": stream, "n": 2})
    if when != "at once":
        assert eventually(lambda: live.engine.num_running == 2)
    connection.close()
    started = time.monotonic()
    assert eventually(live.idle)
    assert time.monotonic() - started < 2, "a whole answer takes 8 seconds"
    assert live.engine.num_free_pages == live.engine.num_pages
    live.engine.check_integrity()


def test_one_that_waits_in_the_queue_and_leaves(live: Live) -> None:
    Watched.seconds = 0.02
    first = live.open("/v1/completions", {**LONG, "n": 4})
    assert eventually(lambda: live.engine.num_running == 4)
    second = live.open("/v1/completions", LONG)
    assert eventually(lambda: live.engine.num_waiting == 1)
    second.close()
    assert eventually(lambda: live.engine.num_waiting == 0)
    assert live.engine.num_running == 4
    first.close()


def test_too_many_are_told_so_at_once(live: Live) -> None:
    Watched.seconds = 0.05
    held = [live.open("/v1/completions", {**LONG, "n": 4}) for _ in range(2)]
    assert eventually(lambda: live.engine.num_running == 4 and live.engine.num_waiting == 4)
    started = time.monotonic()
    reply = live.post("/v1/completions", **LONG)
    assert reply.status == 429 and reply.error["code"] == "server_overloaded"
    assert reply.error["type"] == "rate_limit_exceeded" and int(reply.headers["retry-after"]) >= 1
    assert time.monotonic() - started < 0.5, "it waits for no step of the engine"
    for connection in held:
        connection.close()
    assert eventually(live.idle)
    Watched.seconds = 0
    assert live.post("/v1/completions", **LONG).status == 200


def test_the_clients_retry_what_is_worth_it(live: Live) -> None:
    openai = pytest.importorskip("openai")
    Watched.seconds = 0.02
    held = [live.open("/v1/completions", {**LONG, "n": 4}) for _ in range(2)]
    assert eventually(lambda: live.engine.num_waiting == 4)
    threading.Timer(0.3, lambda: [connection.close() for connection in held]).start()
    with openai.OpenAI(base_url=f"{live.url}/v1", api_key="none", max_retries=3) as client:
        assert client.completions.create(model=NAME, prompt="x", max_tokens=1).choices


def test_a_silent_stream_is_kept_open_by_comments(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("smelt.serve.streaming.PING_SECONDS", 0.05)
    Watched.seconds = 0.3
    connection = live.open("/v1/completions", {**LONG, "max_tokens": 2, "stream": True})
    data = read_until(connection, b"[DONE]\n\n")
    head, _, events = data.partition(b"\r\n\r\n")
    assert b": ping\n\n" in events
    assert b"content-type: text/event-stream; charset=utf-8" in head.lower()
    assert b"cache-control: no-store" in head.lower() and b"x-accel-buffering: no" in head.lower()
    connection.close()


def test_every_event_is_data_and_a_blank_line(live: Live) -> None:
    reply = live.call("POST", "/v1/completions", {**LONG, "max_tokens": 3, "stream": True})
    events = reply.body.decode().split("\n\n")
    assert events[-2:] == ["data: [DONE]", ""]
    for event in events[:-2]:
        assert event.startswith("data: ") and "\n" not in event
        assert json.loads(event[6:])["object"] == "text_completion"


def test_one_that_waits_too_long_gives_up(start: Callable[..., Live]) -> None:
    live = start()
    live.server.engine.deadline_seconds = 0.1
    Watched.seconds = 0.05
    try:
        first = live.open("/v1/completions", {**LONG, "n": 4})
        assert eventually(lambda: live.engine.num_running == 4)
        reply = live.post("/v1/completions", **LONG)
        assert reply.status == 503 and reply.error["code"] == "server_overloaded" and reply.headers["retry-after"]
        first.close()
        assert eventually(live.idle)
    finally:
        Watched.seconds = 0


def test_while_it_loads_it_says_so(start: Callable[..., Live]) -> None:
    gate = threading.Event()
    live = start(wait=False, before=gate.wait)
    assert live.get("/health").json == {"status": "loading"}
    for reply in (live.get("/ready"), live.post("/v1/completions", **LONG), live.get("/v1/models")):
        assert reply.status == 503 and reply.error["code"] == "server_loading" and reply.headers["retry-after"]
    assert live.get("/").status == 200
    gate.set()
    assert eventually(lambda: live.get("/ready").status == 200, COMPILING_SECONDS)


def test_a_model_that_cannot_be_loaded_ends_the_server(start: Callable[..., Live]) -> None:
    def broken() -> None:
        raise OSError("no such weights")

    live = start(wait=False, before=broken)
    live.thread.join(10)
    assert not live.thread.is_alive() and "no such weights" in str(live.server.engine.failure)


def drain(live: Live) -> None:
    """Do what the first signal does, on the server's own thread."""
    live.server.engine._loop.call_soon_threadsafe(live.server.handle_exit, signal.SIGTERM, None)


def test_a_drain_lets_answers_finish_and_takes_no_new_ones(start: Callable[..., Live]) -> None:
    live = start(drain_seconds=20)
    Watched.seconds = 0.01
    found: list[Any] = []
    asking = threading.Thread(target=lambda: found.append(live.post("/v1/completions", **{**LONG, "max_tokens": 60})))
    asking.start()
    try:
        assert eventually(lambda: live.engine.num_running == 1)
        drain(live)
        assert eventually(lambda: live.server.engine.draining)
        for reply in (live.get("/ready"), live.post("/v1/completions", **LONG)):
            assert reply.status == 503 and reply.error["code"] == "server_draining" and reply.headers["retry-after"]
        assert live.get("/health").json == {"status": "draining"}
        asking.join(20)
        assert found[0].status == 200 and found[0].json["usage"]["completion_tokens"] == 60
        live.thread.join(10)
        assert not live.thread.is_alive()
    finally:
        Watched.seconds = 0


def test_a_drain_cuts_what_takes_too_long(start: Callable[..., Live]) -> None:
    live = start(drain_seconds=0.3)
    Watched.seconds = 0.05
    found: list[Any] = []
    asking = threading.Thread(target=lambda: found.append(live.post("/v1/completions", **LONG)))
    asking.start()
    try:
        stream = live.open("/v1/chat/completions", {
            "model": NAME, "messages": [{"role": "user", "content": "x"}], "logit_bias": NEVER_ENDS, "stream": True,
        })  # fmt: skip
        assert eventually(lambda: live.engine.num_running == 2)
        drain(live)
        data = read_until(stream, b"[DONE]")
        assert b'"finish_reason":"length"' in data and b"data: [DONE]" in data
        asking.join(10)
        (choice,) = found[0].json["choices"]
        assert choice["finish_reason"] == "length" and 0 < len(choice["text"]) < CONTEXT
        live.thread.join(10)
        assert not live.thread.is_alive()
        stream.close()
    finally:
        Watched.seconds = 0


def test_a_log_that_nobody_reads_stops_nothing(start: Callable[..., Live], monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(_: str) -> None:
        raise BrokenPipeError

    live = start()
    monkeypatch.setattr("smelt.serve.errors.say", gone)
    Watched.fault = RuntimeError("x")
    assert live.post("/v1/completions", **LONG).status == 500
    assert live.post("/v1/completions", **{**LONG, "max_tokens": 1}).status == 200
    drain(live)
    live.thread.join(10)
    assert not live.thread.is_alive()


def test_a_second_signal_does_not_wait(start: Callable[..., Live]) -> None:
    live = start(drain_seconds=100)
    Watched.seconds = 0.05
    try:
        stream = live.open("/v1/completions", {**LONG, "stream": True})
        assert eventually(lambda: live.engine.num_running == 1)
        started = time.monotonic()
        drain(live)
        assert eventually(lambda: live.server.engine.draining)
        drain(live)
        assert b'"finish_reason":"length"' in read_until(stream, b"[DONE]")
        live.thread.join(10)
        assert not live.thread.is_alive() and time.monotonic() - started < 5
        stream.close()
    finally:
        Watched.seconds = 0


def test_a_connection_that_says_nothing_is_closed(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("smelt.serve.run.HEADER_SECONDS", 0.1)
    with socket.create_connection(("127.0.0.1", live.port), timeout=10) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: loc")
        assert connection.recv(100) == b""


def test_a_header_has_a_size(live: Live) -> None:
    line = b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * (17 << 10)
    with socket.create_connection(("127.0.0.1", live.port), timeout=10) as connection:
        connection.sendall(line)
        assert connection.recv(100).startswith(b"HTTP/1.1 400"), "before its end is seen"
    assert live.get("/health", X=" " + "x" * (8 << 10), Y="y" * (9 << 10)).status in (400, 431)


def test_answers_on_one_connection_do_not_wait_for_acknowledgements(live: Live) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", live.port, timeout=30)
    seconds = []
    for _ in range(9):
        started = time.monotonic()
        connection.request("GET", "/health")
        connection.getresponse().read()
        seconds.append(time.monotonic() - started)
    connection.close()
    assert sorted(seconds)[4] < 0.03, "Nagle's delay is 0.04"
