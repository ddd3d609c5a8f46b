"""Heads that are trained beside an adapter: in its file as peft has them, there and back."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from smelt.core.errors import CheckpointError
from smelt.models.build import build
from smelt.models.families import Shape, spec_for
from smelt.models.hub import load_model
from smelt.peft.beside import fill_beside, modules_beside, tensors_beside
from smelt.peft.files import CONFIG, WEIGHTS
from smelt.peft.lora_method import METHOD
from smelt.peft.lora_tuning import LoraSettings, attach

IDS = torch.randint(64, (3, 9), generator=torch.Generator().manual_seed(3))


def test_what_trains_of_the_model_itself_is_told_by_its_published_module():
    model = build(spec_for("llama", Shape(64, 16, 2, 2, 32)), seed=1)
    attach(model, LoraSettings(rank=2), 0)
    assert modules_beside(model) == []
    model.head.weight.requires_grad_(True)
    model.blocks[1].attention_norm.requires_grad_(True)
    assert set(modules_beside(model)) == {"lm_head", "model.layers.1.input_layernorm"}
    found = tensors_beside(model, ["lm_head"])
    assert list(found) == ["base_model.model.lm_head.weight"]
    assert torch.equal(found["base_model.model.lm_head.weight"], model.head.weight)


def test_what_is_filled_in_is_taken_from_the_tensors_and_must_fit():
    model = build(spec_for("llama", Shape(64, 16, 1, 2, 32)), seed=1)
    name, other = "base_model.model.lm_head.weight", {"x": torch.ones(1)}
    assert fill_beside(model, ["lm_head", "score"], {name: torch.ones(64, 16), **other}) == other
    assert bool((model.head.weight == 1).all())
    with pytest.raises(CheckpointError, match=r"lm_head.weight: \(63, 16\)\naccepted: \(64, 16\)"):
        fill_beside(model, ["lm_head"], {name: torch.ones(63, 16)})
    with pytest.raises(CheckpointError, match=r"lm_head.weight: no tensor"):
        fill_beside(model, ["lm_head"], other)


def test_a_classifiers_head_goes_to_peft_and_back(tmp_path):
    transformers = pytest.importorskip("transformers", reason="needs the extra interop")
    peft = pytest.importorskip("peft", reason="needs the extra interop")
    torch.manual_seed(1)
    sizes = dict(vocab_size=64, hidden_size=32, intermediate_size=48, num_attention_heads=4, num_hidden_layers=2,
                 max_position_embeddings=32, num_labels=3)  # fmt: skip
    network = transformers.BertForSequenceClassification(transformers.BertConfig(**sizes)).eval()
    network.save_pretrained(tmp_path / "base")
    whole = peft.get_peft_model(network, peft.LoraConfig(task_type="SEQ_CLS", target_modules=["query"], r=2)).eval()
    with torch.no_grad():
        for parameter in whole.parameters():
            if parameter.requires_grad:
                parameter.normal_(std=0.3)
    whole.save_pretrained(tmp_path / "theirs")
    fields = json.loads((tmp_path / "theirs" / CONFIG).read_text())
    tensors, model = load_file(tmp_path / "theirs" / WEIGHTS), load_model(tmp_path / "base").eval()
    assert fields["modules_to_save"] == ["classifier", "score"]
    settings = METHOD.read(fields | {"modules_to_save": None}, model.spec)
    attach(model, settings, 0)
    METHOD.fill(model, fill_beside(model, fields["modules_to_save"], tensors))
    model.tasks.requires_grad_(True)
    with torch.no_grad():
        torch.testing.assert_close(model(IDS).tasks["text"], whole(IDS).logits, atol=1e-5, rtol=1e-4)
        model.tasks["text"].labels.weight += 0.1
    (tmp_path / "ours").mkdir()
    save_file(METHOD.tensors(model) | tensors_beside(model, modules_beside(model)), tmp_path / "ours" / WEIGHTS)
    ours = METHOD.config(model, settings) | {"modules_to_save": modules_beside(model)}
    (tmp_path / "ours" / CONFIG).write_text(json.dumps(ours))
    network = transformers.BertForSequenceClassification.from_pretrained(tmp_path / "base")
    again = peft.PeftModel.from_pretrained(network, tmp_path / "ours").eval()
    with torch.no_grad():
        torch.testing.assert_close(model(IDS).tasks["text"], again(IDS).logits, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_embeddings_that_are_the_head_go_to_peft_and_back(tmp_path, family):
    transformers = pytest.importorskip("transformers", reason="needs the extra interop")
    peft = pytest.importorskip("peft", reason="needs the extra interop")
    torch.manual_seed(1)
    sizes = {
        "llama": dict(hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4),
        "gpt2": dict(n_embd=32, n_layer=2, n_head=4),
    }[family]
    config = transformers.AutoConfig.for_model(family, vocab_size=64, tie_word_embeddings=True, **sizes)
    network = transformers.AutoModelForCausalLM.from_config(config).eval()
    network.save_pretrained(tmp_path / "base")
    model = load_model(tmp_path / "base").eval()
    settings = LoraSettings(rank=2, targets=("attention.output",))
    attach(model, settings, 0)
    model.token_embedding.requires_grad_(True)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter += 0.3 * torch.randn_like(parameter)
    modules = modules_beside(model)
    assert len(modules) == 2 and modules[1] == "lm_head"
    tensors = METHOD.tensors(model) | tensors_beside(model, modules)
    save_file(tensors, tmp_path / WEIGHTS)
    (tmp_path / CONFIG).write_text(json.dumps(METHOD.config(model, settings) | {"modules_to_save": modules}))
    theirs = peft.PeftModel.from_pretrained(network, tmp_path).eval()
    with torch.no_grad():
        torch.testing.assert_close(model(IDS).logits, theirs(IDS).logits, atol=1e-5, rtol=1e-4)
    again = load_model(tmp_path / "base")
    assert fill_beside(again, modules, tensors).keys() == METHOD.tensors(model).keys()
    assert torch.equal(again.token_embedding.weight, model.token_embedding.weight)
    odd = {**tensors, "base_model.model.lm_head.weight": torch.zeros(64, 32)}
    for names, given in ((modules[:1], tensors), (modules[1:], tensors), (modules, odd)):
        with pytest.raises(CheckpointError, match=r"lm_head.weight are tied in the base, and were not trained as one"):
            fill_beside(again, names, given)
