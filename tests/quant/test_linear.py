"""The layer in 4 bits: products and gradients are those of its dequantized weight, and that is never kept."""

import gc
import weakref

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from smelt.quant import nf4
from smelt.quant.linear import NF4Linear


def plain(bias: bool = True) -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(96, 40, bias=bias)


@pytest.mark.parametrize("bias", [True, False])
def test_output_and_gradient_are_those_of_the_dequantized_weight(bias: bool) -> None:
    layer = NF4Linear.from_linear(plain(bias))
    ours = torch.randn(3, 5, 96, generator=torch.Generator().manual_seed(1)).requires_grad_()
    theirs = ours.detach().clone().requires_grad_()
    out, expected = layer(ours), functional.linear(theirs, layer.dequantize(), layer.bias)
    torch.testing.assert_close(out, expected, atol=1e-6, rtol=1e-6)
    slope = torch.randn(3, 5, 40, generator=torch.Generator().manual_seed(2))
    out.backward(slope)
    expected.backward(slope)
    torch.testing.assert_close(ours.grad, theirs.grad, atol=1e-6, rtol=1e-6)


def test_the_weight_is_near_the_plain_one_and_the_bias_is_it() -> None:
    linear = plain()
    layer = NF4Linear.from_linear(linear)
    assert layer.bias is linear.bias
    assert (layer.in_features, layer.out_features) == (96, 40)
    error = (layer.dequantize() - linear.weight).square().mean().sqrt() / linear.weight.std()
    assert error < 0.15  # uniform weights; normal ones are nearer
    assert torch.equal(layer.weight, layer.dequantize())


def test_the_weight_is_a_buffer_of_4_127_bits() -> None:
    layer = NF4Linear(torch.randn(1024, 1024, generator=torch.Generator().manual_seed(0)))
    assert not list(layer.parameters())
    num_bytes = sum(buffer.nbytes for buffer in layer.buffers())
    assert 8 * num_bytes / 1024**2 == pytest.approx(4.127, abs=1e-3)


def test_a_state_dict_holds_the_bias_alone() -> None:
    """The weights are in the base's checkpoint, and the same weights become the same codes."""
    one, other = (NF4Linear.from_linear(plain()) for _ in range(2))
    assert list(one.state_dict()) == ["bias"]
    assert all(torch.equal(*pair) for pair in zip(one.buffers(), other.buffers(), strict=True))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_the_type_is_that_of_the_input(dtype: torch.dtype) -> None:
    x = torch.ones(2, 96, dtype=dtype, requires_grad=True)
    out = NF4Linear.from_linear(plain())(x)
    out.sum().backward()
    assert out.dtype is x.grad.dtype is dtype


def test_autocast_decides_the_type() -> None:
    x = torch.randn(4, 96, requires_grad=True)
    layer = NF4Linear.from_linear(plain())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = layer(x)
    assert out.dtype is torch.bfloat16
    out.sum().backward()
    assert x.grad.dtype is torch.float32
    expected = functional.linear(x.detach(), layer.dequantize(), layer.bias)
    torch.testing.assert_close(out.detach().float(), expected, atol=0.05, rtol=0.05)


def test_no_full_weight_lives_between_the_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[weakref.ref[Tensor]] = []
    real = nf4.dequantize

    def noted(*arguments: object) -> Tensor:
        weight = real(*arguments)  # type: ignore[arg-type]
        made.append(weakref.ref(weight))
        return weight

    monkeypatch.setattr(nf4, "dequantize", noted)
    layer = NF4Linear.from_linear(plain())
    x = torch.randn(4, 96, requires_grad=True)
    kept: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor) or tensor, lambda tensor: tensor):
        out = layer(x).sin()
    gc.collect()
    assert len(made) == 1 and made[0]() is None
    assert all(tensor.shape != (40, 96) for tensor in kept)
    out.sum().backward()
    assert len(made) == 2  # made again for the gradient
    gc.collect()
    assert made[1]() is None


def test_gradient_checkpointing_changes_nothing() -> None:
    layer = NF4Linear.from_linear(plain())
    found = []
    for again in (False, True):
        x = torch.randn(4, 96, generator=torch.Generator().manual_seed(1)).requires_grad_()
        out = checkpoint(layer, x.sin(), use_reentrant=False) if again else layer(x.sin())
        out.square().sum().backward()
        found.append(x.grad)
    assert torch.equal(*found)


def test_what_is_not_trained_has_no_backward_pass() -> None:
    layer = NF4Linear.from_linear(plain(bias=False))
    assert not layer(torch.ones(1, 96)).requires_grad
    assert "96, 40, bias=False" in repr(layer)
