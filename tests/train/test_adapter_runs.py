"""Runs that tune by a method, from recipe to adapter: what is kept, how it is opened, and going on after a kill."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from smelt.core.errors import CheckpointError, ConfigError
from smelt.core.storage import sha256_file
from smelt.peft.adalora_budget import mean_rank, prune
from smelt.peft.files import CONFIG, WEIGHTS
from smelt.peft.load import load, load_unmerged, read_tensors
from smelt.peft.methods import METHODS
from smelt.quant.linear import NF4Linear
from smelt.train import hooks
from smelt.train.stages.common import StageResult
from smelt.train.stages.pretrain import ModelRecipe, PretrainRecipe, pretrain
from smelt.train.stages.sft import SftRecipe, sft

BaseFor = Callable[[str], StageResult]
SETTINGS: dict[str, dict[str, object]] = {
    "lora": {"rank": 2, "dropout": 0.1, "dora": True},
    "adalora": {
        "initial_rank": 3, "target_rank": 2, "dropout": 0.1, "choose_every": 1,
        "warmup_fraction": 1 / 6, "final_fraction": 2 / 6,
    },
    "ia3": {"targets": ("attention.query", "attention.key", "attention.value")},
    "bottleneck": {"size": 3},
    "prompt": {"num_virtual_tokens": 3},
    "p-tuning": {"num_virtual_tokens": 3, "hidden_dim": 8, "dropout": 0.1},
    "prefix": {"num_virtual_tokens": 3, "projection": True, "hidden_dim": 8, "initial": "random"},
    "llama-adapter": {"num_virtual_tokens": 3, "num_layers": 2},
}  # fmt: skip
"""Of each method, settings that its run goes through all of its parts with."""


FAMILIES = {"llama-adapter": "llama"}
"""Bases of other families than GPT-2, whose layers are fused in files."""


def a_base(files: Path, out: Path, family: str) -> StageResult:
    return pretrain(
        PretrainRecipe(
            name="base", out=str(out), data=str(files / "text.jsonl"),
            tokenizer=str(files / "tokenizer"), max_seq_len=48, batch_rows=4, steps=4, compile="no", dtype="float32",
            model=ModelRecipe(family=family, dim=16, num_layers=2, num_heads=2),
        )
    )  # fmt: skip


@pytest.fixture(scope="module")
def base(files: Path, tmp_path_factory: pytest.TempPathFactory) -> StageResult:
    return a_base(files, tmp_path_factory.mktemp("runs"), "gpt2")


@pytest.fixture(scope="module")
def base_for(base: StageResult, files: Path, tmp_path_factory: pytest.TempPathFactory) -> BaseFor:
    """Return what gives the base of a method's runs."""
    others = {family: a_base(files, tmp_path_factory.mktemp(family), family) for family in set(FAMILIES.values())}
    return lambda method: others[FAMILIES[method]] if method in FAMILIES else base


def recipe(base: StageResult, files: Path, out: Path, method: str, **changes: object) -> SftRecipe:
    tune = {"method": method, method.replace("-", "_"): SETTINGS[method]}
    values = dict(
        name="chat", out=str(out), checkpoint=base.run, data=str(files / "chats.jsonl"), max_seq_len=32, batch_rows=4,
        steps=6, save_every=2, validate_every=2, compile="no", dtype="float32", tune=tune,
    )  # fmt: skip
    return SftRecipe.model_validate({**values, **changes})


def test_every_method_is_run_here():
    assert SETTINGS.keys() == METHODS.keys()


@pytest.mark.parametrize("method", SETTINGS)
def test_a_run_makes_an_adapter_that_opens_as_a_checkpoint_does(base_for, files, tmp_path, method):
    base = base_for(method)
    untouched = sha256_file(Path(base.checkpoint) / "model.safetensors")
    result = sft(recipe(base, files, tmp_path, method))
    directory = Path(result.checkpoint)
    assert json.loads((directory / CONFIG).read_text())["peft_type"] == METHODS[method].peft_type
    assert not (directory / "model.safetensors").exists()
    assert sha256_file(Path(base.checkpoint) / "model.safetensors") == untouched
    ids = torch.arange(24).view(2, 12)
    beginning, _ = load(base.checkpoint)
    plain, tokenizer = load(result.run)
    unmerged, _, _, settings = load_unmerged(directory)
    assert settings == getattr(recipe(base, files, tmp_path, method).tune, method.replace("-", "_"))
    with torch.inference_mode():
        logits = [model.eval()(ids).logits for model in (beginning, plain, unmerged)]
    assert (logits[1] - logits[2]).abs().max() < 1e-5
    assert (logits[0] - logits[1]).abs().max() > 1e-4
    assert tokenizer.chat_template is not None and plain.spec.token_ids.end != beginning.spec.token_ids.end
    if METHODS[method].merge is not None:
        assert {name for name, _ in plain.named_parameters()} == {name for name, _ in beginning.named_parameters()}


@pytest.mark.parametrize("method", SETTINGS)
def test_a_killed_run_goes_on_bit_for_bit(base_for, files, tmp_path, monkeypatch, method):
    base = base_for(method)

    class Killed(BaseException):
        pass

    def killed(self, state, result):
        original(self, state, result)
        if state.step == 3:
            raise Killed

    whole = sft(recipe(base, files, tmp_path / "whole", method))
    original = hooks.LogMetrics.__call__
    monkeypatch.setattr(hooks.LogMetrics, "__call__", killed)
    with pytest.raises(Killed):
        sft(recipe(base, files, tmp_path / "cut", method))
    monkeypatch.setattr(hooks.LogMetrics, "__call__", original)
    torch.rand(3)  # another process would not have this random state either
    result = sft(recipe(base, files, tmp_path / "cut", method), resume=True)
    assert sha256_file(Path(result.checkpoint) / WEIGHTS) == sha256_file(Path(whole.checkpoint) / WEIGHTS)
    assert result.validation_loss == whole.validation_loss


def test_the_best_step_is_measured_again_with_its_own_adapter(base, files, tmp_path):
    values = dict(steps=8, patience=1, save_every=1, validate_every=1, optimizer={"learning_rate": 0.5})
    result = sft(recipe(base, files, tmp_path, "lora", **values))
    assert result.metrics["best_step"] < result.steps
    assert result.validation_loss == pytest.approx(result.metrics["best_validation_loss"])


def test_what_a_run_let_go_can_be_taken_out_of_its_adapter(base, files, tmp_path):
    result = sft(recipe(base, files, tmp_path, "adalora"))
    model, _, method, settings = load_unmerged(result.run)
    prune(model)
    assert mean_rank(model) == 2
    small = tmp_path / "small"
    small.mkdir()
    fields = {"base_model_name_or_path": base.run}
    (small / CONFIG).write_text(json.dumps(method.config(model, settings) | fields))
    save_file(method.tensors(model), small / WEIGHTS)
    ids = torch.arange(24).view(2, 12)
    logits = [load(path)[0].eval()(ids).logits for path in (small, result.run)]
    torch.testing.assert_close(*logits, atol=1e-6, rtol=1e-5)


def test_a_base_in_4_bits_is_so_again_when_its_adapter_is_opened(base, files, tmp_path):
    """What the adapter learned made up for the rounding, so the merged weights are the rounded ones and it."""
    tune = {"method": "lora", "base_bits": 4, "lora": {"rank": 2}}
    result = sft(recipe(base, files, tmp_path, "lora", tune=tune, optimizer={"name": "adamw8bit"}))
    assert json.loads((Path(result.checkpoint) / "smelt.json").read_text())["base_bits"] == 4
    num_own = sum(parameter.numel() for parameter in load(base.checkpoint)[0].parameters())
    num_added = sum(tensor.numel() for tensor in read_tensors(Path(result.checkpoint) / WEIGHTS).values())
    assert f"| {num_own + num_added:,}, of which {num_added:,} train" in (Path(result.run) / "report.md").read_text()
    unmerged, _, _, _ = load_unmerged(result.checkpoint)
    assert isinstance(unmerged.get_submodule("blocks.0.attention.query.base"), NF4Linear)
    plain, _ = load(result.checkpoint)
    assert type(plain.get_submodule("blocks.0.attention.query")) is torch.nn.Linear
    ids = torch.arange(24).view(2, 12)
    with torch.inference_mode():
        assert (unmerged.eval()(ids).logits - plain.eval()(ids).logits).abs().max() < 1e-5
    again = sft(recipe(base, files, tmp_path, "lora", tune=tune, optimizer={"name": "adamw8bit"}), resume=True)
    assert again.validation_loss == result.validation_loss


@pytest.fixture(scope="module")
def adapter(base: StageResult, files: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(sft(recipe(base, files, tmp_path_factory.mktemp("adapter"), "lora")).checkpoint)


def copied(adapter: Path, folder: Path, **fields: object) -> Path:
    """Copy an adapter without its manifest, which would tell of any change, and change fields of its configuration."""
    shutil.copytree(adapter, folder / "adapter")
    (folder / "adapter" / "manifest.json").unlink()
    config = json.loads((folder / "adapter" / CONFIG).read_text())
    (folder / "adapter" / CONFIG).write_text(json.dumps({**config, **fields}))
    return folder / "adapter"


def test_another_base_is_refused(base, files, adapter, tmp_path):
    other = pretrain(
        PretrainRecipe(
            name="other", out=str(tmp_path), data=str(files / "text.jsonl"), tokenizer=str(files / "tokenizer"),
            model=ModelRecipe(family="gpt2", dim=16, num_layers=2, num_heads=2), max_seq_len=48, batch_rows=4, steps=1,
            seed=5, compile="no",
        )
    )  # fmt: skip
    changed = copied(adapter, tmp_path, base_model_name_or_path=other.checkpoint)
    with pytest.raises(CheckpointError, match="has other weights than those it was trained on"):
        load(changed)
    model, *_ = load_unmerged(changed, base=other.checkpoint)  # said aloud, it is taken
    assert model.spec.num_layers == 2


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"base_model_name_or_path": "gone"}, "its base gone is not there"),
        ({"base_model_name_or_path": None}, "names no base"),
        ({"peft_type": "LOHA"}, "peft_type = 'LOHA'"),
    ],
)
def test_adapters_that_cannot_be_opened(adapter, tmp_path, fields, message):
    with pytest.raises(CheckpointError, match=message):
        load(copied(adapter, tmp_path, **fields))


def test_a_method_wants_a_base(files, tmp_path):
    with pytest.raises(ConfigError, match=r"tune\.method=lora on a new model"):
        pretrain(
            PretrainRecipe(
                name="new", out=str(tmp_path), data=str(files / "text.jsonl"), tokenizer=str(files / "tokenizer"),
                model=ModelRecipe(dim=16, num_layers=2, num_heads=2), max_seq_len=32, steps=1,
                tune={"method": "lora"},
            )
        )  # fmt: skip
