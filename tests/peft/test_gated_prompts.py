"""Llama-Adapter: nothing at first, then what a second softmax reads of the prompts."""

from dataclasses import replace

import pytest
import torch

from smelt.core.errors import CheckpointError, ConfigError
from smelt.infer import Sampling, generate
from smelt.models.build import build
from smelt.models.families import FAMILIES, Shape, spec_for
from smelt.nn.attention import Attention
from smelt.nn.spec import AttentionSpec, NormSpec
from smelt.peft.gated_prompts import GatedPrompt, LlamaAdapterSettings, gated_prompts
from smelt.peft.methods import METHODS
from smelt.tokenizers.bpe_train import train_bpe

METHOD = METHODS["llama-adapter"]
SHAPE = Shape(41, 24, 3, 4, 32, num_kv_heads=2)
IDS = torch.randint(41, (2, 9), generator=torch.Generator().manual_seed(3))


def tuned(spec=None, gate=None, **settings):
    model = build(spec_for("llama", SHAPE) if spec is None else spec, seed=0).eval()
    METHOD.attach(model, LlamaAdapterSettings(**settings), 1)
    for held in gated_prompts(model).values():
        if gate is not None:
            held.gate.data.fill_(gate)
    return model


@pytest.mark.parametrize("family", ["llama", "qwen3", "mixtral"])
def test_a_model_begins_as_its_base_bit_for_bit(family):
    spec = spec_for(family, SHAPE)
    model = tuned(spec, num_layers=3)
    assert list(gated_prompts(model)) == [0, 1, 2]
    assert torch.equal(model(IDS).logits, build(spec, seed=0).eval()(IDS).logits)
    assert not torch.equal(model(IDS).logits, tuned(spec, gate=0.5, num_layers=3)(IDS).logits)


def test_only_prompts_and_gates_of_the_last_layers_have_gradients():
    model = tuned(gate=0.1, num_layers=2, num_virtual_tokens=4).train()
    model(IDS).logits.square().mean().backward()
    wanted = {f"blocks.{place}.attention.addition.{part}" for place in (1, 2) for part in ("prompt", "gate")}
    found = {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert found.keys() == {name for name, part in model.named_parameters() if part.requires_grad} == wanted
    assert all(bool((part != 0).any()) for part in found.values())
    model.zero_grad()
    model.gradient_checkpointing = True
    model(IDS).logits.square().mean().backward()
    for name, part in model.named_parameters():
        if name in wanted:
            torch.testing.assert_close(part.grad, found[name])


def test_all_but_the_first_two_layers_have_prompts_where_nobody_says():
    assert list(gated_prompts(tuned())) == [2]
    assert list(gated_prompts(tuned(spec_for("llama", replace(SHAPE, num_layers=1))))) == [0]


def test_the_formula():
    """Equations 3 to 6 by hand, for one query head of size 1 and two prompt vectors."""
    attention = Attention(AttentionSpec(1, 1, 1, scale=1.0), 1)
    with torch.no_grad():
        for layer, weight in ((attention.key, 1.0), (attention.value, 10.0)):
            layer.weight.fill_(weight)
    held = GatedPrompt(torch.tensor([[0.0], [1.0]]))
    held.gate.data.fill_(0.5)
    three = torch.tensor(3.0).log().view(1, 1, 1, 1)  # scores 0 and ln 3: weights 1/4 and 3/4 of values 0 and 10
    assert held(attention, three).item() == pytest.approx(0.5 * 7.5)


def test_keys_are_normed_as_the_heads_are():
    attention = Attention(AttentionSpec(1, 1, 2, qk_norm=NormSpec("rms", 0.0)), 2)
    held = GatedPrompt(torch.randn(3, 2))
    held.gate.data.fill_(1.0)
    queries = torch.randn(1, 1, 4, 2)
    expected = held(attention, queries)
    attention.key.weight.data.mul_(5)  # which a norm takes away again
    torch.testing.assert_close(held(attention, queries), expected)


def test_answers_come_from_a_cache_and_padding_changes_none():
    model, tokenizer = tuned(gate=2.0, num_layers=3), train_bpe(["a"], vocab_size=259)
    prompts = [IDS[0].tolist(), IDS[1, :3].tolist()]
    found = generate(model, tokenizer, prompts, Sampling(max_new_tokens=6, temperature=0))
    for prompt, answer in zip(prompts, found, strict=True):
        ids = list(prompt)
        for _ in range(6):
            ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
        assert list(answer.ids) == ids[len(prompt) :]


@pytest.mark.parametrize(
    ("make", "settings", "message"),
    [
        (
            lambda: spec_for("gpt2", replace(SHAPE, num_kv_heads=None)),
            {},
            r"this gpt2 model has biases behind its attention(.|\n)*tune.method=prefix",
        ),
        (
            lambda: spec_for("deepseek_v2", replace(SHAPE, num_kv_heads=None)),
            {},
            r"this deepseek_v2 model makes keys and values of a latent",
        ),
        (lambda: FAMILIES["llama"].make(SHAPE), {"num_layers": 4}, r"4 layers with prompts\naccepted: 1 to 3"),
    ],
)
def test_models_that_cannot_have_them_are_refused(make, settings, message):
    with pytest.raises(ConfigError, match=message):
        tuned(make(), **settings)


def test_twice_is_refused():
    with pytest.raises(ConfigError, match=r"the model has such prompts already\ntry: tune the base alone"):
        METHOD.attach(tuned(), LlamaAdapterSettings(), 0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"adapter_len": 0}, r"adapter_len = 0 in adapter_config.json\naccepted: 1 or more"),
        ({"adapter_layers": 4}, r"adapter_layers = 4 in adapter_config.json\naccepted: 1 to 3"),
        ({"target_modules": "attn"}, r"target_modules = 'attn' in adapter_config.json\naccepted: self_attn"),
        ({"unheard_of": 1}, r"unheard_of = 1 in adapter_config.json\naccepted: a file without it"),
    ],
)
def test_files_that_ask_for_something_else_are_refused(change, message):
    model, settings = tuned(num_layers=2), LlamaAdapterSettings(num_layers=2)
    config = METHOD.config(model, settings)
    assert METHOD.read(config, model.spec) == settings
    with pytest.raises(CheckpointError, match=message):
        METHOD.read({**config, **change}, model.spec)


def test_files_with_other_tensors_are_refused():
    model = tuned(num_layers=1)
    tensors = METHOD.tensors(model)
    gate, prompt = sorted(tensors)
    assert gate == "base_model.model.model.layers.2.self_attn.adaption_gate"
    with pytest.raises(CheckpointError, match=r"layers.2.self_attn.adaption_gate is not in the adapter"):
        METHOD.fill(model, {prompt: tensors[prompt]})
    with pytest.raises(CheckpointError, match=r"a_weight is no part of this model, but in the adapter"):
        METHOD.fill(model, {**tensors, "a_weight": tensors[gate]})
    with pytest.raises(CheckpointError, match=r"adaption_prompt \(2, 24\)\naccepted: \(1, 10, 24\)"):
        METHOD.fill(model, {**tensors, prompt: torch.zeros(2, 24)})
