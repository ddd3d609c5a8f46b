"""What /v1/responses writes: the events of a response, of which a whole one is the last.

Each event says its type and its number. A stream begins with the response as it stands, builds up its items piece by
piece, one after the other, and ends with the response as it is: completed, incomplete where its tokens ran out, or
failed. One that is to be kept is on the disk before its client is told that it is complete.

Ref: OpenAI's API reference, responses, streaming events.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from typing import Any

from smelt.serve.answers import Answers
from smelt.serve.errors import ApiError, fault, log, traced
from smelt.serve.loop import Job, Step
from smelt.serve.protocol import Named
from smelt.serve.response_items import Event, WrittenCall, WrittenMessage
from smelt.serve.responses import Json, ResponseRequest
from smelt.serve.streaming import PING, event, heard


class Reply:
    """A response while it is written.

    Args:
        request: asks for it.
        answers: makes the pieces of its items, as for a chat.
        keep: is told the items of a complete one; None: it is not kept.
    """

    def __init__(
        self, request: ResponseRequest, answers: Answers, keep: Callable[[Reply], Awaitable[None]] | None
    ) -> None:
        self.request, self.answers, self.keep = request, answers, keep
        self.id, self.created, self.finish_reason = f"resp_{uuid.uuid4().hex}", int(time.time()), ""
        self.items: list[WrittenMessage | WrittenCall] = []
        self._num_events = 0

    async def events(self, job: Job, note: Callable[[Sequence[Step]], None]) -> AsyncIterator[Json | None]:
        """Yield the events, and None after a while without one; raises ApiError when the job failed."""
        for name in ("response.created", "response.in_progress"):
            yield self._event(name, response=self.response("in_progress"))
        if not self.answers.may_call:  # a message it is, whatever comes
            for made in self._open(WrittenMessage()):
                yield made
        while not self.answers.done:
            steps = await heard(job)
            if steps is None:
                yield None
                continue
            note(steps)
            for piece in (piece for step in steps for piece in self.answers.take(step)):
                self.finish_reason = piece["finish_reason"]
                for made in self._take(piece["delta"]):
                    yield made
        for made in self._close():
            yield made
        if self.keep is not None:
            await self.keep(self)
        yield self._event(f"response.{self.status}", response=self.response(self.status))

    @property
    def status(self) -> str:
        """Return how it ended."""
        return "incomplete" if self.finish_reason == "length" else "completed"

    def failed(self, error: ApiError) -> Json:
        """Return the event of a failure."""
        code = "rate_limit_exceeded" if error.status == 429 else "server_error"
        return self._event(
            "response.failed", response=self.response("failed", error={"code": code, "message": error.message})
        )

    def output(self) -> list[Json]:
        """Return the items."""
        return [item.item() for item in self.items]

    def response(self, status: str, error: Json | None = None) -> Json:
        """Return the response as it stands."""
        asked, done = self.request, status in ("completed", "incomplete")
        choice = asked.tool_choice
        return {
            "id": self.id,
            "object": "response",
            "created_at": self.created,
            "status": status,
            "error": error,
            "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
            "instructions": asked.instructions,
            "max_output_tokens": asked.max_output_tokens,
            "metadata": asked.metadata or {},
            "model": self.answers.model,
            "output": self.output() if done else [],
            "parallel_tool_calls": asked.parallel_tool_calls is not False,
            "previous_response_id": asked.previous_response_id,
            "store": self.keep is not None,
            "temperature": 1.0 if asked.temperature is None else asked.temperature,
            "text": {"format": asked.form.model_dump(by_alias=True, exclude_unset=True)},
            "tool_choice": {"type": "function", "name": choice.name} if isinstance(choice, Named) else choice or "auto",
            "tools": [tool.model_dump() for tool in asked.tools or ()],
            "top_p": 1.0 if asked.top_p is None else asked.top_p,
            "truncation": "disabled",
            "usage": self.usage() if done else None,
        }

    def usage(self) -> Json:
        """Count the tokens, under the names that they have here."""
        found = self.answers.usage()
        cached = found["prompt_tokens_details"]["cached_tokens"]
        return {
            "input_tokens": found["prompt_tokens"],
            "input_tokens_details": {"cached_tokens": cached, "cache_write_tokens": 0},
            "output_tokens": found["completion_tokens"],
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": found["total_tokens"],
        }

    def _take(self, delta: Json) -> Iterator[Json]:
        """Add what a piece of a chat adds: to the item that is open, or to a new one."""
        if text := delta.get("content"):
            if not self.items or isinstance(self.items[-1], WrittenCall):
                yield from self._open(WrittenMessage())
            yield from self._of_last(self.items[-1].add(text))
        for call in delta.get("tool_calls", ()):
            if "id" in call:
                yield from self._open(WrittenCall(call["id"], call["function"]["name"]))
            else:
                yield from self._of_last(self.items[-1].add(call["function"]["arguments"]))

    def _open(self, item: WrittenMessage | WrittenCall) -> Iterator[Json]:
        """Begin an item behind the one before it."""
        if self.items:
            yield from self._of_last(self.items[-1].end(cut=False))
        self.items.append(item)
        yield from self._of_last(item.begin())

    def _close(self) -> Iterator[Json]:
        """End the last item; an answer of nothing is an empty message."""
        if not self.items:
            yield from self._open(WrittenMessage())
        yield from self._of_last(self.items[-1].end(cut=self.status == "incomplete"))

    def _of_last(self, events: Iterable[Event]) -> Iterator[Json]:
        for name, values in events:
            yield self._event(f"response.{name}", output_index=len(self.items) - 1, **values)

    def _event(self, name: str, /, **values: Any) -> Json:
        made = {"type": name, "sequence_number": self._num_events, **values}
        self._num_events += 1
        return made


async def sent(reply: Reply, job: Job, note: Callable[[Sequence[Step]], None]) -> AsyncIterator[bytes]:
    """Yield the events of a response as they are sent; a failure is the last."""
    try:
        async for made in reply.events(job, note):
            yield PING if made is None else named(made)
    except ApiError as error:
        yield named(reply.failed(error))
    except Exception as error:
        log(f"request {job.request_id} failed\n{traced(error)}")
        yield named(reply.failed(fault(job.request_id)))


def named(made: Json) -> bytes:
    """Return an event with its name before its data."""
    return f"event: {made['type']}\n".encode() + event(made)
