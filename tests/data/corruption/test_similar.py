"""Similar pairs: both directions by hand, and texts that are too long."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from smelt.data.corruption.similar import SimilarRows, shortened, write_after
from smelt.data.packing import IGNORED

X = IGNORED
ONE, OTHER = np.array([10, 11]), np.array([20])


def test_the_example_of_the_docstring() -> None:
    example = write_after(ONE, OTHER, 2, 3)
    assert example.order is not None and example.types is not None
    assert example.ids.tolist() == [2, 10, 11, 3, 20, 3]
    assert example.labels.tolist() == [X, X, X, 20, 3, X]
    assert example.order.tolist() == [0, 0, 0, 0, 1, 2]
    assert example.types.tolist() == [0, 0, 0, 0, 1, 1]


def test_a_pair_is_two_neighbouring_rows() -> None:
    rows = SimilarRows([(ONE, OTHER), (OTHER, OTHER)], 8, 2, 3, 0, True)
    found = rows.take([1, 0])
    assert rows.num_rows == 2 and found.packed.ids.shape == (4, 8)
    assert found.packed.ids[2].tolist() == [2, 10, 11, 3, 20, 3, 0, 0]
    assert found.packed.ids[3].tolist() == [2, 20, 3, 10, 11, 3, 0, 0]
    assert found.order is not None and found.types is not None
    assert SimilarRows([(ONE, OTHER)], 8, 2, 3, 0, False).take([0]).types is None


@given(st.integers(0, 30), st.integers(0, 30), st.integers(2, 40))
def test_the_longer_text_is_cut_first(num_first: int, num_second: int, max_tokens: int) -> None:
    first, second = shortened(np.arange(num_first), np.arange(num_second), max_tokens)
    assert len(first) + len(second) == min(num_first + num_second, max_tokens)
    assert first.tolist() == list(range(len(first))) and second.tolist() == list(range(len(second)))
    shorter = min(num_first, num_second)
    if num_first + num_second > max_tokens:
        assert min(len(first), len(second)) == min(shorter, max_tokens // 2)
