"""The probability of a word after others, as word vectors give it: a softmax over the whole vocabulary.

Negative sampling fits in . out to log p'(word | given) / q(word), less a constant: q is what negatives are drawn from,
and p' what is left of p where frequent words are skipped, p times the share of the word that is kept. GloVe fits in .
out + b + c to the log of a count. So p(word | given) is the softmax of in . out + bias, where bias is log q / kept, or
GloVe's c; what does not depend on the word drops out. CBOW has one softmax, of the mean of the words given; the others
know what stands near one word, and the mean of their probabilities over the words given is taken.

Costs V x D products a softmax: one a scored place for CBOW, one a distinct word given for the others, which is kept.

Ref: Levy & Goldberg, Neural word embedding as implicit matrix factorization, 2014, eq. 7 (the optimum of negative
sampling); Pennington et al., 2014, eq. 7.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from smelt.models.word_vectors.corpus import IdArray, IntArray

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
SCORES_AT_ONCE = 1 << 24  # 64 MB


@dataclass(frozen=True, eq=False)
class Predictor:
    """Both sides of trained vectors, and what a word is without any context."""

    inputs: Floats  # (V, D) of the words given
    outputs: Floats  # (V, D) of the word that is predicted
    biases: Floats  # (V,)
    counts: IntArray  # (V,) in the training text
    num_unknown: int  # words of the training text outside the vocabulary
    window: int  # words given, at most
    averages: bool  # CBOW: one prediction from the mean of the words given, not the mean of one from each

    def log_probabilities(self, row: IdArray) -> Doubles:
        """Return the natural log of each word's probability given up to `window` words before it in the row, (N,).

        Words outside the vocabulary (negative numbers) give nothing and get NaN: their price is not known here. Without
        a known word before it, a word has its share of the training text.
        """
        found = np.full(len(row), np.nan)
        scored = np.flatnonzero(row >= 0)
        before = [row[max(0, place - self.window) : place] for place in scored]
        given = [words[words >= 0] for words in before]
        sizes = np.array([len(words) for words in given])
        alone = scored[sizes == 0]
        found[alone] = np.log(self.counts[row[alone]] / self.counts.sum())
        places = scored[sizes > 0]
        if len(places):
            contexts, sizes = np.concatenate(given), sizes[sizes > 0]
            log_probabilities = self._of_means if self.averages else self._mean_of_each
            found[places] = log_probabilities(contexts, sizes, row[places])
        return found

    def _of_means(self, contexts: IdArray, sizes: IntArray, words: IdArray) -> Doubles:
        starts = np.cumsum(sizes) - sizes
        hidden = (np.add.reduceat(self.inputs[contexts], starts) / sizes[:, None]).astype(np.float32)
        logs: Doubles = self._scores(hidden, words) - self._log_sums(hidden)
        return logs

    def _mean_of_each(self, contexts: IdArray, sizes: IntArray, words: IdArray) -> Doubles:
        missing = np.unique(contexts[np.isnan(self._sums_of_words[contexts])])
        self._sums_of_words[missing] = self._log_sums(self.inputs[missing])
        scores = self._scores(self.inputs[contexts], np.repeat(words, sizes))
        probabilities = np.exp(scores - self._sums_of_words[contexts])
        logs: Doubles = np.log(np.add.reduceat(probabilities, np.cumsum(sizes) - sizes) / sizes)
        return logs

    @cached_property
    def _sums_of_words(self) -> Doubles:
        """Return what `_log_sums` said of each word, NaN where it was not asked yet (V,)."""
        return np.full(len(self.inputs), np.nan)

    def _scores(self, hidden: Floats, words: IdArray) -> Doubles:
        """Return the score of one word for each row, (N, D), (N,) -> (N,)."""
        scores: Doubles = (np.einsum("nd,nd->n", hidden, self.outputs[words]) + self.biases[words]).astype(np.float64)
        return scores

    def _log_sums(self, hidden: Floats) -> Doubles:
        """Return the log of the sum of exp(score) over the vocabulary, (N, D) -> (N,)."""
        found = np.empty(len(hidden))
        chunk = max(1, SCORES_AT_ONCE // len(self.outputs))
        for begin in range(0, len(hidden), chunk):
            scores = hidden[begin : begin + chunk] @ self.outputs.T + self.biases
            most = scores.max(axis=1, keepdims=True)
            found[begin : begin + chunk] = np.log(np.exp(scores - most).sum(axis=1, dtype=np.float64)) + most[:, 0]
        return found
