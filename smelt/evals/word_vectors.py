"""What word vectors are worth: analogies, similarity judgements, and the bits they need to tell a text's next word.

The last puts them on the scale of language models. A text is its words (`corpus.split_words`), each followed by one
space: no capitals, no punctuation. Each word is told from the words before it in its paragraph, and from no others, so
that the bits are those of a code:

    a known word    -log2 p(word | words before it)
    any other       -log2 p(unknown), and 8 bits for each byte of it and of its space

For vectors and for the unigram p(unknown) is a constant, and known words share the rest; an n-gram model over the same
vocabulary has a token for it. Bits per byte divide by the bytes of the words with their spaces. To compare with a
language model, give it that very text (`scored_text`): its bits per byte measure the same.

Ref: Mikolov et al., Linguistic regularities in continuous space word representations, 2013 (3CosAdd); Spearman, 1904.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from smelt.core.errors import DataError, UsageError
from smelt.data.readers import scan_lines
from smelt.evals.metrics import Rate
from smelt.evals.rank_correlation import ranks
from smelt.models.ngram import NgramModel
from smelt.models.word_vectors.corpus import IdArray, Vocabulary
from smelt.models.word_vectors.model import WordVectors
from smelt.models.word_vectors.predictor import Predictor

Doubles = NDArray[np.float64]
Judge = Callable[
    [IdArray], Doubles
]  # a row of word numbers, unknown ones negative -> natural log of each one's probability
BITS_A_BYTE = 8
QUESTIONS_AT_ONCE = 256


@dataclass(frozen=True)
class Question:
    """a is to b as c is to d."""

    section: str
    words: tuple[str, str, str, str]


@dataclass(frozen=True)
class AnalogyScore:
    """How many of the questions that could be asked had the right first answer."""

    overall: Rate
    by_section: dict[str, Rate]
    num_skipped: int  # with a word that has no vector


@dataclass(frozen=True)
class SimilarityScore:
    """The rank correlation of cosines with judgements, -1 to 1."""

    spearman: float
    num_pairs: int
    num_skipped: int  # with a word that has no vector


@dataclass(frozen=True)
class WordScore:
    """The bits that the words of a text cost."""

    bits_per_word: float
    bits_per_byte: float
    num_words: int
    num_unknown: int
    num_bytes: int


def read_questions(path: Path | str) -> list[Question]:
    """Read analogies: four words a line; a line ": name" begins a section (as in word2vec's questions-words.txt).

    Raises DataError for a line of another kind, and for a file without a question.
    """
    section, found = "all", []
    for number, line in enumerate(scan_lines(Path(path)), 1):
        words = line.split()
        if words and words[0].startswith(":"):
            section = " ".join([words[0][1:], *words[1:]]).strip() or "all"
        elif len(words) == 4:
            found.append(Question(section, (words[0], words[1], words[2], words[3])))
        elif words:
            raise DataError(f"{path}:{number}: {len(words)} words", accepted="'a b c d', or ': section'")
    if not found:
        raise DataError(f"{path}: no question in it", accepted="lines 'a b c d': a is to b as c is to d")
    return found


def read_judgements(path: Path | str) -> list[tuple[str, str, float]]:
    """Read similarity judgements: two words and a number a line, space, tab or comma between them, # before remarks.

    Raises DataError for a line of another kind but the first, which may be a header, and for a file without a pair.
    """
    found = []
    for number, line in enumerate(scan_lines(Path(path)), 1):
        fields = [field for field in re.split(r"[\s,;]+", line.strip()) if field]
        if not fields or fields[0].startswith("#"):
            continue
        score = float_or_nan(fields[2]) if len(fields) >= 3 else math.nan
        if math.isfinite(score):
            found.append((fields[0], fields[1], score))
        elif number > 1:
            raise DataError(f"{path}:{number}: {line.strip()[:40]!r}", accepted="'word word number'")
    if len(found) < 2:
        raise DataError(f"{path}: {len(found)} pairs, too few to rank", accepted="lines 'word word number'")
    return found


def float_or_nan(text: str) -> float:
    """Return a number, NaN for what is none."""
    try:
        return float(text)
    except ValueError:
        return math.nan


def solve_analogies(vectors: WordVectors, questions: Sequence[Question]) -> AnalogyScore:
    """Answer each question by the word nearest to b - a + c (of unit vectors), none of the three being allowed.

    Raises UsageError when no question has all its words among the vectors.
    """
    known = [(question, ids) for question in questions if (ids := _numbers(vectors, question.words)) is not None]
    if not known:
        raise UsageError("no question has all of its four words among the vectors", accepted="words of the vectors")
    hits: dict[str, list[bool]] = {}
    for begin in range(0, len(known), QUESTIONS_AT_ONCE):
        some = known[begin : begin + QUESTIONS_AT_ONCE]
        a, b, c, d = np.array([ids for _, ids in some]).T
        cosines = (vectors.unit[b] - vectors.unit[a] + vectors.unit[c]) @ vectors.unit.T
        for given in (a, b, c):
            cosines[np.arange(len(some)), given] = -np.inf
        for (question, _), hit in zip(some, (cosines.argmax(axis=1) == d).tolist(), strict=True):
            hits.setdefault(question.section, []).append(hit)
    rates = {section: Rate.of(sum(found), len(found)) for section, found in hits.items()}
    overall = Rate.of(sum(map(sum, hits.values())), len(known))
    return AnalogyScore(overall, rates, len(questions) - len(known))


def _numbers(vectors: WordVectors, words: Sequence[str]) -> list[int] | None:
    """Return the numbers of words as they stand or in lower case, None where one has none."""
    found = [vectors.index.get(word, vectors.index.get(word.lower())) for word in words]
    return None if None in found else [number for number in found if number is not None]


def rank_similarities(vectors: WordVectors, judgements: Sequence[tuple[str, str, float]]) -> SimilarityScore:
    """Correlate the ranks of cosines with those of judgements.

    Raises UsageError when fewer than two pairs have both words among the vectors.
    """
    cosines, scores = [], []
    for one, other, score in judgements:
        try:
            cosines.append(vectors.similarity(_spelled(vectors, one), _spelled(vectors, other)))
        except UsageError:  # a word without a vector
            continue
        scores.append(score)
    if len(scores) < 2:
        raise UsageError(f"{len(scores)} pairs have both words among the vectors", accepted="2 or more")
    return SimilarityScore(spearman(cosines, scores), len(scores), len(judgements) - len(scores))


def _spelled(vectors: WordVectors, word: str) -> str:
    return word if word in vectors.index else word.lower()


def spearman(one: Sequence[float], other: Sequence[float]) -> float:
    """Return the correlation of the ranks of two rows, equal values sharing their mean rank; NaN if one is constant."""
    first, second = (ranks(row) - (len(row) - 1) / 2 for row in (one, other))
    lengths = math.sqrt(float(first @ first) * float(second @ second))
    return float(first @ second) / lengths if lengths else math.nan


def scored_text(rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Yield the text whose bits are counted: every word of a row followed by a space."""
    return ("".join(f"{word} " for word in row) for row in rows)


def score_words(judge: Judge, vocabulary: Vocabulary, rows: Iterable[Sequence[str]]) -> WordScore:
    """Add up what a judge says of every word of some rows.

    Raises UsageError for a text without a word.
    """
    bits, num_words, num_unknown, num_bytes = 0.0, 0, 0, 0
    for row in rows:
        ids = vocabulary.ids(row)
        bits -= float(judge(ids).sum()) / math.log(2)
        sizes = np.array([len(word.encode()) + 1 for word in row])
        bits += BITS_A_BYTE * int(sizes[ids < 0].sum())
        num_words, num_unknown = num_words + len(row), num_unknown + int((ids < 0).sum())
        num_bytes += int(sizes.sum())
    if not num_words:
        raise UsageError("the text has no words", accepted="at least one word")
    return WordScore(bits / num_words, bits / num_bytes, num_words, num_unknown, num_bytes)


def by_vectors(predictor: Predictor, vocabulary: Vocabulary) -> Judge:
    """Return the judge that looks at up to `window` words before each word."""
    share = vocabulary.unknown_share

    def judge(ids: IdArray) -> Doubles:
        return np.where(ids < 0, math.log(share), predictor.log_probabilities(ids) + math.log1p(-share))

    return judge


def by_unigram(vocabulary: Vocabulary) -> Judge:
    """Return the judge that knows how frequent each word is, and nothing else."""
    share = vocabulary.unknown_share
    logs = np.log(vocabulary.counts / vocabulary.counts.sum()) + math.log1p(-share)

    def judge(ids: IdArray) -> Doubles:
        return np.where(ids < 0, math.log(share), logs[np.maximum(ids, 0)])

    return judge


def by_ngram(model: NgramModel, vocabulary: Vocabulary) -> Judge:
    """Return the judge that is an n-gram model over the same words, the number behind them being any other word."""

    def judge(ids: IdArray) -> Doubles:
        return model.log_probabilities(np.where(ids < 0, len(vocabulary), ids))

    return judge


def train_word_ngram(vocabulary: Vocabulary, rows: Iterable[Sequence[str]], order: int) -> NgramModel:
    """Train the n-gram model of `by_ngram` on some rows of words."""
    found = (vocabulary.ids(row) for row in rows)
    streams = (np.where(ids < 0, len(vocabulary), ids) for ids in found)
    return NgramModel.train(streams, vocab_size=len(vocabulary) + 1, order=order)


def vocabulary_of(vectors: WordVectors) -> Vocabulary:
    """Return the words of trained vectors with their counts.

    Raises UsageError for vectors from a text file, which holds one side of training alone.
    """
    if vectors.predictor is None:
        raise UsageError(
            "vectors from a text file cannot predict words: it holds one of the two sides of training",
            accepted="a directory of `smelt vectors train`",
        )
    return Vocabulary(vectors.words, vectors.predictor.counts, vectors.predictor.num_unknown)
