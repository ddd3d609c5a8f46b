"""One answer of a chat, written by the server while a page watches, and stored whatever becomes of the page.

The writing is a task of its own: a page that goes, or asks to stop, ends it with what there is, which is stored, and
the engine's place is free again. An answer's id is made by the page, so one that is asked for again is not written
twice. A model that has not learned to chat continues the text of the messages instead of answering them.
"""

from __future__ import annotations

import asyncio
import bisect
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field

from smelt.serve.answers import Answers, ChatChoice
from smelt.serve.errors import ApiError, fault, log, traced
from smelt.serve.loop import Job
from smelt.serve.prepare import Served, Wanted, chat_prompts, completion_prompts
from smelt.serve.protocol import MAX_MESSAGES, ChatRequest, CompletionRequest, Generating, Tool, parse
from smelt.serve.store.chats import Message, add_message
from smelt.serve.streaming import PING, PING_SECONDS, event, to_json
from smelt.studio.context import Studio

ID = r"^[A-Za-z0-9_-]{1,64}$"
CONTINUED_TOKENS = 256  # of a text that is continued: nothing else may ever end it
RESERVED_SHARE = 4  # of the context, one part in so many is kept for the answer where that was not said
SEEDS = 1 << 32  # small enough to be a number in a browser
SETTINGS = (
    *("temperature", "top_p", "top_k", "min_p", "repetition_penalty", "presence_penalty", "frequency_penalty"),
    *("max_tokens", "seed", "stop"),
)
Json = dict[str, Any]


class AnswerAsked(Generating):
    """What an answer is asked for with: a place in the tree, a model and how it chooses."""

    id: str = Field(pattern=ID)
    parent: str = Field(pattern=ID)
    max_tokens: int | None = Field(default=None, ge=1)
    tools: list[Tool] | None = Field(default=None, max_length=128)
    chat_template_kwargs: Json | None = Field(default=None, max_length=16)


@dataclass(frozen=True)
class Prepared:
    """A conversation that fits a model: the request, its prompt, and how many messages at the front were left out."""

    request: ChatRequest | CompletionRequest
    wanted: Sequence[Wanted]
    left_out: int
    mode: Literal["chat", "text"]


def has_learned_to_chat(served: Served) -> bool:
    """Tell whether a model has a chat template of its own; one that is made up for it means nothing to it."""
    return served.template is not None and served.tokenizer.chat_template is not None


def prepare(served: Served, asked: AnswerAsked, system: str, path: Sequence[Message]) -> Prepared:
    """Return a prompt of the messages down to the one that is to be answered; raises ApiError where there is none.

    Where the whole conversation has no room, its oldest turns are left out, as few as have to be.
    """
    chats = has_learned_to_chat(served)
    starts = [place for place, message in enumerate(path) if message.role == "user"] if chats else range(len(path))
    starts = [place for place in starts if place >= len(path) - MAX_MESSAGES + 1] or [len(path) - 1]
    reserved = min(asked.max_tokens or served.max_seq_len, served.max_seq_len // RESERVED_SHARE)
    seed = secrets.randbelow(SEEDS) if asked.seed is None else asked.seed
    head = {**settings_of(asked), "seed": seed, "model": asked.model, "stream": True}

    def attempt(start: int) -> Prepared:
        request: ChatRequest | CompletionRequest
        if chats:
            request = parse(ChatRequest, to_json({**head, **chat_fields(asked, system, path[start:])}))
            return Prepared(request, chat_prompts(served, request), start, "chat")
        limit = {"max_tokens": asked.max_tokens or CONTINUED_TOKENS}
        text = "".join(message.content for message in path[start:])
        request = parse(CompletionRequest, to_json({**head, **limit, "prompt": text}))
        return Prepared(request, completion_prompts(served, request), start, "text")

    def fits(start: int) -> bool:
        try:
            return len(attempt(start).wanted[0].prompt) + reserved <= served.max_seq_len
        except ApiError as error:
            if error.code == "context_length_exceeded":
                return False
            raise

    if fits(starts[0]):
        return attempt(starts[0])
    return attempt(starts[min(bisect.bisect_left(starts, True, key=fits), len(starts) - 1)])


def chat_fields(asked: AnswerAsked, system: str, path: Sequence[Message]) -> Json:
    """Return the fields that a chat has and a text has not."""
    said = [{"role": "system", "content": system}] if system else []
    more = {"tools": [tool.model_dump(mode="json", exclude_unset=True) for tool in asked.tools]} if asked.tools else {}
    options = {"chat_template_kwargs": asked.chat_template_kwargs} if asked.chat_template_kwargs else {}
    return {"messages": [*said, *map(told, path)], **more, **options}


def told(message: Message) -> Json:
    """Return a stored message as a request has it."""
    kept = {name: message.details[name] for name in ("tool_calls", "tool_call_id") if message.details.get(name)}
    return {"role": message.role, "content": message.content, **kept}


class Writing:
    """An answer while it is written; one page watches.

    Args:
        job: the engine took its prompt.
        place: the message that it becomes, still empty; `created` is when it was asked for.
    """

    def __init__(
        self, studio: Studio, owner: str, place: Message, job: Job, served: Served, prepared: Prepared
    ) -> None:
        self.studio, self.owner, self.place, self.job, self.prepared = studio, owner, place, job, prepared
        self.answers = Answers(served, prepared.request, prepared.wanted, place.id)
        self.stopped = False
        self._pieces: list[Json] = []
        self._shown: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._first = self._last = 0.0
        self.task = asyncio.get_running_loop().create_task(self._write())

    def close(self) -> None:
        """Stop: what there is, is stored."""
        self.stopped = True
        self.job.deliver([])  # wakes it

    async def events(self) -> Any:
        """Yield what a page is told: pieces of the text, then the message as it was stored."""
        while True:
            try:
                async with asyncio.timeout(PING_SECONDS):
                    data = await self._shown.get()
            except TimeoutError:
                data = PING
            if data is None:
                return
            yield data

    async def _write(self) -> None:
        try:
            self._show({"kind": "begin", "left_out": self.prepared.left_out, "mode": self.prepared.mode})
            while not (self.answers.done or self.stopped):
                self._take(await self.job.next())
            self.job.close()
            message = self.message()
            await self.studio.aside(lambda: add_message(self.studio.store, self.owner, message))
            self._show({"kind": "message", "message": shown(message)})
            self._shown.put_nowait(b"data: [DONE]\n\n")
        except ApiError as error:
            self._show(error.body)
        except Exception as error:
            log(f"answer {self.place.id} failed\n{traced(error)}")
            self._show(fault(self.place.id).body)
        finally:
            self.job.close()
            self._shown.put_nowait(None)

    def _show(self, value: Json) -> None:
        self._shown.put_nowait(event(value))

    def _take(self, steps: Sequence[Any]) -> None:
        """Add what the engine wrote, and show it."""
        for step in steps:
            self._last = time.time()
            self._first = self._first or self._last
            self._pieces += (pieces := self.answers.take(step))
            text = "".join(piece["text"] if "text" in piece else piece["delta"].get("content", "") for piece in pieces)
            calls = [call for piece in pieces for call in piece.get("delta", {}).get("tool_calls", ())]
            if text or calls:
                tokens = self.answers.choices[0].num_tokens
                self._show({"kind": "delta", "text": text, "tool_calls": calls, "tokens": tokens})

    def message(self) -> Message:
        """Return the message that was written, as far as it was."""
        choice, place = self.answers.choices[0], self.place
        if self.stopped and isinstance(choice, ChatChoice) and choice.reader is not None:
            # What looked like the beginning of a call is text after all.
            self._pieces += [choice.piece(delta) for delta in choice.reader.push("", last=True)]
        whole: Json = choice.whole(self._pieces) if self._pieces else {"finish_reason": None}
        said: Json = whole.get("message", {})
        text = whole.get("text", said.get("content")) or ""
        seconds = self._last - self._first
        tokens = choice.num_tokens
        details: Json = {
            "finish_reason": whole["finish_reason"] or "stopped",
            "mode": self.prepared.mode,
            "left_out": self.prepared.left_out,
            "prompt_tokens": len(choice.wanted.prompt),
            "tokens": tokens,
            "first_token_seconds": round(self._first - place.created, 4) if self._first else None,
            "tokens_per_second": round((tokens - 1) / seconds, 2) if tokens > 1 and seconds > 0 else None,
            "sampling": settings_of(self.prepared.request),
        }
        if calls := said.get("tool_calls"):
            details["tool_calls"] = calls
        return Message(place.id, place.chat, place.parent, "assistant", text, self.answers.model, details)


def settings_of(request: Generating) -> Json:
    """Return how the tokens of an answer are chosen, so that it can be had again."""
    return {name: value for name in SETTINGS if (value := getattr(request, name)) not in (None, ())}


def shown(message: Message) -> Json:
    """Return a message as a page reads it."""
    return {
        "id": message.id,
        "parent": message.parent,
        "role": message.role,
        "content": message.content,
        "model": message.model,
        "details": message.details,
        "created": message.created,
    }
