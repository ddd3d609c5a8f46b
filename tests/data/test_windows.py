"""Rows of pieces at a price: by hand, and nothing lost."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from smelt.core.errors import DataError
from smelt.data.packing import MemoryStream
from smelt.data.windows import MIN_ALONE_TOKENS, MIN_PIECE_TOKENS, cost, cut_windows, fitting


def stream(*lengths: int) -> MemoryStream:
    ends = np.cumsum(lengths)
    return MemoryStream(np.arange(ends[-1], dtype=np.uint16), ends)


def test_by_hand() -> None:
    windows = cut_windows(stream(3, 6), 8, fixed=2)
    assert (windows.starts.tolist(), windows.stops.tolist()) == ([0, 3], [3, 9])
    windows = cut_windows(stream(3, 12), 24, fixed=2)
    assert [piece.tolist() for piece in windows.pieces(0)] == [[0, 1, 2], list(range(3, 15))]
    alone = cut_windows(stream(3, 12, 6), 10, fixed=2, alone=True)
    pieces = [alone.pieces(row)[0].tolist() for row in range(len(alone))]
    assert pieces == [list(range(3, 11)), list(range(11, 15)), list(range(15, 21))]


@given(st.lists(st.integers(1, 40), min_size=1, max_size=20), st.integers(4, 60), st.integers(0, 5), st.floats(0, 0.5))
def test_every_token_is_in_one_row_and_no_row_overflows(
    lengths: list[int], capacity: int, fixed: int, ratio: float
) -> None:
    text = stream(*lengths)
    try:
        windows = cut_windows(text, capacity, fixed=fixed, ratio=ratio)
    except DataError as error:
        assert f"{fixed} marks" in error.what and fitting(capacity, fixed, ratio) < 2
        return
    rows = [windows.pieces(row) for row in range(len(windows))]
    assert np.concatenate([piece for pieces in rows for piece in pieces]).tolist() == text.ids.tolist()
    for pieces in rows:
        prices = [cost(len(piece), fixed, ratio) for piece in pieces]
        assert all(map(len, pieces)) and sum(prices) <= capacity
        for piece in pieces:  # of one document
            assert np.searchsorted(text.ends, piece[0], "right") == np.searchsorted(text.ends, piece[-1], "right")
    longest = fitting(capacity, fixed, ratio)
    for pieces in rows[:-1]:  # a row ends where too little room is left
        room = capacity - sum(cost(len(piece), fixed, ratio) for piece in pieces)
        assert fitting(room, fixed, ratio) < min(MIN_PIECE_TOKENS, longest)


@given(st.lists(st.integers(1, 40), min_size=1, max_size=20), st.integers(8, 60))
def test_alone_each_row_is_one_piece(lengths: list[int], capacity: int) -> None:
    try:
        windows = cut_windows(stream(*lengths), capacity, fixed=3, alone=True)
    except DataError:
        assert max(lengths) < MIN_ALONE_TOKENS
        return
    for row in range(len(windows)):
        (piece,) = windows.pieces(row)
        assert MIN_ALONE_TOKENS <= len(piece) <= capacity - 3


def test_a_row_that_is_not_there() -> None:
    with pytest.raises(IndexError, match="row 2 of 2 rows"):
        cut_windows(stream(3, 6), 8, fixed=2).pieces(2)
