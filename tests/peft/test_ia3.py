"""(IA)^3 by hand and beside the peft library: the same files, logits, losses and gradients."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional

from smelt.core.errors import CheckpointError, ConfigError
from smelt.models.build import build
from smelt.models.families import Shape, spec_for
from smelt.models.hub import load_model
from smelt.peft.checks import CONFIG, WEIGHTS
from smelt.peft.ia3 import METHOD, Ia3Linear, Ia3Settings, layers_of

LLAMA = Shape(61, 24, 2, 6, 40, num_kv_heads=2, hidden_dim=36)
GPT2 = Shape(61, 20, 2, 5, 40, hidden_dim=28)
IDS = torch.randint(61, (2, 12), generator=torch.Generator().manual_seed(3))
KINDS = {
    "llama": dict(target_modules=["k_proj", "v_proj", "down_proj"], feedforward_modules=["down_proj"]),
    "inputs of all": dict(target_modules=r".*\.(q|k)_proj", feedforward_modules=r".*_proj"),
    "gpt2": dict(target_modules=["c_attn", "mlp.c_proj"], feedforward_modules=["mlp.c_proj"]),
    "gpt2 inputs": dict(target_modules=["c_attn", "mlp.c_fc"], feedforward_modules=["c_attn"]),
}


def published(kind):
    transformers = pytest.importorskip("transformers", reason="needs the extra interop")
    if kind.startswith("gpt2"):
        sizes = dict(n_embd=32, n_layer=2, n_head=4, bos_token_id=0, eos_token_id=0, initializer_range=0.2)
        config = transformers.GPT2Config(
            vocab_size=64, n_positions=32, **sizes, embd_pdrop=0, attn_pdrop=0, resid_pdrop=0
        )
    else:
        sizes = dict(
            hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, initializer_range=0.2
        )
        config = transformers.LlamaConfig(vocab_size=64, max_position_embeddings=32, num_key_value_heads=2, **sizes)
    torch.manual_seed(1)
    return transformers.AutoModelForCausalLM.from_config(config)


def draw(model):
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.normal_(mean=1, std=0.3, generator=generator)


def both(kind, folder):
    """Write a base and peft's adapter with every number drawn; return peft's model and ours of the two."""
    peft = pytest.importorskip("peft", reason="needs the extra interop")
    base = published(kind)
    base.save_pretrained(folder / "base")
    config = peft.IA3Config(task_type="CAUSAL_LM", fan_in_fan_out=kind.startswith("gpt2"), **KINDS[kind])
    whole = peft.get_peft_model(base, config)
    draw(whole)
    whole.save_pretrained(folder / "adapter")
    return whole, ours(folder)


def ours(folder):
    model = load_model(folder / "base")
    config = json.loads((folder / "adapter" / CONFIG).read_text())
    METHOD.attach(model, METHOD.read(config, model.spec), 0)
    METHOD.fill(model, load_file(folder / "adapter" / WEIGHTS))
    return model


def close(found, expected, **limits):
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, **limits, msg=lambda text, name=name: f"{name}: {text}")


def test_outputs_or_inputs_are_multiplied():
    base = nn.Linear(2, 2)
    with torch.no_grad():
        base.weight.copy_(torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
        base.bias.copy_(torch.tensor([10.0, 20.0]))
    factors, x = nn.Parameter(torch.tensor([2.0, -1.0])), torch.tensor([1.0, 1.0])
    for of_inputs, weight, bias, out in (
        (False, [[2.0, 4.0], [-3.0, -4.0]], [20.0, -20.0], [26.0, -27.0]),
        (True, [[2.0, -2.0], [6.0, -4.0]], [10.0, 20.0], [10.0, 22.0]),
    ):
        layer = Ia3Linear(base, factors, of_inputs=of_inputs)
        assert layer(x).tolist() == out
        assert layer.weight.tolist() == weight and layer.bias.tolist() == bias
        assert layer.merged()(x).tolist() == out


@pytest.mark.interop
@pytest.mark.parametrize("kind", KINDS)
def test_their_files_give_their_logits_and_gradients_here(kind, tmp_path):
    whole, model = both(kind, tmp_path)
    expected = whole(IDS, labels=IDS)
    logits = model(IDS).logits
    torch.testing.assert_close(logits, expected.logits, atol=1e-5, rtol=1e-4)
    with whole.disable_adapter(), torch.no_grad():
        assert not torch.allclose(expected.logits, whole(IDS).logits, atol=1e-2)
    loss = functional.cross_entropy(logits[:, :-1].flatten(0, 1), IDS[:, 1:].flatten())
    torch.testing.assert_close(loss, expected.loss, atol=1e-5, rtol=1e-5)
    loss.backward()
    expected.loss.backward()
    with torch.no_grad():
        for layer in layers_of(model).values():
            layer.factors.copy_(layer.factors.grad)
    names = {name: parameter.grad for name, parameter in whole.named_parameters() if parameter.requires_grad}
    gradients = {name.replace(".default", ""): gradient for name, gradient in names.items()}
    close(METHOD.tensors(model), gradients, atol=1e-5, rtol=1e-4)


@pytest.mark.interop
@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("llama", Ia3Settings()),
        ("gpt2", Ia3Settings()),  # keys and values are two thirds of a module: the queries' rows are ones
        ("gpt2", Ia3Settings(targets=(), inputs=("query", "key", "value", "blocks.1.feed_forward.down"))),
    ],
)
def test_our_files_give_our_logits_there(kind, settings, tmp_path):
    peft = pytest.importorskip("peft", reason="needs the extra interop")
    base = published(kind)
    base.save_pretrained(tmp_path / "base")
    model = load_model(tmp_path / "base")
    METHOD.attach(model, settings, 0)
    draw(model)
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / CONFIG).write_text(json.dumps(METHOD.config(model, settings)))
    save_file(METHOD.tensors(model), tmp_path / "adapter" / WEIGHTS)
    whole = peft.get_peft_model(base, peft.PeftConfig.from_pretrained(tmp_path / "adapter"))
    result = peft.set_peft_model_state_dict(whole, peft.load_peft_weights(tmp_path / "adapter"))
    assert not result.unexpected_keys and not [name for name in result.missing_keys if "ia3_" in name]
    torch.testing.assert_close(model.eval()(IDS).logits, whole.eval()(IDS).logits, atol=1e-5, rtol=1e-4)
    close(METHOD.tensors(ours(tmp_path)), METHOD.tensors(model), atol=0, rtol=0)


def test_layers_with_one_input_share_its_vector():
    model = build(spec_for("gpt2", GPT2), seed=7)
    METHOD.attach(model, Ia3Settings(targets=(), inputs=("query", "key", "value")), 0)
    attention = model.blocks[0].attention
    assert attention.query.factors is attention.key.factors is attention.value.factors
    assert sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad) == 2 * 20


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (dict(targets=(), inputs=()), "both empty"),
        (dict(targets=("down",)), r"blocks\.0\.feed_forward\.down is in ia3\.targets and in ia3\.inputs"),
        (dict(inputs=("query",)), r"query, .*value are one matrix in the published layout, .*c_attn, with one input"),
        (dict(inputs=("dwn",)), r"ia3\.inputs: 'dwn' matches nothing .*Did you mean 'down'"),
    ],
)
def test_targets_that_no_file_can_say_are_refused(settings, said):
    model = build(spec_for("gpt2", GPT2), seed=7)
    with pytest.raises(ConfigError, match=said):
        METHOD.attach(model, Ia3Settings(**settings), 0)
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_a_file_may_not_change_rows_that_are_not_targeted():
    model = build(spec_for("gpt2", GPT2), seed=7)
    METHOD.attach(model, Ia3Settings(), 0)
    tensors = dict(METHOD.tensors(model))
    name = next(name for name in tensors if "c_attn" in name)
    with pytest.raises(
        CheckpointError, match=r"c_attn is changed in more rows than those of blocks\.0\.attention\.key"
    ):
        METHOD.fill(model, tensors | {name: torch.full((60, 1), 2.0)})
    with pytest.raises(CheckpointError, match=r"has shape \(1, 60\), the model asks for \(60, 1\)"):
        METHOD.fill(model, tensors | {name: torch.ones(1, 60)})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"peft_type": "LORA"}, "peft_type = 'LORA'"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"feedforward_modules": None}, "feedforward_modules = None\naccepted: names of modules"),
        ({"target_modules": ["k_prj"]}, "'k_prj' is no linear layer"),
    ],
)
def test_settings_that_we_cannot_honour_are_refused(change, said):
    model = build(spec_for("llama", LLAMA), seed=7)
    METHOD.attach(model, Ia3Settings(), 0)
    config = METHOD.config(model, Ia3Settings())
    assert METHOD.read(config, model.spec) == Ia3Settings()
    with pytest.raises(CheckpointError, match=said):
        METHOD.read(config | change, model.spec)
