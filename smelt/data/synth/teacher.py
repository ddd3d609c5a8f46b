"""The teacher: whoever answers messages, be it a server or a checkpoint of ours."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal, Protocol

from smelt.core.errors import SmeltError
from smelt.data.records import Message

THOUGHT = re.compile(r"\A\s*<think>.*?</think>", re.DOTALL)
HALVES = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class Settings:
    """How one request is answered: at most `max_tokens`, at a `temperature`, with the `seed` of its sampling."""

    max_tokens: int
    temperature: float
    seed: int


@dataclass(frozen=True)
class Request:
    """One question to the teacher."""

    messages: tuple[Message, ...]
    settings: Settings

    @property
    def key(self) -> str:
        """Return what tells this request from all others of a run."""
        turns = [[message.role, message.content] for message in self.messages]
        return hashlib.sha256(json.dumps([turns, asdict(self.settings)]).encode()).hexdigest()[:32]


@dataclass(frozen=True)
class Reply:
    """What the teacher said, and what it cost in tokens where it tells.

    `finish` is "length" for an answer that was cut off, "refused" for a request that the teacher would not take; `text`
    then is its reason.
    """

    text: str
    prompt_tokens: int | None = None
    reply_tokens: int | None = None
    finish: Literal["stop", "length", "refused"] = "stop"


class Teacher(Protocol):
    """Whoever answers; `ask` is called from several threads at once."""

    name: str

    def ask(self, messages: Sequence[Message], settings: Settings) -> Reply:
        """Answer one request.

        Raises:
            TeacherBusy: there was no answer, but a later try may have one.
            TeacherError: there will be none, whatever is asked.
        """
        ...


class TeacherError(SmeltError):
    """A teacher that does not answer."""


class TeacherBusy(TeacherError):
    """A teacher that did not answer this once; it asks for `wait_seconds` before the next try."""

    wait_seconds: float = 0.0


def spoken(text: str) -> str:
    """Return what an answer says: without the thoughts before it and the blanks around it, and fit to be written.

    Half a surrogate pair, which JSON may carry, becomes the replacement character.
    """
    return HALVES.sub("\N{REPLACEMENT CHARACTER}", THOUGHT.sub("", text)).strip()
