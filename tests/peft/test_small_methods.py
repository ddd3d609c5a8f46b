"""What AdaLoRA, (IA)^3 and bottleneck adapters have in common with every method, on models of several families."""

import pytest
import torch

from smelt.models.build import build
from smelt.models.families import Shape, spec_for
from smelt.peft.methods import METHODS

FAMILIES = {
    "llama": Shape(61, 24, 2, 6, 40, num_kv_heads=2, hidden_dim=36),
    "gpt2": Shape(61, 20, 2, 5, 40, hidden_dim=28),
    "bert": Shape(61, 24, 2, 6, 40, hidden_dim=36),
}
SETTINGS = {
    "adalora": dict(initial_rank=4, target_rank=2),
    "ia3": dict(),
    "bottleneck": dict(size=5),
}
IDS = torch.randint(1, 61, (2, 9), generator=torch.Generator().manual_seed(3))


@pytest.fixture(params=FAMILIES)
def model(request):
    return build(spec_for(request.param, FAMILIES[request.param]), seed=7)


def scramble(model):
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.empty_like(parameter).normal_(std=0.2, generator=generator))


def attached(model, name, seed=0):
    method = METHODS[name]
    settings = method.settings(**SETTINGS[name])
    method.attach(model, settings, seed)
    return method, settings


@pytest.mark.parametrize("name", SETTINGS)
def test_a_new_adapter_changes_nothing_and_alone_has_gradients(model, name):
    before = {key: parameter.clone() for key, parameter in model.named_parameters()}
    expected = model(IDS).hidden
    method, _ = attached(model, name)
    out = model(IDS)
    assert torch.equal(out.hidden, expected)
    loss = out.hidden.square().sum()
    (loss if method.penalty is None else loss + method.penalty(model)).backward()
    trained = {key for key, parameter in model.named_parameters() if parameter.grad is not None}
    assert trained == {key for key, parameter in model.named_parameters() if parameter.requires_grad}
    kept = {key.replace(".base.", "."): parameter for key, parameter in model.named_parameters() if key not in trained}
    assert kept.keys() == before.keys() and all(torch.equal(kept[key], before[key]) for key in before)


@pytest.mark.parametrize("name", SETTINGS)
def test_files_bring_back_what_was_learned(model, name):
    other = build(model.spec, seed=7)
    method, settings = attached(model, name)
    scramble(model)
    method.attach(other, method.read(method.config(model, settings), model.spec), 1)
    method.fill(other, {key: tensor.clone() for key, tensor in method.tensors(model).items()})
    assert torch.equal(other(IDS).hidden, model(IDS).hidden)
    again = build(model.spec, seed=7)
    attached(again, name)
    scramble(again)
    assert all(torch.equal(tensor, method.tensors(model)[key]) for key, tensor in method.tensors(again).items())


@pytest.mark.parametrize("name", ["adalora", "ia3"])
def test_merged_weights_compute_the_same(model, name):
    names = set(model.state_dict())
    method, _ = attached(model, name)
    scramble(model)
    expected = model(IDS).hidden.detach()
    method.merge(model)
    assert set(model.state_dict()) == names
    torch.testing.assert_close(model(IDS).hidden, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", SETTINGS)
def test_a_narrow_model_answers_in_its_type(model, name):
    attached(model.bfloat16(), name)
    scramble(model)
    assert model(IDS).hidden.dtype is torch.bfloat16
    assert all(parameter.dtype is torch.float32 for parameter in model.parameters() if parameter.requires_grad)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert model(IDS).hidden.isfinite().all()
