"""Pairs of sentences: cuts, labels and types by hand."""

import numpy as np
import pytest

from smelt.data.corruption.pairs import cut_in_two, join_pair, next_sentence, sentence_order

FIRST, SECOND, OTHER = np.array([10, 11]), np.array([12]), np.array([90, 91])


def test_a_pair_is_joined_with_its_types() -> None:
    ids, types = join_pair(FIRST, SECOND, 2, 3)
    assert ids.tolist() == [2, 10, 11, 3, 12, 3]
    assert types.tolist() == [0, 0, 0, 0, 1, 1]


def test_next_sentence_is_true_half_of_the_time() -> None:
    labels = []
    for seed in range(1000):
        first, second, label = next_sentence(FIRST, SECOND, OTHER, np.random.default_rng(seed))
        assert first is FIRST and second is (OTHER if label else SECOND)
        labels.append(label)
    assert np.mean(labels) == pytest.approx(0.5, abs=0.07)


def test_sentence_order_swaps_half_of_the_time() -> None:
    labels = []
    for seed in range(1000):
        first, second, label = sentence_order(FIRST, SECOND, np.random.default_rng(seed))
        assert (first, second) == ((SECOND, FIRST) if label else (FIRST, SECOND))
        labels.append(label)
    assert np.mean(labels) == pytest.approx(0.5, abs=0.07)


def test_the_cut_is_at_the_end_of_a_sentence_or_anywhere() -> None:
    ids, ends = np.arange(10), np.isin(np.arange(10), [2, 6, 9])
    cuts = {len(cut_in_two(ids, ends, np.random.default_rng(i))[0]) for i in range(200)}
    assert cuts == {3, 7}
    assert {len(cut_in_two(ids, ends & False, np.random.default_rng(i))[0]) for i in range(300)} == set(range(1, 10))
