"""NF4: the published values, blocks by hand, bits a parameter, and the compiled loops beside the plain ones."""

import pytest
import torch
from torch import Tensor

from smelt.core.errors import UsageError
from smelt.quant import nf4

PUBLISHED = [
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
    -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
    0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
]  # fmt: skip
"""bitsandbytes, functional.get_4bit_type("nf4"); QLoRA, appendix E."""


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_the_values_are_the_published_ones() -> None:
    assert nf4.code_values().tolist() == pytest.approx(PUBLISHED, abs=1e-6)


def test_a_block_by_hand() -> None:
    numbers = torch.zeros(70)
    numbers[:6] = torch.tensor([-2.0, 2.0, 1.0, 0.07, 0.09, -1.2])
    numbers[64:] = torch.tensor([0.5, -0.25, 0.0, 0.0, 0.0, 0.0])
    codes, scales = nf4.quantize(numbers)
    assert scales.tolist() == [2.0, 0.5]
    # Shares of the first block: -1, 1, 0.5 (between 0.4407 and 0.5626: 12 | 13, middle 0.5017), 0.035 (below the middle
    # 0.0398 of 7 and 8), 0.045 (above it), -0.6 (above the middle -0.6106 of 1 and 2); of the second: 1, -0.5.
    assert codes[:4].tolist() == [0x0F, 0xC7, 0x82, 0x77]
    assert codes[32:].tolist() == [0xF2, 0x77, 0x77]
    found = nf4.dequantize(codes, scales, (70,))
    expected = [-2.0, 2.0, 2 * PUBLISHED[12], 0.0, 2 * PUBLISHED[8], 2 * PUBLISHED[2]]
    assert found[:6].tolist() == pytest.approx(expected, abs=1e-6)
    assert found[64:].tolist() == pytest.approx([0.5, 0.5 * PUBLISHED[2], 0, 0, 0, 0], abs=1e-6)


def test_scales_are_quantized_less_their_mean() -> None:
    """By hand: 256 scales of 1 and one of 4, mean 260 / 257; of the first block all lie below it."""
    scales = torch.ones(257)
    scales[256] = 4.0
    codes, widths, mean = nf4.compress(scales)
    assert mean.item() == pytest.approx(260 / 257)
    assert widths.tolist() == pytest.approx([3 / 257, 4 - 260 / 257], rel=1e-4)
    assert codes[[0, 255, 256]].tolist() == [0, 0, 255]
    found = nf4.expand(codes, widths, mean)
    assert found[0].item() == pytest.approx(260 / 257 - 0.99296875 * 3 / 257, rel=1e-5)
    assert found[256].item() == pytest.approx(4.0, rel=1e-6)


def test_double_quantization_saves_0_37_bits() -> None:
    weight = drawn(1024, 1024)
    codes, scales = nf4.quantize(weight)
    double = nf4.compress(scales)
    single_bits = 8 * (codes.nbytes + scales.nbytes) / weight.numel()
    double_bits = 8 * (codes.nbytes + sum(tensor.nbytes for tensor in double)) / weight.numel()
    assert single_bits == 4.5
    assert double_bits == pytest.approx(4.127, abs=5e-4)
    assert single_bits - double_bits == pytest.approx(0.37, abs=0.005)


@pytest.mark.parametrize("size", [1, 2, 63, 64, 65, 129, 6400, 6465])
def test_compiled_loops_are_the_plain_ones(size: int) -> None:
    numbers = drawn(size)
    codes, scales = nf4.quantize(numbers)
    middles = nf4.dynamic8.middles_of(nf4.code_values())
    assert torch.equal(codes, nf4.cut(numbers, scales, middles))
    for dtype in (torch.float32, torch.bfloat16, torch.float16, torch.float64):
        found = nf4.dequantize(codes, scales, (size,), dtype)
        rows = (scales[:, None] * nf4.code_values()).to(dtype)
        assert found.dtype is dtype and torch.equal(found, nf4.look_up(codes, rows, size))


def test_every_number_goes_to_the_nearest_value() -> None:
    numbers = drawn(50, 64)
    codes, scales = nf4.quantize(numbers)
    choices = scales[:, None, None] * nf4.code_values()
    nearest = choices.expand(50, 64, 16).gather(2, (numbers[..., None] - choices).abs().argmin(dim=2, keepdim=True))
    torch.testing.assert_close(nf4.dequantize(codes, scales, (50, 64)), nearest[..., 0])


def test_pieces_and_threads_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = drawn(40_001)
    whole = nf4.quantize(numbers)
    before = torch.get_num_threads()
    monkeypatch.setattr(nf4, "PIECE", 6400)
    monkeypatch.setattr(nf4, "LEAST_BLOCKS", 16)
    try:
        torch.set_num_threads(3)
        in_pieces = nf4.quantize(numbers)
        found = nf4.dequantize(*in_pieces, (40_001,))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(one, other) for one, other in zip(whole, in_pieces, strict=True))
    assert torch.equal(found, nf4.dequantize(*whole, (40_001,)))


def test_narrow_and_strided_weights() -> None:
    weight = drawn(96, 40)
    assert torch.equal(nf4.quantize(weight.T)[0], nf4.quantize(weight.T.contiguous())[0])
    narrow = weight.bfloat16()
    assert torch.equal(nf4.quantize(narrow)[0], nf4.quantize(narrow.float())[0])


def test_zeros_stay_zeros() -> None:
    codes, scales = nf4.quantize(torch.zeros(3, 50))
    assert codes.unique().tolist() == [0x77]
    assert torch.equal(nf4.dequantize(codes, scales, (3, 50)), torch.zeros(3, 50))


def test_the_error_of_normal_weights() -> None:
    """About a tenth of the deviation, and double quantization adds next to nothing."""
    weight = drawn(512, 512)
    codes, scales = nf4.quantize(weight)
    single = (nf4.dequantize(codes, scales, weight.shape) - weight).square().mean().sqrt()
    double = (nf4.dequantize(codes, nf4.expand(*nf4.compress(scales)), weight.shape) - weight).square().mean().sqrt()
    assert 0.08 < single < 0.1
    assert double < 1.01 * single


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(bad: float) -> None:
    weight = drawn(10, 64)
    weight[3, 5] = bad
    with pytest.raises(UsageError, match="weights that are not finite, in 4 bits"):
        nf4.quantize(weight)
