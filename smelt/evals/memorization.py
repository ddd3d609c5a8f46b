"""Verbatim memorization: how many samples contain a long run of tokens that also stands in the training data.

All runs of `span_tokens` tokens of the samples are hashed (there are few), then the training tokens are read once, a
chunk at a time, with a rolling hash that numpy computes for all positions at once. A hit is compared token by token,
so a collision cannot accuse a sample; and equal runs have equal hashes, so no copy is missed. Memory is a few
arrays of one chunk, whatever the size of the training data; time is about 0.04 s a million training tokens.

Ref: Carlini et al., Quantifying memorization across neural language models, arXiv:2202.07646 (50-token spans).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from smelt.core.errors import UsageError
from smelt.evals.metrics import Rate
from smelt.infer.generate import generate
from smelt.infer.sampling import Sampling
from smelt.models.encoder_decoder import Network
from smelt.tokenizers.base import END_OF_TEXT, Tokenizer

Ids = npt.NDArray[np.integer]
Hashes = npt.NDArray[np.uint64]
Places = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
CHUNK_TOKENS = 1 << 20
PLACES_AT_ONCE = 1 << 10
BATCH_SIZE = 64
TRIES_A_SAMPLE = 50  # random places looked at for each prefix that is wanted
_BASE = 0x9E3779B97F4A7C15  # odd, so it has an inverse modulo 2^64


def verbatim_rate(samples_ids: Sequence[Sequence[int]], train_ids: Ids, *, span_tokens: int = 50) -> Rate:
    """Return the share of samples with `span_tokens` consecutive tokens that also stand in `train_ids` (N,).

    `train_ids` may be memory-mapped. A sample shorter than the span cannot be a copy but counts in the total.
    """
    copied = find_copies(samples_ids, train_ids, span_tokens=span_tokens)
    return Rate.of(sum(copied), len(copied))


def find_copies(samples_ids: Sequence[Sequence[int]], train_ids: Ids, *, span_tokens: int = 50) -> list[bool]:
    """Say for each sample whether it contains `span_tokens` consecutive tokens of `train_ids` (N,)."""
    if span_tokens < 1:
        raise UsageError(f"span_tokens: {span_tokens} is not possible", accepted="1 or more")
    samples = [np.asarray(ids, dtype=np.int64) for ids in samples_ids]
    copied = np.zeros(len(samples), dtype=bool)
    spans = _sample_spans(samples, span_tokens)
    for chunk in _chunks(train_ids, span_tokens):
        if not len(spans.hashes):
            break
        found = rolling_hashes(chunk, span_tokens)
        places = _places_of(spans.hashes, found)
        for value in np.unique(found[places]):
            same = spans.only(spans.hashes == value)
            _confirm(chunk, places[found[places] == value], samples, same, span_tokens, copied)
        spans = spans.only(~copied[spans.owners])  # a sample that is found needs no further search
    return [bool(value) for value in copied]


def _confirm(
    chunk: Ids,
    places: npt.NDArray[np.int64],
    samples: Sequence[Ids],
    spans: _Spans,
    span_tokens: int,
    copied: BoolArray,
) -> None:
    """Mark in `copied` the samples whose runs, all of one hash, really stand at one of these places of the chunk."""
    for begin in range(0, len(places), PLACES_AT_ONCE):
        runs = chunk[places[begin : begin + PLACES_AT_ONCE, None] + np.arange(span_tokens)]  # (places, span)
        for owner, offset in zip(spans.owners, spans.offsets, strict=True):
            if not copied[owner]:
                copied[owner] = bool((runs == samples[owner][offset : offset + span_tokens]).all(axis=1).any())
        if copied[spans.owners].all():
            return


def rolling_hashes(ids: Ids, span_tokens: int) -> Hashes:
    """Hash every run of `span_tokens` ids: (N,) -> (N - span_tokens + 1,), equal runs to equal numbers.

    With m(x) a scrambled id and b an odd base, the hash of the run from i is the sum of m(ids[i + j]) b^j modulo 2^64:
    a difference of two running sums of m(ids[k]) b^k, divided by b^i.
    """
    num_spans = len(ids) - span_tokens + 1
    if num_spans < 1:
        return np.empty(0, dtype=np.uint64)
    mixed = (ids.astype(np.uint64) + np.uint64(1)) * np.uint64(0xBF58476D1CE4E5B9)
    mixed ^= mixed >> np.uint64(32)
    mixed *= _powers(_BASE, len(ids))
    sums = np.zeros(len(ids) + 1, dtype=np.uint64)
    np.cumsum(mixed, out=sums[1:])
    return (sums[span_tokens:] - sums[:num_spans]) * _powers(pow(_BASE, -1, 2**64), num_spans)


@dataclass(frozen=True)
class _Spans:
    """Hashed runs of the samples, sorted by hash; `owners` and `offsets` say where each run stands."""

    hashes: Hashes
    owners: Places
    offsets: Places

    def only(self, keep: BoolArray) -> _Spans:
        return _Spans(self.hashes[keep], self.owners[keep], self.offsets[keep])


def _sample_spans(samples: Sequence[Ids], span_tokens: int) -> _Spans:
    found = [rolling_hashes(sample, span_tokens) for sample in samples]
    hashes = np.concatenate([np.empty(0, dtype=np.uint64), *found])
    owners = np.repeat(np.arange(len(samples)), [len(part) for part in found])
    offsets = np.concatenate([np.empty(0, dtype=np.int64), *(np.arange(len(part)) for part in found)])
    order = np.argsort(hashes)
    return _Spans(hashes[order], owners[order], offsets[order])


def _chunks(train_ids: Ids, span_tokens: int) -> Iterator[Ids]:
    """Read the training ids in chunks that overlap by span_tokens - 1, so that no run is torn."""
    for begin in range(0, len(train_ids) - span_tokens + 1, CHUNK_TOKENS):
        yield np.asarray(train_ids[begin : begin + CHUNK_TOKENS + span_tokens - 1])


def _places_of(wanted: Hashes, found: Hashes) -> Places:
    """Return where `found` holds one of the sorted `wanted`; a table of the top 20 bits settles nearly all places."""
    shift = np.uint64(44)
    table = np.zeros(1 << 20, dtype=bool)
    table[wanted >> shift] = True
    places = np.nonzero(table[found >> shift])[0]
    nearest = np.searchsorted(wanted, found[places]).clip(max=len(wanted) - 1)
    hits: Places = places[wanted[nearest] == found[places]]
    return hits


def _powers(base: int, num: int) -> Hashes:
    """Return base^0, base^1, ... modulo 2^64."""
    factors = np.full(num, base, dtype=np.uint64)
    factors[0] = 1
    return np.multiply.accumulate(factors)


@dataclass(frozen=True)
class Memorization:
    """Copy rates of continuations of training text and of texts written from nothing."""

    from_prefixes: Rate
    from_nothing: Rate
    span_tokens: int


def measure_memorization(
    model: Network,
    tokenizer: Tokenizer,
    train_ids: Ids,
    *,
    num_samples: int = 64,
    prefix_tokens: int = 32,
    new_tokens: int = 128,
    span_tokens: int = 50,
    temperature: float = 1.0,
    seed: int = 0,
) -> Memorization:
    """Sample `num_samples` continuations of training prefixes and as many texts from nothing; count the copies.

    Only generated tokens count. Prefixes are taken where the document goes on long enough to be copied from, so there
    are fewer, or none, where documents are short. Prefix and new tokens are fewer where the context is short. Raises
    UsageError when the context cannot hold a prefix token and a span.
    """
    context, end_id = model.max_text_tokens, tokenizer.special[END_OF_TEXT]
    if context <= span_tokens:
        raise UsageError(
            f"a copy of {span_tokens} tokens does not fit a context of {context}",
            accepted=f"span_tokens up to {context - 1}",
        )
    prefix_tokens = min(prefix_tokens, context - span_tokens)
    sampling = Sampling(max_new_tokens=new_tokens, temperature=temperature, seed=seed)
    rates = []
    for prompts in (
        _prefixes(train_ids, num_samples, prefix_tokens, span_tokens, end_id, seed),
        [[end_id]] * num_samples,
    ):
        samples: list[tuple[int, ...]] = []
        for begin in range(0, len(prompts), BATCH_SIZE):
            batch = replace(sampling, seed=seed + begin)
            found = generate(model, tokenizer, prompts[begin : begin + BATCH_SIZE], batch, stop_ids=(end_id,))
            samples.extend(generation.ids for generation in found)
        rates.append(verbatim_rate(samples, train_ids, span_tokens=span_tokens))
    return Memorization(rates[0], rates[1], span_tokens)


def _prefixes(
    train_ids: Ids, num: int, prefix_tokens: int, span_tokens: int, end_id: int, seed: int
) -> list[list[int]]:
    """Pick up to `num` places, all different, where prefix and span lie inside one document; return the prefixes."""
    length = prefix_tokens + span_tokens
    last = len(train_ids) - length
    if last < 0:
        return []
    generator = np.random.default_rng(seed)
    places = np.unique(generator.integers(0, last + 1, size=TRIES_A_SAMPLE * num))
    prefixes: list[list[int]] = []
    for place in generator.permutation(places):
        if len(prefixes) == num:
            break
        window = np.asarray(train_ids[place : place + length])
        if end_id not in window:
            prefixes.append(window[:prefix_tokens].tolist())
    return prefixes
