"""A `smelt serve` process under load, and a client that says what happened to each of its requests.

The client speaks HTTP by hand, because what is measured is when bytes come, and because it must be able to leave in
the middle of anything.
"""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

START_SECONDS = 300  # the first step on a machine that has never compiled one
NAME = "served"


@dataclass
class Answer:
    """What came of a request; `status` 0: no answer at all."""

    status: int = 0
    text: str = ""
    finish_reason: str | None = None
    first_seconds: float = 0.0  # until the first text
    seconds: float = 0.0  # until the end
    retry_after: str | None = None

    @property
    def whole(self) -> bool:
        """Tell whether the answer was written to its end."""
        return self.status == 200 and self.finish_reason in ("stop", "length")


def make_checkpoint(directory: Path) -> None:
    """Write a random model, large enough that its steps are work and small enough for any machine."""
    import torch

    import smelt
    from smelt.models.build import build
    from smelt.models.families import Shape, spec_for
    from smelt.tokenizers.bpe_train import train_bpe

    tokenizer = train_bpe([], vocab_size=259)
    shape = Shape(vocab_size=259, dim=256, num_layers=4, num_heads=8, num_kv_heads=4, max_seq_len=1024)
    model = build(spec_for("llama", shape), seed=1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter *= 4 if parameter.ndim == 2 else 1  # else every prompt has the same dull answer
    smelt.save(model, tokenizer, directory)


@dataclass(frozen=True)
class Served:
    """A server that takes requests."""

    port: int
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def resident_bytes(self) -> int:
        """Return the memory that the process has."""
        return int(psutil.Process(self.process.pid).memory_info().rss)

    def family(self) -> list[psutil.Process]:
        """Return the process and all that it started."""
        own = psutil.Process(self.process.pid)
        return [own, *own.children(recursive=True)]


@contextmanager
def served(checkpoint: str, folder: Path, *options: str) -> Iterator[Served]:
    """Run a server until the block ends; raises RuntimeError with its log when it does not come up."""
    log = folder / f"serve-{time.monotonic_ns()}.log"
    words = [sys.executable, "-m", "smelt.cli.main", "serve", checkpoint, "--port", "0", "--name", NAME, *options]
    with log.open("w") as stderr:
        process = subprocess.Popen(words, stderr=stderr, stdout=subprocess.DEVNULL)
    try:
        until = time.monotonic() + START_SECONDS
        while f"ready: {NAME}" not in log.read_text():
            if process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"the server did not come up\n{log.read_text()[-4000:]}")
            time.sleep(0.05)
        found = re.search(r"http://127\.0\.0\.1:(\d+)", log.read_text())
        assert found is not None
        yield Served(int(found[1]), process, log)
    finally:
        process.kill()
        process.wait()


async def read_head(reader: asyncio.StreamReader) -> tuple[int, dict[str, str]]:
    """Return the status and the headers of a response; raises ConnectionError where none comes."""
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    except asyncio.IncompleteReadError as error:
        raise ConnectionResetError("closed before an answer") from error
    pairs = (line.partition(":") for line in head[1:] if line)
    return int(head[0].split()[1]), {name.lower(): value.strip() for name, _, value in pairs}


async def read_body(reader: asyncio.StreamReader, headers: dict[str, str]) -> AsyncIterator[bytes]:
    """Yield the pieces of a body as they come."""
    if headers.get("transfer-encoding") != "chunked":
        yield await reader.readexactly(int(headers["content-length"]))
        return
    while size := int(await reader.readline(), 16):
        yield await reader.readexactly(size)
        await reader.readexactly(2)
    await reader.readline()


async def exchange(port: int, method: str, path: str, body: Any, answer: Answer) -> bytes:
    """Send a request and return the body of its answer; fills in what is known of it on the way."""
    data = b"" if body is None else json.dumps(body).encode()
    head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {len(data)}\r\n"
    started = time.perf_counter()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(head.encode() + b"Content-Type: application/json\r\n\r\n" + data)
        answer.status, headers = await read_head(reader)
        answer.retry_after = headers.get("retry-after")
        found = b""
        async for piece in read_body(reader, headers):
            if not answer.first_seconds and re.search(rb'"text":"[^"]', piece):
                answer.first_seconds = time.perf_counter() - started
            found += piece
        return found
    finally:
        answer.seconds = time.perf_counter() - started
        writer.close()


async def ask(port: int, **body: Any) -> Answer:
    """Ask for a completion and return what came of it; a stream is read to its end."""
    answer = Answer()
    with suppress(ConnectionError, asyncio.IncompleteReadError):
        found = await exchange(port, "POST", "/v1/completions", {"model": NAME, **body}, answer)
        if answer.status == 200 and body.get("stream"):
            read_events(found, answer)
        elif answer.status == 200:
            (choice,) = json.loads(found)["choices"]
            answer.text, answer.finish_reason = choice["text"], choice["finish_reason"]
    return answer


def read_events(found: bytes, answer: Answer) -> None:
    """Take an answer's text from a stream; without the closing mark it has no end."""
    events = [event.removeprefix("data: ") for event in found.decode().split("\n\n") if event.startswith("data: ")]
    if not events or events.pop() != "[DONE]":
        return
    choices = [json.loads(event)["choices"][0] for event in events]
    answer.text = "".join(choice["text"] for choice in choices)
    answer.finish_reason = choices[-1]["finish_reason"]


async def get(port: int, path: str) -> tuple[Answer, bytes]:
    """Ask for a path and return what came, and its body."""
    answer = Answer()
    found = b""
    with suppress(ConnectionError, asyncio.IncompleteReadError):
        found = await exchange(port, "GET", path, None, answer)
    return answer, found


async def gauges(port: int) -> dict[str, float]:
    """Return the values at /metrics that have no label."""
    _, text = await get(port, "/metrics")
    return {name: float(value) for name, value in re.findall(r"^(smelt_\w+) (\S+)$", text.decode(), re.MULTILINE)}


async def until_idle(port: int, seconds: float) -> dict[str, float]:
    """Wait until nothing is under way and return the gauges; those of a server that is not idle in time as well."""
    until = time.monotonic() + seconds
    while (found := await gauges(port)) and (found["smelt_jobs"] or found["smelt_running"] or found["smelt_waiting"]):
        if time.monotonic() > until:
            break
        await asyncio.sleep(0.01)
    return found
