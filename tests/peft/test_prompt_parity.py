"""Prompt, prefix and P-tuning and Llama-Adapter against the peft library: logits, gradients, files both ways."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional

from smelt.models.hub import load_model
from smelt.peft.files import CONFIG, WEIGHTS
from smelt.peft.methods import METHODS

transformers = pytest.importorskip("transformers", reason="needs the extra interop")
peft = pytest.importorskip("peft", reason="needs the extra interop")
pytestmark = pytest.mark.interop

NUMBER = 3
LLAMA = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4}
SIZES = {"vocab_size": 64, "max_position_embeddings": 32, "pad_token_id": 0}
BASES = {
    "llama": lambda: transformers.LlamaConfig(**SIZES, **LLAMA, num_key_value_heads=2),
    "gpt2": lambda: transformers.GPT2Config(vocab_size=64, n_positions=32, n_embd=32, n_layer=3, n_head=4),
    "window": lambda: transformers.MistralConfig(**SIZES, **LLAMA, num_key_value_heads=2, sliding_window=5),
    "gemma": lambda: transformers.GemmaConfig(**SIZES, **LLAMA, num_key_value_heads=1, head_dim=8),
}
THEIRS = {
    "prompt": lambda: peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=NUMBER),
    "mlp": lambda: peft.PromptEncoderConfig(task_type="CAUSAL_LM", num_virtual_tokens=NUMBER, encoder_hidden_size=20),
    "lstm": lambda: peft.PromptEncoderConfig(
        task_type="CAUSAL_LM",
        num_virtual_tokens=NUMBER,
        encoder_hidden_size=20,
        encoder_reparameterization_type="LSTM",
    ),
    "prefix": lambda: peft.PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=NUMBER),
    "projection": lambda: peft.PrefixTuningConfig(
        task_type="CAUSAL_LM", num_virtual_tokens=NUMBER, encoder_hidden_size=20, prefix_projection=True
    ),
    "gated": lambda: peft.AdaptionPromptConfig(task_type="CAUSAL_LM", adapter_len=NUMBER, adapter_layers=2),
}
OURS = {
    "prompt": ("prompt", {}),
    "mlp": ("p-tuning", {"encoder": "mlp", "hidden_dim": 20}),
    "lstm": ("p-tuning", {"hidden_dim": 20}),
    "prefix": ("prefix", {}),
    "projection": ("prefix", {"projection": True, "hidden_dim": 20}),
    "gated": ("llama-adapter", {"num_layers": 2}),
}
EVERY = [(kind, way) for kind in BASES for way in OURS if way != "gated" or kind == "llama"]
RENAMED = (
    ("embedding.weight", "rows"),
    ("lstm_head", "encoder.both"),
    ("mlp_head", "encoder"),
    ("transform", "encoder"),
)


def published(kind, folder):
    torch.manual_seed(1)
    base = transformers.AutoModelForCausalLM.from_config(BASES[kind]()).eval()
    base.save_pretrained(folder / "base")
    return base


def theirs_on(base, way):
    torch.manual_seed(2)
    whole = peft.get_peft_model(base, THEIRS[way]()).eval()
    with torch.no_grad():
        for name, parameter in whole.named_parameters():
            if name.endswith("adaption_gate"):
                parameter.fill_(0.7)
    return whole


def ours_on(folder, way):
    model = load_model(folder / "base").eval()
    name, settings = OURS[way]
    method = METHODS[name]
    told = method.settings(num_virtual_tokens=NUMBER, **settings)
    method.attach(model, told, 5)
    return model, method, told


def same_parameters(way):
    """Return how a trained parameter of theirs is called here."""

    def ours(name):
        if way == "gated":
            layer = name.split("layers.")[1].split(".")[0]
            return f"blocks.{layer}.attention.addition.{name.rsplit('_', 1)[1]}"
        own = name.removeprefix("prompt_encoder.default.")
        for old, new in RENAMED:
            own = own.replace(old, new)
        return "prefix." + (own.replace("encoder.", "encoder.mix.") if way == "lstm" and "both" not in own else own)

    return ours


def trained(model):
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def some_ids(rows=2, length=12):
    return torch.randint(1, 64, (rows, length), generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize(("kind", "way"), EVERY)
def test_a_step_on_the_same_numbers_has_their_loss_and_gradients(kind, way, tmp_path):
    whole = theirs_on(published(kind, tmp_path), way)
    model, _, _ = ours_on(tmp_path, way)
    name_of = same_parameters(way)
    own, other = trained(model), {name_of(name): parameter for name, parameter in trained(whole).items()}
    assert own.keys() == other.keys()
    with torch.no_grad():
        for name, parameter in own.items():
            parameter.copy_(other[name].view(parameter.shape))
    ids = some_ids()
    labels = ids.clone()
    labels[:, 0] = -100  # they let the last virtual token predict the first one; in a tuned row that is a prompt's
    expected = whole(input_ids=ids, attention_mask=torch.ones_like(ids), labels=labels)
    logits = model(ids).logits
    loss = functional.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())
    torch.testing.assert_close(logits, expected.logits[:, -ids.shape[1] :], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(loss, expected.loss, atol=1e-6, rtol=1e-6)
    expected.loss.backward()
    loss.backward()
    for name, parameter in own.items():
        torch.testing.assert_close(parameter.grad, other[name].grad.view(parameter.shape), atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize(("kind", "way"), EVERY)
def test_their_file_gives_their_logits_here(kind, way, tmp_path):
    whole = theirs_on(published(kind, tmp_path), way)
    whole.save_pretrained(tmp_path / "adapter")
    model = load_model(tmp_path / "base").eval()
    config = json.loads((tmp_path / "adapter" / CONFIG).read_text())
    method = METHODS[OURS[way][0]]
    assert config["peft_type"] == method.peft_type
    method.attach(model, method.read(config, model.spec), 0)
    method.fill(model, load_file(tmp_path / "adapter" / WEIGHTS))
    ids = some_ids()
    with torch.no_grad():
        expected = whole(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[:, -ids.shape[1] :]
        torch.testing.assert_close(model(ids).logits, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("kind", "way"), EVERY)
def test_our_file_has_their_tensors_and_fields_and_gives_our_logits_there(kind, way, tmp_path):
    base = published(kind, tmp_path)
    model, method, told = ours_on(tmp_path, way)
    with torch.no_grad():
        for name, parameter in trained(model).items():
            parameter.add_(torch.randn_like(parameter) * 0.3 + ("gate" in name))
    folder = tmp_path / "adapter"
    folder.mkdir()
    (folder / CONFIG).write_text(json.dumps(method.config(model, told)))
    save_file(method.tensors(model), folder / WEIGHTS)
    whole = theirs_on(base, way)  # what they write has the same tensors and the same fields
    whole.save_pretrained(tmp_path / "theirs")
    wanted = {name: part.shape for name, part in load_file(tmp_path / "theirs" / WEIGHTS).items()}
    assert {name: part.shape for name, part in method.tensors(model).items()} == wanted
    fields = json.loads((tmp_path / "theirs" / CONFIG).read_text())
    written = method.config(model, told)
    assert {name: fields[name] for name in written if name != "prompt_tuning_init"} == {
        name: value for name, value in written.items() if name != "prompt_tuning_init"
    }
    fresh = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    loaded = peft.PeftModel.from_pretrained(fresh, folder).eval()
    ids = some_ids()
    with torch.no_grad():
        found = loaded(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[:, -ids.shape[1] :]
        torch.testing.assert_close(found, model(ids).logits, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("kind", "way"), EVERY)
def test_padding_behind_a_text_counts_as_it_does_there(kind, way, tmp_path):
    whole = theirs_on(published(kind, tmp_path), way)
    whole.save_pretrained(tmp_path / "adapter")
    model = load_model(tmp_path / "base").eval()
    method = METHODS[OURS[way][0]]
    method.attach(model, method.read(json.loads((tmp_path / "adapter" / CONFIG).read_text()), model.spec), 0)
    method.fill(model, load_file(tmp_path / "adapter" / WEIGHTS))
    ids, real = some_ids(), torch.ones(2, 12, dtype=torch.long)
    real[0, 8:] = 0
    with torch.no_grad():
        expected = whole(input_ids=ids, attention_mask=real).logits[:, -12:]
        found = model(ids, segments=real).logits
    torch.testing.assert_close(found[0, :8], expected[0, :8], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(found[1], expected[1], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("way", ["prompt", "lstm", "projection"])
def test_greedy_answers_are_theirs(way, tmp_path):
    from smelt.infer.rows import CachedRows

    whole = theirs_on(published("llama", tmp_path), way)
    whole.save_pretrained(tmp_path / "adapter")
    model = load_model(tmp_path / "base").eval()
    method = METHODS[OURS[way][0]]
    method.attach(model, method.read(json.loads((tmp_path / "adapter" / CONFIG).read_text()), model.spec), 0)
    method.fill(model, load_file(tmp_path / "adapter" / WEIGHTS))
    ids = some_ids(rows=1, length=5)
    loaded = peft.PeftModel.from_pretrained(
        transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "base"), tmp_path / "adapter"
    ).eval()
    expected = loaded.generate(
        input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=6, do_sample=False, eos_token_id=None
    )[0, -6:].tolist()
    with torch.inference_mode():
        rows, said = CachedRows(model, ids.tolist(), 6), []
        for _ in range(6):
            said.append(int(rows.logits.argmax()))
            rows.step(torch.tensor(said[-1:]))
    assert said == expected
