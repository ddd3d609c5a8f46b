"""Make one tensor of several that have the same name in several checkpoints: the formulas, as pure functions.

All of them go number by number, or tensor by tensor, so no more than one tensor of each checkpoint is ever needed. Give
fp32 tensors: differences of weights in 16 bits would be mostly rounding.

    linear           (w1 t1 + w2 t2 + ..) / (w1 + w2 + ..)
    slerp            along the arc from one to the other, where linear goes along the chord
    task arithmetic  base + scale (w1 d1 + w2 d2 + ..), with d = t - base, what a tuning changed
    TIES             the same, but only the largest changes, and of these only those that agree in sign, averaged

Ref: model soups, arXiv:2203.05482, sec. 2. Ref: task arithmetic, arXiv:2212.04089, sec. 2. Ref: TIES, arXiv:2306.01708,
sec. 3. Ref: Shoemake, Animating rotation with quaternion curves, SIGGRAPH 1985, sec. 3.3 (slerp).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

STRAIGHT_RADIANS = 5e-4
"""Below this angle, arc and chord differ by less than the rounding of fp32 (by angle^2 / 8 of a number at most)."""


def linear(tensors: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """Return the weighted average of tensors of one shape; `weights` are divided by their sum, which is not 0."""
    total = sum(weights)
    return _sum([weight / total for weight in weights], tensors)


def task_arithmetic(base: Tensor, tensors: Sequence[Tensor], weights: Sequence[float], scale: float = 1.0) -> Tensor:
    """Return the base with `scale` times the weighted sum of what each tensor changed in it.

    A negative weight takes a task away. (base 1; 3 and 0 with weights 1 and 1 -> 1 + 2 - 1 = 2)
    """
    return base + scale * _sum(weights, [tensor - base for tensor in tensors])


def ties(
    base: Tensor, tensors: Sequence[Tensor], weights: Sequence[float], density: float = 0.2, scale: float = 1.0
) -> Tensor:
    """Return the base with `scale` times the trimmed, elected, averaged changes (the paper's lambda is `scale`)."""
    changes = [trim(tensor - base, density) for tensor in tensors]
    return base + scale * disjoint_mean(changes, weights, elect_signs(changes, weights))


def trim(change: Tensor, density: float) -> Tensor:
    """Keep the share `density` of the numbers with the largest magnitude, at least one and all equal ones; others 0.

    The paper ranks the numbers of the whole model together; here, as in mergekit and peft, each tensor has its own.
    """
    magnitudes = change.abs()
    num_kept = max(1, round(density * change.numel()))
    if num_kept >= change.numel():
        return change
    place = change.numel() - num_kept
    threshold = float(np.partition(magnitudes.numpy().ravel(), place)[place])  # a sixth of kthvalue's time
    return torch.where(magnitudes >= threshold, change, 0.0)


def elect_signs(changes: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """Return for each number the sign with the greater total magnitude: 1, -1, or 0 where they are even."""
    return _sum(weights, changes).sign()


def disjoint_mean(changes: Sequence[Tensor], weights: Sequence[float], signs: Tensor) -> Tensor:
    """Return the weighted mean of the changes that have the elected sign, so zeros do not count; 0 where none has it.

    [2, 1, 0] and [4, -3, 0] with signs [1, -1, 0] -> [3, -3, 0]
    """
    total, counted = torch.zeros_like(signs), torch.zeros_like(signs)
    for change, weight in zip(changes, weights, strict=True):
        agrees = change.sign() == signs
        total += weight * change * agrees
        counted += weight * agrees
    return torch.where(counted == 0, 0.0, total / counted.where(counted != 0, 1.0))


def slerp(one: Tensor, other: Tensor, share: float, angle: float) -> Tensor:
    """Return the point that lies a `share` (0 to 1) of the way along the arc from one tensor to the other.

    `angle` is that between them. The formula divides by its sine; so for tensors that are nearly parallel, or nearly
    opposite, which many arcs join, the straight line takes its place.
    """
    if is_straight(angle):
        return linear([one, other], [1 - share, share])
    factors = [math.sin(part * angle) / math.sin(angle) for part in (1 - share, share)]
    return _sum(factors, [one, other])


def is_straight(angle: float) -> bool:
    """Tell whether `slerp` takes the straight line at this angle (radians)."""
    return min(angle, math.pi - angle) < STRAIGHT_RADIANS


def angle_between(one: Tensor, other: Tensor) -> float:
    """Return the angle between two tensors, taken as vectors, in radians; 0 where one is zero and has no direction.

    By twice the arc tangent of |u - v| / |u + v| of the unit vectors, since the arc cosine knows no small angle.
    """
    lengths = float(one.norm()), float(other.norm())
    if 0.0 in lengths:
        return 0.0
    one, other = one / lengths[0], other / lengths[1]
    return 2 * math.atan2(float((one - other).norm()), float((one + other).norm()))


def _sum(factors: Sequence[float], tensors: Sequence[Tensor]) -> Tensor:
    """Return the sum of each factor times its tensor."""
    total = torch.zeros_like(tensors[0])
    for factor, tensor in zip(factors, tensors, strict=True):
        total.add_(tensor, alpha=factor)
    return total
