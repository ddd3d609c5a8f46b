"""The layer that LoRA and DoRA train, against numbers made by hand."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from smelt.core.errors import UsageError
from smelt.peft.low_rank import LoraLinear, row_lengths


def linear(weight, bias=None):
    layer = nn.Linear(len(weight[0]), len(weight), bias=bias is not None)
    layer.weight = nn.Parameter(torch.tensor(weight))
    if bias is not None:
        layer.bias = nn.Parameter(torch.tensor(bias))
    return layer


def small(*, dora=False, bias=None):
    """W = [[3, 4], [0, 1]], down = [1, 2], up = [1, -1], scale 0.5: the change is [[0.5, 1], [-0.5, -1]]."""
    layer = LoraLinear.from_linear(linear([[3.0, 4.0], [0.0, 1.0]], bias), rank=1, scale=0.5, dora=dora)
    with torch.no_grad():
        layer.down.copy_(torch.tensor([[1.0, 2.0]]))
        layer.up.copy_(torch.tensor([[1.0], [-1.0]]))
    return layer


X = torch.tensor([[1.0, 1.0]])


def test_a_layer_adds_the_scaled_product_of_its_halves():
    assert small()(X).tolist() == [[7 + 1.5, 1 - 1.5]]
    assert small(bias=[10.0, 20.0])(X).tolist() == [[18.5, 19.5]]
    assert small().weight.tolist() == [[3.5, 5.0], [-0.5, 0.0]]


def test_dora_gives_each_row_of_the_changed_weight_its_learned_length():
    layer = small(dora=True, bias=[10.0, 20.0])
    assert layer.magnitude.tolist() == [5.0, 1.0]  # the lengths of W's rows
    first = 5 / math.hypot(3.5, 5.0)
    expected = torch.tensor([[8.5 * first + 10, -0.5 * 1 / 0.5 + 20]])
    torch.testing.assert_close(layer(X), expected)
    torch.testing.assert_close(functional.linear(X, layer.weight, layer.bias), expected)


def test_the_length_of_a_changed_row_is_a_constant_for_the_gradient():
    layer = small(dora=True)
    layer(X).sum().backward()
    factors = torch.tensor([5 / math.hypot(3.5, 5.0), 2.0])
    torch.testing.assert_close(layer.up.grad, (factors * 0.5 * 3)[:, None])  # s (down x) m / |W'|
    torch.testing.assert_close(layer.magnitude.grad, torch.tensor([8.5 / math.hypot(3.5, 5.0), -1.0]))
    through_weight = small(dora=True)
    functional.linear(X, through_weight.weight).sum().backward()
    torch.testing.assert_close(through_weight.up.grad, layer.up.grad)
    torch.testing.assert_close(through_weight.magnitude.grad, layer.magnitude.grad)
    assert layer.base.weight.grad is not None  # freezing is the model's business


@pytest.mark.parametrize("dora", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_new_layer_gives_what_its_base_gives_bit_for_bit(dora, dtype):
    base = nn.Linear(7, 5).to(dtype)
    with torch.no_grad():
        base.weight[2] = 0  # a row without a direction
    layer = LoraLinear.from_linear(base, rank=3, scale=2.0, dora=dora)
    x = torch.randn(4, 7, dtype=dtype)
    assert torch.equal(layer(x), base(x))
    assert layer(x).dtype == dtype
    assert not layer.up.any()
    assert layer.down.dtype == layer.up.dtype == torch.float32
    assert layer.down.abs().max() <= 1 / math.sqrt(7)


@pytest.mark.parametrize("dora", [False, True])
def test_under_autocast_products_are_in_bf16_and_gradients_in_fp32(dora):
    layer, kinds = LoraLinear.from_linear(nn.Linear(8, 6), rank=2, scale=1.0, dora=dora), []
    nn.init.normal_(layer.up)
    with torch.autocast("cpu", torch.bfloat16):
        out = layer(torch.randn(3, 8))
    out.float().sum().backward()
    assert out.dtype == torch.bfloat16
    kinds = [parameter.grad.dtype for parameter in (layer.down, layer.up, layer.magnitude) if parameter is not None]
    assert set(kinds) == {torch.float32}


def test_dropout_is_on_the_input_of_the_halves_alone():
    layer = LoraLinear.from_linear(linear([[1.0, 1.0]]), rank=1, scale=1.0, dropout=0.5)
    with torch.no_grad():
        layer.down.fill_(1.0)
        layer.up.fill_(1.0)
    seen = {layer(X).item() for _ in range(64)}
    assert seen == {2.0, 2 + 2.0, 2 + 4.0}  # of two ones, each dropped or doubled, none, one or both are left
    assert layer.eval()(X).item() == 4.0


def test_dora_with_dropout_lengthens_what_the_halves_see():
    torch.manual_seed(1)
    layer = LoraLinear.from_linear(linear([[3.0, 4.0]]), rank=1, scale=1.0, dropout=0.5, dora=True)
    with torch.no_grad():
        layer.magnitude.fill_(10.0)  # twice the length, and no change of direction
    seen = {layer(X).item() for _ in range(64)}
    assert seen == {7 + 0.0, 7 + 6.0, 7 + 8.0, 7 + 14.0}


def test_merging_makes_a_plain_layer_of_the_bases_type_and_leaves_the_base():
    layer = small(dora=True, bias=[1.0, 2.0])
    plain = layer.merged()
    assert type(plain) is nn.Linear
    torch.testing.assert_close(plain(X), layer(X))
    assert layer.base.weight.tolist() == [[3.0, 4.0], [0.0, 1.0]]
    assert not plain.weight.requires_grad
    narrow = LoraLinear.from_linear(nn.Linear(4, 4).bfloat16(), rank=1, scale=1.0).merged()
    assert narrow.weight.dtype == torch.bfloat16


class Eighths(nn.Module):
    """A layer kept in eighths, as a quantized one would be."""

    def __init__(self, weight):
        super().__init__()
        self.register_buffer("eighths", (weight * 8).round().to(torch.int8))
        self.out_features, self.in_features = weight.shape
        self.bias = None

    def dequantize(self):
        return self.eighths.float() / 8

    def forward(self, x):
        return functional.linear(x, self.dequantize())


@pytest.mark.parametrize("dora", [False, True])
def test_a_quantized_base_is_asked_for_its_weight(dora):
    base = Eighths(torch.tensor([[3.0, 4.0], [0.0, 1.0]]))
    layer = LoraLinear.from_linear(base, rank=1, scale=0.5, dora=dora)
    assert torch.equal(layer(X), base(X))
    with torch.no_grad():
        layer.down.copy_(torch.tensor([[1.0, 2.0]]))
        layer.up.copy_(torch.tensor([[1.0], [-1.0]]))
    torch.testing.assert_close(layer(X), small(dora=dora)(X))
    torch.testing.assert_close(layer.merged()(X), layer(X))


def test_what_is_no_linear_layer_is_refused():
    with pytest.raises(UsageError, match="low ranks on a LayerNorm\naccepted: a linear layer"):
        LoraLinear.from_linear(nn.LayerNorm(3), rank=1, scale=1.0)
    with pytest.raises(UsageError, match="low ranks on a LoraLinear"):
        LoraLinear.from_linear(small(), rank=1, scale=1.0)


def test_lengths_are_never_zero():
    assert row_lengths(torch.tensor([[3.0, 4.0], [0.0, 0.0]])).tolist() == [5.0, torch.finfo(torch.float32).tiny]


@pytest.mark.parametrize("dora", [False, True])
def test_the_compiler_takes_a_layer_as_one_graph(dora):
    torch.compiler.reset()
    layer = LoraLinear.from_linear(nn.Linear(8, 6), rank=2, scale=1.0, dora=dora)
    nn.init.normal_(layer.up)
    compiled, x = torch.compile(layer, backend="aot_eager", fullgraph=True), torch.randn(3, 8)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(compiled(x), layer(x))
