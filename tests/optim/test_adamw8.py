"""AdamW with moments in 8 bits: the published step, the compiled one, memory, resuming, and a training beside fp32."""

import copy
import math

import pytest
import torch
from torch import Tensor, nn

from smelt.optim import adamw8, dynamic8
from smelt.optim.adamw8 import AdamW8

SETTINGS = {"betas": (0.9, 0.95), "eps": 1e-8, "weight_decay": 0.1}


def drawn(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def stepped(parameter: nn.Parameter, steps: int) -> AdamW8:
    optimizer = AdamW8([parameter], learning_rate=1e-2, **SETTINGS)
    for step in range(steps):
        parameter.grad = drawn(*parameter.shape, seed=step)
        optimizer.step()
    return optimizer


def test_two_steps_are_the_published_formula() -> None:
    """s1 and s2 are dequantized, moved, used, and quantized again; correction2 eps stands beside the root."""
    weight = nn.Parameter(drawn(80, 64, seed=9))
    expected, mean, square = weight.detach().clone(), torch.zeros(80, 64), torch.zeros(80, 64)
    optimizer = AdamW8([weight], learning_rate=1e-2, **SETTINGS)
    for step in (1, 2):
        gradient = drawn(80, 64, seed=step)
        weight.grad = gradient.clone()
        optimizer.step()
        mean = mean * 0.9 + 0.1 * gradient
        square = square * 0.95 + 0.05 * gradient * gradient
        first, second = 1 - 0.9**step, math.sqrt(1 - 0.95**step)
        expected = expected * (1 - 1e-2 * 0.1) - 1e-2 * second / first * (mean / (square.sqrt() + 1e-8 * second))
        mean = dynamic8.dequantize(*dynamic8.quantize(mean, signed=True), signed=True)
        square = dynamic8.dequantize(*dynamic8.quantize(square, signed=False), signed=False)
    torch.testing.assert_close(weight.detach(), expected, atol=1e-6, rtol=0)


def test_the_compiled_step_is_the_plain_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Over several steps, on a size with a short last block."""
    one, other = (nn.Parameter(drawn(71, 61, seed=9)) for _ in range(2))
    fast = stepped(one, 5)
    monkeypatch.setattr(adamw8, "advance_compiled", adamw8.advance_in_8_bits)
    slow = stepped(other, 5)
    torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-6)
    for key, value in slow.state[other].items():
        found = fast.state[one][key]
        assert found.dtype is value.dtype and found.shape == value.shape
        if value.dtype is torch.uint8:  # a last bit may put a number beside the middle of two codes
            assert ((found.int() - value.int()).abs() <= 1).all() and (found != value).float().mean() < 1e-3
        else:
            torch.testing.assert_close(found, value, atol=0, rtol=1e-6)


def test_threads_share_a_large_tensor() -> None:
    before = torch.get_num_threads()
    found = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            weight = nn.Parameter(drawn(600, 300, seed=9))
            stepped(weight, 2)
            found.append(weight.detach())
    finally:
        torch.set_num_threads(before)
    assert torch.equal(*found)


def test_a_small_tensor_is_moved_as_torch_moves_it() -> None:
    ours, theirs = (nn.Parameter(drawn(63, 65, seed=9)) for _ in range(2))  # 4,095 numbers
    stepped(ours, 4)
    reference = torch.optim.AdamW([theirs], lr=1e-2, **SETTINGS)
    for step in range(4):
        theirs.grad = drawn(63, 65, seed=step)
        reference.step()
    torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-6)


def test_the_first_step_is_that_of_fp32() -> None:
    """Rounding enters what is remembered, not the step that causes it."""
    ours, theirs = (nn.Parameter(drawn(64, 64, seed=9)) for _ in range(2))
    stepped(ours, 1)
    theirs.grad = drawn(64, 64, seed=0)
    torch.optim.AdamW([theirs], lr=1e-2, **SETTINGS).step()
    torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-6)


def test_narrow_weights_take_the_plain_step() -> None:
    weight = nn.Parameter(drawn(64, 64, seed=9).bfloat16())
    weight.grad = torch.ones(64, 64, dtype=torch.bfloat16)
    before = weight.detach().float()
    AdamW8([weight], learning_rate=0.5).step()
    assert weight.dtype is torch.bfloat16
    torch.testing.assert_close(weight.detach().float(), before - 0.5, atol=0.01, rtol=0.01)


def test_the_state_takes_two_bytes_a_parameter() -> None:
    weight = nn.Parameter(drawn(1024, 256, seed=9))
    optimizer = stepped(weight, 1)
    num_bytes = sum(tensor.nbytes for tensor in optimizer.state[weight].values())
    assert num_bytes / weight.numel() == pytest.approx(2 + 2 * 4 / 256, abs=1e-3)


def test_a_frozen_or_unused_parameter_stays() -> None:
    weight = nn.Parameter(torch.ones(4))
    AdamW8([weight], learning_rate=1.0).step()
    assert torch.equal(weight, torch.ones(4))


def losses_of(kind: str, steps: int = 150) -> list[float]:
    """Fit a small network to another one's answers, from one beginning."""
    torch.manual_seed(0)
    teacher, student = (nn.Sequential(nn.Linear(32, 160), nn.Tanh(), nn.Linear(160, 32)) for _ in range(2))
    inputs = torch.randn(512, 32)
    with torch.no_grad():
        targets = teacher(inputs) + 0.3 * torch.randn(512, 32)
    parameters = list(student.parameters())
    settings = {"betas": (0.9, 0.95), "weight_decay": 0.01}
    optimizer = (
        AdamW8(parameters, learning_rate=3e-3, **settings)
        if kind == "8"
        else torch.optim.AdamW(parameters, lr=3e-3, **settings)
    )
    found = []
    for _ in range(steps):
        loss = (student(inputs) - targets).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        found.append(loss.item())
    return found


def test_a_training_ends_where_fp32_moments_end() -> None:
    ours, theirs = losses_of("8"), losses_of("32")
    assert theirs[-1] < 0.5 * theirs[0]
    assert ours[-1] == pytest.approx(theirs[-1], rel=0.01)
    assert ours != copy.copy(theirs)
