"""A text as a model reads it: what the token lens and the model lens share.

A lens runs the model that the pool holds, in the engine's own thread between two steps, so that it races with nobody's
answer. Whatever an engine's weights become while it decodes, prompts are read by the model as it is, and so is this.
A text is bounded, because what a lens shows of it grows faster than the text.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from pydantic import Field
from torch import Tensor

from smelt.core.errors import SmeltError
from smelt.infer import Engine
from smelt.serve.errors import from_smelt, invalid
from smelt.serve.loop import EngineLoop
from smelt.serve.prepare import Served, beginning, check_ids, told_message
from smelt.serve.protocol import MAX_MESSAGES, Fields, Ids, Message
from smelt.studio.context import Studio
from smelt.tokenizers.pipeline import Pipeline

LONGEST_CHARACTER = 4  # bytes of UTF-8, and so the most tokens that one is cut into
Result = TypeVar("Result")


class Text(Fields):
    """What a lens reads: a text, messages or ids, one of them, and the model that reads."""

    model: str = Field(max_length=512)
    text: str | None = None
    messages: list[Message] | None = Field(default=None, max_length=MAX_MESSAGES)
    ids: Ids | None = None


@dataclass(frozen=True)
class Reading:
    """A model and the ids that it reads."""

    engine: EngineLoop
    served: Served
    ids: list[int]

    async def compute(self, work: Callable[[Engine, Tensor], Result]) -> Result:
        """Return what some work makes of the engine and the ids (1, T); it runs between two of the engine's steps."""
        return await computed(self.engine, lambda engine: work(engine, batch_of(engine, self.ids)))

    def told(self) -> dict[str, Any]:
        """Return what every answer says of the text: its tokens, and with which weights answers are written."""
        return {
            "model": self.served.name,
            "ids": self.ids,
            "tokens": tokens(self.served.tokenizer, self.ids),
            "decodes_with": self.served.name.partition("@")[2] or None,
        }


async def computed(engine: EngineLoop, work: Callable[[Engine], Result]) -> Result:
    """Return what some work makes of an engine, in its thread."""
    found: list[Result] = []

    def run(engine: Engine) -> None:
        with torch.inference_mode():
            found.append(work(engine))

    await engine.order(run)
    return found[0]


async def reading(studio: Studio, given: Text, most: int) -> Reading:
    """Return the model and the ids of a text; raises ApiError for one that is empty, or longer than `most` tokens."""
    engine = await studio.pool.get(given.model)
    served = engine.served
    ids = await studio.aside(lambda: ids_of(served, given))
    check_ids(served, ids, "ids")
    most = min(most, served.max_seq_len)
    if not ids:
        raise invalid("the text is empty")
    if len(ids) > most:
        raise invalid(f"the text has {len(ids):,} tokens; this view reads at most {most:,} with this model")
    return Reading(engine, served, ids)


def ids_of(served: Served, given: Text) -> list[int]:
    """Return the ids of a text; raises ApiError for what this model cannot read."""
    if sum(one is not None for one in (given.text, given.messages, given.ids)) != 1:
        raise invalid("one of text, messages and ids is expected")
    if given.ids is not None:
        return list(given.ids)
    if given.text is not None:
        return list(beginning(served, given.text))
    if served.template is None:
        raise invalid("this model has no chat template; it reads texts", "messages")
    messages = [told_message(message, place) for place, message in enumerate(given.messages or ())]
    answered = bool(messages) and messages[-1]["role"] == "assistant"
    try:
        return served.template.render(messages, add_reply=not answered)[0]
    except SmeltError as error:
        raise from_smelt(error) from error


def batch_of(engine: Engine, ids: Sequence[int]) -> Tensor:
    """Return ids as a batch of one, where the model is."""
    return torch.tensor([ids], device=engine.model.head_weight.device)


def tokens(tokenizer: Pipeline, ids: Sequence[int]) -> list[dict[str, Any]]:
    """Describe tokens: each one's text; of a part of a character the character, or None, and its bytes."""
    special = set(tokenizer.special.values())
    pieces = [tokenizer.decode_bytes([token], continued=place > 0) for place, token in enumerate(ids)]
    texts = [text_of(piece) for piece in pieces]
    found = []
    for place, (token, piece, text) in enumerate(zip(ids, pieces, texts, strict=True)):
        told: dict[str, Any] = {"id": token, "text": text if text is not None else whole(pieces, texts, place)}
        told |= {"bytes": list(piece)} if text is None else {}
        found.append(told | ({"special": True} if token in special else {}))
    return found


def text_of(piece: bytes) -> str | None:
    """Return the text of a token, None where it is a part of a character."""
    try:
        return piece.decode("utf-8")
    except UnicodeDecodeError:
        return None


def whole(pieces: Sequence[bytes], texts: Sequence[str | None], place: int) -> str | None:
    """Return the text that a token with a part of a character makes with those around it; None where none does."""
    for start in range(place, max(-1, place - LONGEST_CHARACTER), -1):
        if texts[start] is not None:
            return None
        for stop in range(place + 1, min(len(pieces), start + LONGEST_CHARACTER) + 1):
            if (text := text_of(b"".join(pieces[start:stop]))) is not None:
                return text
    return None


def spelled(tokenizer: Pipeline, ids: Sequence[int]) -> dict[str, str]:
    """Return how each of some tokens is written by itself, a part of a character by its bytes: "<E4 BD>"."""
    found = {}
    for token in dict.fromkeys(ids):
        piece = tokenizer.decode_bytes([token], continued=True)
        text = text_of(piece)
        found[str(token)] = f"<{piece.hex(' ').upper()}>" if text is None else text
    return found


def packed(numbers: Tensor) -> str:
    """Return numbers as float32, the lowest byte first, in base64."""
    return base64.b64encode(numbers.detach().float().contiguous().cpu().numpy().astype("<f4").tobytes()).decode()
