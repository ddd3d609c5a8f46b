"""What trains beside a method, from recipe to adapter and back: own parts, new heads, and what is published whole."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from smelt.core.errors import CheckpointError, ConfigError
from smelt.core.storage import sha256_file
from smelt.models.build import build
from smelt.models.families import Shape, spec_for
from smelt.models.hub import save
from smelt.models.readings import classify as label
from smelt.peft.files import CONFIG, WEIGHTS
from smelt.peft.load import load, load_unmerged
from smelt.tokenizers.formats import load_tokenizer
from smelt.train import hooks
from smelt.train.stages import common
from smelt.train.stages.classify import ClassifyRecipe, classify
from smelt.train.stages.sft import SftRecipe, sft

IDS = torch.arange(24).view(2, 12)


@pytest.fixture(autouse=True)
def unmeasured(monkeypatch):
    """Do not time steps: the length of these runs is given."""
    monkeypatch.setattr(common, "measure_step", lambda *arguments: 1.0)


@pytest.fixture(scope="module")
def bases(files, tmp_path_factory):
    """Return checkpoints of both kinds: a head of its own, and one that is the embedding."""
    tokenizer, found = load_tokenizer(files / "tokenizer"), {}
    for family, tied in (("llama", False), ("gpt2", True)):
        model = build(spec_for(family, Shape(tokenizer.vocab_size, 16, 2, 2, 48, tied=tied)), seed=1)
        found[family] = tmp_path_factory.mktemp("bases") / family
        save(model, tokenizer, found[family], lineage={"stage": "pretrain", "step": 1})
    return found


def chats(files, base, out, **changes):
    values = dict(
        name="chat", out=str(out), checkpoint=str(base), data=str(files / "chats.jsonl"), max_seq_len=32, batch_rows=4,
        steps=4, save_every=2, validate_every=0, compile="no", dtype="float32", optimizer={"learning_rate": 0.02},
    )  # fmt: skip
    return SftRecipe.model_validate({**values, **changes})


BESIDE = {"method": "lora", "train": ["token_embedding", "*norm"], "lora": {"rank": 2}}


def test_own_parts_are_published_with_the_adapter(bases, files, tmp_path):
    result = sft(chats(files, bases["gpt2"], tmp_path, tune=BESIDE))
    directory = Path(result.checkpoint)
    fields = json.loads((directory / CONFIG).read_text())
    # peft's copies of modules are not tied, so the head is there, too
    assert {"transformer.wte", "transformer.ln_f", "lm_head"} < set(fields["modules_to_save"])
    assert not (directory / "config.json").exists()
    (unmerged, *_), (plain, _), (base, _) = load_unmerged(directory), load(directory), load(bases["gpt2"])
    with torch.inference_mode():
        logits = [model.eval()(IDS).logits for model in (unmerged, plain)]
    torch.testing.assert_close(*logits, atol=1e-5, rtol=1e-5)
    before, after = dict(base.named_parameters()), dict(plain.named_parameters())
    assert before.keys() == after.keys()
    assert not torch.equal(before["token_embedding.weight"], after["token_embedding.weight"])
    assert not torch.equal(before["norm.weight"], after["norm.weight"])
    num = sum(tensor.numel() for name, tensor in load_file(directory / WEIGHTS).items() if "lm_head" not in name)
    whole = sum(parameter.numel() for parameter in base.parameters())
    moved = sum(p.numel() for n, p in base.named_parameters() if "norm" in n or n == "token_embedding.weight")
    assert f"| {whole + num - moved:,}, of which {num:,} train" in (Path(result.run) / "report.md").read_text()


def test_a_killed_run_goes_on_bit_for_bit(bases, files, tmp_path, monkeypatch):
    class Killed(BaseException):
        pass

    def killed(self, state, result):
        original(self, state, result)
        if state.step == 3:
            raise Killed

    tune = {**BESIDE, "base_bits": 4}
    whole = sft(chats(files, bases["gpt2"], tmp_path / "whole", tune=tune))
    original = hooks.LogMetrics.__call__
    with monkeypatch.context() as patched:
        patched.setattr(hooks.LogMetrics, "__call__", killed)
        with pytest.raises(Killed):
            sft(chats(files, bases["gpt2"], tmp_path / "cut", tune=tune))
    result = sft(chats(files, bases["gpt2"], tmp_path / "cut", tune=tune), resume=True)
    assert sha256_file(Path(result.checkpoint) / WEIGHTS) == sha256_file(Path(whole.checkpoint) / WEIGHTS)


def test_an_adapter_can_be_published_whole(bases, files, tmp_path):
    result = sft(chats(files, bases["llama"], tmp_path, tune={"method": "lora", "whole": True}, steps=1))
    directory = Path(result.checkpoint)
    assert (directory / "model.safetensors").is_file() and not (directory / CONFIG).exists()
    added = load_file(directory / "train" / "state.safetensors")
    (before, _), (after, _) = load(bases["llama"]), load(directory)
    name = "blocks.0.attention.query"
    low_ranks = added[f"model.{name}.up"] @ added[f"model.{name}.down"] * 2  # alpha 16, rank 8
    change = after.get_submodule(name).weight - before.get_submodule(name).weight
    torch.testing.assert_close(change, low_ranks, atol=1e-6, rtol=1e-4)
    assert change.abs().max() > 1e-4
    with pytest.raises(ConfigError, match=r"tune\.whole=true: what prefix adds cannot become weights\naccepted: lora"):
        sft(chats(files, bases["llama"], tmp_path, name="no", tune={"method": "prefix", "whole": True}))


@pytest.fixture
def labelled(tmp_path):
    path = tmp_path / "rows.tsv"
    lines = [
        f"{'good' if number % 2 else 'bad'}\tit is {'fine' if number % 2 else 'cold'} {number}" for number in range(40)
    ]
    path.write_text("\n".join(["label\ttext", *lines]) + "\n")
    return path


@pytest.mark.parametrize(
    "family, tune",
    [
        ("gpt2", {"method": "lora", "lora": {"rank": 2}, "whole": False, "train": ["token_embedding"]}),
        ("llama", {"method": "prefix", "prefix": {"num_virtual_tokens": 3}}),
    ],
    ids=["lora and embeddings", "prefix"],
)  # fmt: skip
def test_a_new_head_stands_beside_the_adapter(bases, labelled, tmp_path, family, tune):
    result = classify(
        ClassifyRecipe.model_validate(
            dict(
                name="r", out=str(tmp_path / "runs"), data=str(labelled), checkpoint=str(bases[family]), max_seq_len=24,
                batch_rows=8, steps=2, validate_every=0, dtype="float32", tune=tune, optimizer={"learning_rate": 0.02},
            )
        )
    )  # fmt: skip
    directory = Path(result.checkpoint)
    assert not (directory / "model.safetensors").exists()
    assert "score" in json.loads((directory / CONFIG).read_text())["modules_to_save"]
    assert "base_model.model.score.weight" in load_file(directory / WEIGHTS)
    (model, tokenizer), (base, _) = load(result.run), load(bases[family])
    assert [task.label_names for task in model.spec.tasks] == [("bad", "good")] and not model.spec.language_head
    state = load_file(directory / "train" / "state.safetensors")
    for name, parameter in model.named_parameters():
        if f"model.{name}" in state:
            assert torch.equal(parameter, state[f"model.{name}"])
        elif tune["method"] == "prefix" and name in dict(base.named_parameters()):
            assert torch.equal(parameter, dict(base.named_parameters())[name])
    [choices] = label(model, tokenizer, ["it is fine 3"])
    assert {choice.text for choice in choices} == {"bad", "good"}


def test_a_head_that_the_file_lacks_is_told(bases, labelled, tmp_path):
    values = dict(
        name="r", out=str(tmp_path / "runs"), data=str(labelled), checkpoint=str(bases["llama"]), max_seq_len=24
    )
    tune = {"method": "lora", "lora": {"rank": 2}, "whole": False}
    result = classify(ClassifyRecipe.model_validate({**values, "steps": 1, "dtype": "float32", "tune": tune}))
    shutil.copytree(result.checkpoint, tmp_path / "damaged")
    (tmp_path / "damaged" / "manifest.json").unlink()
    fields = json.loads((tmp_path / "damaged" / CONFIG).read_text())
    for modules, said in (
        ([], "tasks.text.labels.weight is not in the base and not among modules_to_save"),
        (3, "= 3"),
    ):
        (tmp_path / "damaged" / CONFIG).write_text(json.dumps({**fields, "modules_to_save": modules}))
        with pytest.raises(CheckpointError, match=said):
            load(tmp_path / "damaged")


@pytest.mark.parametrize("method", ["prompt", "p-tuning", "prefix"])
def test_rows_that_leave_no_room_for_virtual_tokens_are_told_at_once(bases, files, tmp_path, method):
    tune = {"method": method, method.replace("-", "_"): {"num_virtual_tokens": 10}}
    with pytest.raises(ConfigError) as caught:
        sft(chats(files, bases["gpt2"], tmp_path, tune=tune, max_seq_len=39))
    told = f"max_seq_len=39 behind 10 virtual tokens is longer than the context of {bases['gpt2']}, 48"
    assert str(caught.value) == f"{told}\ntry: max_seq_len=38"
    if method == "prefix":
        sft(chats(files, bases["gpt2"], tmp_path, tune=tune, max_seq_len=38, steps=1))
