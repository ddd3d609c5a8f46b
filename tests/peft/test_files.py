"""Adapters that the peft library writes: the same logits there and here, and a reason where we cannot honour one."""

import json
import math

import pytest
import torch
from safetensors.torch import load_file, save_file

from smelt.core.errors import CheckpointError
from smelt.infer.adapters import Adapters
from smelt.models.hub import load_model, load_spec
from smelt.peft import lora_config
from smelt.peft.files import CONFIG, WEIGHTS, load_lora

transformers = pytest.importorskip("transformers", reason="needs the extra interop")
peft = pytest.importorskip("peft", reason="needs the extra interop")
SIZES = {"vocab_size": 64, "max_position_embeddings": 32}
LLAMA = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
KINDS = {
    "llama": dict(target_modules=["q_proj", "v_proj", "down_proj"], r=4, lora_alpha=6),
    "stabilized": dict(target_modules="all-linear", r=3, lora_alpha=5, use_rslora=True),
    "patterns": dict(
        target_modules=["q_proj", "k_proj", "up_proj"], r=2, lora_alpha=4,
        rank_pattern={"layers.1.self_attn.q_proj": 5}, alpha_pattern={"k_proj": 3},
    ),
    "gpt2": dict(target_modules=["c_attn", "c_fc", "c_proj"], r=4, lora_alpha=8, fan_in_fan_out=True),
}  # fmt: skip


def published(kind):
    if kind == "gpt2":
        config = transformers.GPT2Config(vocab_size=64, n_positions=32, n_embd=32, n_layer=2, n_head=4)
    else:
        config = transformers.LlamaConfig(**SIZES, **LLAMA, num_key_value_heads=2)
    torch.manual_seed(1)
    return transformers.AutoModelForCausalLM.from_config(config).eval()


def adapted(kind, folder):
    """Write a base and an adapter with every number drawn; return the model that has both."""
    base = published(kind)
    base.save_pretrained(folder / "base")
    whole = peft.get_peft_model(base, peft.LoraConfig(task_type="CAUSAL_LM", **KINDS[kind])).eval()
    with torch.no_grad():
        for name, parameter in whole.named_parameters():
            if "lora_" in name:
                parameter.normal_(std=0.3)
    whole.save_pretrained(folder / "adapter")
    return whole


@pytest.mark.parametrize("kind", KINDS)
def test_an_adapter_gives_the_logits_that_it_gives_in_peft(kind, tmp_path):
    whole = adapted(kind, tmp_path)
    model = load_model(tmp_path / "base").eval()
    adapters = Adapters(model)
    adapters.add("one", load_lora(tmp_path / "adapter", model.spec))
    ids = torch.randint(64, (2, 12), generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        expected = whole(ids).logits
        with whole.disable_adapter():
            plain = whole(ids).logits
        with adapters.applied([adapters.find("one"), None]):
            logits = model(ids).logits
    assert not torch.allclose(expected[0], plain[0], atol=1e-2)
    torch.testing.assert_close(logits[0], expected[0], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(logits[1], plain[1], atol=1e-5, rtol=1e-4)


@pytest.fixture
def stored(tmp_path):
    adapted("llama", tmp_path)
    return tmp_path / "adapter", load_spec(tmp_path / "base")


NO_PATTERN = r"rank_pattern = .*\naccepted: names of layers"


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("peft_type", "IA3", r"peft_type = 'IA3'\naccepted: 'LORA'"),
        ("bias", "all", "bias = 'all'"),
        ("use_dora", True, "use_dora = True\naccepted: plain LoRA"),
        ("modules_to_save", ["lm_head"], r"modules_to_save = \['lm_head'\]"),
        ("init_lora_weights", "pissa", "init_lora_weights = 'pissa'"),
        ("of_next_year", {"a": 1}, "of_next_year"),
        ("r", 5, "does not say that .* has rank 4"),
        ("r", True, "r = True\naccepted: a positive number"),
        ("lora_alpha", "16", "lora_alpha = '16'"),
        ("lora_alpha", math.nan, "lora_alpha = nan"),
        ("rank_pattern", {"(a": 3}, NO_PATTERN),
        ("rank_pattern", ["q_proj"], NO_PATTERN),
    ],
)  # fmt: skip
def test_settings_that_are_not_plain_lora_are_refused_by_name(stored, field, value, said):
    folder, spec = stored
    config = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps(config | {field: value}))
    with pytest.raises(CheckpointError, match=said):
        load_lora(folder, spec)


def test_a_pattern_that_takes_its_time_is_refused(stored, monkeypatch):
    folder, spec = stored
    monkeypatch.setattr(lora_config, "PATTERN_SECONDS", 0.01)
    slow = {"rank_pattern": {r"(?:(\w)|(\w\w)|(\w\w\w)|(\.))*(?<![a-z_.0-9])": 3}}
    (folder / CONFIG).write_text(json.dumps(json.loads((folder / CONFIG).read_text()) | slow))
    with pytest.raises(CheckpointError, match=NO_PATTERN):
        load_lora(folder, spec)


QUERY = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda tensors: tensors.pop(QUERY), "q_proj has only one of lora_A and lora_B"),
        (lambda tensors: tensors.update({QUERY: torch.ones(4, 31)}), r"A \(4, 31\) and B \(32, 4\)"),
        (lambda tensors: tensors.update({QUERY: torch.ones(4)}), r"A \(4,\) and B"),
        (lambda tensors: tensors[QUERY].fill_(math.inf), "q_proj holds numbers that are not finite"),
        (lambda tensors: tensors.update({"base_model.model.lm_head.weight": torch.ones(2)}), "no part of a plain LoRA"),
        (lambda tensors: tensors.update({QUERY.replace("layers.0", "layers.9"): torch.ones(4, 32)}), "no such layer"),
        (lambda tensors: tensors.update({QUERY.replace("layers.0.self_attn.q_proj", "embed_tokens"): torch.ones(4, 32),
                                         QUERY.replace("layers.0.self_attn.q_proj", "embed_tokens").replace("_A", "_B"):
                                         torch.ones(64, 4)}), "for the linear layers of blocks"),
        (lambda tensors: tensors.clear(), "holds no adapter"),
    ],
)  # fmt: skip
def test_weights_that_do_not_fit_are_refused(stored, change, said):
    folder, spec = stored
    tensors = load_file(folder / WEIGHTS)
    change(tensors)
    save_file(tensors, folder / WEIGHTS)
    with pytest.raises(CheckpointError, match=said):
        load_lora(folder, spec)


def test_missing_and_damaged_files_are_named(stored, tmp_path):
    folder, spec = stored
    with pytest.raises(CheckpointError, match=CONFIG):
        load_lora(tmp_path / "nothing", spec)
    (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:-9])
    with pytest.raises(CheckpointError, match=rf"{WEIGHTS} is missing or damaged"):
        load_lora(folder, spec)
    (folder / WEIGHTS).unlink()
    with pytest.raises(CheckpointError, match=rf"{WEIGHTS} is missing or damaged"):
        load_lora(folder, spec)
