"""The n-gram model against its definition: dictionaries that follow the formulas of Chen & Goodman word for word."""

import json
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from smelt.core.errors import CheckpointError, UsageError
from smelt.core.storage import seal
from smelt.models.ngram import FALLBACK_DISCOUNTS, NgramModel, estimate_discounts

Gram = tuple[int, ...]
BEGINNING = -1  # stands before the first token of a stream, and only for counting what comes before
RIVER = [4, 1, 2, 4, 1, 3, 4, 1, 2, 0, 4, 1, 2, 4, 1, 3, 0]


class Definition:
    """Section 3 of Chen & Goodman, one dictionary look-up after another."""

    def __init__(self, streams: Sequence[Sequence[int]], vocab_size: int, order: int) -> None:
        self.vocab_size, self.order = vocab_size, order
        self.counts: dict[int, Counter[Gram]] = {n: Counter() for n in range(1, order + 1)}
        before: dict[Gram, set[int]] = defaultdict(set)
        for stream in streams:
            for n in range(1, order + 1):
                for begin in range(len(stream) - n + 1):
                    gram = tuple(stream[begin : begin + n])
                    if n == order:
                        self.counts[n][gram] += 1
                    else:
                        before[gram].add(stream[begin - 1] if begin else BEGINNING)
        for gram, tokens in before.items():
            self.counts[len(gram)][gram] = len(tokens)
        self.discounts = {n: discounts_by_hand(list(self.counts[n].values())) for n in self.counts}

    def probability(self, context: Gram, token: int) -> float:
        """Return p(token | the last order - 1 tokens of context) by interpolation at every order."""
        return self.mixed(context[max(0, len(context) - self.order + 1) :], token)

    def mixed(self, context: Gram, token: int) -> float:
        n = len(context) + 1
        counts, discounts = self.counts[n], self.discounts[n]
        shorter = self.mixed(context[1:], token) if context else 1 / self.vocab_size
        after = [counts[(*context, other)] for other in range(self.vocab_size)]
        if sum(after) == 0:
            return shorter
        n1, n2, n3 = after.count(1), after.count(2), sum(count >= 3 for count in after)
        gamma = (discounts[0] * n1 + discounts[1] * n2 + discounts[2] * n3) / sum(after)
        count = counts[(*context, token)]
        discount = 0.0 if count == 0 else discounts[min(count, 3) - 1]
        return max(count - discount, 0) / sum(after) + gamma * shorter


def discounts_by_hand(counts: Sequence[int]) -> tuple[float, float, float]:
    """Equation 26, and half a count more for each count where it does not apply."""
    n1, n2, n3, n4 = (sum(count == wanted for count in counts) for wanted in (1, 2, 3, 4))
    if 0 not in (n1, n2, n3):
        y = n1 / (n1 + 2 * n2)
        found = 1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3
        if min(found) > 1e-7:
            return found
    return 0.5, 1.0, 1.5


@st.composite
def corpora(draw: st.DrawFn) -> tuple[list[list[int]], int, int]:
    """Draw streams with at least one token, a vocabulary size and an order."""
    vocab_size = draw(st.integers(1, 6))
    stream = st.lists(st.integers(0, vocab_size - 1), max_size=draw(st.sampled_from([3, 12, 60])))
    streams = draw(st.lists(stream, min_size=1, max_size=6).filter(any_token))
    return streams, vocab_size, draw(st.integers(1, 5))


def any_token(streams: list[list[int]]) -> bool:
    return any(streams)


@given(corpora(), st.data())
def test_it_agrees_with_the_definition(corpus: tuple[list[list[int]], int, int], data: st.DataObject) -> None:
    streams, vocab_size, order = corpus
    model, slow = NgramModel.train(streams, vocab_size=vocab_size, order=order), Definition(*corpus)
    np.testing.assert_allclose(model.discounts, [slow.discounts[n] for n in range(1, order + 1)], rtol=0, atol=1e-9)
    row = data.draw(st.lists(st.integers(0, vocab_size - 1), max_size=8)) + max(streams, key=len)[:20]
    logs = [math.log(slow.probability(tuple(row[:place]), token)) for place, token in enumerate(row)]
    np.testing.assert_allclose(model.log_probabilities(row), logs, rtol=0, atol=1e-9)
    for place in range(len(row) + 1):
        context = tuple(row[:place])
        expected = [slow.probability(context, token) for token in range(vocab_size)]
        found = model.distribution(context)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)
        assert found.min() > 0 and found.sum() == pytest.approx(1, abs=1e-9)


def test_a_text_long_enough_for_estimated_discounts() -> None:
    # Zipf-like, so that there are counts of 1 to 4 at each order; the property above mostly meets the fallback.
    numbers = np.random.default_rng(0)
    streams = [np.minimum(numbers.zipf(1.3, 400), 40) - 1 for _ in range(5)]
    model, slow = NgramModel.train(streams, vocab_size=40, order=3), Definition([s.tolist() for s in streams], 40, 3)
    assert all(row != FALLBACK_DISCOUNTS for row in model.discounts[1:])
    row = np.minimum(numbers.zipf(1.3, 200), 40) - 1
    logs = [math.log(slow.probability(tuple(row[max(0, t - 2) : t].tolist()), int(row[t]))) for t in range(200)]
    np.testing.assert_allclose(model.log_probabilities(row), logs, rtol=0, atol=1e-9)
    for context in ([], [0], [39, 38], [0, 0], [0, 39, 0]):
        assert model.distribution(context).sum() == pytest.approx(1, abs=1e-9)


def test_francisco_follows_one_word_only() -> None:
    red, san, francisco, my, the, a, cup = range(7)
    phrases = [[san, francisco]] * 3 + [[my, cup], [the, cup], [a, cup]]
    model = NgramModel.train(phrases, vocab_size=7, order=2)
    unseen = model.distribution([red])
    # Tokens before: 1 for san, francisco, my, the, a, and 3 for cup, so 8; discounts 0.5 (five times) and 1.5.
    backoff = (5 * 0.5 + 1.5) / 8
    assert unseen[cup] == pytest.approx((3 - 1.5) / 8 + backoff / 7, abs=1e-15)
    assert unseen[francisco] == pytest.approx((1 - 0.5) / 8 + backoff / 7, abs=1e-15)
    assert unseen[red] == pytest.approx(backoff / 7, abs=1e-15)
    assert model.distribution([san]).argmax() == francisco


def test_discounts_by_hand() -> None:
    # n1 .. n4 = 4, 2, 1, 0, so Y = 4 / 8.
    assert estimate_discounts(np.array([1, 1, 2, 1, 3, 2, 1, 9])) == (0.5, 2 - 3 / 2 * 1 / 2, 3.0)
    # n1 .. n4 = 6, 3, 2, 1, so Y = 6 / 12.
    counts = np.repeat([1, 2, 3, 4, 5, 70], [6, 3, 2, 1, 2, 1])
    assert estimate_discounts(counts) == pytest.approx((1 - 2 / 2 * 3 / 6, 2 - 3 / 2 * 2 / 3, 3 - 4 / 2 * 1 / 2))


@pytest.mark.parametrize("counts", [[], [1], [1, 2, 2], [2, 3, 3], [1, 3], [5, 6], [1, 1, 2] + 4 * [3]])
def test_scarce_text_gets_sane_discounts(counts: list[int]) -> None:
    assert estimate_discounts(np.array(counts, dtype=np.int64)) == FALLBACK_DISCOUNTS


def test_streams_do_not_run_into_each_other() -> None:
    whole = NgramModel.train([[0, 1, 2, 3]], vocab_size=4, order=2)
    cut = NgramModel.train([[0, 1], np.array([2, 3], dtype=np.uint16), []], vocab_size=4, order=2)
    assert [len(level.keys) for level in whole.levels] == [4, 3]
    assert [len(level.keys) for level in cut.levels] == [4, 2]
    assert cut.distribution([1]) == pytest.approx(cut.distribution([]))


def test_an_order_above_the_text_adds_nothing() -> None:
    model = NgramModel.train([[0, 1, 0]], vocab_size=3, order=6)
    assert [len(level.keys) for level in model.levels] == [2, 2, 1, 0, 0, 0]
    assert model.distribution([0, 1, 0, 1, 0, 1]).sum() == pytest.approx(1, abs=1e-9)
    assert len(model.log_probabilities([0, 1, 0, 1, 2])) == 5
    assert model.log_probabilities([]).shape == (0,)


def test_large_ids_do_not_overflow() -> None:
    last = 2**31 - 1
    model = NgramModel.train([[last, 0, last, last, 0]], vocab_size=2**31, order=3)
    # Fallback discounts: `last 0` has 2 tokens before it of 3 behind `last`; 0 alone 1 of 4; 1 / V is tiny.
    expected = (2 - 1) / 3 + (1 + 0.5) / 3 * (1 - 0.5) / 4
    assert math.exp(model.log_probabilities([last, 0])[1]) == pytest.approx(expected, abs=1e-8)


def test_context_helps_on_repetitive_text() -> None:
    bits = {
        order: -NgramModel.train([RIVER * 5], vocab_size=5, order=order).log_probabilities(RIVER * 2).mean()
        for order in (1, 2, 3)
    }
    assert bits[3] < bits[2] < bits[1] < math.log(5)


def test_generation() -> None:
    model = NgramModel.train([[0, 1, 2, 3, 4] * 20], vocab_size=5, order=3)
    assert model.generate([0, 1], 6, seed=1, temperature=0) == [2, 3, 4, 0, 1, 2]
    assert model.generate([0, 1], 6, seed=1, temperature=1e-300) == [2, 3, 4, 0, 1, 2]
    assert model.generate([0], 50, seed=1) == model.generate(np.array([0]), 50, seed=1)
    assert model.generate([0], 50, seed=1, temperature=50) != model.generate([0], 50, seed=2, temperature=50)
    assert model.generate([], 0, seed=1) == []
    assert all(type(token) is int for token in model.generate([], 5, seed=3))


def test_each_new_token_is_context_for_the_next() -> None:
    model = NgramModel.train([RIVER * 3], vocab_size=5, order=4)
    ids = [4]
    for _ in range(12):
        ids.append(int(model.distribution(ids).argmax()))
    assert model.generate([4], 12, seed=0, temperature=0) == ids[1:]
    assert ids[:5] == [4, 1, 2, 4, 1] and ids[5] == 3  # what follows `4 1` depends on what came before it


def test_samples_follow_the_distribution() -> None:
    model = NgramModel.train([RIVER], vocab_size=5, order=1)
    for temperature in (1.0, 2.0):
        wanted = model.distribution([]) ** (1 / temperature)
        shares = np.bincount(model.generate([], 4000, seed=4, temperature=temperature), minlength=5) / 4000
        np.testing.assert_allclose(shares, wanted / wanted.sum(), atol=0.03)


def test_saving_and_loading_changes_no_bit(tmp_path: Path) -> None:
    model = NgramModel.train([RIVER, RIVER[3:]], vocab_size=6, order=4)
    for _ in range(2):  # the second replaces the first
        model.save(tmp_path / "model")
    found = NgramModel.load(tmp_path / "model")
    assert (found.order, found.vocab_size, found.discounts) == (4, 6, model.discounts)
    for one, other in zip(model.levels, found.levels, strict=True):
        assert all(a.dtype == b.dtype and a.tobytes() == b.tobytes() for a, b in zip(one, other, strict=True))
    assert model.log_probabilities(RIVER).tobytes() == found.log_probabilities(RIVER).tobytes()
    assert sorted(path.name for path in tmp_path.rglob("*")) == [
        "manifest.json", "model", "ngram.json", "ngram.safetensors"
    ]  # fmt: skip


def test_other_files_are_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(CheckpointError, match="holds files that are not an n-gram model, and saving would replace"):
        NgramModel.train([[0]], vocab_size=1).save(tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "precious"


@pytest.mark.parametrize(
    ("streams", "sizes", "what", "accepted"),
    [
        ([[0, 1], [2, 5]], {}, "stream 2: id 5 at position 1 is not in the vocabulary", "0 to 4"),
        ([[0, -1]], {}, "stream 1: id -1 at position 1 is not in the vocabulary", "0 to 4"),
        ([np.array([2**64 - 1], dtype=np.uint64)], {}, "stream 1: id 18446744073709551615 at position 0", "0 to 4"),
        ([[0.5]], {}, "stream 1: ids of shape (1,) and type float64 are not a row", "whole numbers, (T,)"),
        ([[[0, 1], [1, 0]]], {}, "stream 1: ids of shape (2, 2) and type int64 are not a row", "whole numbers, (T,)"),
        ([], {}, "the text is empty", "at least one token"),
        ([[], []], {}, "the text is empty", "at least one token"),
        ([[0]], {"order": 0}, "order=0 is not possible", "1 or more"),
        ([[0]], {"vocab_size": 0}, "vocab_size=0 is not possible", "1 to 2147483648"),
    ],
)
def test_what_cannot_be_trained(streams: list[object], sizes: dict[str, int], what: str, accepted: str) -> None:
    with pytest.raises(UsageError) as caught:
        NgramModel.train(streams, **{"vocab_size": 5, **sizes})  # type: ignore[arg-type]
    assert caught.value.what.startswith(what) and caught.value.accepted == accepted


def test_what_cannot_be_asked() -> None:
    model = NgramModel.train([[0, 1]], vocab_size=3)
    for ask in (model.log_probabilities, model.distribution, lambda ids: model.generate(ids, 1, seed=0)):
        with pytest.raises(UsageError, match=r"^id 3 at position 1 is not in the vocabulary\naccepted: 0 to 2$"):
            ask([0, 3])
    with pytest.raises(UsageError, match="max_new_tokens=-1 is not possible"):
        model.generate([], -1, seed=0)
    for temperature in (-0.1, math.nan, math.inf):
        with pytest.raises(UsageError, match=f"temperature={temperature} is not possible"):
            model.generate([], 1, seed=0, temperature=temperature)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    NgramModel.train([RIVER], vocab_size=5, order=2).save(tmp_path / "model")
    return tmp_path / "model"


def test_damaged_files_are_refused(saved: Path) -> None:
    tables = saved / "ngram.safetensors"
    data = tables.read_bytes()
    tables.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(CheckpointError, match=r"content of 'ngram.safetensors' does not match its SHA-256"):
        NgramModel.load(saved)
    tables.write_bytes(data[:-8])
    with pytest.raises(CheckpointError, match=r"'ngram.safetensors' has .* bytes, its manifest says"):
        NgramModel.load(saved)
    tables.unlink()
    with pytest.raises(CheckpointError, match=r"the file 'ngram.safetensors' is missing"):
        NgramModel.load(saved)
    with pytest.raises(CheckpointError, match="no such checkpoint directory"):
        NgramModel.load(saved / "nowhere")


SETTINGS_FAULTS: list[tuple[Callable[[dict[str, object]], object], str]] = [
    (lambda settings: settings.update(version=2), "version 2, order 2 and vocab_size 5 do not fit the tables"),
    (lambda settings: settings.update(order=3), "version 1, order 3 and vocab_size 5 do not fit the tables"),
    (lambda settings: settings.update(order=True), "order True and vocab_size 5 do not fit"),
    (lambda settings: settings.update(vocab_size=0), "order 2 and vocab_size 0 do not fit"),
    (lambda settings: settings.update(vocab_size=2), "the 1-grams of ngram.safetensors are out of order or out of"),
    (lambda settings: settings.update(vocab_size=4), "the 1-grams of ngram.safetensors are out of order or out of"),
    (lambda settings: settings["discounts"].pop(), "order 2 and vocab_size 5 do not fit"),  # type: ignore[attr-defined]
    (lambda settings: settings.update(discounts=[[10**400, 1, 1]] * 2), "too large to convert to float"),
    (lambda settings: settings.pop("order"), "'order'"),
]
TABLE_FAULTS: list[tuple[str, Callable[[np.ndarray], np.ndarray], str]] = [
    ("keys.2", lambda table: table[::-1].copy(), "the 2-grams of ngram.safetensors are out of order"),
    ("keys.2", lambda table: table.astype(np.int32), "the 2-grams of ngram.safetensors have the types and sizes"),
    ("keys.1", lambda table: table - 1, "the 1-grams of ngram.safetensors are out of order or out of range"),
    ("probabilities.2", lambda table: table[:-1], "the 2-grams of ngram.safetensors have the types and sizes"),
    ("probabilities.1", lambda table: table * np.nan, "the 1-grams of ngram.safetensors are out of order or out of"),
    ("probabilities.1", lambda table: table + 1, "the 1-grams of ngram.safetensors are out of order or out of range"),
    ("backoffs.2", lambda table: table * 0, "the 2-grams of ngram.safetensors are out of order or out of range"),
    ("backoffs.2", lambda table: table[:-1], "the 2-grams of ngram.safetensors have the types and sizes"),
]


@pytest.mark.parametrize(("change", "message"), SETTINGS_FAULTS)
def test_settings_that_do_not_fit(saved: Path, change: Callable[[dict[str, object]], object], message: str) -> None:
    settings = json.loads((saved / "ngram.json").read_text())
    change(settings)
    (saved / "ngram.json").write_text(json.dumps(settings))
    refused(saved, message)


@pytest.mark.parametrize(("name", "change", "message"), TABLE_FAULTS)
def test_tables_that_do_not_fit(
    saved: Path, name: str, change: Callable[[np.ndarray], np.ndarray], message: str
) -> None:
    tables = load_file(saved / "ngram.safetensors")
    save_file({**tables, name: change(tables[name])}, saved / "ngram.safetensors")
    refused(saved, message)


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("ngram.json", b"{", "Expecting property name"),
        ("ngram.json", b"[" * 10**5, "recursion"),
        ("ngram.json", b"\xff", "codec can't decode byte"),
        ("ngram.safetensors", b"no tensors", "header"),
    ],
)
def test_files_of_another_kind(saved: Path, name: str, data: bytes, message: str) -> None:
    (saved / name).write_bytes(data)
    refused(saved, message)


def test_a_sealed_directory_of_another_kind(saved: Path) -> None:
    (saved / "ngram.json").unlink()
    refused(saved, "No such file or directory")


def refused(saved: Path, message: str) -> None:
    """Seal the directory anew, so that only the contents can tell."""
    (saved / "manifest.json").unlink()
    seal(saved)
    with pytest.raises(CheckpointError) as caught:
        NgramModel.load(saved)
    assert caught.value.what.startswith(f"{saved}: not a readable n-gram model (") and message in caught.value.what
    assert caught.value.fix == "train the model again, or restore the directory from a copy"
