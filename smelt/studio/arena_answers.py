"""The answers of a round while they are written, side by side and by letters alone.

All sides are asked alike, so a side whose answer was lost with the server is written again. An answer is kept when it
is at its end, before its reader hears so.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from functools import partial
from typing import Any

from smelt.serve.errors import ApiError, log, unavailable
from smelt.serve.loop import Job
from smelt.serve.prepare import Served, Wanted, chat_prompts, completion_prompts
from smelt.serve.protocol import ChatRequest, CompletionRequest, Message
from smelt.serve.store.rounds import Round, keep_answer
from smelt.serve.streaming import PING, PING_SECONDS, event
from smelt.studio.context import Studio


def wanted_of(served: Served, prompt: str, sampling: dict[str, Any]) -> Wanted:
    """Return a prompt for a model; one that cannot read conversations continues it. Raises ApiError without room."""
    if served.template is None:
        return completion_prompts(served, CompletionRequest(model=served.name, prompt=(prompt,), **sampling))[0]
    messages = [Message(role="user", content=prompt)]
    return chat_prompts(served, ChatRequest(model=served.name, messages=messages, **sampling))[0]


class Answering:
    """The jobs of a round's sides, and what they write.

    Args:
        studio: has the models.
        found: the round; sides that have answered are not asked again.
    """

    def __init__(self, studio: Studio, found: Round) -> None:
        self.studio, self.found = studio, found
        self._jobs: dict[str, Job] = {}

    async def begin(self, request_id: str) -> None:
        """Hand the prompt to all models; raises ApiError, which says nothing of who failed, where one cannot answer."""
        wanted, prompt, sampling = dict[str, Wanted](), self.found.prompt, self.found.sampling
        try:
            for letter, side in self.found.by_letter.items():
                if side.answer is None:
                    engine = await self.studio.pool.get(side.model)
                    # Opened at once: a model that has a job is not let go while the next one is loaded.
                    self._jobs[letter] = engine.open(request_id)
                    wanted[letter] = await self.studio.aside(partial(wanted_of, engine.served, prompt, sampling))
            for letter, job in self._jobs.items():
                await job.submit([wanted[letter]])
        except ApiError as error:
            raise nameless(self.found, error) from error

    def close(self) -> None:
        """End all jobs."""
        for job in self._jobs.values():
            job.close()

    async def events(self) -> AsyncIterator[bytes]:
        """Yield `{"side", "text"}` as it is written, the last of each side with its `finish`."""
        heard: asyncio.Queue[dict[str, Any] | ApiError] = asyncio.Queue()
        writing = [asyncio.ensure_future(self._follow(letter, job, heard)) for letter, job in self._jobs.items()]
        try:
            for letter, side in self.found.by_letter.items():
                if side.answer is not None:
                    yield event({"side": letter, "text": side.answer, "finish": side.finish})
            missing = len(writing)
            while missing:
                try:
                    async with asyncio.timeout(PING_SECONDS):
                        said = await heard.get()
                except TimeoutError:
                    yield PING
                    continue
                if isinstance(said, ApiError):
                    yield event(nameless(self.found, said).body)
                    return
                missing -= "finish" in said
                yield event(said)
            yield b"data: [DONE]\n\n"
        finally:
            for task in writing:
                task.cancel()

    async def _follow(self, letter: str, job: Job, heard: asyncio.Queue[dict[str, Any] | ApiError]) -> None:
        """Pass on what one side writes, and keep it at its end."""
        text = ""
        try:
            while True:
                for _, update in await job.next():
                    text += update.text
                    if (finish := update.finish_reason) is None:
                        heard.put_nowait({"side": letter, "text": update.text})
                        continue
                    await self._keep(letter, text, finish)
                    heard.put_nowait({"side": letter, "text": update.text, "finish": finish})
                    return
        except ApiError as error:
            heard.put_nowait(error)

    def _keep(self, letter: str, text: str, finish: str) -> Coroutine[Any, Any, None]:
        """Keep an answer, unless it is only the studio's end that cut it off; raises ApiError."""
        if self.studio.pool.draining:
            raise unavailable("the studio is ending", code="server_draining")
        return self.studio.aside(lambda: keep_answer(self.studio.store, self.found.id, letter, text, finish))


def nameless(found: Round, error: ApiError) -> ApiError:
    """Return an error without the names that its message may have; the log gets them."""
    log(f"round {found.id}: {error.message}")
    said = "one of the models cannot answer now; the studio's log says why"
    return ApiError(error.status, said, kind=error.kind, code=error.code, retry_seconds=error.retry_seconds)
