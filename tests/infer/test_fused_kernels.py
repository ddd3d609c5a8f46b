"""The parts of the fused step by themselves: rounding, packing, tiles, the exponential."""

from functools import partial

import numba
import numpy as np
import pytest
import torch
from numba import types
from numba.extending import intrinsic

from smelt.core.errors import UsageError
from smelt.infer.absmax import dequantize, quantize, quantize_activations
from smelt.infer.kernels.products import Rows, make_multiplier
from smelt.infer.kernels.rows import round_row
from smelt.infer.kernels.vectors import HALVES, INT8, VECTOR, exponential, load, store, store_bf16, widen_fp16
from smelt.infer.packing import KINDS, aligned_bytes, pack


def test_the_largest_of_a_group_is_kept_whole():
    weights = torch.zeros(2, 64)
    weights[0, 3], weights[0, 4], weights[1, 40] = -2.0, 1.0, 0.5
    for bits, largest in ((8, 127), (4, 7)):
        numbers, scales = quantize(weights, bits)
        assert (numbers[0, 3], numbers[1, 40]) == (-largest, largest)
        assert scales.tolist()[1][0] == 0.0
        torch.testing.assert_close(dequantize(numbers, scales)[:, [3, 40]], weights[:, [3, 40]], rtol=1e-3, atol=0)
        near = (dequantize(numbers, scales) - weights).abs().view(2, 2, 32)
        assert (near <= 0.501 * scales.float()[..., None] + 1e-3 * weights.abs().view(2, 2, 32)).all()


def test_a_group_whose_scale_is_zero_in_fp16_becomes_zeros():
    numbers, scales = quantize(torch.full((1, 32), 1e-9), 8)
    assert not numbers.any() and not scales.any()


def test_weights_that_no_scale_can_hold_are_refused():
    for bad in (torch.inf, torch.nan, 1e30):
        with pytest.raises(UsageError, match="weights that are not finite, or beyond 458,528, in 4 bits"):
            quantize(torch.full((1, 32), bad), 4)


@pytest.mark.parametrize("weights", ["int8", "int4"])
def test_bytes_are_multiplied_exactly_with_and_without_the_processors_instruction(weights):
    kind, (rows, columns, batch) = KINDS[weights], (40, 96, 15)
    generator = torch.Generator().manual_seed(0)
    matrix, x = torch.randn(rows, columns, generator=generator), torch.randn(batch, columns, generator=generator)
    matrix[0, :32], x[:, :32] = 1.0, -1.0  # the largest products there are: 4 x 255 x -127
    packed = pack([(matrix, None)], weights)
    numbers, scales = quantize_activations(x)
    sums = numbers.view(batch, 3, 32).sum(dim=-1, dtype=torch.int32)
    parts = [part.contiguous().numpy().view(np.uint8) for part in (numbers, scales, sums)]
    inputs = np.concatenate(parts, axis=1)
    results = []
    for plain in (False, True):
        multiply = make_multiplier(kind, plain=plain)
        out = np.ones((batch, 16 * packed.num_blocks), np.float32)
        run = numba.njit(lambda matrix, rows, last, multiply=multiply: multiply(matrix, rows, 0, last, 1))
        places = Rows(batch, inputs.ctypes.data, inputs.shape[1], out.ctypes.data, out.strides[0])
        run(packed.matrix, places, packed.num_blocks)
        results.append(out[:, :rows] - 1)
    assert np.array_equal(*results)
    wanted = dequantize(numbers, scales).double() @ dequantize(*quantize(matrix, 8 if kind == INT8 else 4)).double().mT
    np.testing.assert_allclose(results[0], wanted, rtol=0, atol=1e-5)


def test_activations_are_rounded_as_the_formula_says():
    x = torch.randn(1, 128, generator=torch.Generator().manual_seed(1))
    x[0, 32:64], x[0, 64] = 0.0, 1e30
    out = aligned_bytes(4 * 40)
    numba.njit(lambda row, out, groups: round_row(row, out, groups))(x.data_ptr(), out.ctypes.data, 4)
    numbers, scales = quantize_activations(x)
    assert torch.equal(torch.from_numpy(out[:128].view(np.int8)), numbers[0])
    assert torch.equal(torch.from_numpy(out[128:144].view(np.float32)), scales[0])
    assert out[144:].view(np.int32).tolist() == numbers.view(4, 32).sum(dim=1).tolist()


def _on_vectors(emit, kind=VECTOR):
    """Return a function of two addresses that applies an emitted step to 16 numbers."""

    def step(typing, source, out):
        def generate(context, builder, signature, values):
            store(builder, emit(builder, load(builder, kind, values[0])), values[1])
            return context.get_dummy_value()

        return types.void(types.int64, types.int64), generate

    made = intrinsic(step)
    return numba.njit(lambda source, out: made(source, out))


def test_the_exponential_is_within_two_units_in_the_last_place():
    run, x = _on_vectors(exponential), np.linspace(-87, 88, 160_000, dtype=np.float32)
    found = np.empty_like(x)
    for start in range(0, len(x), 16):
        run(x[start:].ctypes.data, found[start:].ctypes.data)
    wanted = np.exp(x.astype(np.float64))
    assert np.abs(found / wanted - 1).max() < 2 * 2.0**-23
    edges = np.array([-np.inf, -88, 0, 1000] + [0] * 12, np.float32)
    run(edges.ctypes.data, found.ctypes.data)
    assert found[:3].tolist() == [0, 0, 1] and found[3] > 1e38


@pytest.mark.parametrize("converts", [True, False])
def test_fp16_scales_are_read_exactly(converts):
    halves = np.concatenate((np.arange(16), np.arange(0x3C00, 0x3C10), np.arange(0x7BF0, 0x7C00))).astype(np.uint16)
    found, run = np.empty(48, np.float32), _on_vectors(partial(widen_fp16, converts=converts), HALVES)
    for start in (0, 16, 32):
        run(halves[start:].ctypes.data, found[start:].ctypes.data)
    assert np.array_equal(found, halves.view(np.float16).astype(np.float32))


def test_bf16_is_rounded_as_torch_does():
    values = torch.randn(64, generator=torch.Generator().manual_seed(2))
    values[:4] = torch.tensor([0x3F808000, 0x3F818000, 0x3F808001, 0x3F80FFFF], dtype=torch.int32).view(torch.float32)
    out = torch.zeros(64, dtype=torch.bfloat16)
    write = numba.njit(lambda place, value: store_bf16(place, value))
    for number, value in enumerate(values.numpy()):
        write(out.data_ptr() + 2 * number, value)
    assert torch.equal(out, values.bfloat16())


def test_packing_fills_up_with_zeros_and_takes_turns():
    first, second = torch.ones(3, 5), torch.full((3, 5), 2.0)
    packed = pack([(first, torch.full((3,), 7.0)), (second, None)], "fp32", interleaved=True)
    blocks = packed.blocks.view(np.float32).reshape(2, 32, 16)
    assert (blocks[0, :5, :3] == 1).all() and (blocks[1, :5, :3] == 2).all()
    assert blocks.sum() == 15 + 30
    assert packed.bias.tolist() == [7.0] * 3 + [0.0] * 29


def test_rows_beyond_one_piece_are_packed_alike(monkeypatch):
    matrix = torch.randn(100, 40, generator=torch.Generator().manual_seed(3))
    whole = {weights: pack([(matrix, None)], weights).blocks.copy() for weights in KINDS}
    monkeypatch.setattr("smelt.infer.packing._ROWS_AT_ONCE", 32)
    assert all(np.array_equal(pack([(matrix, None)], weights).blocks, whole[weights]) for weights in KINDS)
