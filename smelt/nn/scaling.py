"""Rotary frequencies for texts longer than those a model was trained on.

A pair of a head turns by (position x frequency), so a position never seen is an angle never seen, but only for slow
pairs, which have not gone once round within the old context; fast pairs have seen every angle. Four rules:

    linear        every frequency divided by the factor, as if positions were closer: fast pairs lose their resolution
    base          a larger base: the slowest pair is slowed by the factor, the fastest not at all
    wavelength    pairs that go round fewer than `low` times in the old context are divided by the factor, those above
                  `high` are kept, those between are mixed in proportion
    ramp          the same with the mixture linear in the pair's number, and scores sharpened by the square of
                  0.1 ln(factor) + 1, since attention over more tokens is flatter

Ref: arXiv:2306.15595 (linear). Ref: arXiv:2309.00071 (base: "NTK-aware", 3.1; wavelength: "NTK-by-parts", 3.2; ramp:
YaRN, 3.4).
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from smelt.core.errors import UsageError


@dataclass(frozen=True)
class LinearScaling:
    """Divide every frequency."""

    factor: float

    def __post_init__(self) -> None:
        _check_factor(self.factor)


@dataclass(frozen=True)
class BaseScaling:
    """Raise the base so that the slowest pair is slowed by the factor."""

    factor: float

    def __post_init__(self) -> None:
        _check_factor(self.factor)


@dataclass(frozen=True)
class WavelengthScaling:
    """Divide the frequencies of the pairs that go round rarely within the trained context."""

    factor: float
    trained_seq_len: int
    low: float = 1.0
    high: float = 4.0

    def __post_init__(self) -> None:
        _check_factor(self.factor)
        _check_order(self.low, self.high)


@dataclass(frozen=True)
class RampScaling:
    """Divide the frequencies of slow pairs by rounds within the trained context, and sharpen attention.

    `attention_factor` multiplies queries and keys, 0.1 ln(factor) + 1 if None. `whole_pairs` rounds the ends of the
    ramp to numbers of pairs.
    """

    factor: float
    trained_seq_len: int
    low: float = 1.0
    high: float = 32.0
    attention_factor: float | None = None
    whole_pairs: bool = True

    def __post_init__(self) -> None:
        _check_factor(self.factor)
        _check_order(self.low, self.high)


RotaryScaling = LinearScaling | BaseScaling | WavelengthScaling | RampScaling


def _check_factor(factor: float) -> None:
    if not factor >= 1.0:
        raise UsageError(f"rotary scaling by {factor}", accepted="a factor of 1 or more")


def _check_order(low: float, high: float) -> None:
    if not 0 < low < high:
        raise UsageError(f"rotary scaling between {low} and {high} rounds", accepted="low below high, both positive")


def frequencies(dim: int, theta: float, device: torch.device) -> Tensor:
    """Return theta^(-2i / dim) for i < dim / 2, in fp32: (dim / 2,)."""
    exponents = torch.arange(0, dim, 2, device=device, dtype=torch.float32) / dim
    return 1.0 / theta**exponents


def scaled_frequencies(dim: int, theta: float, scaling: RotaryScaling | None, device: torch.device) -> Tensor:
    """Return the frequencies of all pairs under a rule: (dim / 2,)."""
    match scaling:
        case None:
            return frequencies(dim, theta, device)
        case LinearScaling(factor):
            return frequencies(dim, theta, device) / factor
        case BaseScaling(factor):
            return frequencies(dim, theta * factor ** (dim / (dim - 2)), device)
        case WavelengthScaling():
            plain = frequencies(dim, theta, device)
            rounds = scaling.trained_seq_len * plain / (2 * math.pi)
            kept = ((rounds - scaling.low) / (scaling.high - scaling.low)).clamp(0, 1)
            return plain * kept + plain / scaling.factor * (1 - kept)
        case RampScaling():
            plain = frequencies(dim, theta, device)
            kept = _ramp(dim, theta, scaling, device)
            return plain * kept + plain / scaling.factor * (1 - kept)


def _ramp(dim: int, theta: float, scaling: RampScaling, device: torch.device) -> Tensor:
    """Return the share of each pair's frequency that is kept, falling linearly with its number: (dim / 2,)."""

    def pair_of(rounds: float) -> float:
        return dim * math.log(scaling.trained_seq_len / (rounds * 2 * math.pi)) / (2 * math.log(theta))

    first, last = pair_of(scaling.high), pair_of(scaling.low)
    if scaling.whole_pairs:
        first, last = math.floor(first), math.ceil(last)
    first, last = max(first, 0), min(last, dim - 1)
    pairs = torch.arange(dim // 2, dtype=torch.float32, device=device)
    return 1 - ((pairs - first) / max(last - first, 0.001)).clamp(0, 1)


def attention_factor(scaling: RotaryScaling | None) -> float:
    """Return what cosines and sines are multiplied by."""
    if not isinstance(scaling, RampScaling):
        return 1.0
    return scaling.attention_factor or 0.1 * math.log(scaling.factor) + 1.0
