"""Router losses by hand, and the objective that adds them."""

import pytest
import torch

from smelt.models.build import build
from smelt.models.families import preset
from smelt.train.objectives.cross_entropy import TokenCrossEntropy, cross_entropy_sum
from smelt.train.objectives.routing import load_balance, z_loss
from smelt.train.sources import TokenBatch


def test_balance_is_one_when_all_are_used_alike_and_the_number_of_experts_when_one_takes_all():
    alike = torch.eye(4) * 20
    assert load_balance(alike, 1).item() == pytest.approx(1.0)
    one = torch.tensor([[20.0, 0, 0, 0]] * 6)
    assert load_balance(one, 1).item() == pytest.approx(4.0, rel=1e-4)


def test_balance_by_hand():
    # Two experts; both rows choose the first, with probability 3/4: 2 x (1 x 3/4 + 0 x 1/4).
    scores = torch.tensor([[3.0, 1.0], [3.0, 1.0]]).log()
    assert load_balance(scores, 1).item() == pytest.approx(1.5)
    assert load_balance(scores, 2).item() == pytest.approx(1.0)


def test_z_loss_by_hand():
    assert z_loss(torch.tensor([[3.0, 1.0]]).log()).item() == pytest.approx(torch.tensor(4.0).log().item() ** 2)


def test_the_objective_adds_the_weighted_losses_of_every_layer():
    model, ids = build(preset("mixtral-nano"), seed=0), torch.arange(24).view(2, 12)
    segments = torch.ones_like(ids)
    segments[0, :3] = 0
    batch = TokenBatch(ids, torch.where(segments > 0, ids, -100), segments, None)
    loss, metrics = TokenCrossEntropy(balance=0.5, z=0.25)(model, batch)
    bare, _ = TokenCrossEntropy(balance=0.0, z=0.0)(model, batch)
    rows = [scores[segments > 0] for scores in model(ids, segments=segments).router]
    balance = sum(load_balance(scores, 2) for scores in rows) / 2
    z = sum(z_loss(scores) for scores in rows) / 2
    torch.testing.assert_close(loss - bare, 21 * (0.5 * balance + 0.25 * z))
    assert metrics == pytest.approx({"router_balance": 21 * balance.item(), "router_z": 21 * z.item()})


def test_a_measurement_is_the_cross_entropy_alone():
    model, ids = build(preset("mixtral-nano"), seed=0), torch.arange(24).view(2, 12)
    batch = TokenBatch(ids, ids, None, None)
    with torch.no_grad():
        loss, metrics = TokenCrossEntropy(balance=9.0, z=9.0)(model, batch)
        expected = torch.nn.functional.cross_entropy(model(ids).logits.flatten(0, 1), ids.flatten(), reduction="sum")
    torch.testing.assert_close(loss, expected)
    assert metrics == {}


def test_bounded_logits_have_the_gradient_of_the_plain_formula():
    generator = torch.Generator().manual_seed(0)
    hidden, weight = (torch.randn(n, 6, generator=generator, requires_grad=True) for n in (9, 11))
    labels = torch.arange(9)
    logits = 2.0 * torch.tanh(hidden @ weight.T / 2.0)
    expected = torch.nn.functional.cross_entropy(logits, labels, reduction="sum")
    found = cross_entropy_sum(hidden, weight, None, labels, 2.0)
    torch.testing.assert_close(found, expected)
    for one, other in zip(
        torch.autograd.grad(found, (hidden, weight)), torch.autograd.grad(expected, (hidden, weight)), strict=True
    ):
        torch.testing.assert_close(one, other)
