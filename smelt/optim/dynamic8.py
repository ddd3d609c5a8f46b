"""Numbers in 8 bits: blocks of 256 share a scale, and the code values are dense near 0, where most numbers are.

A code value is a decade and a place in it: of the seven decades from 1e-6 to 1, each higher one is cut into twice as
many equal steps, whose middles are the values. So a number near its block's largest is kept to 1 %, and one a million
times smaller still has a value of its own, where evenly spaced steps would make it 0. Costs 8.125 bits a number.

Ref: Dettmers, arXiv:1511.04561 (the data type); 8-bit Optimizers via Block-wise Quantization, arXiv:2110.02861, 2.1.
The tables are those of bitsandbytes' `create_dynamic_map`; a number goes to the nearest value, a tie to the lower.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor
from torch.nn.functional import pad

BLOCK = 256
NUM_DECADES = 7


@functools.cache
def code_values(*, signed: bool) -> Tensor:
    """Return the values that the 256 codes stand for, ascending, from -1 or from 0 to 1: (256,)."""
    values = [0.0, 1.0]
    for decade in range(NUM_DECADES):
        num_steps = 2**decade if signed else 2 ** (decade + 1)
        edges = torch.linspace(0.1, 1.0, num_steps + 1, dtype=torch.float64) * 10.0 ** (decade - NUM_DECADES + 1)
        middles = ((edges[1:] + edges[:-1]) / 2).tolist()
        values += [*middles, *(-value for value in middles)] if signed else middles
    return torch.tensor(sorted(values), dtype=torch.float32)


def middles_of(values: Tensor) -> Tensor:
    """Return where the nearest value changes: (255,) for (256,)."""
    return (values[1:] + values[:-1]) / 2


def num_blocks(size: int) -> int:
    """Return how many blocks so many numbers are."""
    return -(-size // BLOCK)


def quantize(numbers: Tensor, *, signed: bool) -> tuple[Tensor, Tensor]:
    """Return the codes of fp32 numbers, uint8 in their shape, and the scale of each block, fp32 (blocks,).

    Unsigned codes are for numbers that are not below 0. A block of zeros has the scale 0.
    """
    blocks = pad(numbers.flatten(), (0, -numbers.numel() % BLOCK)).view(-1, BLOCK)
    scales = blocks.abs().amax(dim=1)
    shares = torch.where(scales[:, None] > 0, blocks / scales[:, None], 0.0)
    middles = middles_of(code_values(signed=signed)).to(numbers.device)
    codes = torch.bucketize(shares, middles, out_int32=True).to(torch.uint8)
    return codes.flatten()[: numbers.numel()].view(numbers.shape), scales


def dequantize(codes: Tensor, scales: Tensor, *, signed: bool) -> Tensor:
    """Return the fp32 numbers that codes and scales stand for, in the shape of the codes."""
    values = code_values(signed=signed).to(codes.device)[pad(codes.flatten(), (0, -codes.numel() % BLOCK)).int()]
    return (values.view(-1, BLOCK) * scales[:, None]).flatten()[: codes.numel()].view(codes.shape)
