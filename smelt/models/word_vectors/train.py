"""Train word vectors: skip-gram, CBOW and fastText by windows, GloVe by counted pairs.

    skipgram  the middle word of a window predicts each of the others, against drawn negatives
    cbow      the mean of the others predicts the middle word
    fasttext  skip-gram, where a word is the mean of its own vector and those of its character n-grams
    glove     no windows but a table: w_i . w_j + b_i + b_j is fitted to the log of how often i stood near j

The work is cut into blocks. The seed and the learning rate of a block follow from its number alone, so one thread gives
the same vectors in every run on the same kind of processor. With more of them, which of two steps on one row comes
first, or gets lost, is chance: runs differ a little, and no more can be promised.

Ref: Mikolov et al., arXiv:1301.3781 and arXiv:1310.4546; Bojanowski et al., arXiv:1607.04606; Pennington et al., 2014.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from smelt.core.errors import ResourceError, UsageError, nearest
from smelt.core.runtime import free_memory_bytes
from smelt.models.word_vectors.corpus import Corpus, IdArray, IntArray
from smelt.models.word_vectors.model import Ngrams, WordVectors
from smelt.models.word_vectors.predictor import Predictor
from smelt.models.word_vectors.sampling import ALWAYS, NOISE_POWER, alias_table, keep_thresholds, stream_of
from smelt.models.word_vectors.subwords import Subwords

Kind = Literal["skipgram", "cbow", "fasttext", "glove"]
KINDS: tuple[Kind, ...] = get_args(Kind)
Progress = Callable[[int, int], None]
Floats = NDArray[np.float32]

BLOCK_WORDS = 10_000
BLOCK_PAIRS = 100_000
LEARNING_RATES: dict[Kind, float] = {"skipgram": 0.025, "cbow": 0.05, "fasttext": 0.05, "glove": 0.05}
LAST_SHARE = 0.004  # of the learning rate, in the last block
WORDS_AT_ONCE = 4096
PAIR_POWER = 0.75


@dataclass(frozen=True)
class Settings:
    """How word vectors are trained.

    Args:
        window: the most words to each side; windows of skip-gram, CBOW and fastText have a random part of it.
        negatives: drawn for each predicted word; GloVe has none.
        learning_rate: at the beginning; by default that of `LEARNING_RATES`.
        sample: words that are a larger share of the text than this are skipped at times; 0 for never. GloVe skips none.
        pair_limit: the count from which on a pair weighs no more (GloVe's x_max).
        threads: with more than one, no two runs are the same.
    """

    kind: Kind = "skipgram"
    dim: int = 100
    window: int = 5
    negatives: int = 5
    epochs: int = 5
    learning_rate: float | None = None
    sample: float = 1e-3
    pair_limit: float = 10.0
    subwords: Subwords = field(default_factory=Subwords)
    seed: int = 0
    threads: int = 1

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise UsageError(f"unknown kind '{self.kind}'.{nearest(self.kind, KINDS)}", accepted=", ".join(KINDS))
        for name, least in (("dim", 1), ("window", 1), ("negatives", 1), ("epochs", 1), ("threads", 1), ("seed", 0)):
            if getattr(self, name) < least:
                raise UsageError(f"{name}={getattr(self, name)} is not possible", accepted=f"{least} or more")
        if not 0 <= self.sample < 1:
            raise UsageError(f"sample={self.sample} is not possible", accepted="0 to below 1")
        if not 0 < self.rate < math.inf or not 0 < self.pair_limit < math.inf:
            raise UsageError(f"learning_rate={self.rate}, pair_limit={self.pair_limit}", accepted="positive numbers")

    @property
    def rate(self) -> float:
        """Return the learning rate at the beginning."""
        return LEARNING_RATES[self.kind] if self.learning_rate is None else self.learning_rate


def train(corpus: Corpus, settings: Settings, on_progress: Progress | None = None) -> WordVectors:
    """Train on a corpus; `on_progress` is told how many of all words (of pairs, for GloVe) are done.

    Raises ResourceError when the matrices do not fit into the free memory.
    """
    size = len(corpus.vocabulary)
    rows = size + (settings.subwords.buckets if settings.kind == "fasttext" else 0)
    wanted = 4 * settings.dim * (4 * size if settings.kind == "glove" else rows + size)
    if wanted > free_memory_bytes():
        raise ResourceError(
            f"the matrices need {wanted / 1e6:,.0f} MB, {free_memory_bytes() / 1e6:,.0f} MB are free",
            fix="a smaller --dim or --buckets, or a larger --min-count",
        )
    told = on_progress or (lambda done, total: None)
    if settings.kind == "glove":
        return _train_glove(corpus, settings, told)
    return _train_windows(corpus, settings, rows, told)


def _train_windows(corpus: Corpus, settings: Settings, rows: int, on_progress: Progress) -> WordVectors:
    """Train by windows, with one part a word, or for fastText with its n-grams."""
    from smelt.models.word_vectors.kernels import Windows, train_windows

    vocabulary, counts = corpus.vocabulary, corpus.vocabulary.counts
    subwords = settings.subwords if settings.kind == "fasttext" else None
    starts: IntArray = np.arange(len(vocabulary) + 1)
    parts: IdArray = np.arange(len(vocabulary), dtype=np.int32)
    if subwords is not None:
        starts, parts = subwords.tables(vocabulary.words)
    inputs = random_rows(np.random.default_rng(settings.seed), rows, settings.dim)
    outputs = np.zeros((len(vocabulary), settings.dim), np.float32)
    fixed = Windows(
        keep_thresholds(counts, settings.sample), alias_table(counts), starts, parts, inputs, outputs,
        settings.window, settings.negatives, settings.kind == "cbow",
    )  # fmt: skip
    begins = range(0, len(corpus.ids), BLOCK_WORDS)
    num_blocks = settings.epochs * len(begins)

    def train_block(number: int) -> None:
        epoch, block = divmod(number, len(begins))
        stop = min(begins[block] + BLOCK_WORDS, len(corpus.ids))
        rate = settings.rate * (1 - (1 - LAST_SHARE) * number / num_blocks)
        seed = np.uint64(stream_of(settings.seed, epoch, block))
        train_windows(corpus.ids, begins[block], stop, fixed, rate, seed)

    total = settings.epochs * corpus.num_words
    in_threads(train_block, num_blocks, settings.threads, lambda done: on_progress(total * done // num_blocks, total))
    words, ngrams = inputs, None
    if subwords is not None:
        words, ngrams = means_of_parts(inputs, starts, parts), Ngrams(subwords, inputs[len(vocabulary) :])
    noise, kept = counts.astype(np.float64) ** NOISE_POWER, fixed.keep / ALWAYS
    biases = np.log(noise / noise.sum() / kept).astype(np.float32)
    averages = settings.kind == "cbow"
    predictor = Predictor(words, outputs, biases, counts, vocabulary.num_unknown, settings.window, averages)
    return WordVectors(vocabulary.words, words, settings.kind, predictor, ngrams)


def means_of_parts(inputs: Floats, starts: IntArray, parts: IdArray) -> Floats:
    """Return the mean of each word's parts (V, D), some thousand words at a time."""
    found = np.empty((len(starts) - 1, inputs.shape[1]), np.float32)
    for begin in range(0, len(found), WORDS_AT_ONCE):
        bounds = starts[begin : begin + WORDS_AT_ONCE + 1]
        sums = np.add.reduceat(inputs[parts[bounds[0] : bounds[-1]]], bounds[:-1] - bounds[0])
        found[begin : begin + WORDS_AT_ONCE] = sums / np.diff(bounds)[:, None].astype(np.float32)
    return found


def _train_glove(corpus: Corpus, settings: Settings, on_progress: Progress) -> WordVectors:
    """Count the pairs, then fit them in another random order each epoch; a word's vector is the sum of both sides."""
    from smelt.models.word_vectors.glove import pair_counts
    from smelt.models.word_vectors.kernels import Factors, train_pairs

    vocabulary = corpus.vocabulary
    keys, counts = pair_counts(corpus, settings.window)
    random = np.random.default_rng(settings.seed)
    main, context = (
        Factors(
            random_rows(random, len(vocabulary), settings.dim), np.zeros(len(vocabulary), np.float32),
            np.ones((len(vocabulary), settings.dim), np.float32), np.ones(len(vocabulary), np.float32),
        )
        for _ in range(2)
    )  # fmt: skip
    begins = range(0, len(keys), BLOCK_PAIRS)
    for epoch in range(settings.epochs):
        order = random.permutation(len(keys))

        def train_block(block: int, order: IntArray = order) -> None:
            rows = order[begins[block] : begins[block] + BLOCK_PAIRS]
            train_pairs(keys, counts, rows, main, context, settings.pair_limit, PAIR_POWER, settings.rate)

        def tell(done: int, before: int = epoch * len(begins)) -> None:
            on_progress(len(keys) * (before + done) // len(begins), len(keys) * settings.epochs)

        in_threads(train_block, len(begins), settings.threads, tell)
    predictor = Predictor(
        main.vectors, context.vectors, context.biases, vocabulary.counts, vocabulary.num_unknown, settings.window, False
    )
    return WordVectors(vocabulary.words, main.vectors + context.vectors, settings.kind, predictor)


def random_rows(random: np.random.Generator, rows: int, dim: int) -> Floats:
    """Return small random vectors (rows, D), between -1 / 2D and 1 / 2D."""
    found = random.random((rows, dim), dtype=np.float32)
    found -= np.float32(0.5)
    found /= np.float32(dim)
    return found


def in_threads(work: Callable[[int], None], count: int, threads: int, on_done: Callable[[int], None]) -> None:
    """Run work(0) .. work(count - 1), in order on one thread, else side by side; tell how many are done."""
    if threads == 1:
        for number in range(count):
            work(number)
            on_done(number + 1)
        return
    with ThreadPoolExecutor(threads) as pool:
        for number, _ in enumerate(pool.map(work, range(count)), 1):
            on_done(number)
