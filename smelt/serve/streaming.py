"""Answers as server-sent events, and work that ends when its client goes.

Each event is `data: ` and one JSON object; the last is `data: [DONE]`, unless something failed on the way: then it is
the error, for a stream never ends without a word. While nothing is written, comments (`: ping`) keep proxies patient.

Ref: the contract of section "Streaming" in OpenAI's API reference; comments: HTML standard, 9.2.6.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from smelt.core.extras import need
from smelt.serve.answers import Answers
from smelt.serve.errors import ApiError, fault, log, traced
from smelt.serve.loop import Job, Step

if TYPE_CHECKING:
    from fastapi import Response
    from starlette.types import Receive, Scope, Send
else:
    Response = need("fastapi", extra="serve").Response

PING_SECONDS = 15.0
PING = b": ping\n\n"
WRITE_SECONDS = 60.0  # a client that reads nothing for so long is taken for gone
ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))
Result = TypeVar("Result")


class Gone(Exception):
    """The client has closed its connection."""


async def unless_gone(receive: Receive, work: Coroutine[Any, Any, Result]) -> Result:
    """Do work for a client whose body has been read; raises Gone, and cancels the work, when the client goes first."""
    tasks = asyncio.ensure_future(work), asyncio.ensure_future(departure(receive))
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if tasks[0].done():
            return tasks[0].result()
        raise Gone
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def departure(receive: Receive) -> None:
    """Return when the client has gone."""
    while (await receive())["type"] != "http.disconnect":
        continue


def to_json(value: Any) -> bytes:
    """Return JSON in UTF-8."""
    return ENCODER.encode(value).encode("utf-8")


def event(value: Any) -> bytes:
    """Return one event."""
    return b"data: " + to_json(value) + b"\n\n"


class Closes(Protocol):
    """What is under way and can be ended."""

    def close(self) -> None:
        """End it, finished or not."""


class EventStream(Response):
    """A response that sends what a job writes while it writes it, and closes the job in any case.

    Args:
        job: what writes; it has begun.
        events: what is sent, an event or more at a time.
        headers: further ones.
    """

    def __init__(self, job: Closes, events: AsyncIterator[bytes], headers: Mapping[str, str]) -> None:
        self.job, self.events = job, events
        always = {"cache-control": "no-store", "x-accel-buffering": "no"}
        super().__init__(headers={**always, **headers}, media_type="text/event-stream; charset=utf-8")
        del self.headers["content-length"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send everything; raises Gone when the client does not wait for it."""
        try:
            await unless_gone(receive, self._send_all(send))
        finally:
            self.job.close()

    async def _send_all(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        async for data in self.events:
            try:
                async with asyncio.timeout(WRITE_SECONDS):
                    await send({"type": "http.response.body", "body": data, "more_body": True})
            except TimeoutError:
                raise Gone from None
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def heard(job: Job) -> list[Step] | None:
    """Return what was written since the last call, None after a while without anything; raises ApiError as `next`."""
    try:
        async with asyncio.timeout(PING_SECONDS):
            return await job.next()
    except TimeoutError:
        return None


async def sent(job: Job, answers: Answers, note: Callable[[Sequence[Step]], None]) -> AsyncIterator[bytes]:
    """Yield the events of a completion; `note` is told all steps."""
    try:
        while not answers.done:
            steps = await heard(job)
            if steps is None:
                yield PING
                continue
            note(steps)
            data = [event(answers.chunk(piece)) for step in steps for piece in answers.take(step)]
            if data:
                yield b"".join(data)
        if answers.request.wants_usage:
            yield event(answers.chunk())
        yield b"data: [DONE]\n\n"
    except ApiError as error:
        yield event(error.body)
    except Exception as error:
        log(f"request {job.request_id} failed\n{traced(error)}")
        yield event(fault(job.request_id).body)
