"""The formulas of merging: hand-computed values, what they must keep, and peft's own functions on the same tensors."""

import math

import pytest
import torch
from torch import tensor

from smelt.models.merging import (
    angle_between,
    disjoint_mean,
    elect_signs,
    is_straight,
    linear,
    slerp,
    task_arithmetic,
    ties,
    trim,
)


def random(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def same(found: torch.Tensor, wanted: torch.Tensor) -> None:
    torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-6)


def test_linear_is_the_weighted_average():
    one, other = tensor([[1.0, 2.0]]), tensor([[3.0, 6.0]])
    same(linear([one, other], [1, 1]), tensor([[2.0, 4.0]]))
    same(linear([one, other], [3, 1]), tensor([[1.5, 3.0]]))
    same(linear([one, other], [2, -1]), tensor([[-1.0, -2.0]]))  # beyond the first, away from the second
    assert torch.equal(linear([one, one], [0.5, 0.5]), one)


def test_task_arithmetic_adds_what_each_tuning_changed():
    base = tensor([1.0, 1.0, 1.0])
    one, other = tensor([3.0, 1.0, 1.0]), tensor([1.0, 1.0, 0.0])
    same(task_arithmetic(base, [one, other], [1, 1]), tensor([3.0, 1.0, 0.0]))
    same(task_arithmetic(base, [one, other], [1, 2], scale=0.5), tensor([2.0, 1.0, 0.0]))
    same(task_arithmetic(base, [one], [-1]), tensor([-1.0, 1.0, 1.0]))


def test_trim_keeps_the_largest_magnitudes():
    change = tensor([[0.1, -0.5, 0.3], [-0.2, 0.0, 0.4]])
    same(trim(change, 0.5), tensor([[0.0, -0.5, 0.3], [0.0, 0.0, 0.4]]))
    same(trim(change, 1 / 6), tensor([[0.0, -0.5, 0.0], [0.0, 0.0, 0.0]]))
    same(trim(change, 0.001), trim(change, 1 / 6))
    assert torch.equal(trim(change, 1.0), change)
    same(trim(tensor([1.0, -1.0, 0.5]), 1 / 3), tensor([1.0, -1.0, 0.0]))  # equal ones stay together


def test_signs_are_elected_by_total_magnitude():
    changes = [tensor([2.0, 1.0, -1.0, 1.0]), tensor([-1.0, 1.0, -2.0, -1.0]), tensor([-0.5, 0.0, 1.0, 0.0])]
    assert elect_signs(changes, [1, 1, 1]).tolist() == [1, 1, -1, 0]
    assert elect_signs(changes, [1, 3, 1]).tolist() == [-1, 1, -1, -1]


def test_only_those_with_the_elected_sign_are_averaged():
    changes = [tensor([2.0, 1.0, 0.0, 1.0]), tensor([4.0, -3.0, 0.0, -1.0]), tensor([-9.0, 0.0, 0.0, 0.0])]
    same(disjoint_mean(changes, [1, 1, 1], tensor([1.0, -1.0, 0.0, 0.0])), tensor([3.0, -3.0, 0.0, 0.0]))
    same(disjoint_mean(changes, [1, 3, 1], tensor([1.0, -1.0, 0.0, 0.0])), tensor([3.5, -3.0, 0.0, 0.0]))


def test_ties_by_hand():
    base = torch.ones(4)
    # Changes (4, 1, -2, .5), (2, -3, .5, 1), (-1, 2, -4, .1); half of each kept: (4, 0, -2, 0), (2, -3, 0, 0),
    # (0, 2, -4, 0). Elected: +, -, -, none. Averages over those that agree: 3, -3, -3, 0.
    changes = [tensor([4.0, 1.0, -2.0, 0.5]), tensor([2.0, -3.0, 0.5, 1.0]), tensor([-1.0, 2.0, -4.0, 0.1])]
    tuned = [base + change for change in changes]
    same(ties(base, tuned, [1, 1, 1], density=0.5), tensor([4.0, -2.0, -2.0, 1.0]))
    same(ties(base, tuned, [1, 1, 1], density=0.5, scale=2.0), tensor([7.0, -5.0, -5.0, 1.0]))


def test_ties_of_one_task_gives_it_back():
    base, tuned = random(3, 4, seed=1), random(3, 4, seed=2)
    same(ties(base, [tuned, tuned], [1, 1], density=1.0), tuned)


def test_slerp_by_hand():
    one, other = tensor([1.0, 0.0]), tensor([0.0, 1.0])
    assert angle_between(one, other) == pytest.approx(math.pi / 2)
    same(slerp(one, other, 0.5, math.pi / 2), tensor([math.sqrt(0.5), math.sqrt(0.5)]))
    same(slerp(one, other, 1 / 3, math.pi / 2), tensor([math.cos(math.pi / 6), 0.5]))
    same(slerp(one, 2 * other, 0.5, math.pi / 2), tensor([math.sqrt(0.5), math.sqrt(2.0)]))


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_slerp_stays_on_the_sphere_and_meets_both_ends(share):
    one, other = (torch.nn.functional.normalize(random(40, seed=seed), dim=0) for seed in (3, 4))
    angle = angle_between(one, other)
    found = slerp(one, other, share, angle)
    assert float(found.norm()) == pytest.approx(1, abs=1e-6)
    assert angle_between(one, found) == pytest.approx(share * angle, abs=1e-6)


def test_the_arc_gives_way_to_the_line_where_its_formula_fails():
    one = random(1000, seed=5)
    for other in (one, 2 * one, -one, one + 1e-5 * random(1000, seed=6), torch.zeros(1000)):
        angle = angle_between(one, other)
        assert is_straight(angle)
        assert torch.equal(slerp(one, other, 0.25, angle), linear([one, other], [0.75, 0.25]))
    near = one + 1e-3 * random(1000, seed=6)
    angle = angle_between(one, near)
    assert not is_straight(angle) and angle == pytest.approx(1e-3, rel=0.1)
    torch.testing.assert_close(slerp(one, near, 0.3, angle), linear([one, near], [0.7, 0.3]), rtol=1e-5, atol=1e-5)


@pytest.mark.interop
@pytest.mark.parametrize("density", [0.2, 0.5, 0.9])
def test_ties_and_task_arithmetic_are_those_of_peft(density):
    theirs = pytest.importorskip("peft.utils.merge_utils")
    base, changes = random(10, 30, seed=7), [random(10, 30, seed=seed) for seed in (8, 9, 10)]
    tuned = [base + change for change in changes]
    weights = torch.ones(3)
    torch.testing.assert_close(
        ties(base, tuned, [1, 1, 1], density) - base, theirs.ties(changes, weights, density), rtol=1e-5, atol=1e-5
    )
    uneven = tensor([0.5, -1.0, 2.0])
    torch.testing.assert_close(
        task_arithmetic(base, tuned, uneven.tolist()) - base,
        theirs.task_arithmetic(changes, uneven),
        rtol=1e-5,
        atol=1e-5,
    )
