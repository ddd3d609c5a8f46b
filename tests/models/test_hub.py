"""Checkpoint directories: what is written, what is read back, and everything that must be refused."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import smelt
from smelt.core.errors import CheckpointError
from smelt.core.storage import seal
from smelt.models import hub
from smelt.models.hub import load_model, load_spec, load_weights_into, save_model
from smelt.nn.spec import TokenIds
from smelt.tokenizers.bpe_train import train_bpe


def edit_config(directory, **changes) -> None:
    path = directory / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def refused(directory) -> str:
    with pytest.raises(CheckpointError) as caught:
        load_model(directory)
    assert len(str(caught.value).split("\n")) <= 3
    return str(caught.value).replace(f"{directory}", "DIR")


def test_saved_model_loads_equal_and_saves_identically(model, tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir(), two.mkdir()
    save_model(model, one, token_ids=TokenIds(None, (3, 4), 5))
    loaded = load_model(one)
    assert loaded.spec == replace(model.spec, token_ids=TokenIds(None, (3, 4), 5)) == load_spec(one)
    theirs = dict(loaded.named_parameters())
    assert all(torch.equal(theirs[name], parameter) for name, parameter in model.named_parameters())
    assert all(parameter.requires_grad and not parameter.is_meta for parameter in theirs.values())
    save_model(loaded, two)
    for name in ("config.json", "generation_config.json", "model.safetensors"):
        assert (one / name).read_bytes() == (two / name).read_bytes(), name


def test_files_say_what_other_readers_look_for(tiny, tmp_path):
    save_model(tiny("llama", tied=True), tmp_path, token_ids=TokenIds(1, (2, 0), 0))
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["architectures"] == ["LlamaForCausalLM"]
    assert (config["model_type"], config["dtype"], config["torch_dtype"]) == ("llama", "float32", "float32")
    assert (config["bos_token_id"], config["eos_token_id"], config["pad_token_id"]) == (1, [2, 0], 0)
    assert "auto_map" not in config
    assert json.loads((tmp_path / "generation_config.json").read_text())["eos_token_id"] == [2, 0]
    with safe_open(tmp_path / "model.safetensors", framework="pt") as file:
        assert file.metadata() == {"format": "pt"}
        assert "lm_head.weight" not in list(file.keys())


def test_type_is_written_and_cast_on_load(tiny, tmp_path):
    save_model(tiny().to(torch.bfloat16), tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["dtype"] == "bfloat16"
    assert load_model(tmp_path).head_weight.dtype == torch.float32
    assert load_model(tmp_path, dtype=torch.bfloat16).head_weight.dtype == torch.bfloat16


def shard(directory) -> None:
    tensors = load_file(directory / "model.safetensors")
    names, halves = sorted(tensors), {}
    for name in names:
        halves[name] = "model-00001-of-00002.safetensors" if name < names[5] else "model-00002-of-00002.safetensors"
    for file in set(halves.values()):
        save_file({name: tensors[name] for name in names if halves[name] == file}, directory / file)
    index = {"metadata": {"total_size": 1}, "weight_map": halves}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index))
    (directory / "model.safetensors").unlink()


def test_sharded_weights_load_equal(model, tmp_path):
    save_model(model, tmp_path)
    shard(tmp_path)
    theirs = dict(load_model(tmp_path).named_parameters())
    assert all(torch.equal(theirs[name], parameter) for name, parameter in model.named_parameters())


def test_missing_shard_and_misplaced_tensor_are_named(tiny, tmp_path):
    save_model(tiny(), tmp_path)
    shard(tmp_path)
    second = tmp_path / "model-00002-of-00002.safetensors"
    kept = load_file(second)
    save_file(dict(list(kept.items())[1:]), second)
    assert f"DIR/{second.name} lacks {next(iter(kept))!r}" in refused(tmp_path)
    second.unlink()
    assert refused(tmp_path).startswith(f"DIR: the shard {second.name} is missing")


@pytest.mark.parametrize("name", ["../secret.safetensors", "/etc/passwd", "weights.bin"])
def test_index_may_not_lead_elsewhere(tiny, tmp_path, name):
    save_model(tiny(), tmp_path)
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"x": name}}))
    assert f"names the shard {name!r}\naccepted: a .safetensors file beside the index" in refused(tmp_path)


def test_pickled_weights_are_refused_with_a_hint(tiny, tmp_path):
    save_model(tiny(), tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / "pytorch_model.bin")
    message = refused(tmp_path)
    assert message.startswith("DIR holds pickled weights (pytorch_model.bin), which can run code when they are read")
    assert "save_pretrained" in message


def test_code_in_a_checkpoint_is_refused(tiny, tmp_path):
    save_model(tiny(), tmp_path)
    edit_config(tmp_path, auto_map={"AutoModel": "evil.Model"})
    (tmp_path / "evil.py").write_text("raise SystemExit")
    assert refused(tmp_path).startswith("DIR/config.json: auto_map asks to run code from the checkpoint")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "gpt2x"}, "config.json: model_type 'gpt2x' is not supported. Did you mean 'gpt2'?"),
        ({"quantization_config": {"quant_method": "gptq"}}, "quantization_config is not supported"),
        ({"vocab_size": 62}, "model.embed_tokens.weight has shape (61, 24), config.json asks for (62, 24)"),
        ({"vocab_size": 10**12}, "has shape (61, 24), config.json asks for (1000000000000, 24)"),
        ({"num_hidden_layers": 4}, "9 missing: model.layers.3.input_layernorm.weight, model.layers.3.mlp.down_proj."),
        ({"num_hidden_layers": 2}, "9 unexpected: model.layers.2.input_layernorm.weight"),
        ({"attention_bias": True}, "12 missing: model.layers.0.self_attn.k_proj.bias"),
    ],
)
def test_configuration_that_does_not_fit_is_refused(tiny, tmp_path, changes, message):
    save_model(tiny(), tmp_path)
    edit_config(tmp_path, **changes)
    assert message in refused(tmp_path)


def test_damaged_or_absent_files_are_named(tiny, tmp_path):
    save_model(tiny(), tmp_path)
    whole = (tmp_path / "model.safetensors").read_bytes()
    for damage in (whole[:100], whole[:-1], b"", b"\xff" * 8 + whole[8:]):
        (tmp_path / "model.safetensors").write_bytes(damage)
        assert refused(tmp_path).startswith("DIR/model.safetensors is not a readable safetensors file")
    (tmp_path / "model.safetensors").unlink()
    assert refused(tmp_path).startswith("DIR has no model.safetensors\naccepted: model.safetensors, or shards with")
    (tmp_path / "config.json").write_text("{")
    assert refused(tmp_path).startswith("DIR/config.json is not readable JSON")
    (tmp_path / "config.json").write_text("[]")
    assert refused(tmp_path).startswith("DIR/config.json holds a list\naccepted: a JSON object")
    (tmp_path / "config.json").write_text("{}")
    assert refused(tmp_path).startswith("DIR/config.json has no model_type")
    (tmp_path / "config.json").unlink()
    assert refused(tmp_path).startswith("DIR has no config.json")


@pytest.mark.parametrize(("family", "base"), [("llama", "model."), ("gpt2", "transformer.")])
def test_base_model_names_without_prefix_and_old_buffers_load(tiny, tmp_path, family, base):
    model = tiny(family, tied=True)
    save_model(model, tmp_path)
    tensors = {name.removeprefix(base): tensor for name, tensor in load_file(tmp_path / "model.safetensors").items()}
    buffer = "h.0.attn.bias" if family == "gpt2" else "layers.0.self_attn.rotary_emb.inv_freq"
    save_file({**tensors, buffer: torch.ones(3)}, tmp_path / "model.safetensors")
    assert torch.equal(load_model(tmp_path).head_weight, model.head_weight)


def test_layout_that_cannot_hold_a_model_says_which_part(tiny, tmp_path):
    model = tiny("llama")
    mixed = replace(model.spec.layers[1], feed_forward=replace(model.spec.layers[1].feed_forward, hidden_dim=99))
    model.spec = replace(model.spec, layers=(model.spec.layers[0], mixed, model.spec.layers[2]))
    with pytest.raises(
        CheckpointError,
        match=r"llama layout cannot hold .* layers\[1\].feed_forward.hidden_dim is 99, not 36",
    ):
        save_model(model, tmp_path)
    model.spec = replace(model.spec, layers=model.spec.layers[:1], positions="learned")
    with pytest.raises(CheckpointError, match="cannot hold this model: positions is 'learned', not 'none'"):
        save_model(model, tmp_path)
    assert not list(tmp_path.iterdir())


def test_weights_load_into_an_existing_model_of_the_same_network_only(tiny, tmp_path):
    model = tiny("llama")
    save_model(model, tmp_path, token_ids=TokenIds(end=(1,)))
    target = tiny("llama")
    with torch.no_grad():
        target.head_weight.zero_()
    tensor = target.head_weight
    load_weights_into(target, tmp_path)
    assert target.head_weight is tensor
    assert torch.equal(tensor, model.head_weight)
    with pytest.raises(CheckpointError, match="holds another network: dim is 48, not 24"):
        load_weights_into(tiny("llama", dim=48), tmp_path)
    with pytest.raises(CheckpointError, match="holds another network: layers is 2, not 3"):
        load_weights_into(tiny("llama", num_layers=2), tmp_path)


def test_artefact_round_trip_with_lineage(tiny, byte_tokenizer, tmp_path):
    turn_end = byte_tokenizer.special["<|im_end|>"]
    model = tiny("llama", vocab_size=300)
    model.spec = replace(model.spec, token_ids=TokenIds(end=(turn_end,)))  # one that was taught to chat
    smelt.save(model, byte_tokenizer, tmp_path / "out", lineage={"parents": ["base"]})
    loaded, tokenizer = smelt.load(tmp_path / "out")
    assert tokenizer.fingerprint == byte_tokenizer.fingerprint == smelt.load_tokenizer(tmp_path / "out").fingerprint
    assert torch.equal(loaded.head_weight, model.head_weight)
    special = byte_tokenizer.special
    end_of_text = special["<|endoftext|>"]
    assert loaded.spec.token_ids == TokenIds(end_of_text, (turn_end, end_of_text), end_of_text)
    lineage = json.loads((tmp_path / "out" / "smelt.json").read_text())
    assert lineage == {"parents": ["base"], "tokenizer_sha256": tokenizer.fingerprint}
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"chat_template.jinja", "tokenizer_config.json", "manifest.json"} <= names


def test_a_base_model_is_saved_without_a_chat_template_and_again_as_it_was(tiny, byte_tokenizer, tmp_path):
    smelt.save(tiny("llama", vocab_size=300), byte_tokenizer, tmp_path / "one")
    assert not (tmp_path / "one" / "chat_template.jinja").exists()
    smelt.save(*smelt.load(tmp_path / "one"), tmp_path / "two")
    for name in ("config.json", "generation_config.json", "tokenizer_config.json", "model.safetensors"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_saving_never_replaces_foreign_files(tiny, byte_tokenizer, tmp_path):
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.txt").write_text("years of work")
    with pytest.raises(
        CheckpointError, match=r"holds files that are not a smelt checkpoint.*\n.*\ntry: save to another"
    ):
        smelt.save(tiny("llama", vocab_size=300), byte_tokenizer, tmp_path / "home")
    assert (tmp_path / "home" / "thesis.txt").read_text() == "years of work"


def test_our_artefact_without_its_manifest_is_refused(tiny, byte_tokenizer, tmp_path):
    smelt.save(tiny("llama", vocab_size=300), byte_tokenizer, tmp_path / "out")
    (tmp_path / "out" / "manifest.json").unlink()
    with pytest.raises(CheckpointError, match="no manifest\\.json, so it is incomplete"):
        smelt.load(tmp_path / "out")


def test_altered_artefact_is_refused_before_loading(tiny, byte_tokenizer, tmp_path):
    smelt.save(tiny("llama", vocab_size=300), byte_tokenizer, tmp_path / "out")
    path = tmp_path / "out" / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match=r"the content of 'model.safetensors' does not match its SHA-256"):
        smelt.load(tmp_path / "out")


def test_foreign_tokenizer_is_refused(tiny, byte_tokenizer, tmp_path):
    smelt.save(tiny("llama", vocab_size=300), byte_tokenizer, tmp_path / "out")
    other = train_bpe(["abcabcabc"], vocab_size=260)
    hub.save_tokenizer(other, tmp_path / "out", template=None, max_seq_len=40)
    seal(tmp_path / "out")  # every file is whole, they only do not belong together
    with pytest.raises(CheckpointError, match=r"tokenizer.json has SHA-256"):
        smelt.load(tmp_path / "out")


def test_vocabulary_larger_than_the_models_is_refused(tiny, byte_tokenizer, tmp_path):
    with pytest.raises(CheckpointError) as caught:
        smelt.save(tiny("llama"), byte_tokenizer, tmp_path / "out")
    assert "the tokenizer has 259 tokens, the model only 61\naccepted: a tokenizer whose ids" in str(caught.value)
    assert not (tmp_path / "out").exists()
    smelt.save(tiny("llama", vocab_size=259), byte_tokenizer, tmp_path / "out")
    for name in ("manifest.json", "smelt.json"):
        (tmp_path / "out" / name).unlink()
    save_model(tiny("llama"), tmp_path / "out")
    with pytest.raises(CheckpointError, match="the tokenizer has 259 tokens, the model only 61"):
        smelt.load(tmp_path / "out")


def test_tokenizers_of_another_kind_cannot_be_saved(tiny, byte_tokenizer, tmp_path):
    class Other:
        vocab_size, special = 10, {}

    with pytest.raises(CheckpointError, match="cannot save a tokenizer of type Other\naccepted: a Pipeline"):
        smelt.save(tiny("llama"), Other(), tmp_path / "out")


def test_no_such_directory(tmp_path):
    with pytest.raises(CheckpointError, match="no such directory\naccepted: a checkpoint directory"):
        smelt.load(tmp_path / "absent")


def test_a_field_that_nobody_reads_is_refused_unless_it_is_off_or_without_effect(tiny, tmp_path):
    save_model(tiny("llama"), tmp_path)
    path = tmp_path / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps({**config, "attention_dropout": 0.1, "use_hyper_norm": False, "extra": None}))
    load_model(tmp_path)
    path.write_text(json.dumps({**config, "use_hyper_norm": True}))
    with pytest.raises(CheckpointError) as caught:
        load_model(tmp_path)
    assert str(caught.value) == (
        "config.json: use_hyper_norm = True is not known to the llama layout\naccepted: fields that the layout has\n"
        "try: remove it if it does not change the network"
    )


def test_a_published_id_loads_through_the_front_door(tiny, byte_tokenizer, tmp_path, monkeypatch):
    from smelt.core import download

    smelt.save(tiny("llama", vocab_size=300), byte_tokenizer, tmp_path / "published")
    (tmp_path / "published" / "manifest.json").unlink()
    (tmp_path / "published" / "smelt.json").unlink()  # as others publish

    class Hub:
        snapshot_download = staticmethod(lambda name, **settings: str(tmp_path / "published"))

    monkeypatch.setattr(download, "available", lambda name: True)
    monkeypatch.setattr(download, "need", lambda name, extra: Hub)
    model, tokenizer = smelt.load("org/name", dtype="auto")
    assert model.spec.vocab_size == 300 and tokenizer.fingerprint == byte_tokenizer.fingerprint


def test_verification_can_be_left_out(tiny, byte_tokenizer, tmp_path):
    smelt.save(tiny("llama", vocab_size=300), byte_tokenizer, tmp_path / "out")
    (tmp_path / "out" / "notes.txt").write_text("mine")
    with pytest.raises(CheckpointError, match=r"'notes.txt' is not in the manifest"):
        smelt.load(tmp_path / "out")
    smelt.load(tmp_path / "out", verify=False)
