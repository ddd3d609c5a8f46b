"""Bits per byte and perplexity of an n-gram model, comparable with those of a neural one.

As in `text`, documents never see each other and each is read behind one end-of-text token where the tokenizer has it,
which is context and not scored. A model whose training streams began with that token knows how documents begin; to
another it is an unseen context that changes nothing. There are no windows: a row of any length is scored at once.
Ref: bits per byte: arXiv:2101.00027, section 3.1.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from smelt.core.errors import UsageError
from smelt.evals.text import TextScore
from smelt.models.ngram import NgramModel
from smelt.tokenizers.base import END_OF_TEXT, Tokenizer


def bits_per_byte(model: NgramModel, tokenizer: Tokenizer, texts: Iterable[str]) -> float:
    """Return the bits that the model needs for each byte (UTF-8) of `texts`; raises what `score_text` raises."""
    return score_text(model, tokenizer, texts).bits_per_byte


def score_text(model: NgramModel, tokenizer: Tokenizer, texts: Iterable[str]) -> TextScore:
    """Score `texts`, one document each.

    Raises UsageError for texts without a byte and for a tokenizer with ids that the model does not know.
    """
    if tokenizer.vocab_size > model.vocab_size:
        raise UsageError(
            f"the tokenizer has {tokenizer.vocab_size} ids, the n-gram model {model.vocab_size}",
            accepted="the tokenizer that the model was trained with",
        )
    start = start_ids(tokenizer)
    nats, num_bytes, num_tokens = 0.0, 0, 0
    for text in texts:
        row = [*start, *tokenizer.encode(text)]
        nats -= float(model.log_probabilities(row)[len(start) :].sum())
        num_bytes += len(text.encode())
        num_tokens += len(row) - len(start)
    if num_bytes == 0:
        raise UsageError("the text is empty", accepted="at least one byte of text")
    return TextScore(nats / math.log(2) / num_bytes, math.exp(nats / max(1, num_tokens)), num_bytes, num_tokens)


def start_ids(tokenizer: Tokenizer) -> list[int]:
    """Return what stands before a document: the end-of-text token, where the tokenizer has one."""
    return [tokenizer.special[END_OF_TEXT]] if END_OF_TEXT in tokenizer.special else []
