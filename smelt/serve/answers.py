"""What the engine wrote becomes the JSON of an answer, in pieces for a stream or whole.

A whole answer is made of the very pieces that a stream would have sent, so that both say the same. Log-probabilities
are those of the model's own distribution; one of minus infinity, which JSON cannot say, is a large negative number.

Ref: OpenAI's API reference; what lm-eval reads of `top_logprobs`: the likeliest token is always there, and two tokens
that look alike keep the larger value.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from smelt import __version__
from smelt.infer.requests import TokenLogprobs, Update
from smelt.serve.loop import Step
from smelt.serve.prepare import Served, Wanted
from smelt.serve.protocol import ChatRequest, CompletionRequest
from smelt.serve.tool_calls import CallReader
from smelt.tokenizers.stream import TextStream

LOWEST_LOGPROB = -9999.0
Json = dict[str, Any]


class Answers:
    """All answers to one request.

    Args:
        name: the response's id.
        wanted: the prompts; those of one prompt's n answers stand together.
    """

    def __init__(
        self, served: Served, request: ChatRequest | CompletionRequest, wanted: Sequence[Wanted], name: str
    ) -> None:
        self.request, self.num_each, self.model = request, request.n or 1, request.model
        chat = isinstance(request, ChatRequest)
        self._kind = ("chat.completion", "chat.completion.chunk") if chat else ("text_completion",) * 2
        self._head = {
            "id": f"{'chatcmpl' if chat else 'cmpl'}-{name}",
            "created": int(time.time()),
            "model": self.model,
            "system_fingerprint": f"smelt-{__version__}",
        }
        self.choices = [
            ChatChoice(served, place, item)
            if isinstance(request, ChatRequest)
            else TextChoice(served, place, item, request)
            for place, item in enumerate(wanted)
        ]

    @property
    def may_call(self) -> bool:
        """Tell whether there may be calls of tools in the answers."""
        return any(choice.wanted.calling for choice in self.choices)

    @property
    def done(self) -> bool:
        """Tell whether all answers are complete."""
        return all(choice.done for choice in self.choices)

    def take(self, step: Step) -> list[Json]:
        """Return the pieces of choices that a stream sends after this step."""
        place, update = step
        return self.choices[place].take(update)

    def chunk(self, *choices: Json) -> Json:
        """Return one object of a stream; without a choice it is the one that has the usage."""
        made = {**self._head, "object": self._kind[1], "choices": list(choices)}
        if self.request.wants_usage:
            made["usage"] = None if choices else self.usage()
        return made

    def whole(self, pieces: Sequence[Sequence[Json]]) -> Json:
        """Return the response made of the pieces of each choice."""
        choices = [choice.whole(mine) for choice, mine in zip(self.choices, pieces, strict=True)]
        return {**self._head, "object": self._kind[0], "choices": choices, "usage": self.usage()}

    def usage(self) -> Json:
        """Count the tokens; a prompt of several answers counts once."""
        firsts = self.choices[:: self.num_each]
        prompt, answer = sum(len(c.wanted.prompt) for c in firsts), sum(c.num_tokens for c in self.choices)
        return {
            "prompt_tokens": prompt,
            "completion_tokens": answer,
            "total_tokens": prompt + answer,
            "prompt_tokens_details": {"cached_tokens": sum(c.cached_tokens for c in firsts)},
        }


class Choice:
    """One answer while it is written."""

    def __init__(self, served: Served, index: int, wanted: Wanted) -> None:
        self.index, self.wanted, self.tokenizer = index, wanted, served.tokenizer
        self.num_tokens = self.cached_tokens = 0
        self.begun = self.done = False

    def take(self, update: Update) -> list[Json]:
        """Add an update and return its pieces, the last with a finish_reason."""
        self.num_tokens += len(update.ids)
        self.cached_tokens = update.request.cached_tokens
        self.done = update.finish_reason is not None
        made = self.pieces(update)
        self.begun = True
        return made

    def pieces(self, update: Update) -> list[Json]:
        """Return the pieces of an update."""
        raise NotImplementedError

    def whole(self, pieces: Sequence[Json]) -> Json:
        """Return the choice that some pieces make up."""
        raise NotImplementedError


class ChatChoice(Choice):
    """An assistant's message: text, calls of tools, or both."""

    def __init__(self, served: Served, index: int, wanted: Wanted) -> None:
        super().__init__(served, index, wanted)
        self.reader = CallReader(wanted.calling) if wanted.calling else None

    def pieces(self, update: Update) -> list[Json]:
        """Return the role once, then text and calls, then the end."""
        made = [] if self.begun else [self.piece({"role": "assistant", "content": ""})]
        logprobs = self.logprobs(update.logprobs)
        deltas = self.deltas(update) or ([{"content": ""}] if logprobs else [])
        made += [self.piece(delta, None if place else logprobs) for place, delta in enumerate(deltas)]
        if update.finish_reason is not None:
            called = self.reader is not None and self.reader.num_calls and update.finish_reason == "stop"
            made.append(self.piece({}, None, "tool_calls" if called else update.finish_reason))
        return made

    def deltas(self, update: Update) -> list[Json]:
        """Return what an update adds to the message."""
        if self.reader is not None:
            return self.reader.push(update.text, last=update.finish_reason is not None)
        return [{"content": update.text}] if update.text else []

    def piece(self, delta: Json, logprobs: Json | None = None, reason: str | None = None) -> Json:
        """Return one piece."""
        return {"index": self.index, "delta": delta, "logprobs": logprobs, "finish_reason": reason}

    def whole(self, pieces: Sequence[Json]) -> Json:
        """Return the message; where tools are called, one without text has no content."""
        text = "".join(piece["delta"].get("content", "") for piece in pieces)
        calls: list[Json] = []
        for delta in (delta for piece in pieces for delta in piece["delta"].get("tool_calls", ())):
            if delta["index"] == len(calls):
                calls.append({**delta, "function": dict(delta["function"])})
                del calls[-1]["index"]
            else:
                calls[delta["index"]]["function"]["arguments"] += delta["function"]["arguments"]
        said: Json = {"content": text or None, "tool_calls": calls} if calls else {"content": text}
        entries = [entry for piece in pieces if piece["logprobs"] for entry in piece["logprobs"]["content"]]
        wanted = self.wanted.sampling.logprobs is not None
        return {
            "index": self.index,
            "message": {"role": "assistant", **said, "refusal": None},
            "logprobs": {"content": entries, "refusal": None} if wanted else None,
            "finish_reason": pieces[-1]["finish_reason"],
        }

    def logprobs(self, entries: Sequence[TokenLogprobs]) -> Json | None:
        """Return log-probabilities with the tokens' bytes, of which a client can build split characters."""
        special = self.tokenizer.special.values()
        content = [
            {
                **self.token(entry.id, entry.logprob),
                "top_logprobs": [self.token(token, logprob) for token, logprob in entry.top],
            }
            for entry in entries
            if entry.id not in special  # the mark that ends a turn is no part of the message
        ]
        return {"content": content, "refusal": None} if content else None

    def token(self, token: int, logprob: float) -> Json:
        """Return one token with its log-probability."""
        data = self.tokenizer.decode_bytes([token], continued=True)
        return {"token": data.decode("utf-8", "replace"), "logprob": finite(logprob), "bytes": list(data)}


class TextChoice(Choice):
    """The continuation of a text, behind the text itself where that is wanted too (`echo`)."""

    def __init__(self, served: Served, index: int, wanted: Wanted, request: CompletionRequest) -> None:
        super().__init__(served, index, wanted)
        self.echo, self.silent = bool(request.echo), request.max_tokens == 0
        self._stream, self._length = TextStream(served.tokenizer), 0

    def take(self, update: Update) -> list[Json]:
        """Add an update; where no token was wanted, the one that the engine wrote is left out."""
        made = super().take(update)
        self.num_tokens = 0 if self.silent else self.num_tokens
        return made

    def pieces(self, update: Update) -> list[Json]:
        """Return the prompt where it is wanted, then text, then the end."""
        made = []
        scored = self.wanted.prompt_logprobs is not None
        if self.echo and (update.prompt_logprobs is not None or not scored or update.finish_reason is not None):
            self.echo = False
            prompt = self.wanted.prompt
            entries = update.prompt_logprobs or (None,) * len(prompt)
            text = self.tokenizer.decode(prompt, skip_special=True)
            made.append(self.piece(text, self.logprobs(prompt, entries) if scored else None))
        if not self.silent:
            logprobs = self.logprobs(update.ids, update.logprobs) if update.logprobs else None
            if update.text or logprobs:
                made.append(self.piece(update.text, logprobs))
        if update.finish_reason is not None:
            made.append(self.piece("", None, "length" if self.silent else update.finish_reason))
        return made

    def piece(self, text: str, logprobs: Json | None, reason: str | None = None) -> Json:
        """Return one piece."""
        return {"index": self.index, "text": text, "logprobs": logprobs, "finish_reason": reason}

    def whole(self, pieces: Sequence[Json]) -> Json:
        """Return the text, and one list of each kind of what its tokens have."""
        found = [piece["logprobs"] for piece in pieces if piece["logprobs"]]
        joined = {name: [item for part in found for item in part[name]] for name in (found[0] if found else ())}
        text = "".join(piece["text"] for piece in pieces)
        return self.piece(text, joined or None, pieces[-1]["finish_reason"])

    def logprobs(self, ids: Sequence[int], entries: Sequence[TokenLogprobs | None]) -> Json:
        """Return what a text's next tokens have: their texts, log-probabilities, rivals and places."""
        made: Json = {"tokens": [], "token_logprobs": [], "top_logprobs": [], "text_offset": []}
        for token, entry in zip(ids, entries, strict=True):
            made["tokens"].append(self.name(token))
            made["text_offset"].append(self._length)
            self._length += len(self._stream.push(token))
            made["token_logprobs"].append(None if entry is None else finite(entry.logprob))
            made["top_logprobs"].append(None if entry is None else self.rivals(entry))
        return made

    def rivals(self, entry: TokenLogprobs) -> dict[str, float]:
        """Return the likeliest tokens and the chosen one; of two that look alike, the likelier."""
        found: dict[str, float] = {}
        for token, logprob in (*entry.top, (entry.id, entry.logprob)):
            name = self.name(token)
            found[name] = max(found.get(name, LOWEST_LOGPROB), finite(logprob))
        return found

    def name(self, token: int) -> str:
        r"""Return a token's text, or "bytes:\xe4" where its bytes are no whole character."""
        data = self.tokenizer.decode_bytes([token], continued=True)
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError:
            return "bytes:" + "".join(f"\\x{byte:02x}" for byte in data)


def finite(logprob: float) -> float:
    """Return a number that JSON can say."""
    return max(logprob, LOWEST_LOGPROB)
