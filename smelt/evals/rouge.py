"""ROUGE: how much of a summary's words, pairs of words, and longest common order is that of a reference.

F-measures of each row, averaged over rows, over `wording.words`: on English what the package `rouge_score` gives
without its stemmer, on Chinese by characters. ROUGE-L takes a text as one sentence. The longest common subsequence is
found by adding whole numbers as wide as a text, a bit a word, so a pair costs as many additions as one has words.

Ref: C.-Y. Lin, ROUGE: a package for automatic evaluation of summaries, ACL workshop 2004, 2 and 3.1. Ref: H. Hyyrö,
Bit-parallel LCS-length computation revisited, AWOCA 2004.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

from smelt.evals.resampling import Score, mean_score
from smelt.evals.wording import words


def f_measure(common: float, claimed: float, wanted: float) -> float:
    """Return the harmonic mean of common / claimed and common / wanted, 0 where nothing is common."""
    return 2.0 * common / (claimed + wanted) if common else 0.0


def ngrams(tokens: Sequence[str], size: int) -> Counter[tuple[str, ...]]:
    """Count runs of so many tokens: a b a b, 2 -> {a b: 2, b a: 1}."""
    return Counter(tuple(tokens[start : start + size]) for start in range(len(tokens) - size + 1))


def rouge_n(written: Sequence[str], wanted: Sequence[str], size: int) -> float:
    """Return the F-measure of common runs of `size` tokens, each counted as often as in both."""
    ours, theirs = ngrams(written, size), ngrams(wanted, size)
    return f_measure((ours & theirs).total(), ours.total(), theirs.total())


def common_subsequence(one: Sequence[str], other: Sequence[str]) -> int:
    """Return how many tokens the longest common subsequence has: a b c d, a x c d -> 3."""
    places: dict[str, int] = defaultdict(int)
    for place, token in enumerate(one):
        places[token] |= 1 << place
    full = (1 << len(one)) - 1
    free = full  # a bit is cleared where the subsequence grows
    for token in other:
        hits = free & places.get(token, 0)
        free = ((free + hits) | (free - hits)) & full
    return len(one) - free.bit_count()


def rouge_l(written: Sequence[str], wanted: Sequence[str]) -> float:
    """Return the F-measure of the longest common subsequence of tokens."""
    return f_measure(common_subsequence(written, wanted), len(written), len(wanted))


def rouge(written: Sequence[str], wanted: Sequence[str]) -> dict[str, Score]:
    """Score texts against one reference each."""
    pairs = [(words(ours), words(theirs)) for ours, theirs in zip(written, wanted, strict=True)]
    return {
        "rouge_1": mean_score([rouge_n(*pair, 1) for pair in pairs]),
        "rouge_2": mean_score([rouge_n(*pair, 2) for pair in pairs]),
        "rouge_l": mean_score([rouge_l(*pair) for pair in pairs]),
    }
