"""Planted copies are all found, near copies are not, and a hash collision accuses nobody."""

import numpy as np
import pytest

from smelt.core.errors import UsageError
from smelt.evals import measure_memorization, memorization, verbatim_rate
from smelt.evals.memorization import _prefixes, find_copies, rolling_hashes
from smelt.infer import Generation

SPAN = 50


@pytest.fixture
def train_ids() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 3000, size=20_000).astype(np.uint16)


@pytest.fixture(params=[1 << 20, 64, 1000])
def chunk_tokens(request, monkeypatch):
    monkeypatch.setattr(memorization, "CHUNK_TOKENS", request.param)


def noise(size: int, seed: int) -> list[int]:
    return np.random.default_rng(seed).integers(3000, 6000, size=size).tolist()


@pytest.mark.usefixtures("chunk_tokens")
def test_planted_copies_are_found(train_ids):
    def copy(begin: int, size: int) -> list[int]:
        return train_ids[begin : begin + size].tolist()

    changed = copy(7000, 60)
    changed[30] += 1
    samples = [
        noise(10, 1) + copy(0, 50) + noise(10, 2),  # the very beginning
        copy(19_950, 50),  # the very end
        noise(30, 3) + copy(1000 - 25, 50),  # over a chunk's edge
        copy(500, 49) + noise(40, 4),  # one token short
        changed,  # 60 tokens with a changed one in the middle
        copy(3000, 25) + copy(4000, 25),  # two halves
        copy(12_345, 200),
        noise(100, 5),
        [],
        copy(12_345, 50),  # the same span again
    ]
    assert find_copies(samples, train_ids) == [True, True, True, False, False, False, True, False, False, True]
    rate = verbatim_rate(samples, train_ids)
    assert (rate.correct, rate.total) == (5, 10)


@pytest.mark.usefixtures("chunk_tokens")
def test_it_agrees_with_looking_at_every_place():
    generator = np.random.default_rng(3)
    for span in (1, 2, 5, 9):
        train = generator.integers(0, 2, size=90)
        samples = [generator.integers(0, 2, size=generator.integers(0, 14)).tolist() for _ in range(60)]
        spans = {tuple(train[begin : begin + span].tolist()) for begin in range(len(train) - span + 1)}
        expected = [
            any(tuple(sample[begin : begin + span]) in spans for begin in range(len(sample) - span + 1))
            for sample in samples
        ]
        assert find_copies(samples, train, span_tokens=span) == expected
        assert any(expected)


def test_a_collision_is_no_copy(train_ids, monkeypatch):
    def poor(ids, span_tokens):
        return np.zeros(max(0, len(ids) - span_tokens + 1), dtype=np.uint64)

    monkeypatch.setattr(memorization, "rolling_hashes", poor)
    train = train_ids[:300]
    samples = [noise(60, 1), train[100:160].tolist()]
    assert find_copies(samples, train) == [False, True]


def test_text_that_repeats_itself_is_quick_and_counts():
    train = np.zeros(300_000, dtype=np.uint32)
    assert find_copies([[0] * 60, [0] * 30 + [1] + [0] * 30], train) == [True, False]


def test_equal_runs_have_equal_hashes_wherever_they_stand(train_ids):
    inside = np.concatenate([train_ids[:777], train_ids[5000:5080], train_ids[:20]])
    assert rolling_hashes(inside, SPAN)[777] == rolling_hashes(train_ids, SPAN)[5000]
    assert len(np.unique(rolling_hashes(train_ids, SPAN))) == 20_000 - SPAN + 1
    assert len(rolling_hashes(train_ids[:49], SPAN)) == 0


def test_memory_mapped_ids_will_do(train_ids, tmp_path):
    train_ids.tofile(tmp_path / "train.bin")
    mapped = np.memmap(tmp_path / "train.bin", dtype=np.uint16, mode="r")
    assert verbatim_rate([train_ids[100:150].tolist()], mapped).correct == 1


def test_training_data_shorter_than_the_span_holds_no_copy():
    assert verbatim_rate([[1] * 60], np.ones(49, dtype=np.uint16)).correct == 0
    assert verbatim_rate([], np.ones(49, dtype=np.uint16)).total == 0


def test_a_span_of_nothing_is_refused(train_ids):
    with pytest.raises(UsageError) as error:
        verbatim_rate([[1]], train_ids, span_tokens=0)
    assert str(error.value) == "span_tokens: 0 is not possible\naccepted: 1 or more"


def test_prefixes_lie_inside_documents_that_go_on():
    end = 9999
    train = np.arange(3000, dtype=np.uint16)
    train[100::100] = end  # documents of 99 tokens
    found = _prefixes(train, 20, 30, 50, end, seed=1)
    assert len(found) == 20 and len({prefix[0] for prefix in found}) == 20
    for prefix in found:
        assert prefix == list(range(prefix[0], prefix[0] + 30))
        assert prefix[0] // 100 == (prefix[0] + 79) // 100
    assert _prefixes(train, 20, 60, 50, end, seed=1) == []
    assert _prefixes(train[:79], 20, 30, 50, end, seed=1) == []


def test_a_model_that_recites_is_caught(model, tokenizer, monkeypatch):
    train = np.tile(np.arange(200, dtype=np.uint16), 3)

    def recite(model, tokenizer, prompts, sampling, *, stop_ids):
        """Continue n with n + 1, as the training data does."""
        asked.extend(prompts)
        size = min(sampling.max_new_tokens, 160 - len(prompts[0]))
        known = [prompt[-1] if len(prompt) > 1 else 50 for prompt in prompts]
        return [Generation(tuple((last + 1 + k) % 200 for k in range(size)), "", "length") for last in known]

    asked: list[list[int]] = []
    monkeypatch.setattr(memorization, "generate", recite)
    found = measure_memorization(model, tokenizer, train, num_samples=70)
    assert (found.from_prefixes.correct, found.from_prefixes.total) == (70, 70)
    assert (found.from_nothing.correct, found.from_nothing.total) == (70, 70)
    assert found.span_tokens == 50
    assert {len(prompt) for prompt in asked} == {32, 1}
    assert asked[-1] == [tokenizer.special["<|endoftext|>"]]


def test_an_untrained_model_does_not_recite(model, tokenizer, train_ids):
    found = measure_memorization(model, tokenizer, train_ids % 256, num_samples=6, new_tokens=60)
    assert (found.from_prefixes.correct, found.from_prefixes.total) == (0, 6)
    assert (found.from_nothing.correct, found.from_nothing.total) == (0, 6)
    assert measure_memorization(model, tokenizer, train_ids % 256, num_samples=6, new_tokens=60) == found


def test_a_context_without_room_for_a_copy_is_refused(model, tokenizer, train_ids):
    with pytest.raises(UsageError) as error:
        measure_memorization(model, tokenizer, train_ids, span_tokens=160)
    assert str(error.value) == "a copy of 160 tokens does not fit a context of 160\naccepted: span_tokens up to 159"
