"""One answer while it grows: takes a token at a time, gives the text that may be shown, and knows when it is over."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Literal

from smelt.infer.visible import VisibleText
from smelt.tokenizers.base import Tokenizer

FinishReason = Literal["stop", "length", "error"]


@dataclass(frozen=True)
class Generation:
    """One answer.

    `ids` are all chosen tokens, including the stop id or the tokens of the stop string that ended it; `text` has
    neither, nor any special token. `finish_reason` is "stop" for those two and for a constraint that lets nothing
    follow, "length" for a full budget or context, "error" for a constraint that failed on the way.
    """

    ids: tuple[int, ...]
    text: str
    finish_reason: FinishReason


@dataclass
class Answer:
    """Take tokens until there are `budget` of them, or one of `stop_ids` or a stop string ends the text."""

    budget: int
    stop_ids: frozenset[int]
    visible: VisibleText
    ids: list[int] = field(default_factory=list)
    finish_reason: FinishReason | None = None

    @classmethod
    def begin(
        cls,
        tokenizer: Tokenizer,
        budget: int,
        stop_ids: frozenset[int],
        stop: Sequence[str],
        shown: Collection[int] = (),
    ) -> Answer:
        """Return an answer without a token, which is over if its budget is 0."""
        return cls(budget, stop_ids, VisibleText(tokenizer, stop, shown), finish_reason=None if budget else "length")

    def push(self, token_id: int, *, is_last: bool = False) -> str:
        """Take the next token, `is_last` if nothing may follow it, and return the text that is certain now."""
        self.ids.append(token_id)
        is_stop = token_id in self.stop_ids
        text = "" if is_stop else self.visible.push(token_id)
        if is_stop or is_last or len(self.ids) == self.budget:
            text += self.visible.finish()
        if is_stop or is_last or self.visible.stopped:
            self.finish_reason = "stop"
        elif len(self.ids) == self.budget:
            self.finish_reason = "length"
        return text

    def result(self) -> Generation:
        """Return the finished answer."""
        assert self.finish_reason is not None, "the answer is not over"
        return Generation(tuple(self.ids), self.visible.text, self.finish_reason)
