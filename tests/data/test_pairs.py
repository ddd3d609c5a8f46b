"""Pairs in rows: by hand, nothing lost, nothing mixed, and what does not fit."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from smelt.core.errors import DataError
from smelt.data.formats import detect_format, read_pairs, summarize
from smelt.data.packing import IGNORED
from smelt.data.pairs import pack_pairs
from smelt.data.records import PairRow

SIDE = st.lists(st.integers(10, 99), min_size=1, max_size=9)


def test_two_pairs_in_a_row_by_hand():
    pairs = [([5, 6, 1], [7, 1]), ([8, 1], [9, 9, 1]), ([4] * 6, [3])]
    packed, report = pack_pairs(pairs, 6, start_id=2, pad_id=0)
    row = 1 - packed.source[:, 0].tolist().index(4)
    assert packed.source[row].tolist() == [5, 6, 1, 8, 1, 0]
    assert packed.source_segments[row].tolist() == [1, 1, 1, 2, 2, 0]
    assert packed.ids[row].tolist() == [2, 7, 2, 9, 9, 0]
    assert packed.labels[row].tolist() == [7, 1, 9, 9, 1, IGNORED]
    assert packed.segments[row].tolist() == [1, 1, 2, 2, 2, 0]
    assert packed.positions[row].tolist() == [0, 1, 0, 1, 2, 0]
    assert (report.num_rows, report.num_tokens, report.num_supervised_tokens) == (2, 17, 6)
    assert report.fill == 17 / 24


@given(st.lists(st.tuples(SIDE, SIDE), min_size=1, max_size=12))
def test_every_pair_is_in_one_row_whole(pairs):
    packed, report = pack_pairs(pairs, 9, start_id=2)
    found = []
    for row in range(report.num_rows):
        for segment in range(1, int(packed.segments[row].max()) + 1):
            target, source = packed.segments[row] == segment, packed.source_segments[row] == segment
            assert packed.ids[row][target].tolist() == [2, *packed.labels[row][target][:-1].tolist()]
            assert packed.positions[row][target].tolist() == list(range(target.sum()))
            found.append((packed.source[row][source].tolist(), packed.labels[row][target].tolist()))
    assert sorted(found) == sorted((list(source), list(target)) for source, target in pairs)
    assert np.all((packed.labels == IGNORED) == (packed.segments == 0))


def test_what_is_too_long_is_refused_dropped_or_cut():
    pairs = [([5, 5, 5, 5], [6, 1]), ([7], [8, 1])]
    with pytest.raises(DataError, match="f:1: 4 tokens on one side, more than max_seq_len=3"):
        pack_pairs(pairs, 3, start_id=0, where=["f:1", "f:2"])
    packed, report = pack_pairs(pairs, 3, start_id=0, on_long="drop")
    assert (report.num_dropped, packed.labels.tolist()) == (1, [[8, 1, IGNORED]])
    packed, report = pack_pairs(pairs, 3, start_id=0, on_long="truncate")
    assert (report.num_truncated, report.num_rows, (packed.source == 5).sum()) == (1, 2, 3)
    with pytest.raises(DataError, match=r"no pair left of 1: 1 dropped as too long\naccepted: pairs of at most 3"):
        pack_pairs(pairs[:1], 3, start_id=0, on_long="drop")
    with pytest.raises(DataError, match="pair 1: a target without a token"):
        pack_pairs([([5], [])], 3, start_id=0)


def test_rows_of_source_and_target_are_read(tmp_path):
    path = tmp_path / "pairs.jsonl"
    path.write_text(json.dumps({"source": "two", "target": "zwei", "id": 7}) + "\n")
    assert detect_format({"source": "a", "target": "b", "text": "c"}) == "pairs"
    assert list(read_pairs(path)) == [PairRow("two", "zwei", f"{path}:1")]
    summary = summarize(path)
    assert (summary.formats, summary.num_bytes) == ({"pairs": 1}, 7)
    path.write_text(json.dumps({"source": "two", "target": " "}) + "\n")
    with pytest.raises(DataError, match=r"pairs\.jsonl:1: empty 'target'\ntry: remove the row"):
        list(read_pairs(path))
