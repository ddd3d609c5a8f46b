"""Text from ids while they arrive: complete characters only, never half of one.

A token may end inside a UTF-8 character (byte-level BPE cuts where it likes, and rare Chinese characters or emoji
take several tokens), so the bytes of an unfinished character wait for the next token. What is pushed out, joined,
equals `decode` of all ids at once.
"""

from __future__ import annotations

import codecs
from collections.abc import Collection

from smelt.tokenizers.base import Tokenizer


class TextStream:
    """Decode one sequence id by id, without special tokens but those that are to be `shown`."""

    def __init__(self, tokenizer: Tokenizer, *, skip_special: bool = True, shown: Collection[int] = ()) -> None:
        self._tokenizer = tokenizer
        self._hidden = frozenset(tokenizer.special.values()) - frozenset(shown) if skip_special else frozenset()
        self._begun = False
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def push(self, token: int) -> str:
        """Return the text that this id completes, possibly none.

        Raises:
            TokenizerError: the id is not in the vocabulary.
        """
        if token in self._hidden:
            return ""
        data = self._tokenizer.decode_bytes([token], continued=self._begun)
        self._begun = True
        return self._decoder.decode(data)

    def finish(self) -> str:
        """Return what is left: U+FFFD if the last character never became whole."""
        return self._decoder.decode(b"", final=True)
