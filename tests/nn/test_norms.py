"""Norms against values worked out by hand."""

import torch

from smelt.nn.norms import make_norm
from smelt.nn.spec import NormSpec


def test_rms_divides_by_the_root_mean_square():
    norm = make_norm(NormSpec("rms", 0.0), 2)
    torch.testing.assert_close(norm(torch.tensor([3.0, 4.0])), torch.tensor([3.0, 4.0]) / 12.5**0.5)


def test_rms_adds_eps_to_the_mean_square():
    norm = make_norm(NormSpec("rms", 3.5), 2)
    torch.testing.assert_close(norm(torch.tensor([3.0, 4.0])), torch.tensor([0.75, 1.0]))


def test_layer_norm_centres_scales_and_shifts():
    norm = make_norm(NormSpec("layer", 0.0), 2)
    with torch.no_grad():
        norm.weight.fill_(2.0)
        norm.bias.fill_(0.5)
    torch.testing.assert_close(norm(torch.tensor([1.0, 5.0])), torch.tensor([-1.5, 2.5]))
