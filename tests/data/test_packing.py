"""Packed rows hold the tokens, labels, segments and positions worked out by hand."""

import numpy as np
import pytest

from smelt.core.errors import DataError
from smelt.data.packing import MemoryStream, best_fit_decreasing, pack_rows, pack_stream

X = -100


def stream(*lengths):
    """Documents of these lengths, numbered through: token i is 10 + i."""
    return MemoryStream(np.arange(10, 10 + sum(lengths), dtype=np.uint16), np.cumsum(lengths))


def test_stream_rows_by_hand():
    rows = pack_stream(stream(3, 6, 2), 5)  # 10 11 12 | 13 14 15 16 17 18 | 19 20
    packed = rows.take([0, 1])
    assert len(rows) == 2
    assert packed.ids.tolist() == [[10, 11, 12, 13, 14], [15, 16, 17, 18, 19]]
    assert packed.labels.tolist() == [[11, 12, 13, 14, 15], [16, 17, 18, 19, 20]]
    # 12 and 18 end their documents: the next document reads them as its beginning.
    assert packed.segments.tolist() == [[1, 1, 2, 2, 2], [1, 1, 1, 2, 2]]
    assert packed.positions.tolist() == [[0, 1, 0, 1, 2], [0, 1, 2, 0, 1]]  # a document's rest starts over with its row
    assert {array.dtype for array in vars(packed).values() if array is not None} == {np.dtype(np.int32)}


def test_stream_rows_in_any_order():
    rows = pack_stream(stream(40), 4)
    assert len(rows) == 9
    assert rows.take([7, 0, 7]).ids[:, 0].tolist() == [10 + 28, 10, 10 + 28]
    assert rows.take([]).ids.shape == (0, 4)
    for outside in (-1, 9):
        with pytest.raises(IndexError):
            rows.take([0, outside])


def test_stream_too_short():
    assert len(pack_stream(stream(2, 3), 4)) == 1
    with pytest.raises(DataError) as caught:
        pack_stream(stream(2, 2), 4)
    assert str(caught.value) == (
        "text too short: 4 tokens do not fill one row of 4\n"
        "accepted: at least 5 tokens\ntry: add text, or lower max_seq_len"
    )


def test_rows_by_hand():
    examples = [
        ([1, 2, 3], [0, 1, 1]),
        ([4, 5, 6, 7, 8], [0, 0, 0, 1, 1]),
        ([9, 10], [1, 1]),
        ([11, 12, 13, 14], [0, 0, 1, 0]),
    ]
    packed, report = pack_rows(examples, 8, pad_id=99)
    assert packed.ids.tolist() == [[1, 2, 3, 4, 5, 6, 7, 8], [9, 10, 11, 12, 13, 14, 99, 99]]
    assert packed.labels.tolist() == [[2, 3, X, X, X, 7, 8, X], [10, X, X, 13, X, X, X, X]]
    assert packed.segments.tolist() == [[1, 1, 1, 2, 2, 2, 2, 2], [1, 1, 2, 2, 2, 2, 0, 0]]
    assert packed.positions.tolist() == [[0, 1, 2, 0, 1, 2, 3, 4], [0, 1, 0, 1, 2, 3, 0, 0]]
    assert (report.num_examples, report.num_rows, report.num_tokens, report.num_supervised_tokens) == (4, 2, 14, 6)
    assert (report.num_dropped, report.num_truncated, report.num_emptied, report.fill) == (0, 0, 0, 14 / 16)


def test_long_examples():
    rows = [([1, 2, 3, 4], [0, 1, 1, 1]), ([5, 6, 7, 8], [0, 0, 0, 1]), ([9, 9], [0, 1])]
    with pytest.raises(DataError) as caught:
        pack_rows(rows, 3, where=["a.jsonl:1", "a.jsonl:2", "a.jsonl:3"])
    assert str(caught.value).startswith("a.jsonl:1: 4 tokens, more than max_seq_len=3\ntry: raise max_seq_len")
    packed, report = pack_rows(rows, 3, on_long="drop")
    assert packed.ids.tolist() == [[9, 9, 0]] and report.num_dropped == 2
    packed, report = pack_rows(rows, 3, on_long="truncate")
    assert packed.ids.tolist() == [[1, 2, 3], [9, 9, 0]]
    assert (report.num_truncated, report.num_emptied, report.num_dropped) == (1, 1, 0)
    with pytest.raises(DataError, match="no example left of 2: 2 dropped and 0 emptied as too long"):
        pack_rows(rows[:2], 3, on_long="drop")


@pytest.mark.parametrize("mask", [[0, 0, 0], [1, 0, 0]])  # token 0 has nothing before it that could predict it
def test_all_labels_masked(mask):
    with pytest.raises(DataError) as caught:
        pack_rows([([1, 2], [0, 1]), ([1, 2, 3], mask)], 8)
    assert "example 2: all labels are masked: none of its 3 tokens is to be learned\n" in str(caught.value)
    with pytest.raises(DataError, match=r"chats\.jsonl:17: all labels are masked"):
        pack_rows([([1, 2, 3], mask)], 8, where=["chats.jsonl:17"])


def test_no_examples_and_broken_mask():
    with pytest.raises(DataError, match="no example left of 0"):
        pack_rows([], 8)
    with pytest.raises(ValueError, match="2 ids but 1 mask"):
        pack_rows([([1, 2], [1])], 8)


def test_best_fit_takes_the_fullest_bin_that_fits():
    assert best_fit_decreasing([3, 5, 2, 4], 8) == [[0, 1], [2, 3]]
    # 7 and 6 open two bins; 4 opens a third; 3 fits only there; 2 goes to the bin of 6 (room 4 left), not of 7
    assert best_fit_decreasing([7, 6, 4, 3, 2], 10) == [[0, 3], [1, 2], [4]]
    assert best_fit_decreasing([2, 2, 2, 2], 4) == [[0, 1], [2, 3]]


def test_best_fit_is_quick_and_tight():
    lengths = np.random.default_rng(0).integers(1, 400, size=20_000).tolist()
    bins = best_fit_decreasing(lengths, 512)
    assert sum(lengths) / (512 * len(bins)) > 0.98
