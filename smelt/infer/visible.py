"""The part of an answer that may be shown: never a piece of a stop string, even one spread over several tokens.

Text waits while it could still become a stop string, so what is shown never has to be taken back. Of several stop
strings the one that is complete first wins, so the cut does not depend on how the text was split into tokens.
Whole characters are the business of the tokenizers' TextStream, which this one stands behind.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from smelt.tokenizers.base import Tokenizer
from smelt.tokenizers.stream import TextStream


class VisibleText:
    """Turn the ids of one answer into its text, one id at a time; special tokens have none.

    Args:
        tokenizer: gives the bytes of an id.
        stop: texts that end the answer and do not belong to it.
        shown: special tokens that are text all the same.
    """

    def __init__(self, tokenizer: Tokenizer, stop: Sequence[str] = (), shown: Collection[int] = ()) -> None:
        self.stop = tuple(stop)
        self.text = ""  # all that has been released
        self.stopped = False
        self._held = ""
        self._stream = TextStream(tokenizer, shown=shown)

    def push(self, token_id: int) -> str:
        """Take the next id and return the text that it releases, often empty; sets `stopped` at a stop string."""
        return self._release(self._stream.push(token_id), last=False)

    def finish(self) -> str:
        """Return what was still held back; a character that was never completed becomes U+FFFD."""
        return self._release(self._stream.finish(), last=True)

    def _release(self, arrived: str, last: bool) -> str:
        if self.stopped:
            return ""
        self._held += arrived
        cut = first_stop(self._held, self.stop)
        if cut is not None:
            self.stopped, ready, self._held = True, self._held[:cut], ""
        else:
            keep = 0 if last else num_to_hold(self._held, self.stop)
            ready = self._held[: len(self._held) - keep]
            self._held = self._held[len(ready) :]
        self.text += ready
        return ready


def first_stop(text: str, stop: Sequence[str]) -> int | None:
    """Return where the stop string begins that is complete first in `text`; None where there is none.

    first_stop("abcd", ("abcd", "bc")) -> 1
    """
    found = [(begin + len(word), begin) for word in stop if (begin := text.find(word)) >= 0]
    return min(found)[1] if found else None


def num_to_hold(text: str, stop: Sequence[str]) -> int:
    """Count the characters at the end of `text` that could be the beginning of a stop string.

    num_to_hold("see </", ("</s>",)) -> 2
    """
    longest = 0
    for word in stop:
        for size in range(min(len(word) - 1, len(text)), longest, -1):
            if text.endswith(word[:size]):
                longest = size
                break
    return longest
