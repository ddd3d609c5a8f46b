"""The order is a permutation that depends on nothing but its arguments, and looks random."""

import numpy as np
import pytest

from smelt.core.errors import DataError
from smelt.data.order import mix, mix_words, shuffled_index, shuffled_indices, split_documents, split_tail


@pytest.mark.parametrize("num_rows", [1, 2, 3, 5, 16, 17, 100, 1000])
def test_every_row_once(num_rows):
    order = [shuffled_index(index, num_rows=num_rows, seed=1, epoch=0) for index in range(num_rows)]
    assert sorted(order) == list(range(num_rows))
    assert shuffled_indices(range(num_rows), num_rows=num_rows, seed=1, epoch=0).tolist() == order


def test_order_is_fixed_for_ever():
    # A change here would make every interrupted run resume on other rows.
    assert [shuffled_index(i, num_rows=10, seed=0, epoch=0) for i in range(10)] == [8, 0, 4, 7, 5, 2, 1, 6, 9, 3]
    assert [shuffled_index(i, num_rows=10, seed=0, epoch=1) for i in range(10)] == [6, 8, 2, 4, 0, 3, 5, 7, 9, 1]


def test_seeds_and_epochs_differ():
    orders = {
        tuple(shuffled_indices(range(64), num_rows=64, seed=seed, epoch=epoch).tolist())
        for seed in range(-2, 20)
        for epoch in range(20)
    }
    assert len(orders) == 22 * 20


@pytest.mark.parametrize("num_rows", [5, 12])
def test_every_place_is_equally_likely(num_rows):
    counts = np.zeros((num_rows, num_rows))
    for seed in range(2000):
        counts[np.arange(num_rows), shuffled_indices(range(num_rows), num_rows=num_rows, seed=seed, epoch=0)] += 1
    expected = 2000 / num_rows
    chi_square = ((counts - expected) ** 2 / expected).sum()
    freedom = (num_rows - 1) ** 2
    assert chi_square < freedom + 5 * (2 * freedom) ** 0.5


def test_neighbours_do_not_stay_together():
    order = shuffled_indices(range(10_000), num_rows=10_000, seed=3, epoch=0).astype(np.int64)
    assert abs(np.corrcoef(order[:-1], order[1:])[0, 1]) < 0.05
    assert (np.abs(np.diff(order)) == 1).sum() < 20  # 2 expected by chance


def test_large_counts_without_a_list():
    index = shuffled_index(10**12, num_rows=10**12 + 7, seed=0, epoch=0)
    assert 0 <= index < 10**12 + 7
    assert shuffled_indices([10**12], num_rows=10**12 + 7, seed=0, epoch=0).tolist() == [index]


@pytest.mark.parametrize("index", [-1, 10])
def test_index_outside(index):
    with pytest.raises(IndexError):
        shuffled_index(index, num_rows=10, seed=0, epoch=0)
    with pytest.raises(IndexError):
        shuffled_indices([0, index], num_rows=10, seed=0, epoch=0)


def test_mix_is_splitmix():
    assert mix(0) == 0xE220A8397B1DCDAF  # first output of SplitMix64 seeded with 0, from its reference code
    words = np.array([0, 1, 2**64 - 1], dtype=np.uint64)
    assert mix_words(words).tolist() == [mix(0), mix(1), mix(2**64 - 1)]


def test_split_documents():
    mask = split_documents(10_000, 0.1, seed=7)
    assert mask.dtype == np.bool_ and 900 < mask.sum() < 1100
    assert (split_documents(5_000, 0.1, seed=7) == mask[:5_000]).all()  # more documents move none
    assert (split_documents(10_000, 0.1, seed=8) != mask).any()


def test_split_of_few_documents_leaves_neither_side_empty():
    for seed in range(50):
        for fraction in (0.01, 0.99):
            assert 0 < split_documents(3, fraction, seed).sum() < 3
    with pytest.raises(DataError) as caught:
        split_documents(1, 0.1, seed=0)
    assert "1 document cannot be split into training and validation\naccepted: two documents" in str(caught.value)


def test_split_tail():
    assert split_tail("abcdefghij", 0.1) == ("abcdefghi", "j")
    assert split_tail("春天来了", 0.5) == ("春天", "来了")
    with pytest.raises(DataError, match=r"a text of 1 characters cannot be split by 0\.1"):
        split_tail("a", 0.1)


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, float("nan")])
def test_bad_fraction(fraction):
    for split in (lambda: split_tail("abcdef", fraction), lambda: split_documents(10, fraction, seed=0)):
        with pytest.raises(DataError, match="a validation fraction of"):
            split()


def test_tiny_shakespeare_is_split_as_its_benchmark_does(shared_data):
    text = (shared_data / "text" / "tinyshakespeare.txt").read_text(encoding="utf-8")
    train, validation = split_tail(text, 0.1)
    assert (len(train), len(validation)) == (1_003_854, 111_540) and train + validation == text
