"""The step of AdamW with moments in 8 bits, compiled by numba; `adamw8` says the same in torch, and a test compares.

A block of 256 numbers is read, moved and written in one go, so nothing wider than a block is ever in memory. The
nearest code is found by halving: eight comparisons a number.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from smelt.tokenizers.kernels.jit import float_kernel, inline

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]


@inline
def write(numbers: Any, middles: Any, codes: Any) -> Any:
    """Write the nearest codes of a block, given the 255 places where they change, and return its scale."""
    scale = np.float32(0)
    for i in range(len(codes)):
        scale = max(scale, abs(numbers[i]))
    whole = scale if scale > 0 else np.float32(1)
    for i in range(len(codes)):
        numbers[i] /= whole
    for i in range(len(codes)):
        code, share = np.uint64(0), numbers[i]
        for power in range(8):
            half = np.uint64(128 >> power)
            code += half * np.uint64(share > middles[code + half - np.uint64(1)])
        codes[i] = code
    return scale


@float_kernel
def step(
    parameter: Floats,
    gradient: Floats,
    mean_codes: Bytes,
    mean_scales: Floats,
    square_codes: Bytes,
    square_scales: Floats,
    values: Floats,
    middles: Floats,
    rates: Floats,
    first: int,
    last: int,
) -> None:
    """Move blocks of 256 numbers and write their new moments.

    `values` (2, 256) and `middles` (2, 255) are those of the codes, signed and unsigned; `rates` are beta1, 1 - beta1,
    beta2, 1 - beta2, what weight decay leaves, the size of the step, 1 / sqrt(1 - beta2^t), and epsilon.
    """
    keep_mean, new_mean, keep_square, new_square, decay, size, inverse_root, epsilon = rates
    mean, square = np.zeros(256, np.float32), np.zeros(256, np.float32)
    signed, unsigned = values[0], values[1]
    for block in range(first, last):
        here = slice(256 * block, min(256 * block + 256, len(parameter)))
        numbers, slope = parameter[here], gradient[here]
        codes, other_codes = mean_codes[here], square_codes[here]
        scale, other_scale = mean_scales[block], square_scales[block]
        for i in range(len(numbers)):
            mean[i] = signed[np.uint64(codes[i])] * scale
            square[i] = unsigned[np.uint64(other_codes[i])] * other_scale
        for i in range(len(numbers)):
            g = slope[i]
            mean[i] = keep_mean * mean[i] + new_mean * g
            square[i] = keep_square * square[i] + new_square * g * g
            numbers[i] = numbers[i] * decay - size * mean[i] / (np.sqrt(square[i]) * inverse_root + epsilon)
        mean_scales[block] = write(mean, middles[0], codes)
        square_scales[block] = write(square, middles[1], other_codes)
