"""Numbers in 8 bits: the published tables, blocks by hand, what a round trip costs."""

import pytest
import torch

from smelt.optim import dynamic8


def test_the_tables_are_the_published_ones() -> None:
    """Ends and counts of bitsandbytes' create_dynamic_map; each decade holds as many values as its bits allow."""
    signed, unsigned = dynamic8.code_values(signed=True), dynamic8.code_values(signed=False)
    assert len(signed) == len(unsigned) == 256
    assert signed[[0, 1, 126, 127, 128, -2, -1]].tolist() == pytest.approx(
        [-0.99296875, -0.97890625, -5.5e-7, 0.0, 5.5e-7, 0.99296875, 1.0], rel=1e-6
    )
    assert unsigned[[0, 1, 2, 3, -2, -1]].tolist() == pytest.approx(
        [0.0, 3.25e-7, 7.75e-7, 2.125e-6, 0.996484375, 1.0], rel=1e-6
    )
    in_decade = [int(((unsigned > 10.0**low) & (unsigned < 10.0 ** (low + 1) * 0.9999)).sum()) for low in range(-7, 0)]
    assert in_decade == [2, 4, 8, 16, 32, 64, 128]
    assert torch.equal(signed, signed.sort().values) and torch.equal(unsigned, unsigned.sort().values)


def test_a_block_by_hand() -> None:
    numbers = torch.zeros(258)
    numbers[:4] = torch.tensor([4.0, -4.0, 0.0, 4 * 5.5e-7])
    numbers[256:] = torch.tensor([-0.5, 0.25])  # a second, short block with a scale of its own
    codes, scales = dynamic8.quantize(numbers, signed=True)
    assert scales.tolist() == [4.0, 0.5]
    assert codes.dtype is torch.uint8 and codes[:5].tolist() == [255, 0, 127, 128, 127]
    found = dynamic8.dequantize(codes, scales, signed=True)
    assert found[:3].tolist() == pytest.approx([4.0, -4 * 0.99296875, 0.0])
    assert found[3].item() == pytest.approx(4 * 5.5e-7, rel=1e-5)
    # 0.25 of 0.5 is a half, which lies between the middles of the 28th and 29th of 64 steps of 0.9 from 0.1 on
    assert found[257].item() == pytest.approx(0.5 * (0.1 + 0.9 * 28.5 / 64))


def test_zeros_stay_zeros_and_shapes_stay() -> None:
    codes, scales = dynamic8.quantize(torch.zeros(7, 50), signed=True)
    assert codes.shape == (7, 50) and scales.shape == (dynamic8.num_blocks(350),) == (2,)
    assert torch.equal(dynamic8.dequantize(codes, scales, signed=True), torch.zeros(7, 50))


@pytest.mark.parametrize("signed", [True, False])
def test_every_number_goes_to_the_nearest_value(signed: bool) -> None:
    values = dynamic8.code_values(signed=signed)
    shares = torch.linspace(-1 if signed else 0, 1, 2560)
    shares[::256] = 1.0
    codes, _ = dynamic8.quantize(shares, signed=signed)
    nearest = (shares[:, None] - values).abs().argmin(dim=1)
    assert torch.equal(codes.long(), nearest)


def test_a_round_trip_of_normal_numbers() -> None:
    numbers = torch.randn(100_000, generator=torch.Generator().manual_seed(0))
    found = dynamic8.dequantize(*dynamic8.quantize(numbers, signed=True), signed=True)
    error = (found - numbers).abs() / numbers.abs()
    assert error.median() < 0.02
    assert (found - numbers).square().mean() < 2e-3
    small = dynamic8.dequantize(*dynamic8.quantize(numbers.square() * 1e-30, signed=False), signed=False)
    torch.testing.assert_close(small.sqrt() * 1e15, numbers.abs(), atol=0.02, rtol=0.1)
