"""The cache stores what it is given, where it belongs, and refuses what does not fit."""

import pytest
import torch

from smelt.core.errors import UsageError
from smelt.models.families import preset
from smelt.nn.cache import KVCache, LayerCache


def test_allocated_shapes_follow_the_spec():
    cache = KVCache.allocate(preset("tinyllama-1.1b"), 1, 3)
    assert len(cache.layers) == 22
    assert cache.layers[0].keys.shape == (1, 4, 3, 64)
    assert (cache.length, cache.max_seq_len) == (0, 3)


def test_append_returns_all_filled_slots():
    cache = KVCache.allocate(preset("smelt-nano"), 2, 5).layers[0]
    first, second = torch.ones(2, 2, 2, 32), torch.full((2, 2, 1, 32), 2.0)
    cache.append(first, -first)
    keys, values = cache.append(second, -second)
    assert keys[1, 0, :, 0].tolist() == [1.0, 1.0, 2.0]
    assert values[1, 0, :, 0].tolist() == [-1.0, -1.0, -2.0]
    assert cache.length == 3


def test_segments_default_to_one_and_are_recorded():
    cache = KVCache.allocate(preset("smelt-nano"), 1, 4)
    assert cache.extend_segments(2, None).tolist() == [[1, 1]]
    assert cache.uniform
    cache.layers[0].length = 2
    assert cache.extend_segments(1, torch.tensor([[3]])).tolist() == [[1, 1, 3]]
    assert not cache.uniform


def test_overflow_is_refused():
    cache = KVCache.allocate(preset("smelt-nano"), 1, 4)
    with pytest.raises(UsageError) as caught:
        cache.extend_segments(5, None)
    assert str(caught.value) == (
        "5 tokens in a cache of 4\naccepted: at most 4 tokens with the prompt\n"
        "try: allocate a longer cache, or shorten the prompt or the answer"
    )


def test_reorder_moves_rows_of_every_layer_and_segment():
    cache = KVCache.allocate(preset("smelt-nano"), 3, 2)
    for layer in cache.layers:
        layer.keys[:] = torch.tensor([10.0, 20.0, 30.0])[:, None, None, None]
        layer.values[:] = -layer.keys
    cache.segments[:] = torch.tensor([[1], [2], [3]])
    cache.reorder([2, 0, 0])
    assert cache.segments[:, 0].tolist() == [3, 1, 1]
    for layer in cache.layers:
        assert layer.keys[:, 0, 0, 0].tolist() == [30.0, 10.0, 10.0]
        assert layer.values[:, 0, 0, 0].tolist() == [-30.0, -10.0, -10.0]


def test_a_window_keeps_as_many_slots_as_it_shows():
    spec = preset("mistral-7b")
    cache = KVCache.allocate(spec, 1, 32_768, device="meta")
    assert all(layer.keys.shape == layer.values.shape == (1, 8, 4096, 128) for layer in cache.layers)
    assert KVCache.allocate(spec, 1, 100, device="meta").layers[0].keys.shape[2] == 100
    assert cache.max_seq_len == 32_768


def numbered(start: int, stop: int) -> torch.Tensor:
    return torch.arange(start, stop).float().view(1, 1, -1, 1)


@pytest.mark.parametrize("pieces", [[1] * 12, [5, 1, 1, 3, 1, 1], [9, 1, 2], [2, 8, 1, 1], [3, 1, 4, 4]], ids=str)
def test_a_ring_returns_what_the_window_shows(pieces):
    cache, start = LayerCache(torch.full((1, 1, 4, 1), -1.0), torch.full((1, 1, 4, 1), -1.0), window=4), 0
    for size in pieces:
        keys, values = cache.append(numbered(start, start + size), -numbered(start, start + size))
        expected = list(range(max(0, start - 3), start + size))
        found = keys.flatten().int().tolist()
        assert torch.equal(values, -keys)
        if size == 1:
            before = LayerCache(cache.keys, cache.values, length=start)
            order = KVCache([before], torch.ones(1, 12)).in_order(torch.tensor([expected]), 4)
            assert found == order[0].tolist()
        else:
            assert found == expected
        start += size
        assert cache.length == start
