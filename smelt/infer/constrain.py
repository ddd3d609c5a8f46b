"""Constraints: which tokens may come next, so that an answer is what a grammar says.

A grammar is written in Lark's notation as llguidance reads it, in which `%json {...}` stands for what a JSON schema
describes and `<[7]>` for the token 7. Before each choice it allows some ids; the chosen one takes it further, until
nothing may follow. Special tokens are never part of a text: a grammar has to name them. What ends answers is allowed
where the grammar may end.

Ref: llguidance, docs/syntax.md; JSON schema, draft 2020-12.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from smelt.core.errors import UsageError
from smelt.core.extras import need
from smelt.tokenizers.base import Tokenizer

MAX_LEXER_STATES = 50_000  # 1 to 2 kB each; other limits are llguidance's own, some 20 ms a token
MAX_GRAMMAR_CHARACTERS = 1 << 18  # compiled in about a second
MAX_REASON = 200
# A model that is not sure what to write could write spaces for ever.
SPACES = r"[ \n\r\t]{1,40}"


class Constraint:
    """The state of one answer's grammar; `allowed` (V,) bool are the ids that may come next."""

    def __init__(self, matcher: Any, vocab_size: int) -> None:
        self._matcher, self.vocab_size = matcher, vocab_size
        self.allowed = self._look()

    @property
    def failed(self) -> bool:
        """Tell whether nothing may follow though the grammar is not at its end, which went beyond what is possible."""
        accepts = self._matcher.is_stopped() or self._matcher.is_accepting()
        return self._matcher.is_error() or not (accepts or bool(self.allowed.any()))

    @property
    def reason(self) -> str:
        """Return why it failed."""
        return reason_in(self._matcher.get_error())

    def take(self, token_id: int) -> bool:
        """Take the next token, and tell whether nothing may follow it."""
        self._matcher.consume_token(token_id)
        if not self._matcher.is_stopped():
            self.allowed = self._look()
        return self._matcher.is_stopped() or not bool(self.allowed.any())

    def copy(self) -> Constraint:
        """Return the same state for another answer."""
        return Constraint(self._matcher.deep_copy(), self.vocab_size)

    def _look(self) -> Tensor:
        data = np.frombuffer(self._matcher.compute_bitmask(), np.uint8)
        return torch.from_numpy(np.unpackbits(data, count=self.vocab_size, bitorder="little")).bool()


class Grammars:
    """Make constraints for a model; safe to share between threads.

    Args:
        tokenizer: gives the bytes of the ids.
        vocab_size: how many of its ids the model has.
        stop_ids: the ids that end an answer.
    """

    def __init__(self, tokenizer: Tokenizer, vocab_size: int, stop_ids: Iterable[int]) -> None:
        self.tokenizer, self.vocab_size = tokenizer, vocab_size
        self.stop_ids = tuple(id_ for id_ in stop_ids if id_ < vocab_size)

    def compile(self, grammar: str) -> Constraint:
        """Return the constraint of a grammar at its beginning.

        Raises:
            UsageError: the grammar is none, has what is not known here, describes no text, or is too large.
        """
        if len(grammar) > MAX_GRAMMAR_CHARACTERS:
            raise UsageError(
                f"the grammar has {len(grammar):,} characters", accepted=f"at most {MAX_GRAMMAR_CHARACTERS:,}"
            )
        guidance = need("llguidance", extra="serve")
        limits = guidance.LLParserLimits(max_lexer_states=MAX_LEXER_STATES, verbose_errors=False)
        matcher = guidance.LLMatcher(self._vocabulary, grammar, limits=limits, log_level=0)
        if matcher.is_error():
            raise UsageError(f"no answer can be held to this: {reason_in(matcher.get_error())}")
        constraint = Constraint(matcher, self.vocab_size)
        if constraint.failed or not bool(constraint.allowed.any()):
            raise UsageError(f"no answer can be held to this: {constraint.reason}")
        return constraint

    @functools.cached_property
    def _vocabulary(self) -> Any:
        """Return the tokenizer as llguidance wants it."""
        guidance = need("llguidance", extra="serve")
        vocabulary = Vocabulary(self.tokenizer, self.vocab_size, self.stop_ids)
        ends = self.stop_ids or (vocabulary.eos_token_id,)
        return guidance.LLTokenizer(guidance.TokenizerWrapper(vocabulary), eos_token=list(ends))


class Vocabulary:
    """Describe a tokenizer by the names that llguidance reads.

    One more token is behind the vocabulary's last. It stands for the end where no id does, and no model can say it.
    """

    bos_token_id = None

    def __init__(self, tokenizer: Tokenizer, vocab_size: int, stop_ids: Iterable[int]) -> None:
        self._tokenizer = tokenizer
        self.eos_token_id = vocab_size
        self.tokens = [*(tokenizer.decode_bytes([id_], continued=True) for id_ in range(vocab_size)), b""]
        self.special_token_ids = sorted(
            {*(id_ for id_ in tokenizer.special.values() if id_ < vocab_size), *stop_ids, vocab_size}
        )
        hidden = frozenset(self.special_token_ids)
        self._ids = {data: id_ for id_, data in enumerate(self.tokens) if id_ not in hidden and data}
        self._longest = max(map(len, self._ids), default=0)

    def __call__(self, data: bytes) -> list[int]:
        """Return the ids of a text that a grammar leaves no choice about; they spell exactly this text."""
        ids = self._tokenizer.encode(data.decode("utf-8"), continued=True)
        if b"".join(self.tokens[id_] for id_ in ids if id_ < self.eos_token_id) == data:
            return ids
        return self._spell(data)  # where the tokenizer rewrites texts, or the model lacks some of its ids

    def _spell(self, data: bytes) -> list[int]:
        """Return the longest token that fits, again and again, as far as there is one."""
        ids: list[int] = []
        start = 0
        while start < len(data):
            ends = range(min(len(data), start + self._longest), start, -1)
            end = next((end for end in ends if data[start:end] in self._ids), None)
            if end is None:
                break
            ids.append(self._ids[data[start:end]])
            start = end
        return ids


def json_rule(schema: Mapping[str, Any], *, lenient: bool) -> str:
    """Return the part of a grammar that a JSON schema describes; `lenient` passes over keywords not known here."""
    own = {"whitespace_pattern": SPACES, "lenient": lenient}
    return f"%json {json.dumps({**schema, 'x-guidance': own}, ensure_ascii=False)}"


def reason_in(error: str) -> str:
    """Return the reason in an error of llguidance, without the grammar's lines and the places that it quotes."""
    lines = error.split("failed to compile JSON schema: ")[-1].splitlines()
    reason = " ".join(line for line in lines if line and line[0] not in " <")
    if not reason or reason.startswith("NoExtension"):
        return "no text fits"
    if reason.startswith("panic"):
        return "it is too large"
    return reason[:MAX_REASON]
