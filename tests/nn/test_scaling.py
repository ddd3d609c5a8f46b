"""Frequencies for long contexts, by hand and at their ends; equality with transformers is in the parity tests."""

import math

import pytest
import torch

from smelt.core.errors import UsageError
from smelt.nn.positions import rotary_tables
from smelt.nn.scaling import (
    BaseScaling,
    LinearScaling,
    RampScaling,
    WavelengthScaling,
    attention_factor,
    frequencies,
    scaled_frequencies,
)
from smelt.nn.spec import RotarySpec

CPU = torch.device("cpu")
PLAIN = frequencies(16, 10_000.0, CPU)


def scaled(scaling):
    return scaled_frequencies(16, 10_000.0, scaling, CPU)


def test_linear_divides_every_frequency():
    torch.testing.assert_close(scaled(LinearScaling(4.0)), PLAIN / 4)


def test_a_larger_base_keeps_the_fastest_and_slows_the_slowest_by_the_factor():
    found = scaled(BaseScaling(4.0))
    assert found[0] == PLAIN[0]
    torch.testing.assert_close(found[-1], PLAIN[-1] / 4)
    assert bool((found[1:] < PLAIN[1:]).all())


@pytest.mark.parametrize("scaling", [WavelengthScaling(4.0, 64), RampScaling(4.0, 64, high=4.0)])
def test_fast_pairs_are_kept_and_slow_ones_divided(scaling):
    found, rounds = scaled(scaling), 64 * PLAIN / (2 * math.pi)
    torch.testing.assert_close(found[rounds > 8], PLAIN[rounds > 8])
    torch.testing.assert_close(found[rounds < 0.2], PLAIN[rounds < 0.2] / 4)
    between = (rounds > 1) & (rounds < 4)
    assert bool((found[between] < PLAIN[between]).all() and (found[between] > PLAIN[between] / 4).all())


def test_half_way_between_two_wavelengths_is_half_of_each():
    # One pair, frequency 1: 64 tokens are 64 / 2 pi = 10.186 rounds, half way between 0.186 and 20.186.
    rounds = 64 / (2 * math.pi)
    found = scaled_frequencies(2, 10_000.0, WavelengthScaling(4.0, 64, rounds - 10, rounds + 10), CPU)
    torch.testing.assert_close(found, torch.tensor([0.5 * 1 + 0.5 / 4]))


def test_a_ramp_sharpens_attention():
    assert attention_factor(RampScaling(4.0, 64)) == 0.1 * math.log(4.0) + 1.0
    assert attention_factor(RampScaling(4.0, 64, attention_factor=1.5)) == 1.5
    assert attention_factor(LinearScaling(4.0)) == 1.0
    cos, _ = rotary_tables(torch.arange(1), RotarySpec(16, scaling=RampScaling(4.0, 64)), torch.float32)
    torch.testing.assert_close(cos, torch.full_like(cos, 0.1 * math.log(4.0) + 1.0))


def test_impossible_rules_are_refused():
    with pytest.raises(UsageError, match=r"rotary scaling by 0\.5\naccepted: a factor of 1 or more"):
        LinearScaling(0.5)
    with pytest.raises(UsageError, match=r"between 4\.0 and 1\.0 rounds"):
        WavelengthScaling(2.0, 64, 4.0, 1.0)
