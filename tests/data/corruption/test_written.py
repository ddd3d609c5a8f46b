"""Pairs for an encoder that writes: rows by hand, what is cut, dropped and refused."""

import numpy as np
import pytest

from smelt.core.errors import DataError
from smelt.data.corruption.written import pack_written
from smelt.data.packing import IGNORED

MARKS = {"class_id": 1, "separator_id": 2, "has_types": True}


def test_a_source_is_seen_both_ways_and_the_target_is_written_behind_it() -> None:
    rows, report = pack_written([([5, 6], [7, 8])], 9, pad_id=0, **MARKS)
    found = rows.take([0])
    assert found.packed.ids.tolist() == [[1, 5, 6, 2, 7, 8, 2, 0, 0]]
    assert found.packed.labels.tolist() == [[IGNORED] * 3 + [7, 8, 2] + [IGNORED] * 3]
    assert found.order is not None and found.order.tolist() == [[0, 0, 0, 0, 1, 2, 3, 0, 0]]
    assert found.types is not None and found.types.tolist() == [[0, 0, 0, 0, 1, 1, 1, 0, 0]]
    assert found.packed.segments.tolist() == [[1] * 7 + [0, 0]]
    assert (report.num_examples, report.num_tokens, report.num_supervised_tokens) == (1, 7, 3)
    assert report.fill == pytest.approx(7 / 9)


def test_several_pairs_share_a_row_and_types_are_left_out_where_a_model_has_none() -> None:
    pairs = [([5], [6]), ([7, 8, 9], [5]), ([4], [4])]
    rows, report = pack_written(pairs, 12, **{**MARKS, "has_types": False})
    assert report.num_rows == rows.num_rows == 2
    found = rows.take(range(2))
    assert found.types is None
    assert sorted(found.packed.segments.max(axis=1).tolist()) == [1, 2]
    assert sorted(found.packed.ids[found.packed.ids > 2].tolist()) == sorted(
        np.concatenate([[*a, *b] for a, b in pairs])
    )


def test_long_pairs_are_dropped_cut_or_an_error() -> None:
    pairs = [([5] * 6, [6, 7]), ([5], [6])]
    assert pack_written(pairs, 8, on_long="drop", **MARKS)[1].num_dropped == 1
    rows, report = pack_written(pairs, 8, on_long="truncate", **MARKS)
    assert report.num_truncated == 1 and [1, 5, 5, 5, 2, 6, 7, 2] in rows.take(range(2)).packed.ids.tolist()
    with pytest.raises(DataError, match="f:1: 11 tokens with its marks, more than max_seq_len=8"):
        pack_written(pairs, 8, where=("f:1", "f:2"), **MARKS)
    with pytest.raises(DataError, match="pair 1: a target without a token"):
        pack_written([([5], [])], 8, **MARKS)
