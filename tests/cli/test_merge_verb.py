"""`smelt merge`: checkpoints into one, an adapter into its base, and the words that do not go together."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from smelt.core.config import Config
from smelt.core.storage import verify_directory
from smelt.models.hub import load, save
from smelt.nn.surgery import linear_names, swap
from smelt.peft.load import Base, publish_adapter, weights_hashes
from smelt.peft.lora_tuning import LoraSettings
from smelt.peft.lora_tuning import attach as attach_lora
from smelt.peft.method import Method
from smelt.peft.methods import METHODS
from smelt.tokenizers.chat import ChatTemplate

from .conftest import Smelt


@pytest.fixture
def other(checkpoint: Path, tmp_path: Path) -> Path:
    """A checkpoint of the same network with other numbers."""
    model, tokenizer = load(checkpoint)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=generator)
    save(model, tokenizer, tmp_path / "other")
    return tmp_path / "other"


def test_two_checkpoints_are_averaged(smelt: Smelt, checkpoint: Path, other: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = smelt("merge", checkpoint, other, "--weights", "3,1", "--out", out, "--json")
    assert result.code == 0, result.err
    verify_directory(out)
    values = result.json
    assert (values["checkpoint"], values["method"], values["weights"]) == (str(out), "linear", [3.0, 1.0])
    assert values["dtype"] == "float32" and values["tensors"] == 21 and values["seconds"] >= 0
    assert [parent["path"] for parent in values["parents"]] == [str(checkpoint), str(other)]
    one, two, found = (dict(load(path)[0].named_parameters()) for path in (checkpoint, other, out))
    assert values["parameters"] == sum(tensor.numel() for tensor in found.values())
    for name, tensor in found.items():
        torch.testing.assert_close(tensor, 0.75 * one[name] + 0.25 * two[name], rtol=1e-5, atol=1e-6)
    assert smelt("generate", out, "--prompt", "The", "--max-new-tokens", 3).code == 0
    assert smelt("info", out, "--json").json["lineage"]["stage"] == "merge"


def test_what_is_printed(smelt: Smelt, checkpoint: Path, other: Path, tmp_path: Path) -> None:
    words = ("--method", "ties", "--base", checkpoint, "--density", 0.5)
    result = smelt("merge", checkpoint, other, *words, "--out", tmp_path / "a")
    lines = result.out.splitlines()
    assert lines[0] == f"checkpoint  {tmp_path / 'a'}"
    assert lines[1] == "method      ties · weights 1, 1 · density 0.5 · scale 1"
    assert lines[2].startswith("result      ") and lines[2].endswith(" parameters of float32") and len(lines) == 3
    task = smelt("merge", other, "--method", "task", "--base", checkpoint, "--weights", "-1", "--out", tmp_path / "b")
    assert task.code == 0 and "task · weights -1 · scale 1" in task.out


def test_slerp_says_where_it_was_a_line(smelt: Smelt, checkpoint: Path, other: Path, tmp_path: Path) -> None:
    result = smelt("merge", checkpoint, checkpoint, "--method", "slerp", "--out", tmp_path / "a", "--json")
    assert result.json["straight_tensors"] == 21
    assert "21 of 21 tensors are nearly parallel or opposite; their slerp is linear" in result.err
    result = smelt("merge", checkpoint, other, "--method", "slerp", "--out", tmp_path / "b", "--json")
    assert result.json["straight_tensors"] == 0 and "parallel" not in result.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--method", "tise"], "no method 'tise'. Did you mean 'ties'?"),
        (["--method", "ties"], "ties needs the base that the checkpoints were tuned from"),
        (["--weights", "1"], "weights 1 for 2 checkpoints"),
        (["--weights", "1;2"], "--weights 1;2\naccepted: numbers with commas between them"),
    ],
)
def test_wrong_words(words: list, message: str, smelt: Smelt, checkpoint: Path, tmp_path: Path) -> None:
    result = smelt("merge", checkpoint, checkpoint, *words, "--out", tmp_path / "out")
    assert result.code == 2 and message in result.err and "Traceback" not in result.err
    assert not (tmp_path / "out").exists()


def test_nothing_is_written_over(smelt: Smelt, checkpoint: Path, other: Path, tmp_path: Path) -> None:
    for out in (other, other / "inside"):
        result = smelt("merge", checkpoint, other, "--out", out)
        assert result.code == 2 and f"{out} would be written over its source, {other}" in result.err
    result = smelt("merge", checkpoint, other, "--method", "task", "--base", other, "--out", other)
    assert result.code == 2 and "over its source" in result.err
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine")
    assert "full is not empty" in smelt("merge", checkpoint, other, "--out", tmp_path / "full").err
    assert "notes.txt is a file" in smelt("merge", checkpoint, other, "--out", tmp_path / "full" / "notes.txt").err
    result = smelt("merge", checkpoint, tmp_path / "nothing", "--out", tmp_path / "new")
    assert result.code == 1 and "nothing: no such directory" in result.err


class Shifted(nn.Module):
    """A linear layer whose weight is shifted by a parameter of its own."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.linear, self.shift = linear, nn.Parameter(torch.zeros_like(linear.weight))

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x) + nn.functional.linear(x, self.shift)


class NoSettings(Config):
    """None."""


def shifts(model: nn.Module) -> dict[str, Shifted]:
    return {name: module for name, module in model.named_modules() if isinstance(module, Shifted)}


def attach(model: Any, settings: Any, seed: int) -> None:
    model.requires_grad_(False)
    name = linear_names(model)[0]
    swap(model, name, Shifted(model.get_submodule(name)))


def merge(model: Any) -> None:
    for name, module in shifts(model).items():
        module.linear.weight.data += module.shift
        swap(model, name, module.linear)


def fill(model: Any, tensors: Any) -> None:
    for name, module in shifts(model).items():
        module.shift.data.copy_(tensors[name])


def method(**changes: Any) -> Method:
    """Return the plainest way of tuning."""
    return Method(
        **{
            "name": "shift",
            "peft_type": "SHIFT",
            "settings": NoSettings,
            "attach": attach,
            "config": lambda model, settings: {},
            "tensors": lambda model: {name: module.shift for name, module in shifts(model).items()},
            "read": lambda config, spec: NoSettings(),
            "fill": fill,
            "merge": merge,
            **changes,
        }
    )


@pytest.fixture
def adapter(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An adapter directory as training leaves it."""
    from smelt.core.storage import atomic_directory
    from smelt.train.stages.common import parents

    monkeypatch.setitem(METHODS, "shift", method())
    model, tokenizer = load(checkpoint)
    attach(model, NoSettings(), 0)
    for module in shifts(model).values():
        nn.init.normal_(module.shift, generator=torch.Generator().manual_seed(2))
    lineage = {"stage": "sft", "parents": parents(str(checkpoint))}
    base = Base(str(checkpoint), tuple(weights_hashes(checkpoint)))
    with atomic_directory(tmp_path / "adapter") as folder:
        publish_adapter(method(), NoSettings(), model, tokenizer, folder, base, ChatTemplate(tokenizer), lineage)
    return tmp_path / "adapter"


def test_an_adapter_is_merged_into_its_base(smelt: Smelt, checkpoint: Path, adapter: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = smelt("merge", adapter, "--out", out, "--json")
    assert result.code == 0, result.err
    verify_directory(out)
    values = result.json
    assert (values["method"], values["dtype"], values["checkpoint"]) == ("shift", "float32", str(out))
    assert 0 < values["largest_logit_difference"] < 1e-5 * values["largest_logit"]
    assert [parent["role"] for parent in values["parents"]] == ["base", "adapter"]
    lineage = json.loads((out / "smelt.json").read_text())
    assert lineage["parents"] == values["parents"] and lineage["merge"] == {"method": "shift"}
    (model, _), (base, _) = load(out), load(checkpoint)
    name = linear_names(model)[0]
    shift = torch.empty_like(model.get_submodule(name).weight).normal_(generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(model.get_submodule(name).weight, base.get_submodule(name).weight + shift)
    assert model.spec.token_ids == base.spec.token_ids
    for file in ("chat_template.jinja", "tokenizer.json", "tokenizer_config.json"):
        assert (out / file).read_bytes() == (checkpoint / file).read_bytes()
    assert smelt("generate", out, "--prompt", "hello", "--chat", "--max-new-tokens", 3).code == 0
    shown = smelt("merge", adapter, "--out", tmp_path / "again").out.splitlines()
    assert shown[1] == f"method      shift into {checkpoint}"
    assert shown[2].startswith("logits      differ by ")


def test_a_wrong_merge_shows_in_the_difference(
    smelt: Smelt, adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forgets(model: Any) -> None:
        for name, module in shifts(model).items():
            swap(model, name, module.linear)

    monkeypatch.setitem(METHODS, "shift", method(merge=forgets))
    values = smelt("merge", adapter, "--out", tmp_path / "out", "--json").json
    assert values["largest_logit_difference"] > 0.01 * values["largest_logit"]


def test_adapters_that_cannot_be_merged(
    smelt: Smelt, checkpoint: Path, adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = smelt("merge", adapter, checkpoint, "--out", tmp_path / "out")
    assert result.code == 2 and f"{adapter} is an adapter, merged with other checkpoints" in result.err
    result = smelt("merge", adapter, "--weights", "1", "--out", tmp_path / "out")
    assert result.code == 2 and f"--weights with {adapter}, an adapter" in result.err
    monkeypatch.setitem(METHODS, "shift", method(merge=None))
    result = smelt("merge", adapter, "--out", tmp_path / "out")
    assert result.code == 2 and "what shift adds cannot become weights" in result.err
    assert not (tmp_path / "out").exists()


def test_adapters_become_one(smelt: Smelt, checkpoint: Path, tmp_path: Path) -> None:
    settings, paths = LoraSettings(rank=2), [tmp_path / "one", tmp_path / "two"]
    for seed, path in enumerate(paths):
        model, tokenizer = load(checkpoint)
        attach_lora(model, settings, seed)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if name.endswith(".up"):
                    parameter.normal_(std=0.1, generator=torch.Generator().manual_seed(seed))
        path.mkdir()
        base = Base(str(checkpoint), tuple(weights_hashes(checkpoint)))
        publish_adapter(METHODS["lora"], settings, model, tokenizer, path, base, None, {"stage": "sft"})
    result = smelt("merge", *paths, "--weights", "1,-0.5", "--out", tmp_path / "both", "--json")
    assert result.code == 0, result.err
    values = result.json
    assert (values["method"], values["weights"], values["rank"]) == ("stack", [1.0, -0.5], 4)
    assert [parent["path"] for parent in values["parents"]] == [str(path) for path in paths]
    assert smelt("generate", tmp_path / "both", "--prompt", "The", "--max-new-tokens", 2).code == 0
    lines = smelt("merge", *paths, "--rank", 3, "--out", tmp_path / "cut").out.splitlines()
    assert lines[1] == "method      stack · weights 0.5, 0.5 · rank 3" and lines[2].startswith("result      ")
    for words, said in (
        ((*paths, "--base", checkpoint), "--base with adapters\naccepted: --method, --rank, --weights"),
        ((*paths, "--method", "ties"), "no method 'ties' for adapters"),
        ((paths[0], checkpoint), f"{paths[0]} is an adapter, merged with other checkpoints"),
        ((checkpoint, checkpoint, "--rank", 2), "--rank with whole checkpoints"),
    ):
        result = smelt("merge", *words, "--out", tmp_path / "out")
        assert result.code == 2 and said in result.err and not (tmp_path / "out").exists()
