"""LoRA, rsLoRA and DoRA as the peft library has them: files both ways, logits, and the gradients of a step."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional

from smelt.models.hub import load_model
from smelt.peft.files import CONFIG, WEIGHTS
from smelt.peft.lora_method import METHOD
from smelt.peft.lora_tuning import LoraSettings, attach, lora_layers, merge, unmerge
from smelt.peft.methods import METHODS

transformers = pytest.importorskip("transformers", reason="needs the extra interop")
peft = pytest.importorskip("peft", reason="needs the extra interop")

pytestmark = pytest.mark.interop

LLAMA = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
         "num_key_value_heads": 2, "vocab_size": 64, "max_position_embeddings": 32}  # fmt: skip
BASES = {
    "llama": lambda: transformers.LlamaConfig(**LLAMA),
    "qwen2": lambda: transformers.Qwen2Config(**LLAMA),
    "glm": lambda: transformers.GlmConfig(**LLAMA, head_dim=8, pad_token_id=0, eos_token_id=1),
    "gpt2": lambda: transformers.GPT2Config(vocab_size=64, n_positions=32, n_embd=32, n_layer=2, n_head=4),
}
GPT2_ALL = ["c_attn", "c_fc", "attn.c_proj", "mlp.c_proj"]
KINDS = {
    "llama": ("llama", dict(target_modules=["q_proj", "v_proj", "down_proj"], r=4, lora_alpha=6)),
    "all": ("llama", dict(target_modules="all-linear", r=4, lora_alpha=6)),
    "pattern of names": ("llama", dict(target_modules=r".*\.layers\.1\..*(q|k)_proj", r=4)),
    "one layer": ("llama", dict(target_modules=["q_proj", "o_proj"], layers_to_transform=[1], r=4)),
    "left out": ("llama", dict(target_modules=["q_proj", "o_proj"], exclude_modules=["layers.0.self_attn.q_proj"])),
    "dora": ("llama", dict(target_modules=["q_proj", "up_proj", "down_proj"], r=4, lora_alpha=6, use_dora=True)),
    "stabilized": ("qwen2", dict(target_modules=["q_proj", "k_proj", "gate_proj"], r=3, lora_alpha=5, use_rslora=True)),
    "dora with biases": ("qwen2", dict(target_modules=["q_proj", "k_proj", "v_proj"], r=3, use_dora=True)),
    "fused": ("glm", dict(target_modules=["q_proj", "gate_up_proj"], r=3, lora_alpha=5)),
    "fused dora": ("glm", dict(target_modules=["o_proj", "gate_up_proj"], r=3, lora_alpha=5, use_dora=True)),
    "patterns": (
        "llama",
        dict(
            target_modules=["q_proj", "k_proj", "up_proj"], r=2, lora_alpha=4,
            rank_pattern={"layers.1.self_attn.q_proj": 5}, alpha_pattern={"k_proj": 3},
        ),
    ),
    "gpt2": ("gpt2", dict(target_modules=GPT2_ALL, r=4, lora_alpha=8, fan_in_fan_out=True)),
    "gpt2 dora": ("gpt2", dict(target_modules=GPT2_ALL, r=4, lora_alpha=8, fan_in_fan_out=True, use_dora=True)),
}  # fmt: skip
IDS = torch.randint(64, (2, 12), generator=torch.Generator().manual_seed(3))


def base(name, folder):
    torch.manual_seed(1)
    made = transformers.AutoModelForCausalLM.from_config(BASES[name]()).eval()
    made.save_pretrained(folder)
    return made


def theirs(kind, folder):
    """Write a base and an adapter with every number drawn; return peft's model of both."""
    name, settings = KINDS[kind]
    whole = peft.get_peft_model(base(name, folder / "base"), peft.LoraConfig(task_type="CAUSAL_LM", **settings)).eval()
    with torch.no_grad():
        for parameter_name, parameter in whole.named_parameters():
            if "lora_A" in parameter_name or "lora_B" in parameter_name:
                parameter.normal_(std=0.3)
            elif "magnitude" in parameter_name:
                parameter.mul_(1 + 0.3 * torch.randn_like(parameter))
    whole.save_pretrained(folder / "adapter")
    return whole


def ours(folder):
    """Load a base and attach an adapter as its files say."""
    model = load_model(folder / "base").eval()
    settings = METHOD.read(json.loads((folder / "adapter" / CONFIG).read_text()), model.spec)
    METHOD.attach(model, settings, 7)
    METHOD.fill(model, load_file(folder / "adapter" / WEIGHTS))
    return model, settings


def loss_of(logits):
    return functional.cross_entropy(logits[:, :-1].flatten(0, 1), IDS[:, 1:].flatten())


def write(folder, model, settings):
    folder.mkdir()
    fields = METHOD.config(model, settings) | {"base_model_name_or_path": "base"}
    (folder / CONFIG).write_text(json.dumps(fields))
    save_file({name: tensor.contiguous() for name, tensor in METHOD.tensors(model).items()}, folder / WEIGHTS)


@pytest.mark.parametrize("kind", KINDS)
def test_their_adapter_gives_their_logits_and_is_written_as_they_wrote_it(kind, tmp_path):
    whole = theirs(kind, tmp_path)
    model, settings = ours(tmp_path)
    with torch.no_grad():
        torch.testing.assert_close(model(IDS).logits, whole(IDS).logits, atol=1e-5, rtol=1e-4)
        with whole.disable_adapter():
            assert not torch.allclose(model(IDS).logits, whole(IDS).logits, atol=1e-2)
    stored, written = load_file(tmp_path / "adapter" / WEIGHTS), METHOD.tensors(model)
    assert written.keys() == stored.keys()
    assert all(torch.equal(written[name], stored[name]) for name in stored)
    assert METHOD.read(METHOD.config(model, settings), model.spec) == settings


@pytest.mark.parametrize("kind", KINDS)
def test_merged_equals_unmerged_and_what_peft_merges(kind, tmp_path):
    whole = theirs(kind, tmp_path)
    model, _ = ours(tmp_path)
    with torch.no_grad():
        before = model(IDS).logits
        layers = merge(model)
        torch.testing.assert_close(model(IDS).logits, before, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(model(IDS).logits, whole.merge_and_unload()(IDS).logits, atol=1e-5, rtol=1e-4)
        assert not lora_layers(model)
        unmerge(model, layers)
        assert torch.equal(model(IDS).logits, before)


@pytest.mark.parametrize("kind", KINDS)
def test_loss_and_gradients_of_a_step_are_theirs(kind, tmp_path):
    whole = theirs(kind, tmp_path)
    model, _ = ours(tmp_path)
    their_loss, our_loss = loss_of(whole(IDS).logits), loss_of(model(IDS).logits)
    their_loss.backward()
    our_loss.backward()
    torch.testing.assert_close(our_loss, their_loss, atol=1e-5, rtol=1e-5)
    assert all((parameter.grad is None) != parameter.requires_grad for parameter in model.parameters())
    assert all(name.rsplit(".", 1)[-1] in ("down", "up", "magnitude")
               for name, parameter in model.named_parameters() if parameter.requires_grad)  # fmt: skip
    for layer in lora_layers(model).values():  # so that the layout of the file is that of the gradients
        for parameter in (layer.down, layer.up, layer.magnitude):
            if parameter is not None:
                parameter.data = parameter.grad
    for name, gradient in METHOD.tensors(model).items():
        side = name.removesuffix(".weight")
        expected = whole.get_parameter(f"{side}.default.weight").grad
        assert bool(expected.any())
        torch.testing.assert_close(gradient, expected, atol=1e-5, rtol=1e-4, msg=lambda text, name=name: name + text)


OURS = {
    "all layers": ("llama", LoraSettings(rank=3, alpha=7)),
    "stabilized": ("qwen2", LoraSettings(rank=3, alpha=7, stabilized=True, targets=("query", "feed_forward.*"))),
    "dora": ("llama", LoraSettings(rank=3, dora=True, dropout=0.1)),
    "patterns": (
        "llama",
        LoraSettings(rank=2, rank_pattern={"blocks.0.*": 4}, alpha_pattern={"query": 3, "blocks.1.attention.*": 2.5}),
    ),
    "a part of a fused matrix": ("gpt2", LoraSettings(rank=3, targets=("key", "feed_forward.down"))),
    "a part of a fused matrix, dora": ("gpt2", LoraSettings(rank=3, targets=("value", "output"), dora=True)),
    "a part of a gate": ("glm", LoraSettings(rank=3, targets=("feed_forward.up",), dora=True)),
}


@pytest.mark.parametrize("kind", OURS)
def test_what_we_write_loads_there_without_a_missing_or_unknown_key_and_gives_our_logits(kind, tmp_path, recwarn):
    name, settings = OURS[kind]
    network = base(name, tmp_path / "base")
    model = load_model(tmp_path / "base").eval()
    attach(model, settings, 5)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for layer in lora_layers(model).values():
            layer.up.normal_(std=0.3, generator=generator)
            if layer.magnitude is not None:
                layer.magnitude.mul_(1 + 0.3 * torch.rand(layer.magnitude.shape, generator=generator))
    write(tmp_path / "adapter", model, settings)
    recwarn.clear()
    whole = peft.PeftModel.from_pretrained(network, tmp_path / "adapter").eval()
    told = peft.set_peft_model_state_dict(whole, load_file(tmp_path / "adapter" / WEIGHTS))
    assert not told.unexpected_keys
    assert not [key for key in told.missing_keys if "lora" in key]
    assert not [str(warning.message) for warning in recwarn if "key" in str(warning.message).lower()]
    with torch.no_grad():
        logits = model(IDS).logits
        torch.testing.assert_close(logits, whole(IDS).logits, atol=1e-5, rtol=1e-4)
    again = load_model(tmp_path / "base").eval()
    attach(again, settings, 6)
    METHOD.fill(again, load_file(tmp_path / "adapter" / WEIGHTS))
    assert torch.equal(again(IDS).logits, logits)


@pytest.mark.parametrize("kind", OURS)
def test_a_fresh_adapter_changes_no_bit(kind, tmp_path):
    name, settings = OURS[kind]
    base(name, tmp_path / "base")
    model = load_model(tmp_path / "base").eval()
    before = model(IDS).logits
    with torch.autocast("cpu", torch.bfloat16):
        narrow = model(IDS).logits
    attach(model, settings, 5)
    assert torch.equal(model(IDS).logits, before)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(model(IDS).logits, narrow)


def test_an_encoder_and_a_decoder_that_reads_it_are_both_tuned(tmp_path):
    torch.manual_seed(1)
    sizes = dict(vocab_size=64, d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4, decoder_start_token_id=0)
    network = transformers.T5ForConditionalGeneration(transformers.T5Config(**sizes)).eval()
    network.save_pretrained(tmp_path / "base")
    settings = peft.LoraConfig(task_type="SEQ_2_SEQ_LM", target_modules=["q", "v", "wi"], r=3)
    whole = peft.get_peft_model(network, settings).eval()
    with torch.no_grad():
        for name, parameter in whole.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.3)
    whole.save_pretrained(tmp_path / "adapter")
    model, _ = ours(tmp_path)
    with torch.no_grad():
        expected = whole(input_ids=IDS, decoder_input_ids=IDS[:, :5]).logits
        torch.testing.assert_close(model(IDS[:, :5], source=IDS).logits, expected, atol=1e-5, rtol=1e-4)
    assert {name.split(".")[0] for name in lora_layers(model)} == {"encoder", "decoder"}
    assert "decoder.blocks.1.cross.value" in lora_layers(model)


def test_the_one_layer_of_an_encoder_that_shares_it_is_tuned(tmp_path):
    torch.manual_seed(1)
    sizes = dict(vocab_size=64, embedding_size=8, hidden_size=32, intermediate_size=48, num_attention_heads=4,
                 num_hidden_layers=3, max_position_embeddings=32)  # fmt: skip
    network = transformers.AlbertForMaskedLM(transformers.AlbertConfig(**sizes)).eval()
    network.save_pretrained(tmp_path / "base")
    whole = peft.get_peft_model(network, peft.LoraConfig(target_modules=["query", "ffn"], r=3, use_dora=True)).eval()
    with torch.no_grad():
        for name, parameter in whole.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.3)
    whole.save_pretrained(tmp_path / "adapter")
    model, _ = ours(tmp_path)
    with torch.no_grad():
        torch.testing.assert_close(model(IDS).logits, whole(IDS).logits, atol=1e-5, rtol=1e-4)
    assert list(lora_layers(model)) == ["blocks.0.attention.query", "blocks.0.feed_forward.up"]


def test_the_table_has_it():
    assert METHODS["lora"] is METHOD
