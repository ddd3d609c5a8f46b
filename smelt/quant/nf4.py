"""NF4: a number is one of 16 values, chosen so that normally distributed numbers are as often nearest to each.

Weights of trained layers are nearly normal around 0. In blocks of 64 they are divided by the block's largest magnitude,
and each becomes the nearest of 16 quantiles of the normal distribution: 4 bits, and half a bit for the scale. The
scales, being many, are quantized in turn: less their mean, in 8 bits by blocks of 256 (`optim.dynamic8`), which leaves
an eighth of a bit and a 512th, 4.127 in all. Zero has a code of its own, so that padding stays what it is.

Codes lie as in bitsandbytes: the first of two numbers in the high half of a byte. So do the values and both kinds of
block; a scale divides exactly here, where bitsandbytes multiplies by its rounded reciprocal.

Ref: QLoRA, arXiv:2305.14314, 3 and appendix E.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Sequence
from statistics import NormalDist

import torch
from torch import Tensor
from torch.nn.functional import pad

from smelt.core.errors import UsageError
from smelt.nn.pieces import in_threads
from smelt.optim import dynamic8
from smelt.quant import kernels

BLOCK = 64
PIECE = 2**20  # numbers that are worked on at a time, in fp32; whole blocks
LEAST_BLOCKS = 2**11  # for a thread: below, starting it takes longer than the work
WORDS = {2: torch.int16, 4: torch.int32, 8: torch.int64}
"""Types of plain bits, by their bytes."""


@functools.cache
def code_values() -> Tensor:
    """Return the values that the 16 codes stand for, ascending from -1 to 1: (16,).

    Quantiles of the normal distribution, evenly spaced in probability, 7 below 0 and 8 above, 0 itself between them.
    The outermost would be infinite; it leaves out the mean of half a step of 16 and half a step of 15 values.
    """
    outermost = 1 - (1 / 32 + 1 / 30) / 2
    positive, negative = (
        [NormalDist().inv_cdf(0.5 + (outermost - 0.5) * step / count) for step in range(1, count + 1)]
        for count in (8, 7)
    )
    largest = positive[-1]
    values = [-value / largest for value in reversed(negative)] + [0.0] + [value / largest for value in positive]
    return torch.tensor(values, dtype=torch.float32)


def quantize(numbers: Tensor) -> tuple[Tensor, Tensor]:
    """Return the codes of n numbers, two a byte, uint8 (n / 2,), and the scale of each block, fp32 (n / 64,).

    An odd end is filled up with 0. Raises UsageError for numbers that are not finite.
    """
    flat = numbers.detach().flatten()
    size, device = flat.numel(), flat.device
    codes = torch.empty(-(-size // 2), dtype=torch.uint8, device=device)
    scales = torch.empty(-(-size // BLOCK), dtype=torch.float32, device=device)
    middles = dynamic8.middles_of(code_values()).to(device)
    for piece in pieces(size):
        wide = flat[piece].float()
        found = scales[piece.start // BLOCK : -(-piece.stop // BLOCK)]
        found.copy_(pad(wide, (0, -wide.numel() % BLOCK)).view(-1, BLOCK).abs().amax(dim=1))
        into = codes[piece.start // 2 : -(-piece.stop // 2)]
        if device.type == "cpu":
            arrays = [tensor.numpy() for tensor in (wide, found, middles, into)]
            in_threads(kernels.cut, len(found), *arrays, least=LEAST_BLOCKS)
        else:
            into.copy_(cut(wide, found, middles))
    if not bool(scales.isfinite().all()):
        raise UsageError(
            "weights that are not finite, in 4 bits",
            accepted="finite weights",
            fix="use an earlier checkpoint, or keep this model in bf16",
        )
    return codes, scales


def pieces(size: int) -> Iterator[slice]:
    """Yield slices of so many numbers, whole blocks but for the last."""
    for start in range(0, size, PIECE):
        yield slice(start, min(start + PIECE, size))


def cut(numbers: Tensor, scales: Tensor, middles: Tensor) -> Tensor:
    """Return the packed codes of fp32 numbers: what the compiled loop of that name does."""
    blocks = pad(numbers, (0, -numbers.numel() % BLOCK)).view(-1, BLOCK)
    shares = torch.where(scales[:, None] > 0, blocks / scales[:, None], 0.0)
    found = torch.bucketize(shares, middles, out_int32=True).to(torch.uint8).view(-1, 2)
    return (found[:, 0] << 4 | found[:, 1])[: -(-numbers.numel() // 2)]


def dequantize(codes: Tensor, scales: Tensor, shape: Sequence[int], dtype: torch.dtype = torch.float32) -> Tensor:
    """Return the numbers that codes and scales stand for; products are made in fp32 and rounded once to `dtype`."""
    size, values = math.prod(shape), code_values().to(scales.device)
    numbers = torch.empty(size, dtype=dtype, device=scales.device)
    for piece in pieces(size):
        rows = (scales[piece.start // BLOCK : -(-piece.stop // BLOCK), None] * values).to(dtype)  # (blocks, 16)
        read, into = codes[piece.start // 2 : -(-piece.stop // 2)], numbers[piece]
        if codes.device.type == "cpu":
            arrays = read.numpy(), *(tensor.view(WORDS[dtype.itemsize]).numpy() for tensor in (rows, into))
            in_threads(kernels.look_up, len(rows), *arrays, least=LEAST_BLOCKS)
        else:
            into.copy_(look_up(read, rows, into.numel()))
    return numbers.view(*shape)


def look_up(codes: Tensor, rows: Tensor, size: int) -> Tensor:
    """Return the first `size` numbers of codes: what the compiled loop of that name does."""
    found = torch.stack((codes >> 4, codes & 15), dim=1).flatten()
    found = pad(found, (0, len(rows) * BLOCK - found.numel())).view(-1, BLOCK)
    return rows.gather(1, found.long()).flatten()[:size]


def compress(scales: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Quantize the scales: return their codes uint8 (blocks,), the scales of those (blocks / 256,), and their mean."""
    mean = scales.mean()
    return *dynamic8.quantize(scales - mean, signed=True), mean


def expand(codes: Tensor, scales: Tensor, mean: Tensor) -> Tensor:
    """Return the scales that `compress` was given, nearly: fp32 (blocks,)."""
    return dynamic8.dequantize(codes, scales, signed=True) + mean
