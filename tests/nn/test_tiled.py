"""Attention by tiles equals the formula, forward and backward, and never holds a tensor of length times length."""

import itertools
import math

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from smelt.nn.attention import attend, attend_reference
from smelt.nn.masks import Rules, additive, attention_mask, visible
from smelt.nn.spec import AttentionSpec
from smelt.nn.tiled import attend_tiled, key_tiles, query_tiles

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


def tiled(queries, keys, values, bias=None, sinks=None, *, tile, scale=None, softcap=None, **rules):
    given = Rules(queries.shape[2], keys.shape[2], bias=bias, **rules)
    return attend_tiled(queries, keys, values, given, scale=scale, softcap=softcap, sinks=sinks, tile=tile)


def equal(inputs, tile, *, segments=None, window=None, causal=True, order=None, **settings):
    dtype, sizes = inputs[0].dtype, (inputs[0].shape[2], inputs[1].shape[2])
    who = {"segments": segments, "window": window, "causal": causal, "order": order}
    found = with_gradients(lambda *given: tiled(*given, tile=tile, **who, **settings), inputs)
    seen = visible(*sizes, segments, window, torch.device("cpu"), causal=causal, order=order)

    def formula(queries, keys, values, bias=None, sinks=None):
        mask = additive(seen, torch.float64)
        if bias is not None:
            distance = torch.arange(sizes[1]) - torch.arange(sizes[1])[sizes[1] - sizes[0] :, None]
            mask = mask + bias[:, distance + sizes[1] - 1]
        return attend_reference(queries, keys, values, mask, sinks=sinks, **settings)

    expected = with_gradients(formula, [x.detach().double().requires_grad_() for x in inputs])
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


ORDER = torch.tensor([[0, 0, 0, 0, 0, 1, 2, 3, 4, 4, 4, 5, 6], [0, 0, 3, 3, 1, 1, 2, 2, 9, 8, 7, 6, 5]])


@pytest.mark.parametrize("tile", [1, 3, 8, 64])
@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("rules", [{"causal": False}, {"order": ORDER}, {"window": 5}, {}], ids=lambda rules: [*rules])
def test_looking_ahead_biases_and_sinks_equal_the_reference(rules, biased, tile):
    generator = torch.Generator().manual_seed(3)
    for num_queries, packed, softcap in itertools.product((13, 4), (None, PACKED), (None, 1.5)):
        if "order" in rules and num_queries < 13:
            continue
        inputs = drawn(num_queries)
        if biased:
            bias = torch.randn(6, num_queries + 12, generator=generator, dtype=torch.float64)
            sinks = torch.randn(6, generator=generator, dtype=torch.float64)
            inputs += [bias.requires_grad_(), sinks.requires_grad_()]
        equal(inputs, tile, segments=packed, softcap=softcap, **rules)


def test_values_of_another_size_than_the_queries():
    inputs = drawn()
    inputs[2] = torch.cat((inputs[2], inputs[2].square()), dim=-1).detach().requires_grad_()
    equal(inputs, 3, segments=PACKED)


@pytest.mark.parametrize("settings", [{"softcap": 2.0}, {"sinks": True}, {"rules": True}], ids=str)
def test_attend_takes_tiles_for_long_rows_only(settings, monkeypatch):
    monkeypatch.setattr("smelt.nn.masks.TILES_FROM", 8 * 8)
    called = []

    def spy(*arguments, **options):
        called.append(1)
        return attend_tiled(*arguments, **options)

    monkeypatch.setattr("smelt.nn.attention.attend_tiled", spy)
    for length, is_long in ((7, False), (8, True)):
        called.clear()
        inputs = [x[:, :, :length].detach() for x in drawn()]
        mask, given = None, dict(settings)
        if given.pop("rules", False):
            mask = attention_mask(AttentionSpec(6, 2, 5, window=3), length, length, None, inputs[0])
        if given.pop("sinks", False):
            given["sinks"] = torch.linspace(-1, 1, 6, dtype=torch.float64)
        whole = mask.mask(inputs[0]) if isinstance(mask, Rules) else mask
        torch.testing.assert_close(attend(*inputs, mask, **given), attend_reference(*inputs, whole, **given))
        assert bool(called) == is_long


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
    found = with_gradients(lambda *qkv: tiled(*qkv, tile=3, segments=PACKED), inputs)
    assert all(x.isfinite().all() for x in found)


def test_two_tiles_merge_by_hand():
    # The worked example of the module: scores 0, ln 3, ln 4 are weights 1/8, 3/8, 4/8 of the values 8, 4, 2.
    query, keys = torch.ones(1, 1, 1, 1), torch.tensor([0, math.log(3), math.log(4)]).view(1, 1, 3, 1)
    values = torch.tensor([8.0, 4.0, 2.0]).view(1, 1, 3, 1)
    torch.testing.assert_close(attend_tiled(query, keys, values, tile=2).item(), 3.5)


def test_gradients_are_those_of_finite_differences():
    inputs = drawn(3, 4, 1, batch=1, num_heads=2, head_dim=2)
    for settings in ({}, {"softcap": 1.5, "window": 2, "segments": torch.tensor([[1, 1, 2, 2]])}):
        assert torch.autograd.gradcheck(lambda *qkv, s=settings: tiled(*qkv, tile=2, **s), inputs)


@pytest.mark.parametrize("tile", [1, 3, 4, 64])
@pytest.mark.parametrize("window", [None, 1, 5, 40])
@pytest.mark.parametrize("segments", [None, PACKED])
def test_tiles_cover_each_visible_pair_once_and_no_hidden_tile(segments, window, tile):
    device = torch.device("cpu")
    for num_queries in (13, 4):
        covered = torch.zeros(2, num_queries, 13, dtype=torch.int)
        for rows, own in query_tiles(num_queries, 13, tile):
            for columns, hidden in key_tiles(own, Rules(num_queries, 13, segments, window), tile, device):
                shown = torch.ones(2, own.stop - own.start, columns.stop - columns.start, dtype=torch.int)
                shown = shown if hidden is None else shown * ~hidden
                assert shown.any()
                covered[:, rows, columns] += shown
        expected = visible(num_queries, 13, segments, window, device).expand(2, -1, -1)
        torch.testing.assert_close(covered, expected.int())


def test_a_tile_in_the_past_needs_no_mask():
    device = torch.device("cpu")
    plain, windowed = Rules(9, 9), Rules(9, 9, window=5)
    assert plain.hidden(slice(6, 9), slice(3, 6), device) is None
    assert windowed.hidden(slice(6, 9), slice(4, 6), device) is None
    found = windowed.hidden(slice(6, 9), slice(3, 6), device)
    assert found.int().tolist() == [[[0, 0, 0], [0, 0, 0], [1, 0, 0]]]


def test_a_window_costs_length_times_window():
    def pairs(length, window):
        rules = Rules(length, length, window=window)
        tiles = (key_tiles(own, rules, 64, torch.device("cpu")) for _, own in query_tiles(length, length, 64))
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


@pytest.mark.parametrize(
    "settings", [{}, {"softcap": 2.0}, {"window": 100}, {"packed": True}, {"causal": False}], ids=str
)
def test_memory_is_linear_in_length(settings):
    tile, batch, heads, size = 64, 1, 4, 8
    for length in (256, 1024):
        segments = (torch.arange(length) // 100)[None] if "packed" in settings else None
        rules = {key: value for key, value in settings.items() if key != "packed"} | {"segments": segments}
        inputs = drawn(length, length, 2, torch.float32, batch, heads, size)
        with Largest() as largest:
            out = tiled(*inputs, tile=tile, **rules)
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
