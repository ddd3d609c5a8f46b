"""LoRA over NF4: what trains, gradients beside LoRA over the dequantized weights, merging, resuming."""

from copy import deepcopy

import pytest
import torch
from torch import nn
from torch.nn import functional

from smelt.core.errors import ConfigError
from smelt.models.build import build
from smelt.models.families import Shape, spec_for
from smelt.models.transformer import Transformer
from smelt.nn.surgery import linear_names
from smelt.peft.lora_tuning import LoraSettings, attach, lora_layers, merge
from smelt.quant.linear import NF4Linear
from smelt.quant.model import quantize_base, restore_plain


def quantized() -> Transformer:
    model = build(spec_for("llama", Shape(61, 32, 2, 4, 16, num_kv_heads=2)), seed=1)
    assert isinstance(model, Transformer)
    quantize_base(model)
    return model


def with_adapters(model: Transformer, **settings: object) -> Transformer:
    attach(model, LoraSettings(rank=4, **settings), 5)
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for layer in lora_layers(model).values():
            layer.up.normal_(std=0.2, generator=generator)
    return model


def loss_of(model: Transformer) -> torch.Tensor:
    ids = torch.randint(61, (2, 12), generator=torch.Generator().manual_seed(3))
    logits = model(ids[:, :-1]).logits
    return functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())


def every_tensor(model: Transformer) -> dict[str, torch.Tensor]:
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


@pytest.mark.parametrize("settings", [{}, {"dora": True}], ids=["lora", "dora"])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_gradients_are_those_of_lora_over_the_dequantized_weights(
    settings: dict[str, bool], checkpointing: bool
) -> None:
    base = quantized()
    plain = deepcopy(base)
    restore_plain(plain)
    found = []
    for model in (with_adapters(base, **settings), with_adapters(plain, **settings)):
        model.gradient_checkpointing = checkpointing
        loss = loss_of(model.train())
        loss.backward()
        gradients = {name: p.grad for name, p in model.named_parameters() if p.requires_grad}
        found.append((loss.detach(), gradients))
    (one, ours), (other, theirs) = found
    torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)
    assert ours.keys() == theirs.keys() and ours
    for name, gradient in ours.items():
        torch.testing.assert_close(gradient, theirs[name], atol=1e-5, rtol=1e-5)


def test_adapters_train_and_the_base_stays() -> None:
    model = with_adapters(quantized())
    before = {name: tensor.clone() for name, tensor in every_tensor(model).items()}
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.02)
    first = loss_of(model)
    first.backward()
    optimizer.step()
    assert loss_of(model) < first
    changed = {name for name, tensor in every_tensor(model).items() if not torch.equal(tensor, before[name])}
    assert changed == {name for name, p in model.named_parameters() if p.requires_grad}
    assert all(name.endswith((".up", ".down")) for name in changed)


def test_merging_adds_to_the_dequantized_weights_and_leaves_plain_layers() -> None:
    model = with_adapters(quantized())
    expected = {
        name: layer.base.dequantize() + layer.scale * layer.up.detach() @ layer.down.detach()
        for name, layer in lora_layers(model).items()
    }
    before = loss_of(model)
    merge(model)
    assert expected.keys() == set(linear_names(model))
    for name, weight in expected.items():
        layer = model.get_submodule(name)
        assert type(layer) is nn.Linear
        torch.testing.assert_close(layer.weight.detach(), weight, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(loss_of(model), before, atol=1e-5, rtol=1e-5)


def test_layers_without_adapters_become_plain_too() -> None:
    model = with_adapters(quantized(), targets=("query", "value"))
    before = loss_of(model)
    merge(model)
    assert [module for module in model.modules() if isinstance(module, NF4Linear)]
    restore_plain(model)
    assert all(type(model.get_submodule(name)) is nn.Linear for name in linear_names(model))
    torch.testing.assert_close(loss_of(model), before, atol=1e-5, rtol=1e-5)


def test_quantizing_below_adapters_is_refused() -> None:
    model = build(spec_for("llama", Shape(61, 32, 2, 4, 16)), seed=1)
    with pytest.raises(ConfigError, match=r"blocks\.0\.attention\.query is a LoraLinear"):
        quantize_base(with_adapters(model))
