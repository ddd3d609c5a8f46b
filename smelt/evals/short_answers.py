"""Short answers as SQuAD scores them: the same text, or shared words, whatever their case, points and articles.

Chinese is compared by characters, as CMRC does. Two answers without a word are equal; one alone shares nothing.

Ref: SQuAD, arXiv:1606.05250, 6.1. Ref: SQuAD 2.0, arXiv:1806.03822 (answers that are empty).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from smelt.evals.resampling import Score, mean_score
from smelt.evals.rouge import f_measure
from smelt.evals.wording import answer_words


def same_answer(written: str, wanted: str) -> bool:
    """Tell whether two answers have the same words: "The mill." and "mill" have."""
    return answer_words(written) == answer_words(wanted)


def shared_words(written: str, wanted: str) -> float:
    """Return the F-measure of the words of two answers: "the red mill", "a mill" -> 2/3."""
    ours, theirs = Counter(answer_words(written)), Counter(answer_words(wanted))
    if not ours or not theirs:
        return float(ours == theirs)
    return f_measure((ours & theirs).total(), ours.total(), theirs.total())


def match(written: Sequence[str], wanted: Sequence[str]) -> dict[str, Score]:
    """Score the share of answers that are the same."""
    return {"match": mean_score([same_answer(*pair) for pair in zip(written, wanted, strict=True)])}


def token_f1(written: Sequence[str], wanted: Sequence[str]) -> dict[str, Score]:
    """Score the mean share of common words."""
    return {"token_f1": mean_score([shared_words(*pair) for pair in zip(written, wanted, strict=True)])}
