"""Our optimizer and schedules beside torch's, over 100 steps of a small regression.

torch.optim.Muon iterates in bf16; ours in the gradient's own type. For the exact comparison torch's version is kept
in fp32 too, so that everything else (momentum, Nesterov, scale, decay and their order) is compared to rounding.
"""

import pytest
import torch
from torch import Tensor, nn

from smelt.optim.muon import Muon, orthogonalize
from smelt.optim.schedules import cosine, warmup_stable_decay

SHAPES = [(12, 8), (12, 8), (5, 12), (7, 7)]
LEARNING_RATE, WEIGHT_DECAY, MOMENTUM = 0.02, 0.1, 0.9


def network() -> nn.ParameterList:
    torch.manual_seed(0)
    return nn.ParameterList([nn.Parameter(torch.randn(shape) / 3) for shape in SHAPES])


def loss_of(weights: nn.ParameterList, inputs: Tensor, targets: Tensor) -> Tensor:
    one, two, three, four = weights
    hidden = torch.tanh(inputs @ one.mT) * (inputs @ two.mT)
    made = torch.cat([hidden @ three.mT, torch.tanh(inputs[:, :7] @ four)], dim=1)
    return (made - targets).square().mean()


def trajectory(weights: nn.ParameterList, optimizer: torch.optim.Optimizer) -> list[float]:
    dice = torch.Generator().manual_seed(1)
    inputs, targets = torch.randn(64, 8, generator=dice), torch.randn(64, 12, generator=dice)
    losses = []
    for step in range(100):
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * cosine(step, steps=100, warmup_steps=5, decay_steps=0, final_fraction=0.1)
        loss = loss_of(weights, inputs, targets)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


def both() -> tuple[nn.ParameterList, list[float], nn.ParameterList, list[float]]:
    ours, theirs = network(), network()
    our_losses = trajectory(ours, Muon(ours, learning_rate=1.0, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY))
    reference = torch.optim.Muon(
        theirs, lr=1.0, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY, nesterov=True, adjust_lr_fn="match_rms_adamw"
    )
    return ours, our_losses, theirs, trajectory(theirs, reference)


def test_muon_follows_torch_for_100_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Tensor, "bfloat16", Tensor.clone)
    ours, our_losses, theirs, their_losses = both()
    assert our_losses[-1] < 0.75 * our_losses[0]
    assert our_losses == pytest.approx(their_losses, rel=1e-4)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


def test_muon_ends_where_bfloat16_muon_ends() -> None:
    _, our_losses, _, their_losses = both()
    assert our_losses == pytest.approx(their_losses, rel=0.05)


@pytest.mark.parametrize("shape", [(8, 8), (6, 20), (20, 6)])
def test_orthogonalize_is_the_polynomial_of_the_singular_values(shape: tuple[int, int]) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    values = values / matrix.norm()
    for _ in range(5):
        values = 3.4445 * values - 4.7750 * values**3 + 2.0315 * values**5
    expected = (left * values) @ right
    torch.testing.assert_close(orthogonalize(matrix[None])[0], expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(orthogonalize(matrix.float()[None])[0], expected.float(), atol=1e-4, rtol=0)


def rates_of(scheduler: torch.optim.lr_scheduler.LRScheduler, steps: int) -> list[float]:
    rates = []
    for _ in range(steps):
        rates.append(scheduler.get_last_lr()[0])
        scheduler.optimizer.step()
        scheduler.step()
    return rates


def test_cosine_is_torchs_cosine_annealing() -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    expected = rates_of(torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=49, eta_min=0.1), 50)
    ours = [cosine(step, steps=50, warmup_steps=0, decay_steps=0, final_fraction=0.1) for step in range(50)]
    assert ours == pytest.approx(expected, abs=1e-6)


def test_warmup_and_linear_end_are_torchs_linear_rates() -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    rise = torch.optim.lr_scheduler.LinearLR(optimizer, start_factor=0.1, end_factor=1.0, total_iters=9)
    plateau = torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0, total_iters=1)
    fall = torch.optim.lr_scheduler.LinearLR(optimizer, start_factor=1.0, end_factor=0.2, total_iters=20)
    expected = rates_of(torch.optim.lr_scheduler.SequentialLR(optimizer, [rise, plateau, fall], milestones=[9, 29]), 50)
    shape = {"steps": 50, "warmup_steps": 10, "decay_steps": 20, "final_fraction": 0.2}
    assert [warmup_stable_decay(step, **shape) for step in range(50)] == pytest.approx(expected, abs=1e-6)
