"""Chat: conversations with a model, kept on the server as trees of messages, and what people think of the answers.

A chat's system prompt is a message without a parent, of which the newest counts, so an earlier one stays on record.
Every write names its row by an id that the page made: one that is tried again, because nobody knows whether the server
got it before it died, is one row.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any, Literal

from pydantic import Field

from smelt.serve.errors import ApiError
from smelt.serve.protocol import Fields
from smelt.serve.store.chats import (
    Chat,
    Message,
    add_message,
    conversation,
    create_chat,
    delete_chat,
    delete_message,
    find_chats,
    messages_of,
    read_chat,
    rename_chat,
)
from smelt.serve.store.database import Conflict, NotFound, Store
from smelt.serve.store.votes import Thumb, rate_message, thumbs_in, withdraw_thumb
from smelt.serve.streaming import EventStream, event, unless_gone
from smelt.studio.answering import ID, AnswerAsked, Writing, has_learned_to_chat, prepare, shown
from smelt.studio.context import Request, Response, Routes, Studio, owner, query, read, reply
from smelt.studio.transcripts import FORMS, transcript

TITLE_CHARACTERS, REASON_CHARACTERS = 200, 2000


class ChatMade(Fields):
    """A new chat."""

    id: str = Field(pattern=ID)
    title: str = Field(min_length=1, max_length=TITLE_CHARACTERS)


class Renamed(Fields):
    """A chat's new title."""

    title: str = Field(min_length=1, max_length=TITLE_CHARACTERS)


class MessageMade(Fields):
    """A message of a person: a question, a system prompt, or what a tool returned."""

    id: str = Field(pattern=ID)
    parent: str | None = Field(default=None, pattern=ID)
    role: Literal["user", "system", "tool"]
    content: str
    tool_call_id: str | None = Field(default=None, max_length=256)


class Judged(Fields):
    """A thumb up (1), down (-1), or none (0)."""

    value: Literal[-1, 0, 1]
    reason: str = Field(default="", max_length=REASON_CHARACTERS)


class Asked(Fields):
    """A model that is about to be asked."""

    model: str = Field(max_length=512)


def routes(studio: Studio) -> Routes:
    """Return the routes of the page."""
    store, answering = studio.store, Answering(studio)

    async def listed(request: Request) -> Response:
        words = query(request, "search", TITLE_CHARACTERS).strip()
        return reply({"chats": await studio.aside(lambda: summaries(store, owner(request), words))})

    async def make(request: Request) -> Response:
        asked = await read(request, ChatMade)
        await studio.aside(lambda: create_chat(store, Chat(asked.id, owner(request), asked.title)))
        return reply({"id": asked.id}, 201)

    async def rename(request: Request) -> Response:
        asked = await read(request, Renamed)
        await studio.aside(lambda: rename_chat(store, owner(request), chat_in(request), asked.title))
        return reply({"id": chat_in(request)})

    async def drop(request: Request) -> Response:
        await studio.aside(lambda: delete_chat(store, owner(request), chat_in(request)))
        return reply({"id": chat_in(request)})

    async def show(request: Request) -> Response:
        return reply(await studio.aside(lambda: whole(store, owner(request), chat_in(request))))

    async def export(request: Request) -> Response:
        form = request.path_params["form"]
        if form not in FORMS:
            raise ApiError(404, f"a form of {form[:32]!r}; there are {', '.join(FORMS)}", code="not_found")
        found = await studio.aside(lambda: whole(store, owner(request), chat_in(request)))
        leaf = query(request, "leaf", 64)
        text = await studio.aside(lambda: transcript(found, form, leaf))
        name = f"attachment; filename=chat-{found['id']}.{FORMS[form][0]}"
        headers = {"cache-control": "no-store", "content-disposition": name}
        return Response(text.encode(), 200, headers, FORMS[form][1])

    return {
        "GET /chats": listed,
        "POST /chats": make,
        "GET /chats/{chat}": show,
        "PATCH /chats/{chat}": rename,
        "DELETE /chats/{chat}": drop,
        "GET /chats/{chat}/export/{form}": export,
        **message_routes(studio),
        **answering.routes(),
    }


def message_routes(studio: Studio) -> Routes:
    """Return the routes that write and judge messages."""
    store = studio.store

    async def say(request: Request) -> Response:
        asked = await read(request, MessageMade)
        details = {"tool_call_id": asked.tool_call_id} if asked.tool_call_id else {}
        message = Message(asked.id, chat_in(request), asked.parent, asked.role, asked.content, details=details)
        await studio.aside(lambda: add_message(store, owner(request), message))
        return reply({"message": shown(message)}, 201)

    async def unsay(request: Request) -> Response:
        await studio.aside(lambda: delete_message(store, owner(request), chat_in(request), message_in(request)))
        return reply({"id": message_in(request)})

    async def judge(request: Request) -> Response:
        asked, message = await read(request, Judged), message_in(request)
        if asked.value:
            thumb = Thumb(message, owner(request), asked.value, asked.reason)
            await studio.aside(lambda: rate_message(store, thumb))
        else:
            await studio.aside(lambda: withdraw_thumb(store, owner(request), message))
        return reply({"thumb": {"value": asked.value, "reason": asked.reason} if asked.value else None})

    return {
        "POST /chats/{chat}/messages": say,
        "DELETE /chats/{chat}/messages/{message}": unsay,
        "PUT /chats/{chat}/messages/{message}/thumb": judge,
    }


class Answering:
    """The answers that are being written, each in one place."""

    def __init__(self, studio: Studio) -> None:
        self.studio = studio
        self.under_way: dict[str, Writing | None] = {}  # None while one is prepared

    def routes(self) -> Routes:
        """Return the routes that write answers."""
        return {
            "POST /chats/ready": self.ready,
            "POST /chats/{chat}/answers": self.answer,
            "POST /chats/{chat}/answers/{message}/stop": self.stop,
        }

    async def ready(self, request: Request) -> Response:
        """Load a model before it is asked, so that its first answer comes at once."""
        asked = await read(request, Asked)
        engine = await self.studio.pool.get(asked.model)
        served = engine.served
        return reply({"chat": has_learned_to_chat(served), "max_seq_len": served.max_seq_len})

    async def answer(self, request: Request) -> Response:
        """Write an answer, or show the one of this id that is there."""
        asked, chat, who = await read(request, AnswerAsked), chat_in(request), owner(request)
        if asked.id in self.under_way:
            raise ApiError(409, "this answer is being written", code="conflict")
        self.under_way[asked.id] = None
        try:
            path, system, there = await self.studio.aside(lambda: place_of(self.studio.store, who, chat, asked))
            if there is None:
                writing = await unless_gone(request.receive, self.begin(request, asked, path, system))
                self.under_way[asked.id] = writing
                writing.task.add_done_callback(lambda _: self.under_way.pop(asked.id))
                return EventStream(writing, writing.events(), {})
        finally:
            if self.under_way[asked.id] is None:
                del self.under_way[asked.id]
        return Response(event({"kind": "message", "message": shown(there)}) + b"data: [DONE]\n\n", 200, {}, STREAM)

    async def begin(self, request: Request, asked: AnswerAsked, path: Sequence[Message], system: str) -> Writing:
        """Hand a conversation to its model."""
        engine = await self.studio.pool.get(asked.model)
        served, created = engine.served, time.time()
        job = engine.open(asked.id)
        try:
            prepared = await self.studio.aside(lambda: prepare(served, asked, system, path))
            await job.submit(prepared.wanted)
        except BaseException:
            job.close()
            raise
        place = Message(asked.id, path[-1].chat, asked.parent, "assistant", "", asked.model, created=created)
        return Writing(self.studio, owner(request), place, job, served, prepared)

    async def stop(self, request: Request) -> Response:
        """End an answer with what there is of it, and return when that is stored."""
        await self.studio.aside(lambda: read_chat(self.studio.store, owner(request), chat_in(request)))
        writing = self.under_way.get(message_in(request))
        if writing is not None and (writing.owner, writing.place.chat) == (owner(request), chat_in(request)):
            writing.close()
            await asyncio.wait([writing.task])
        return reply({"id": message_in(request)})


STREAM = "text/event-stream; charset=utf-8"


def place_of(store: Store, who: str, chat: str, asked: AnswerAsked) -> tuple[list[Message], str, Message | None]:
    """Return the messages down to the one that is to be answered, the system prompt, and the answer if it is there."""
    messages = messages_of(store, who, chat)
    by_id = {message.id: message for message in messages}
    if asked.parent not in by_id:
        raise NotFound(f"there is no message {asked.parent} in chat {chat}")
    there = by_id.get(asked.id)
    if there is not None and (there.role, there.parent) != ("assistant", asked.parent):
        raise Conflict(f"messages: {asked.id} is there and is no answer to {asked.parent}")
    return conversation(messages, asked.parent), system_of(messages), there


def system_of(messages: Sequence[Message]) -> str:
    """Return the system prompt of a chat."""
    return next((message.content for message in reversed(messages) if message.role == "system"), "")


def summaries(store: Store, who: str, words: str) -> list[dict[str, Any]]:
    """Return what the list of chats shows."""
    return [
        {
            "id": found.chat.id,
            "title": found.chat.title,
            "updated": found.updated,
            "messages": found.num_messages,
            "excerpt": found.excerpt,
        }
        for found in find_chats(store, who, words)
    ]


def whole(store: Store, who: str, chat: str) -> dict[str, Any]:
    """Return a chat with all its messages, each with the thumb that it was given."""
    found, messages = read_chat(store, who, chat), messages_of(store, who, chat)
    thumbs = {thumb.message: {"value": thumb.value, "reason": thumb.reason} for thumb in thumbs_in(store, chat)}
    return {
        "id": found.id,
        "title": found.title,
        "created": found.created,
        "system": system_of(messages),
        "messages": [
            {**shown(message), "thumb": thumbs.get(message.id)} for message in messages if message.role != "system"
        ],
    }


def chat_in(request: Request) -> str:
    """Return the chat of an address."""
    return str(request.path_params["chat"])


def message_in(request: Request) -> str:
    """Return the message of an address."""
    return str(request.path_params["message"])
