"""Attention by tiles equals the formula, forward and backward, and never holds a tensor of length times length."""

import itertools
import math

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from smelt.nn.attention import attend_reference
from smelt.nn.masks import additive, visible
from smelt.nn.tiled import attend_tiled, hidden_pairs, key_tiles, query_tiles

BOUNDS = {torch.float64: 1e-9, torch.float32: 1e-4, torch.bfloat16: 3e-2}
PACKED = torch.tensor([[0, 0, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2], [1, 1, 1, 1, 1, 2, 3, 3, 3, 3, 0, 0, 0]])


def drawn(num_queries=13, num_keys=13, num_kv_heads=2, dtype=torch.float64, batch=2, num_heads=6, head_dim=5):
    generator = torch.Generator().manual_seed(0)
    shapes = [(num_heads, num_queries)] + [(num_kv_heads, num_keys)] * 2
    return [
        torch.randn(batch, *shape, head_dim, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()
        for shape in shapes
    ]


def with_gradients(function, inputs):
    out = function(*inputs)
    weights = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view(out.shape)  # no two rows alike
    return out, *torch.autograd.grad((out * weights).sum(), inputs)


def equal(inputs, tile, *, segments=None, window=None, **settings):
    dtype = inputs[0].dtype
    seen = visible(inputs[0].shape[2], inputs[1].shape[2], segments, window, torch.device("cpu"))
    found = with_gradients(
        lambda *qkv: attend_tiled(*qkv, segments=segments, window=window, tile=tile, **settings), inputs
    )
    wide = [x.detach().double().requires_grad_() for x in inputs]
    mask = additive(seen, torch.float64)
    expected = with_gradients(lambda *qkv: attend_reference(*qkv, mask, **settings), wide)
    for ours, right in zip(found, expected, strict=True):
        assert ours.dtype == dtype
        torch.testing.assert_close(ours.double(), right, atol=BOUNDS[dtype], rtol=BOUNDS[dtype])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("tile", [1, 3, 8, 64])
@pytest.mark.parametrize("num_kv_heads", [1, 2, 6])
def test_equals_the_reference_with_gradients(num_kv_heads, tile, dtype):
    for num_queries, packed in itertools.product((13, 4, 1), (None, PACKED)):  # 4 and 1: behind cached slots
        equal(drawn(num_queries, 13, num_kv_heads, dtype), tile, segments=packed)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("tile", [1, 3, 8, 64])
@pytest.mark.parametrize("window", [1, 5, 40])
def test_windows_equal_the_reference(window, tile, dtype):
    for num_queries, packed in itertools.product((13, 4), (None, PACKED)):
        equal(drawn(num_queries, dtype=dtype), tile, segments=packed, window=window)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("settings", [{"scale": 0.7}, {"softcap": 1.5}, {"softcap": 1.5, "scale": 0.7}], ids=str)
@pytest.mark.parametrize("tile", [3, 64])
def test_other_scores_equal_the_reference(tile, settings, dtype):
    for packed, window in itertools.product((None, PACKED), (None, 5)):
        equal(drawn(dtype=dtype), tile, segments=packed, window=window, **settings)


def test_narrow_types_are_summed_wide():
    equal(drawn(dtype=torch.bfloat16), 3)
    inputs = drawn(512, 512, dtype=torch.bfloat16)
    wide = attend_tiled(*(x.float() for x in inputs), tile=64)
    found = attend_tiled(*inputs, tile=64)
    torch.testing.assert_close(found.float(), wide, atol=1e-5, rtol=2**-8)  # rounded once, at the end


def test_autocast_does_not_narrow_the_sums():
    inputs = drawn(dtype=torch.float32)
    expected = with_gradients(lambda *qkv: attend_tiled(*qkv, tile=3), inputs)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = with_gradients(lambda *qkv: attend_tiled(*qkv, tile=3), inputs)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-6)


def test_inputs_as_a_projection_leaves_them():
    inputs = [x.detach().transpose(1, 2).contiguous().transpose(1, 2).requires_grad_() for x in drawn()]
    assert not any(x.is_contiguous() for x in inputs)
    equal(inputs, 3)


def test_large_scores_do_not_overflow():
    queries, keys, values = (x.detach().float() for x in drawn())
    inputs = [(queries * 1000).requires_grad_(), (keys * 1000).requires_grad_(), values.requires_grad_()]
    found = with_gradients(lambda *qkv: attend_tiled(*qkv, tile=3, segments=PACKED), inputs)
    assert all(x.isfinite().all() for x in found)


def test_two_tiles_merge_by_hand():
    # The worked example of the module: scores 0, ln 3, ln 4 are weights 1/8, 3/8, 4/8 of the values 8, 4, 2.
    query, keys = torch.ones(1, 1, 1, 1), torch.tensor([0, math.log(3), math.log(4)]).view(1, 1, 3, 1)
    values = torch.tensor([8.0, 4.0, 2.0]).view(1, 1, 3, 1)
    torch.testing.assert_close(attend_tiled(query, keys, values, tile=2).item(), 3.5)


def test_gradients_are_those_of_finite_differences():
    inputs = drawn(3, 4, 1, batch=1, num_heads=2, head_dim=2)
    for settings in ({}, {"softcap": 1.5, "window": 2, "segments": torch.tensor([[1, 1, 2, 2]])}):
        assert torch.autograd.gradcheck(lambda *qkv, s=settings: attend_tiled(*qkv, tile=2, **s), inputs)


@pytest.mark.parametrize("tile", [1, 3, 4, 64])
@pytest.mark.parametrize("window", [None, 1, 5, 40])
@pytest.mark.parametrize("segments", [None, PACKED])
def test_tiles_cover_each_visible_pair_once_and_no_hidden_tile(segments, window, tile):
    device = torch.device("cpu")
    for num_queries in (13, 4):
        covered = torch.zeros(2, num_queries, 13, dtype=torch.int)
        for rows, own in query_tiles(num_queries, 13, tile):
            for columns, hidden in key_tiles(own, segments, window, tile, device):
                shown = torch.ones(2, own.stop - own.start, columns.stop - columns.start, dtype=torch.int)
                shown = shown if hidden is None else shown * ~hidden
                assert shown.any()
                covered[:, rows, columns] += shown
        expected = visible(num_queries, 13, segments, window, device).expand(2, -1, -1)
        torch.testing.assert_close(covered, expected.int())


def test_a_tile_in_the_past_needs_no_mask():
    device = torch.device("cpu")
    assert hidden_pairs(slice(6, 9), slice(3, 6), None, None, device) is None
    assert hidden_pairs(slice(6, 9), slice(4, 6), None, 5, device) is None
    assert hidden_pairs(slice(6, 9), slice(3, 6), None, 5, device).int().tolist() == [[[0, 0, 0], [0, 0, 0], [1, 0, 0]]]


def test_a_window_costs_length_times_window():
    def pairs(length, window):
        tiles = (key_tiles(own, None, window, 64, torch.device("cpu")) for _, own in query_tiles(length, length, 64))
        return sum(64 * (columns.stop - columns.start) for columns, _ in itertools.chain.from_iterable(tiles))

    assert pairs(2048, 128) < 2.1 * pairs(1024, 128) < 4096 * 128
    assert pairs(2048, None) > 3.5 * pairs(1024, None)


class Largest(TorchDispatchMode):
    """Remember the number of elements of the largest tensor that any operation returns."""

    numel = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        found = func(*args, **(kwargs or {}))
        self.numel = max(self.numel, *(x.numel() for x in tree_leaves(found) if isinstance(x, torch.Tensor)), 0)
        return found


@pytest.mark.parametrize("settings", [{}, {"softcap": 2.0}, {"window": 100}, {"packed": True}], ids=str)
def test_memory_is_linear_in_length(settings):
    tile, batch, heads, size = 64, 1, 4, 8
    for length in (256, 1024):
        segments = (torch.arange(length) // 100)[None] if "packed" in settings else None
        rules = {key: value for key, value in settings.items() if key != "packed"} | {"segments": segments}
        inputs = drawn(length, length, 2, torch.float32, batch, heads, size)
        with Largest() as largest:
            out = attend_tiled(*inputs, tile=tile, **rules)
            grown = sum(x.numel() for x in out.grad_fn.saved_tensors if x is not None and x is not segments)
            torch.autograd.grad(out.sum(), inputs)
        assert 0 < largest.numel <= 1.01 * batch * heads * max(length * size, tile * tile)
        # Kept for the backward pass: the inputs, the output, a number a row.
        assert grown == sum(x.numel() for x in inputs) + out.numel() + batch * heads * length
    with Largest() as largest:  # the same count does see what the formula makes
        attend_reference(*inputs)
    assert largest.numel >= batch * heads * length * length


def test_a_tile_has_at_least_one_token():
    with pytest.raises(ValueError, match="tile=0"):
        attend_tiled(*drawn(), tile=0)
