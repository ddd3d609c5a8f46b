"""Word vectors as baselines: answers and correlations by hand, and codes that cost what they must."""

import math
from pathlib import Path

import numpy as np
import pytest

from smelt.core.errors import DataError, UsageError
from smelt.evals import word_vectors as scoring
from smelt.evals.ngram import bits_per_byte
from smelt.models.ngram import NgramModel
from smelt.models.word_vectors.corpus import UNKNOWN, Vocabulary, read_corpus
from smelt.models.word_vectors.model import WordVectors
from smelt.models.word_vectors.train import KINDS, Kind, Settings, train
from smelt.tokenizers.bpe_train import train_bpe


@pytest.fixture(scope="module")
def plane() -> WordVectors:
    """Two pairs with the same step, and words out of the way."""
    rows = {"man": (1, 0), "woman": (1, 1), "king": (4, 0.5), "queen": (4, 4.8), "tree": (-1, 0.2), "leaf": (-1, -2)}
    return WordVectors(tuple(rows), np.array(list(rows.values()), np.float32))


# Analogies.


def test_analogies_by_hand(plane: WordVectors, tmp_path: Path) -> None:
    path = tmp_path / "questions.txt"
    path.write_text(
        ": family\nman woman king queen\n: royal family\nking queen man woman\n"
        "woman man Queen leaf\nman woman boy girl\n"
    )
    questions = scoring.read_questions(path)
    assert [question.section for question in questions] == ["family", *["royal family"] * 3]
    score = scoring.solve_analogies(plane, questions)
    assert (score.overall.correct, score.overall.total, score.num_skipped) == (2, 3, 1)
    assert {name: rate.value for name, rate in score.by_section.items()} == {"family": 1, "royal family": 0.5}


def test_analogies_in_many_batches_are_the_same(plane: WordVectors, monkeypatch: pytest.MonkeyPatch) -> None:
    words = plane.words
    asked = [(a, b, c, d) for a in words for b in words for c in words for d in words if d not in (a, b, c)]
    questions = [scoring.Question("all", four) for four in asked]
    expected = scoring.solve_analogies(plane, questions).overall
    hits = 0
    for question in questions:
        a, b, c, d = question.words
        step = plane.unit[plane.index[b]] - plane.unit[plane.index[a]] + plane.unit[plane.index[c]]
        hits += plane.nearest(step, 1, without=[a, b, c])[0][0] == d
    assert expected.correct == hits > 0
    monkeypatch.setattr(scoring, "QUESTIONS_AT_ONCE", 7)
    assert scoring.solve_analogies(plane, questions).overall == expected


@pytest.mark.parametrize(("text", "what"), [("a b c\n", ":1: 3 words\naccepted"), (": x\n\n", ": no question in it")])
def test_bad_questions(text: str, what: str, tmp_path: Path) -> None:
    (tmp_path / "q.txt").write_text(text)
    with pytest.raises(DataError, match=what):
        scoring.read_questions(tmp_path / "q.txt")


def test_questions_without_known_words(plane: WordVectors) -> None:
    with pytest.raises(UsageError, match="no question has all of its four words"):
        scoring.solve_analogies(plane, [scoring.Question("all", ("a", "b", "c", "d"))])


# Similarity.


def test_ranks_and_their_correlation_by_hand() -> None:
    assert scoring.ranks([3, 1, 3, 9]).tolist() == [1.5, 0, 1.5, 3]
    assert scoring.spearman([1, 2, 3, 4], [1, 4, 9, 16]) == pytest.approx(1)
    assert scoring.spearman([1, 2, 3, 4, 5], [2, 1, 4, 3, 5]) == pytest.approx(1 - 6 * 4 / (5 * 24))
    assert scoring.spearman([1, 2, 2, 3], [1, 2, 3, 4]) == pytest.approx(0.9486833)  # scipy.stats.spearmanr
    assert math.isnan(scoring.spearman([1, 1], [1, 2]))


def test_similarity_of_a_file(plane: WordVectors, tmp_path: Path) -> None:
    path = tmp_path / "pairs.csv"
    path.write_text("word1,word2,score\n# remark\nman,KING,9\nman\twoman\t7\nman tree 1\nman,moon,5\n")
    judgements = scoring.read_judgements(path)
    assert judgements == [("man", "KING", 9), ("man", "woman", 7), ("man", "tree", 1), ("man", "moon", 5)]
    score = scoring.rank_similarities(plane, judgements)
    assert (score.spearman, score.num_pairs, score.num_skipped) == (pytest.approx(1), 3, 1)
    with pytest.raises(UsageError, match="1 pairs have both words"):
        scoring.rank_similarities(plane, judgements[2:])


@pytest.mark.parametrize(
    ("text", "what"),
    [("a b 1\na b\n", ":2: 'a b'\naccepted: 'word word number'"), ("a b x\nb c 1\n", ": 1 pairs, too few to rank")],
)
def test_bad_judgements(text: str, what: str, tmp_path: Path) -> None:
    (tmp_path / "j.txt").write_text(text)
    with pytest.raises(DataError, match=what):
        scoring.read_judgements(tmp_path / "j.txt")


# Bits.


def sentences(seed: int, count: int) -> list[list[str]]:
    """Return rows in which each word tells the next: a b c d e f in a circle, with a slip now and then."""
    random = np.random.default_rng(seed)
    rows = []
    for _ in range(count):
        place, row = int(random.integers(0, 6)), []
        for _ in range(12):
            row.append("abcdef"[place])
            place = (place + 1) % 6 if random.random() < 0.95 else int(random.integers(0, 6))
        rows.append(row)
    return rows


def test_the_unigram_by_hand() -> None:
    vocabulary = Vocabulary(("to", "be"), np.array([6, 2]), num_unknown=2)  # p(unknown) = 3 / 12
    score = scoring.score_words(scoring.by_unigram(vocabulary), vocabulary, [["to", "be"], ["磨"]])
    bits = -math.log2(3 / 4 * 3 / 4) - math.log2(1 / 4 * 3 / 4) - math.log2(1 / 4) + 8 * 4
    assert (score.num_words, score.num_unknown, score.num_bytes) == (3, 1, 3 + 3 + 4)
    assert score.bits_per_word == pytest.approx(bits / 3) and score.bits_per_byte == pytest.approx(bits / 10)
    assert list(scoring.scored_text([["to", "be"], ["磨"]])) == ["to be ", "磨 "]
    with pytest.raises(UsageError, match="the text has no words"):
        scoring.score_words(scoring.by_unigram(vocabulary), vocabulary, [])


@pytest.mark.parametrize("kind", KINDS)
def test_every_judge_shares_out_exactly_one(kind: Kind) -> None:
    rows = sentences(0, 60)
    corpus = read_corpus([*rows, ["x", "y"]], min_count=2)
    vectors = train(corpus, Settings(kind, dim=8, window=2, epochs=2, sample=0.1))
    vocabulary = scoring.vocabulary_of(vectors)
    assert vectors.predictor is not None
    judges = [
        scoring.by_vectors(vectors.predictor, vocabulary),
        scoring.by_unigram(vocabulary),
        scoring.by_ngram(scoring.train_word_ngram(vocabulary, rows, 3), vocabulary),
    ]
    for judge in judges:
        for context in ([], [1, 4], [UNKNOWN]):
            mass = sum(math.exp(judge(np.array([*context, word], np.int32))[-1]) for word in (*range(6), UNKNOWN))
            assert mass == pytest.approx(1, abs=1e-4)


def test_what_is_skipped_in_training_is_given_back() -> None:
    """Without anything to learn from context, vectors must say what frequencies say, however much is skipped."""
    random = np.random.default_rng(0)
    shares = np.array([0.6, 0.2, 0.1, 0.06, 0.04])
    rows = [[f"w{word}" for word in random.choice(5, 30, p=shares)] for _ in range(2000)]
    vectors = train(read_corpus(rows, min_count=1), Settings("skipgram", dim=4, window=2, epochs=3, sample=0.01))
    vocabulary = scoring.vocabulary_of(vectors)
    assert vectors.predictor is not None
    held_out = rows[:100]
    ours = scoring.score_words(scoring.by_vectors(vectors.predictor, vocabulary), vocabulary, held_out)
    expected = scoring.score_words(scoring.by_unigram(vocabulary), vocabulary, held_out)
    assert ours.bits_per_word == pytest.approx(expected.bits_per_word, abs=0.02)


def test_context_helps_and_order_helps_more() -> None:
    rows, held_out = sentences(1, 800), sentences(2, 100)
    vectors = train(read_corpus(rows), Settings("cbow", dim=16, window=1, epochs=10, sample=0, learning_rate=0.1))
    vocabulary = scoring.vocabulary_of(vectors)
    assert vectors.predictor is not None
    judges = {
        "vectors": scoring.by_vectors(vectors.predictor, vocabulary),
        "unigram": scoring.by_unigram(vocabulary),
        "ngram": scoring.by_ngram(scoring.train_word_ngram(vocabulary, rows, 2), vocabulary),
    }
    bits = {name: scoring.score_words(judge, vocabulary, held_out).bits_per_word for name, judge in judges.items()}
    assert bits["ngram"] < bits["vectors"] < bits["unigram"] - 0.5
    assert bits["unigram"] == pytest.approx(math.log2(6), abs=0.02)


def test_the_figure_is_that_of_a_language_model_on_the_same_bytes() -> None:
    """A model of words whose spelling is free of choice, and a model of bytes, both told by the same text's bytes."""
    rows = [["a", "b", "a", "c"], ["b", "b"]]
    vocabulary = Vocabulary(("a", "b", "c"), np.array([1, 1, 1]), num_unknown=0)
    uniform = NgramModel.train([[0, 1, 2, 3]], vocab_size=4, order=1)
    score = scoring.score_words(scoring.by_ngram(uniform, vocabulary), vocabulary, rows)
    texts = list(scoring.scored_text(rows))
    tokenizer = train_bpe([], vocab_size=256, special=())
    model = NgramModel.train([list(range(256))], vocab_size=256, order=1)
    assert score.num_bytes == sum(len(text) for text in texts) == 12
    assert score.bits_per_byte == pytest.approx(2 / 2) and bits_per_byte(model, tokenizer, texts) == pytest.approx(8)


def test_a_text_file_cannot_predict(plane: WordVectors) -> None:
    with pytest.raises(UsageError, match="vectors from a text file cannot predict words"):
        scoring.vocabulary_of(plane)
