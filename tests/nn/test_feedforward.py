"""Feed-forward forms against their formulas."""

import math

import torch

from smelt.nn.feedforward import gelu_tanh, make_feed_forward
from smelt.nn.spec import FeedForwardSpec


def test_gelu_tanh_by_its_formula():
    expected = 0.5 * 1.5 * (1 + math.tanh(math.sqrt(2 / math.pi) * (1.5 + 0.044715 * 1.5**3)))
    assert abs(gelu_tanh(torch.tensor(1.5)).item() - expected) < 1e-6


def test_swiglu_by_hand():
    module = make_feed_forward(FeedForwardSpec(2, "swiglu"), 1)
    with torch.no_grad():
        module.gate.weight.copy_(torch.tensor([[1.0], [-1.0]]))
        module.up.weight.copy_(torch.tensor([[3.0], [5.0]]))
        module.down.weight.copy_(torch.tensor([[1.0, 1.0]]))
    silu = 2 / (1 + math.exp(-2)), -2 / (1 + math.exp(2))
    assert abs(module(torch.tensor([[2.0]])).item() - (silu[0] * 6 + silu[1] * 10)) < 1e-5


def test_relu_by_hand_with_biases():
    module = make_feed_forward(FeedForwardSpec(2, "relu", bias=True), 1)
    with torch.no_grad():
        module.up.weight.copy_(torch.tensor([[1.0], [-1.0]]))
        module.up.bias.copy_(torch.tensor([0.5, 0.5]))
        module.down.weight.copy_(torch.tensor([[2.0, 4.0]]))
        module.down.bias.fill_(0.25)
    assert module(torch.tensor([[3.0]])).item() == 2 * 3.5 + 0.25
