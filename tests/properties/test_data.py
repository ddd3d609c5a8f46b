"""What must hold of packing, order, shards and readers for every input."""

import json
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smelt.core.errors import DataError
from smelt.data.order import shuffled_index, shuffled_indices, split_documents, split_tail
from smelt.data.packing import MemoryStream, best_fit_decreasing, pack_rows, pack_stream
from smelt.data.readers import read_documents, scan_file
from smelt.data.shards import TokenShards, write_shards

IGNORED = -100


@st.composite
def examples(draw, max_length=12):
    """Lists of (ids, mask) with something to learn in each; ids are never 0, the padding."""
    rows = []
    for _ in range(draw(st.integers(1, 30))):
        ids = draw(st.lists(st.integers(1, 50), min_size=2, max_size=max_length))
        mask = draw(st.lists(st.integers(0, 1), min_size=len(ids), max_size=len(ids)))
        mask[draw(st.integers(1, len(ids) - 1))] = 1
        rows.append((ids, mask))
    return rows


def unpack(packed):
    """Read (ids, labels) of every segment back out of packed rows, checking that segments are runs 1, 2, ..., 0."""
    found = []
    for ids, labels, segments, positions in zip(
        packed.ids, packed.labels, packed.segments, packed.positions, strict=True
    ):
        runs = [segment for at, segment in enumerate(segments) if at == 0 or segments[at - 1] != segment]
        assert runs == [*range(1, max(segments) + 1), *([0] if segments[-1] == 0 else [])]
        assert not ids[segments == 0].any() and (labels[segments == 0] == IGNORED).all()
        for segment in range(1, max(segments) + 1):
            here = segments == segment
            assert positions[here].tolist() == list(range(here.sum()))
            found.append((tuple(ids[here].tolist()), tuple(labels[here].tolist())))
    return found


@given(examples(), st.integers(12, 40))
def test_packed_rows_hold_exactly_the_examples(rows, max_seq_len):
    packed, report = pack_rows(rows, max_seq_len)
    expected = Counter(
        (tuple(ids), (*(i if m else IGNORED for i, m in zip(ids[1:], mask[1:], strict=True)), IGNORED))
        for ids, mask in rows
    )
    assert Counter(unpack(packed)) == expected
    assert report.num_supervised_tokens == sum(sum(mask[1:]) for _, mask in rows) == (packed.labels != IGNORED).sum()
    assert report.num_tokens == sum(len(ids) for ids, _ in rows) == (packed.segments > 0).sum()
    again, _ = pack_rows(rows, max_seq_len)
    names = ("ids", "labels", "segments", "positions")
    assert all((getattr(again, name) == getattr(packed, name)).all() for name in names)
    assert again.source is packed.source is None


@given(examples(), st.integers(2, 11), st.sampled_from(["drop", "truncate"]))
def test_every_long_example_is_accounted_for(rows, max_seq_len, on_long):
    num_long = sum(len(ids) > max_seq_len for ids, _ in rows)
    try:
        packed, report = pack_rows(rows, max_seq_len, on_long=on_long)
    except DataError:
        assert num_long == len(rows)
        return
    assert report.num_dropped + report.num_truncated + report.num_emptied == num_long
    kept = Counter(ids for ids, _ in unpack(packed))
    possible = Counter(tuple(ids[:max_seq_len]) for ids, _ in rows)
    assert kept <= possible and kept.total() == len(rows) - report.num_dropped - report.num_emptied


@given(st.lists(st.integers(1, 50), max_size=200), st.integers(50, 90))
def test_bins_hold_each_index_once_and_never_overflow(lengths, capacity):
    bins = best_fit_decreasing(lengths, capacity)
    assert sorted(index for members in bins for index in members) == list(range(len(lengths)))
    loads = [sum(lengths[index] for index in members) for members in bins]
    assert all(0 < load <= capacity for load in loads)
    assert sum(load * 2 <= capacity for load in loads) <= 1  # two half-empty bins would have been one


@given(st.lists(st.integers(1, 15), min_size=1, max_size=30), st.integers(1, 20))
def test_stream_rows_predict_each_token_once(lengths, max_seq_len):
    ends = np.cumsum(lengths)
    ids = np.arange(ends[-1], dtype=np.uint32)
    try:
        rows = pack_stream(MemoryStream(ids, ends), max_seq_len)
    except DataError:
        assert ends[-1] <= max_seq_len
        return
    packed = rows.take(range(len(rows)))
    covered = len(rows) * max_seq_len
    assert packed.ids.ravel().tolist() == list(range(covered))
    assert packed.labels.ravel().tolist() == list(range(1, covered + 1))
    assert ends[-1] - 1 - covered < max_seq_len
    document = np.searchsorted(ends - 1, packed.ids, side="right")  # an end token opens the next document
    same_segment = packed.segments[:, :, None] == packed.segments[:, None, :]
    assert (same_segment == (document[:, :, None] == document[:, None, :])).all()
    starts = np.concatenate([[0], ends - 1])[document]
    assert (packed.positions == packed.ids - np.maximum(starts, packed.ids[:, :1])).all()


@given(st.integers(1, 300), st.integers(-(2**70), 2**70), st.integers(0, 10**9))
def test_order_is_a_bijection_and_its_twin_agrees(num_rows, seed, epoch):
    order = shuffled_indices(range(num_rows), num_rows=num_rows, seed=seed, epoch=epoch).tolist()
    assert sorted(order) == list(range(num_rows))
    for index in {0, num_rows // 2, num_rows - 1}:
        assert shuffled_index(index, num_rows=num_rows, seed=seed, epoch=epoch) == order[index]


@given(st.integers(2, 500), st.floats(0.001, 0.999), st.integers(0, 2**64))
def test_split_gives_both_sides_something(num_documents, fraction, seed):
    mask = split_documents(num_documents, fraction, seed)
    assert mask.shape == (num_documents,) and 0 < mask.sum() < num_documents
    assert (mask == split_documents(num_documents, fraction, seed)).all()


@given(st.text(min_size=2), st.floats(0.01, 0.99))
def test_tail_split_loses_nothing(text, fraction):
    try:
        train, validation = split_tail(text, fraction)
    except DataError:
        assert int(len(text) * (1 - fraction)) == 0
        return
    assert train + validation == text and train and validation


class Codepoints:
    """A tokenizer of code points: any text, large ids."""

    fingerprint = "0" * 64
    vocab_size = 0x110001

    def encode_to_array(self, texts, *, end_id):
        documents = [[ord(letter) for letter in text] + [end_id] for text in texts]
        return np.array([i for ids in documents for i in ids], dtype=np.uint32), np.cumsum(
            [len(ids) for ids in documents]
        )


@settings(max_examples=25, deadline=None)
@given(st.lists(st.text(), min_size=1, max_size=20), st.integers(1, 20))
def test_shards_give_back_every_document(texts, max_file_tokens):
    with tempfile.TemporaryDirectory() as folder:
        write_shards(
            Path(folder, "s"), texts, Codepoints(), end_id=0x110000, sources={}, max_file_tokens=max_file_tokens
        )
        shards = TokenShards.open(Path(folder, "s"), verify=True)
        read = ["".join(map(chr, shards.document(index)[:-1])) for index in range(len(texts))]
        assert read == texts
        assert shards.text_bytes.tolist() == [len(text.encode()) for text in texts]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.dictionaries(st.text(max_size=5), st.text()), min_size=1, max_size=5))
def test_json_lines_survive(rows):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "rows.jsonl")
        path.write_text(
            "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8", newline=""
        )
        assert [row for _, row in read_documents(path)] == rows


@settings(max_examples=100, deadline=None)
@pytest.mark.parametrize("suffix", [".txt", ".jsonl", ".json", ".csv", ".tsv", ".parquet", ".txt.gz", ".jsonl.gz"])
@given(data=st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(suffix, data):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"x{suffix}")
        path.write_bytes(data)
        for where, value in scan_file(path):
            assert where.startswith(str(path))
            assert isinstance(value, str | dict | DataError)
