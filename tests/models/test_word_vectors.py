"""Word vectors: each kernel against its definition, the draws against their shares, files against what spoils them."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from smelt.core.errors import CheckpointError, DataError, UsageError
from smelt.core.storage import seal
from smelt.models.word_vectors import kernels, reference
from smelt.models.word_vectors.corpus import BREAK, UNKNOWN, Corpus, paragraphs, read_corpus, split_words
from smelt.models.word_vectors.glove import pair_counts
from smelt.models.word_vectors.kernels import Factors, Windows
from smelt.models.word_vectors.model import WordVectors
from smelt.models.word_vectors.sampling import alias_table, keep_thresholds, stream_of
from smelt.models.word_vectors.subwords import Subwords, ngram_hash, ngrams
from smelt.models.word_vectors.text_file import read_text, write_text
from smelt.models.word_vectors.train import KINDS, Kind, Settings, means_of_parts, train

DIM = 10


def random_corpus(seed: int = 0, words: int = 400) -> Corpus:
    """Return a corpus in which words near each other in number stand near each other."""
    random = np.random.default_rng(seed)
    rows = []
    for length in random.integers(1, 30, words // 15):
        middle = random.integers(0, 20)
        rows.append([f"w{(middle + step) % 20}" for step in random.integers(-2, 3, length)])
    return read_corpus(rows, min_count=1)


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return random_corpus()


# Words and their numbers.


def test_words_are_letters_and_their_marks_numbers_and_single_chinese_characters() -> None:
    assert split_words("The Mill isn’t — it's 1,250 old; naïve 磨坊在3 ǺB.") == [
        "the", "mill", "isn't", "it's", "1", "250", "old", "naïve", "磨", "坊", "在", "3", "ǻb",
    ]  # fmt: skip
    assert split_words("' 'tis rock'n'roll ''") == ["tis", "rock'n'roll"]


def test_an_empty_line_ends_a_paragraph_and_a_line_end_does_not() -> None:
    assert list(paragraphs(["a b\nc\n \t\n\n--\n\nd", "", "e"])) == [["a", "b", "c"], ["d"], ["e"]]


def test_numbers_go_by_count_then_by_word_and_rare_words_close_up() -> None:
    corpus = read_corpus([["b", "a", "x", "a"], ["c"], ["b", "y", "c", "a"]], min_count=2)
    assert corpus.vocabulary.words == ("a", "b", "c") and corpus.vocabulary.counts.tolist() == [3, 2, 2]
    assert corpus.ids.tolist() == [1, 0, 0, BREAK, 2, BREAK, 1, 2, 0, BREAK]
    assert corpus.vocabulary.num_unknown == 2 and corpus.num_words == 7
    assert corpus.vocabulary.ids(["c", "x"]).tolist() == [2, UNKNOWN]


@pytest.mark.parametrize(
    ("rows", "what"),
    [
        ([], "has 0 different words, none of them 2 times\n"),
        ([["a", "b"]], "has 2 different .*commonest occurs 1 times"),
    ],
)
def test_a_text_without_frequent_words_is_refused(rows: list[list[str]], what: str) -> None:
    with pytest.raises(DataError, match=what):
        read_corpus(rows, min_count=2)


# Draws.


def test_the_alias_table_holds_exactly_the_shares() -> None:
    for counts in ([1], [5, 5], [1000, 10, 3, 1, 1], list(range(40, 0, -1))):
        table = alias_table(np.array(counts), power=0.75)
        mass = np.zeros(len(counts))
        for column, (threshold, other) in enumerate(table.tolist()):
            mass[column] += threshold / 2**32
            mass[other] += 1 - threshold / 2**32
        expected = np.array(counts) ** 0.75
        np.testing.assert_allclose(mass / len(counts), expected / expected.sum(), atol=1e-8)


def test_frequent_words_are_kept_by_equation_5() -> None:
    kept = keep_thresholds(np.array([900, 99, 1]), sample=1e-3) / 2**32
    np.testing.assert_allclose(kept, [np.sqrt(1e-3 / 0.9), np.sqrt(1e-3 / 0.099), 1], atol=1e-9)
    assert (keep_thresholds(np.array([9, 1]), sample=0) == 2**32).all()


def test_streams_of_blocks_differ() -> None:
    states = {stream_of(seed, epoch, block) for seed in range(5) for epoch in range(5) for block in range(50)}
    assert len(states) == 1250 and stream_of(1, 2) == stream_of(1, 2)


# Subwords.


def test_ngrams_and_their_hash_are_those_of_fasttext() -> None:
    assert ngrams("mill", 3, 4) == ["<mi", "<mil", "mil", "mill", "ill", "ill>", "ll>"]
    assert ngrams("水", 1, 6) == ["<水", "<水>", "水", "水>"]
    known = {"": 2166136261, "<th": 1619151151, "mill>": 373228615, "磨": 93972661, "<坊>": 1158040121}
    assert {text: ngram_hash(text) for text in known} == known, "as gensim 4.4's ft_hash_bytes gives them"


def test_parts_are_the_word_and_the_rows_of_its_ngrams() -> None:
    subwords = Subwords(3, 4, buckets=50)
    starts, parts = subwords.tables(["mill", "a"])
    assert starts.tolist() == [0, 8, 9 + 1] and parts[0] == 0 and parts[8] == 1
    assert parts[1:8].tolist() == [2 + ngram_hash(ngram) % 50 for ngram in ngrams("mill", 3, 4)]
    inputs = np.random.default_rng(0).random((52, 3), dtype=np.float32)
    np.testing.assert_allclose(means_of_parts(inputs, starts, parts)[0], inputs[parts[:8]].mean(axis=0), rtol=1e-6)


@pytest.mark.parametrize("lengths", [(0, 3), (4, 3)])
def test_impossible_lengths(lengths: tuple[int, int]) -> None:
    with pytest.raises(UsageError, match=f"n-grams of {lengths[0]} to {lengths[1]} characters"):
        Subwords(*lengths)


# The kernels against their definitions.


def windows(corpus: Corpus, *, from_context: bool, subwords: bool, sample: float = 0.05) -> Windows:
    """Return everything that training changes or reads, with outputs that are not zero."""
    random, size = np.random.default_rng(3), len(corpus.vocabulary)
    starts, parts = np.arange(size + 1), np.arange(size, dtype=np.int32)
    if subwords:
        starts, parts = Subwords(2, 3, buckets=7).tables(corpus.vocabulary.words)  # 7: rows meet within one word
    return Windows(
        keep_thresholds(corpus.vocabulary.counts, sample), alias_table(corpus.vocabulary.counts), starts, parts,
        random.normal(0, 0.3, (size + 7 * subwords, DIM)).astype(np.float32),
        random.normal(0, 0.3, (size, DIM)).astype(np.float32), 3, 4, from_context,
    )  # fmt: skip


@pytest.mark.parametrize("from_context", [False, True], ids=["word to context", "context to word"])
@pytest.mark.parametrize("subwords", [False, True], ids=["words", "subwords"])
def test_windows_are_trained_as_the_definition_says(corpus: Corpus, from_context: bool, subwords: bool) -> None:
    fast, slow = (windows(corpus, from_context=from_context, subwords=subwords) for _ in range(2))
    before = fast.inputs.copy(), fast.outputs.copy()
    for begin, stop in ((0, 150), (150, len(corpus.ids))):
        seed = np.uint64(stream_of(7, begin))
        kernels.train_windows(corpus.ids, begin, stop, fast, 0.1, seed)
        reference.train_windows(corpus.ids, begin, stop, slow, 0.1, seed)
    np.testing.assert_allclose(fast.inputs, slow.inputs, atol=2e-5)
    np.testing.assert_allclose(fast.outputs, slow.outputs, atol=2e-5)
    assert np.abs(fast.inputs - before[0]).max() > 0.1 and np.abs(fast.outputs - before[1]).max() > 0.1


def test_the_reference_step_is_the_gradient_of_equation_4() -> None:
    random = np.random.default_rng(0)
    hidden, outputs = random.normal(size=5), random.normal(size=(6, 5))

    def loss(hidden: np.ndarray, outputs: np.ndarray) -> float:
        negatives = sum(np.log(reference.sigmoid(-hidden @ outputs[word])) for word in (1, 5))
        return -np.log(reference.sigmoid(hidden @ outputs[2])) - negatives

    gradients = central(lambda x: loss(x, outputs), hidden), central(lambda x: loss(hidden, x), outputs)
    stepped = outputs.copy()
    change = reference.negative_sampling_step(hidden, stepped, 2, [1, 5], 1e-3)
    np.testing.assert_allclose(change, -1e-3 * gradients[0], atol=1e-9)
    np.testing.assert_allclose(stepped - outputs, -1e-3 * gradients[1], atol=1e-9)


def test_the_reference_of_glove_is_the_gradient_of_equation_8() -> None:
    random = np.random.default_rng(0)
    main, context = factors(random), factors(random)
    keys, counts = np.array([1 * 20 + 3]), np.array([5.0])

    def loss(vectors: np.ndarray) -> float:
        fits = [(i, j, vectors[i] @ context.vectors[j] + main.biases[i] + context.biases[j]) for i, j in ((1, 3),)]
        return sum(0.5 * (5 / 10) ** 0.75 * (fit - np.log(5)) ** 2 for _, _, fit in fits)

    gradient = central(loss, main.vectors.astype(np.float64))[1]
    expected = main.vectors[1] - 0.01 * gradient / np.sqrt(1 + gradient**2)
    reference.train_pairs(keys, counts, np.array([0]), main, context, 10.0, 0.75, 0.01)
    np.testing.assert_allclose(main.vectors[1], expected, atol=1e-6)


def central(function: Callable[[np.ndarray], float], at: np.ndarray, step: float = 1e-6) -> np.ndarray:
    """Return the gradient of a function by central differences."""
    found = np.zeros_like(at)
    for place in np.ndindex(at.shape):
        moved = np.zeros_like(at)
        moved[place] = step
        found[place] = (function(at + moved) - function(at - moved)) / (2 * step)
    return found


def factors(random: np.random.Generator, size: int = 20) -> Factors:
    vectors, biases = random.normal(0, 0.4, (size, DIM)), random.normal(0, 0.4, size)
    ones = np.ones((size, DIM), np.float32), np.ones(size, np.float32)
    return Factors(vectors.astype(np.float32), biases.astype(np.float32), *ones)


def test_pairs_are_counted_as_the_definition_says(corpus: Corpus) -> None:
    keys, weights = pair_counts(corpus, 4, first_rows=16)  # small, so that it grows
    expected = reference.count_pairs(corpus.ids, 4, len(corpus.vocabulary))
    assert keys.tolist() == sorted(expected) and len(expected) > 60
    np.testing.assert_allclose(weights, [expected[key] for key in keys.tolist()], rtol=1e-12)


def test_pairs_by_hand() -> None:
    corpus = read_corpus([["a", "b", "a"], ["b"]], min_count=1)  # a 0, b 1
    keys, weights = pair_counts(corpus, 2)
    assert dict(zip(keys.tolist(), weights.tolist(), strict=True)) == {0: 0.5, 1: 2.0}
    with pytest.raises(UsageError, match="no two words stand side by side"):
        pair_counts(read_corpus([["a"], ["a"]], min_count=1), 2)


def test_pairs_are_fitted_as_the_definition_says(corpus: Corpus) -> None:
    keys, counts = pair_counts(corpus, 4)
    order = np.random.default_rng(5).permutation(len(keys))
    sides = [[factors(random), factors(random)] for random in (np.random.default_rng(2), np.random.default_rng(2))]
    kernels.train_pairs(keys, counts, order, *sides[0], 10.0, 0.75, 0.05)
    reference.train_pairs(keys, counts, order, *sides[1], 10.0, 0.75, 0.05)
    for fast, slow in zip(*sides, strict=True):
        for ours, expected in zip(fast, slow, strict=True):
            np.testing.assert_allclose(ours, expected, atol=2e-5, rtol=2e-5)


# Training.


@pytest.fixture(scope="module")
def trained() -> dict[Kind, WordVectors]:
    corpus = random_corpus(1, 20_000)
    few = Subwords(2, 3, buckets=50)
    return {
        kind: train(corpus, Settings(kind, dim=12, window=2, epochs=3, sample=0, subwords=few, seed=4))
        for kind in KINDS
    }


@pytest.mark.parametrize("kind", KINDS)
def test_neighbours_in_the_text_become_neighbours(trained: dict[Kind, WordVectors], kind: Kind) -> None:
    vectors = trained[kind]
    hits = 0
    for number in range(20):
        found = vectors.nearest(vectors.vector(f"w{number}"), 4, without=[f"w{number}"])
        hits += sum((int(word[1:]) - number + 2) % 20 <= 4 for word, _ in found)
    assert hits >= 60, "of 80; by chance it would be 17"


@pytest.mark.parametrize("kind", KINDS)
def test_one_thread_is_reproducible_and_another_seed_is_not(corpus: Corpus, kind: Kind) -> None:
    def run(seed: int) -> WordVectors:
        return train(corpus, Settings(kind, dim=6, epochs=2, seed=seed, subwords=Subwords(buckets=20)))

    first, again, other = run(1), run(1), run(2)
    assert np.array_equal(first.vectors, again.vectors) and not np.array_equal(first.vectors, other.vectors)


@pytest.mark.parametrize("kind", KINDS)
def test_two_threads_learn_too(kind: Kind) -> None:
    told: list[tuple[int, int]] = []
    corpus = random_corpus(1, 40_000)
    settings = Settings(kind, dim=12, window=2, epochs=2, sample=0, threads=2, subwords=Subwords(buckets=50))
    vectors = train(corpus, settings, lambda done, total: told.append((done, total)))
    near = [vectors.similarity(f"w{number}", f"w{(number + 1) % 20}") for number in range(20)]
    far = [vectors.similarity(f"w{number}", f"w{(number + 10) % 20}") for number in range(20)]
    assert np.mean(near) > np.mean(far) + 0.1
    assert told[-1][0] == told[-1][1] and told == sorted(told)


@pytest.mark.parametrize(
    ("settings", "what"),
    [
        ({"kind": "skipgrams"}, "unknown kind 'skipgrams'. Did you mean 'skipgram'?\naccepted: skipgram, cbow"),
        ({"dim": 0}, "dim=0 is not possible\naccepted: 1 or more"),
        ({"sample": 1.5}, "sample=1.5 is not possible\naccepted: 0 to below 1"),
        ({"learning_rate": 0.0}, "learning_rate=0.0, pair_limit=10.0\naccepted: positive numbers"),
    ],
)
def test_impossible_settings(settings: dict[str, object], what: str) -> None:
    with pytest.raises(UsageError) as caught:
        Settings(**settings)  # type: ignore[arg-type]
    assert str(caught.value).startswith(what)


# What can be asked.


def test_an_unseen_word_has_the_mean_of_its_ngrams(trained: dict[Kind, WordVectors]) -> None:
    vectors = trained["fasttext"]
    assert vectors.ngrams is not None
    rows = [ngram_hash(ngram) % 50 for ngram in ("<x", "<x1", "x1", "x1>", "1>")]
    np.testing.assert_allclose(vectors.vector("x1"), vectors.ngrams.vectors[rows].mean(axis=0), rtol=1e-6)
    with pytest.raises(UsageError, match=r"the word .w21. is not among the 20 known\. Did you mean 'w2.?'"):
        trained["cbow"].vector("w21")


def test_probabilities_are_a_distribution(trained: dict[Kind, WordVectors]) -> None:
    for kind, vectors in trained.items():
        predictor = vectors.predictor
        assert predictor is not None
        for context in ([], [3], [5, UNKNOWN, 7, 7]):
            rows = [np.array([*context, word], np.int32) for word in range(20)]
            mass = sum(np.exp(predictor.log_probabilities(row)[-1]) for row in rows)
            assert mass == pytest.approx(1, abs=1e-5), kind


def test_probabilities_by_hand(trained: dict[Kind, WordVectors]) -> None:
    row = np.array([2, UNKNOWN, 9, 4], np.int32)
    for kind in ("cbow", "skipgram"):
        predictor = trained[kind].predictor
        assert predictor is not None and predictor.window == 2
        found = predictor.log_probabilities(row)
        scores = predictor.inputs[[9]] @ predictor.outputs.T + predictor.biases  # the window ends behind 2
        assert found[3] == pytest.approx(np.log(np.exp(scores[0, 4]) / np.exp(scores[0]).sum()), abs=1e-5)
        assert np.isnan(found[1])
        assert found[0] == pytest.approx(np.log(predictor.counts[2] / predictor.counts.sum()))


# Files.


@pytest.mark.parametrize("kind", KINDS)
def test_a_directory_comes_back_whole(trained: dict[Kind, WordVectors], kind: Kind, tmp_path: Path) -> None:
    made = trained[kind]
    made.save(tmp_path / "v")
    made.save(tmp_path / "v")  # replaces the first
    back = WordVectors.load(tmp_path / "v")
    assert back.words == made.words and np.array_equal(back.vectors, made.vectors) and back.kind == kind
    row = np.array([1, 2, 3], np.int32)
    assert back.predictor is not None and made.predictor is not None
    ours, theirs = made.predictor.log_probabilities(row), back.predictor.log_probabilities(row)
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)
    if kind == "fasttext":
        assert np.array_equal(back.vector("x1"), made.vector("x1"))
    plain = WordVectors.load(tmp_path / "v" / "vectors.txt")
    assert plain.words == made.words and np.array_equal(plain.vectors, made.vectors) and plain.predictor is None


def test_a_directory_that_is_spoilt_or_not_ours(trained: dict[Kind, WordVectors], tmp_path: Path) -> None:
    path = tmp_path / "v"
    trained["cbow"].save(path)
    settings = json.loads((path / "word_vectors.json").read_text())
    for change in ({"words": settings["words"][:-1]}, {"version": 2}, {"dim": 13}, {"words": ["a"] * 20}):
        (path / "word_vectors.json").write_text(json.dumps(settings | change))
        with pytest.raises(CheckpointError, match=r"does not match its SHA-256|bytes, its manifest says"):
            WordVectors.load(path)
        seal(path)
        with pytest.raises(CheckpointError, match="not readable word vectors"):
            WordVectors.load(path)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "letter.txt").write_text("dear")
    with pytest.raises(CheckpointError, match="holds files that are not word vectors"):
        trained["cbow"].save(tmp_path / "other")


def test_text_of_others_is_read(tmp_path: Path) -> None:
    path = tmp_path / "v.txt"
    path.write_bytes("2 3\nthe 1 -2.5 3e-2 \n磨\u00a0坊 0 0 1\n".encode())  # word2vec.c ends lines with a space
    words, vectors = read_text(path)
    assert words == ("the", "磨\u00a0坊") and vectors.tolist() == [[1, -2.5, np.float32(0.03)], [0, 0, 1]]


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", r":1: '' is no header\naccepted: a first line 'N D'"),
        (b"the 1 2\n", r":1: 'the 1 2' is no header"),
        (b"1000 1000\na 1\n", r":1: 1,000 words of 1,000 numbers do not fit in 14 bytes"),
        (b"3 2\na 1 2\nb 1 2\n", r": ends after 2 of 3 words\ntry: copy or download it again"),
        (b"2 2\na 1 2\nb 1", r":3: the file ends inside this line"),
        (b"2 2\na 1 2\nb 1\n", r":3: 1 numbers behind 'b', the first line says 2"),
        (b"2 2\na 1 2\nb 1 2 3\n", r":3: 3 numbers behind 'b'"),
        (b"2 2\na 1 2\nb 1 x\n", r":3: something behind 'b' is not a number"),
        (b"2 2\na 1 2\nb 1 inf\n", r":3: the vector of 'b' is not finite"),
        (b"2 2\na 1 2\na 1 2\n", r":3: the word 'a' stands here a second time"),
        (b"1 2\na 1 2\nb 1 2\n", r":3: more than the 1 words of the first line"),
        (b"1 2\n\xff\xfe 1 2\n", r": not UTF-8"),
    ],
)
def test_bad_text(content: bytes, what: str, tmp_path: Path) -> None:
    path = tmp_path / "v.txt"
    path.write_bytes(content)
    with pytest.raises(DataError, match=what):
        read_text(path)


def test_a_word_with_a_space_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="the word 'a b' is empty or has white space"):
        write_text(["a b"], np.zeros((1, 2), np.float32), tmp_path / "v.txt")
    with pytest.raises(DataError, match="no such file"):
        read_text(tmp_path / "v.txt")
