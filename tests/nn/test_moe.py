"""The grouped mixture equals the loop over experts, whatever the router chooses."""

import pytest
import torch

from smelt.core.errors import UsageError
from smelt.nn.moe import MixtureOfExperts
from smelt.nn.spec import FeedForwardSpec, MoESpec


def make(dim: int = 8, hidden: int = 12, **settings) -> MixtureOfExperts:
    settings = {"num_experts": 5, "experts_per_token": 2} | settings
    torch.manual_seed(0)
    mixture = MixtureOfExperts(MoESpec(FeedForwardSpec(hidden, "swiglu"), **settings), dim)
    with torch.no_grad():
        for parameter in mixture.parameters():
            parameter.normal_()
    return mixture


@pytest.mark.parametrize("settings", [{}, {"dim": 7, "hidden": 9}, {"normalized": False}, {"experts_per_token": 5}])
def test_grouped_equals_the_loop_with_gradients(settings):
    mixture = make(**settings)
    x = torch.randn(2, 11, settings.get("dim", 8), requires_grad=True)
    inputs = (x, *mixture.parameters())
    results = []
    for forward in (mixture.forward, mixture.forward_reference):
        out, scores = forward(x)
        results.append((out, scores, *torch.autograd.grad(out.square().sum() + scores.sum(), inputs)))
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


def test_one_expert_that_takes_all_tokens():
    mixture = make(experts_per_token=1)
    with torch.no_grad():
        mixture.router.weight.zero_()
        mixture.router.weight[3] = 1.0
    x = torch.rand(1, 6, 8)  # positive: expert 3 has the highest score
    torch.testing.assert_close(mixture(x)[0], mixture.forward_reference(x)[0])
    assert mixture(x)[1].argmax(-1).unique().tolist() == [3]


def test_shared_expert_takes_every_token_through_its_gate():
    shared = FeedForwardSpec(6, "swiglu")
    mixture, x = make(shared=shared, gated_shared=True), torch.randn(1, 4, 8)
    alone = mixture(x)[0] - torch.sigmoid(mixture.shared_gate(x)) * mixture.shared(x)
    without = MixtureOfExperts(MoESpec(FeedForwardSpec(12, "swiglu"), 5, 2), 8)
    without.load_state_dict({name: value for name, value in mixture.state_dict().items() if "shared" not in name})
    torch.testing.assert_close(alone, without(x)[0])


def test_impossible_mixtures_are_refused():
    expert = FeedForwardSpec(6, "swiglu")
    with pytest.raises(UsageError, match="3 experts a token out of 2\naccepted: 1 to 2"):
        MoESpec(expert, 2, 3)
    with pytest.raises(UsageError, match="experts that are not gated"):
        MoESpec(FeedForwardSpec(6, "relu"), 2, 1)
    with pytest.raises(UsageError, match="a gate on a shared expert that is not there"):
        MoESpec(expert, 2, 1, gated_shared=True)


def test_the_router_stays_in_fp32_under_autocast():
    mixture, x = make(dim=16, hidden=8), torch.randn(1, 6, 16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out, scores = mixture(x.bfloat16())
    assert (out.dtype, scores.dtype) == (torch.bfloat16, torch.float32)
    torch.testing.assert_close(scores[0], x[0].bfloat16().float() @ mixture.router.weight.T)
