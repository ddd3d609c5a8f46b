"""Bits per byte: how many bits the model needs for each byte of a text, whatever its tokenizer.

A text longer than the context is read through overlapping windows. The first window scores all its tokens, each later
one only the `stride` tokens at its end, so that every token is scored once and, past the first window, with at least
max_seq_len - stride tokens before it. A small stride is more exact and costs max_seq_len / stride forwards a token.

Documents never see each other: each is read on its own, behind one end-of-text token as in training. Only the tokens
of the text are scored. The end-of-text token is context at the start and not scored at the end: it is no part of
the text, and scoring it would make the figure depend on how a corpus is cut into documents.
Ref: perplexity of fixed-length models, transformers documentation; bits per byte: arXiv:2101.00027, section 3.1.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor
from torch.nn import functional

from smelt.core.errors import UsageError
from smelt.models.encoder_decoder import Network
from smelt.tokenizers.base import END_OF_TEXT, Tokenizer

BATCH_TOKENS = 8192  # tokens in one forward
POOL_WINDOWS = 1024  # windows sorted by length at a time, so that batches need little padding
LOGIT_ENTRIES = 2**24  # logits in memory at a time: 64 MiB in float32


@dataclass(frozen=True)
class TextScore:
    """How well a text was predicted: bits a byte (tokenizer independent) and perplexity (a token, so dependent)."""

    bits_per_byte: float
    perplexity: float
    num_bytes: int
    num_tokens: int


@dataclass(frozen=True)
class Window:
    """Consecutive ids of one document: all but the last are read, and the last `num_scored` are scored."""

    ids: Sequence[int]
    num_scored: int


@torch.inference_mode()
def bits_per_byte(
    model: Network,
    tokenizer: Tokenizer,
    texts: Iterable[str],
    *,
    max_seq_len: int | None = None,
    stride: int | None = None,
    start_id: int | None = None,
) -> TextScore:
    """Score `texts`, one document each, by strided windows of `max_seq_len` read tokens.

    Left out, `max_seq_len` is the model's context, `stride` half of it and `start_id` the end-of-text token's id.
    Raises UsageError for sizes that do not fit and for texts without a byte.
    """
    context = model.max_text_tokens
    size = context if max_seq_len is None else max_seq_len
    step = max(1, size // 2) if stride is None else stride
    if not 1 <= size <= context:
        raise UsageError(f"max_seq_len: {size} is not possible", accepted=f"1 to the model's context, {context}")
    if not 1 <= step <= size:
        raise UsageError(f"stride: {step} is not possible", accepted=f"1 to max_seq_len, {size}")
    start = _start_id(tokenizer) if start_id is None else start_id
    count = _Count()
    windows = (window for ids in _encoded(tokenizer, texts, start, count) for window in split(ids, size, step))
    nats = sum(_nats(model, batch) for batch in _batches(windows))
    if count.num_bytes == 0:
        raise UsageError("the text is empty", accepted="at least one byte of text")
    bits = nats / math.log(2)
    # exp overflows at 709 nats a token, which only a broken model reaches.
    perplexity = math.exp(min(nats / count.num_tokens, 709.0)) if nats == nats else math.nan
    return TextScore(bits / count.num_bytes, perplexity, count.num_bytes, count.num_tokens)


def split(ids: Sequence[int], max_seq_len: int, stride: int) -> Iterator[Window]:
    """Cut one document, its start token first, into windows that score each later token once.

    split([0, 1, 2, 3, 4, 5], 3, 2) -> ids 0 1 2 3 scoring 1 2 3; then ids 2 3 4 5 scoring 4 5
    """
    scored = 1  # tokens that are done; the start token needs no score
    begin = 0
    while scored < len(ids):
        end = min(begin + max_seq_len + 1, len(ids))
        yield Window(ids[begin:end], end - scored)
        scored, begin = end, begin + stride


@dataclass
class _Count:
    num_bytes: int = 0
    num_tokens: int = 0


def _start_id(tokenizer: Tokenizer) -> int:
    if END_OF_TEXT not in tokenizer.special:
        raise UsageError(
            f"the tokenizer has no {END_OF_TEXT} to start a document with", fix="pass the start token's id as start_id"
        )
    return tokenizer.special[END_OF_TEXT]


def _encoded(tokenizer: Tokenizer, texts: Iterable[str], start_id: int, count: _Count) -> Iterator[list[int]]:
    for text in texts:
        ids = tokenizer.encode(text)
        count.num_bytes += len(text.encode())
        count.num_tokens += len(ids)
        yield [start_id, *ids]


def _batches(windows: Iterator[Window]) -> Iterator[list[Window]]:
    """Group windows of similar length into batches of about BATCH_TOKENS tokens."""
    while pool := list(islice(windows, POOL_WINDOWS)):
        pool.sort(key=lambda window: len(window.ids), reverse=True)
        while pool:
            size = max(1, BATCH_TOKENS // len(pool[0].ids))
            yield pool[:size]
            del pool[:size]


def _nats(model: Network, windows: Sequence[Window]) -> float:
    """Return the summed -log p of the scored tokens of a batch."""
    width = max(len(window.ids) for window in windows)
    # Padding stands on the right, where no real token sees it, so plain causal attention will do.
    ids = torch.tensor([[*window.ids, *[0] * (width - len(window.ids))] for window in windows])
    ends = torch.tensor([len(window.ids) - 1 for window in windows])[:, None]
    place = torch.arange(width - 1)
    scored = (place < ends) & (place >= ends - torch.tensor([window.num_scored for window in windows])[:, None])
    device = model.head_weight.device
    hidden = model(ids[:, :-1].to(device), project=False).hidden[scored.to(device)]  # (N, D)
    return _cross_entropy(model, hidden, ids[:, 1:][scored].to(device))


def _cross_entropy(model: Network, hidden: Tensor, targets: Tensor) -> float:
    """Sum -log p over tokens `(N, D)`, `(N,)` in chunks, so that not all logits exist at once."""
    chunk = max(1, LOGIT_ENTRIES // model.spec.vocab_size)
    total = 0.0
    for begin in range(0, len(targets), chunk):
        logits = model.project(hidden[begin : begin + chunk]).float()
        total += float(functional.cross_entropy(logits, targets[begin : begin + chunk], reduction="sum"))
    return total
