"""How well questions about a text are answered: exact match and F1 as SQuAD and CMRC define them.

The best of several right answers counts. SQuAD lowers case and drops articles, punctuation and extra white space, and
F1 is over words as a bag. CMRC is for Chinese: units are characters of Chinese and words of anything else, without the
punctuation of its list, and F1 is over the longest run that both have, not over a bag. Its own script cuts what is not
Chinese with nltk's tokenizer; here letters and digits in a row are a word and any other mark is one, which differs for
words such as "don't". Questions about one text share it, so the interval draws texts.

Ref: SQuAD, arXiv:1606.05250, 6.1. Ref: CMRC 2018, arXiv:1810.07366, 4, and its cmrc2018_evaluate.py.
"""

from __future__ import annotations

import string
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import regex

from smelt.core.errors import UsageError
from smelt.evals.extraction import bootstrap, mean_of

CMRC_MARKS = frozenset("-:_*^/\\~`+=，。：？！“”；’《》·、「」（）－～『』")
_ARTICLES = regex.compile(r"\b(a|an|the)\b")
_UNITS = regex.compile(r"[\u4e00-\u9fa5]|[^\W\u4e00-\u9fa5]+|\S")
_HAN = regex.compile(r"\p{Han}")


@dataclass(frozen=True)
class Reading:
    """Hold exact match and F1, 0 to 1, with their 95 % intervals, over so many questions."""

    exact_match: float
    exact_match_interval: tuple[float, float]
    f1: float
    f1_interval: tuple[float, float]
    questions: int

    def __str__(self) -> str:
        parts = (("exact match", self.exact_match, self.exact_match_interval), ("F1", self.f1, self.f1_interval))
        return ", ".join(
            f"{name} {100 * v:.1f} % ({100 * low:.1f}-{100 * high:.1f} %)" for name, v, (low, high) in parts
        )


def is_chinese(answers: Sequence[str]) -> bool:
    """Tell whether most answers have a Chinese character, so that CMRC's definition is theirs."""
    return 2 * sum(_HAN.search(answer) is not None for answer in answers) > len(answers)


def compare_answers(
    given: Sequence[str], right: Sequence[Sequence[str]], texts: Sequence[Hashable], *, chinese: bool, seed: int = 0
) -> Reading:
    """Compare an answer to each question with its right ones; `texts` tell which questions belong together.

    Raises:
        UsageError: no questions, one without a right answer, or not as many of all.
    """
    if not given or not len(given) == len(right) == len(texts) or not all(right):
        raise UsageError(
            f"{len(given)} answers to {len(right)} questions", accepted="one to each, which has right ones"
        )
    exact, overlap = (cmrc_exact, cmrc_f1) if chinese else (squad_exact, squad_f1)
    found = []
    for score in (exact, overlap):
        sums: dict[Hashable, list[float]] = {}
        for mine, true, text in zip(given, right, texts, strict=True):
            entry = sums.setdefault(text, [0.0, 0.0])
            entry[0] += max(score(mine, one) for one in true)
            entry[1] += 1
        counts = np.array(list(sums.values()))
        found.append((counts[:, 0].sum() / len(given), bootstrap(counts, mean_of, seed=seed)))
    return Reading(float(found[0][0]), found[0][1], float(found[1][0]), found[1][1], len(given))


def cmrc_units(answer: str) -> list[str]:
    """Return the units of an answer: "共5个，ABC" -> 共 | 5 | 个 | abc."""
    kept = "".join(letter for letter in answer.lower().strip() if letter not in CMRC_MARKS)
    return _UNITS.findall(kept)


def cmrc_exact(given: str, right: str) -> float:
    """Return 1 where both are equal without the marks of CMRC's list."""
    one, other = ("".join(c for c in text.lower().strip() if c not in CMRC_MARKS) for text in (given, right))
    return float(one == other)


def cmrc_f1(given: str, right: str) -> float:
    """Return F1 over the longest run of units that both have: 北京大学 for 在北京大 -> 2 * 3/4 * 3/4 / (3/4 + 3/4)."""
    mine, true = cmrc_units(given), cmrc_units(right)
    longest, before = 0, [0] * (len(true) + 1)
    for unit in mine:
        here = [0] * (len(true) + 1)
        for place, other in enumerate(true):
            if unit == other:
                here[place + 1] = before[place] + 1
                longest = max(longest, here[place + 1])
        before = here
    return 2 * longest / (len(mine) + len(true)) if longest else 0.0


def squad_words(answer: str) -> list[str]:
    """Return the words of an answer without articles and punctuation: "The U.S. flag" -> us | flag."""
    kept = "".join(letter for letter in answer.lower() if letter not in string.punctuation)
    return _ARTICLES.sub(" ", kept).split()


def squad_exact(given: str, right: str) -> float:
    """Return 1 where both have the same words in order."""
    return float(squad_words(given) == squad_words(right))


def squad_f1(given: str, right: str) -> float:
    """Return F1 over the words as bags; two answers without a word are equal."""
    mine, true = squad_words(given), squad_words(right)
    if not mine or not true:
        return float(mine == true)
    shared = sum((Counter(mine) & Counter(true)).values())
    return 2 * shared / (len(mine) + len(true)) if shared else 0.0
