import copy

import pytest
import torch
from torch import Tensor, nn

from smelt.optim.muon import Muon, orthogonalize


def matrix(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", [(6, 6), (4, 9), (9, 4), (1, 5), (5, 1)])
def test_singular_values_move_to_about_one_and_directions_stay(shape: tuple[int, int]) -> None:
    left, _, right = torch.linalg.svd(matrix(*shape), full_matrices=False)
    values = torch.linspace(0.05, 1.0, min(shape))
    u, s, v = torch.linalg.svd(orthogonalize(((left * values) @ right)[None])[0], full_matrices=False)
    assert s.min() > 0.65 and s.max() < 1.25
    made = (u * s) @ v
    singular = left.mT @ made @ right.mT  # diagonal where the singular vectors were kept
    torch.testing.assert_close(singular, torch.diag(singular.diag()), atol=1e-4, rtol=0)


def test_a_batch_is_its_matrices_one_by_one() -> None:
    batch = matrix(3, 5, 7)
    together = orthogonalize(batch)
    torch.testing.assert_close(together, torch.cat([orthogonalize(one[None]) for one in batch]))
    torch.testing.assert_close(orthogonalize(batch.mT), together.mT)


def test_the_size_of_the_gradient_does_not_matter_and_nought_stays_nought() -> None:
    one = matrix(1, 4, 6)
    torch.testing.assert_close(orthogonalize(one * 1e4), orthogonalize(one), atol=1e-5, rtol=1e-5)
    assert torch.equal(orthogonalize(torch.zeros(1, 4, 6)), torch.zeros(1, 4, 6))


def test_one_step_by_hand() -> None:
    """For a diagonal gradient the orthogonalized direction is diagonal, and the first momentum is a multiple of it."""
    weight = nn.Parameter(torch.full((2, 2), 3.0))
    weight.grad = torch.diag(torch.tensor([2.0, 1.0]))
    Muon([weight], learning_rate=0.1, momentum=0.9, weight_decay=0.5).step()
    values = [2 / 5**0.5, 1 / 5**0.5]
    for _ in range(5):
        values = [3.4445 * x - 4.7750 * x**3 + 2.0315 * x**5 for x in values]
    moved = 0.1 * 0.2 * 2**0.5
    kept = 3.0 * (1 - 0.1 * 0.5)
    expected = torch.tensor([[kept - moved * values[0], kept], [kept, kept - moved * values[1]]])
    torch.testing.assert_close(weight.detach(), expected, atol=1e-6, rtol=0)


def test_momentum_is_an_average_that_the_state_keeps() -> None:
    weight = nn.Parameter(torch.zeros(2, 3))
    optimizer = Muon([weight], learning_rate=0.1, momentum=0.75)
    for number in (1.0, 2.0):
        weight.grad = torch.full((2, 3), number)
        optimizer.step()
    torch.testing.assert_close(optimizer.state[weight]["momentum_buffer"], torch.full((2, 3), 0.75 * 0.25 + 0.25 * 2.0))


def test_bfloat16_products_point_the_same_way_and_leave_state_and_weights_in_fp32() -> None:
    weights = [nn.Parameter(torch.zeros(16, 24)) for _ in range(2)]
    for weight, dtype in zip(weights, (torch.float32, torch.bfloat16), strict=True):
        weight.grad = matrix(16, 24)
        optimizer = Muon([weight], learning_rate=0.1, dtype=dtype)
        optimizer.step()
        assert weight.dtype is optimizer.state[weight]["momentum_buffer"].dtype is torch.float32
    exact, low = (weight.detach().flatten() for weight in weights)
    assert torch.nn.functional.cosine_similarity(exact, low, dim=0) > 0.99


def test_a_parameter_without_gradient_stays() -> None:
    moving, resting = nn.Parameter(matrix(3, 4)), nn.Parameter(matrix(3, 4))
    before = resting.detach().clone()
    moving.grad = matrix(3, 4, seed=1)
    optimizer = Muon([moving, resting], learning_rate=0.1, weight_decay=0.5)
    optimizer.step()
    assert torch.equal(resting.detach(), before)
    assert resting not in optimizer.state


def test_saved_state_continues_bit_for_bit() -> None:
    def steps(optimizer: Muon, weight: nn.Parameter, seeds: range) -> None:
        for seed in seeds:
            weight.grad = matrix(4, 6, seed=seed)
            optimizer.step()

    weight = nn.Parameter(matrix(4, 6))
    optimizer = Muon([weight], learning_rate=0.02)
    steps(optimizer, weight, range(3))
    resumed = nn.Parameter(weight.detach().clone())
    other = Muon([resumed], learning_rate=0.5)
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))  # as from a file: nothing is shared
    steps(optimizer, weight, range(3, 6))
    steps(other, resumed, range(3, 6))
    assert torch.equal(weight, resumed)


def test_stacked_matrices_move_as_they_would_alone() -> None:
    stacked = nn.Parameter(matrix(3, 4, 6))
    alone = [nn.Parameter(one.clone()) for one in stacked.detach()]
    gradient = matrix(3, 4, 6, seed=1)
    stacked.grad = gradient
    for one, each in zip(alone, gradient, strict=True):
        one.grad = each
    for parameters in ([stacked], alone):
        Muon(parameters, learning_rate=0.1, weight_decay=0.1).step()
    torch.testing.assert_close(stacked, torch.stack(list(alone)))
