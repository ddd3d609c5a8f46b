"""Adapters of one base joined in files: as peft's weighted adapters, on the base, and what does not go together."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from smelt.core.errors import CheckpointError, UsageError
from smelt.core.storage import verify_directory
from smelt.models.build import build
from smelt.models.families import Shape, spec_for
from smelt.models.hub import load, save
from smelt.peft.files import CONFIG, WEIGHTS
from smelt.peft.joined import join_adapters
from smelt.peft.load import Base, load_unmerged, publish_adapter, weights_hashes
from smelt.peft.load import load as load_adapted
from smelt.peft.lora_method import METHOD
from smelt.peft.lora_tuning import LoraSettings, attach, lora_of
from smelt.tokenizers.bpe_train import train_bpe

IDS = torch.arange(30)[None]


def a_base(path: Path, family: str, seed: int = 1) -> Path:
    save(build(spec_for(family, Shape(259, 24, 2, 4, 40)), seed=seed), train_bpe([], vocab_size=259), path)
    return path


def adapter_on(base: Path, out: Path, seed: int, bits: int | None = None, **settings: Any) -> Path:
    """Write an adapter with random numbers."""
    model, tokenizer = load(base)
    chosen = LoraSettings(**settings)
    attach(model, chosen, 0)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter += 0.2 * torch.randn(parameter.shape, generator=generator)
    out.mkdir()
    own = Base(str(base), tuple(weights_hashes(base)), bits)
    publish_adapter(METHOD, chosen, model, tokenizer, out, own, None, {"stage": "sft"})
    return out


@pytest.fixture(params=["llama", "gpt2"])
def base(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return a_base(tmp_path / "base", request.param)


@pytest.fixture
def two(base: Path, tmp_path: Path) -> tuple[Path, Path]:
    """Adapters of different scales; one is of some layers alone."""
    names = ("query", "key", "value", "feed_forward.*")
    return (
        adapter_on(base, tmp_path / "one", 1, rank=3, alpha=6, targets=names),
        adapter_on(base, tmp_path / "two", 2, rank=3, alpha=2, stabilized=True),
    )


def changes_of(path: Path) -> dict[str, torch.Tensor]:
    """Return what an adapter adds to each layer."""
    model, _, _, _ = load_unmerged(path)
    return {name: (pair.up @ pair.down) for name, pair in lora_of(model).items()}


def test_a_stack_is_the_weighted_sum(two: tuple[Path, Path], tmp_path: Path) -> None:
    joined = join_adapters(two, tmp_path / "sum", weights=[0.75, -0.5])
    verify_directory(tmp_path / "sum")
    assert (joined.rank, joined.weights) == (6, (0.75, -0.5))
    one, other, found = (changes_of(path) for path in (*two, tmp_path / "sum"))
    assert found.keys() == other.keys() > one.keys()
    for name, change in found.items():
        torch.testing.assert_close(
            change, 0.75 * one.get(name, torch.zeros(())) - 0.5 * other[name], atol=1e-6, rtol=1e-5
        )
    lineage = json.loads((tmp_path / "sum" / "smelt.json").read_text())
    assert lineage["merge"] == {"method": "stack", "weights": [0.75, -0.5]}
    assert [parent["path"] for parent in lineage["parents"]] == [str(path) for path in two]
    assert (tmp_path / "sum" / "tokenizer.json").read_bytes() == (two[0] / "tokenizer.json").read_bytes()
    load_adapted(tmp_path / "sum")
    again = join_adapters([tmp_path / "sum", two[1]], tmp_path / "again", weights=[1, 0.5])  # one can be taken off
    assert again.rank == 9
    for name, change in changes_of(tmp_path / "again").items():
        torch.testing.assert_close(
            change, 0.75 * one.get(name, torch.zeros(())) * torch.ones_like(change), atol=1e-6, rtol=1e-5
        )


def test_weights_left_out_are_equal_shares_and_a_rank_cuts(two: tuple[Path, Path], tmp_path: Path) -> None:
    assert join_adapters(two, tmp_path / "sum").weights == (0.5, 0.5)
    assert join_adapters(two, tmp_path / "cut", rank=2).rank == 2
    assert {len(tensor) for name, tensor in load_file(tmp_path / "cut" / WEIGHTS).items() if "lora_A" in name} == {2}


@pytest.mark.interop
@pytest.mark.parametrize("kind, ours", [("cat", {}), ("svd", {"rank": 3}), ("linear", {"method": "linear"})])
def test_peft_joins_them_so(
    base: Path, two: tuple[Path, Path], tmp_path: Path, kind: str, ours: dict[str, Any]
) -> None:
    transformers = pytest.importorskip("transformers", reason="needs the extra interop")
    peft = pytest.importorskip("peft", reason="needs the extra interop")
    weights = [0.7, -0.4]
    network = transformers.AutoModelForCausalLM.from_pretrained(base).eval()
    theirs = peft.PeftModel.from_pretrained(network, two[0], adapter_name="one").eval()
    theirs.load_adapter(two[1], adapter_name="two")
    theirs.add_weighted_adapter(["one", "two"], weights, "both", combination_type=kind)
    theirs.set_adapter("both")
    join_adapters(two, tmp_path / "both", weights=weights, **ours)
    with torch.no_grad():
        wanted = theirs(IDS).logits
        torch.testing.assert_close(load_adapted(tmp_path / "both")[0].eval()(IDS).logits, wanted, atol=1e-4, rtol=1e-4)
        network = transformers.AutoModelForCausalLM.from_pretrained(base).eval()
        again = peft.PeftModel.from_pretrained(network, tmp_path / "both").eval()
        torch.testing.assert_close(again(IDS).logits, wanted, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    "settings, said",
    [
        ({"method": "ties"}, "no method 'ties' for adapters"),
        ({"weights": [1.0]}, "weights 1 for 2 adapters"),
        ({"weights": [1.0, float("nan")]}, "weights 1,nan for 2 adapters"),
        ({"method": "linear", "rank": 2}, "rank 2 with linear"),
        ({"rank": 0}, "rank 0 with stack"),
    ],
)
def test_settings_that_do_not_go_together(tmp_path: Path, settings: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        join_adapters(["one", "two"], tmp_path / "out", **settings)


def test_adapters_that_do_not_go_together(tmp_path: Path) -> None:
    base, other = a_base(tmp_path / "base", "llama"), a_base(tmp_path / "other", "llama", seed=2)
    one = adapter_on(base, tmp_path / "one", 1, rank=2)
    cases = {
        "foreign": (
            adapter_on(other, tmp_path / "foreign", 1, rank=2),
            "foreign was trained on .*other, .*one on .*base\n",
        ),
        "bits": (adapter_on(base, tmp_path / "bits", 1, bits=4, rank=2), "was trained on .*base in 4 bits"),
        "dora": (adapter_on(base, tmp_path / "dora", 1, rank=2, dora=True), "use_dora = True\naccepted: plain LoRA"),
        "wide": (adapter_on(base, tmp_path / "wide", 1, rank=3), None),
    }
    for name, (path, said) in cases.items():
        if said is not None:
            with pytest.raises(CheckpointError, match=said):
                join_adapters([one, path], tmp_path / f"out-{name}")
    with pytest.raises(UsageError, match="has ranks 2, 3, and factors add up only at one rank"):
        join_adapters([one, tmp_path / "wide"], tmp_path / "out", method="linear")
    shutil.copytree(one, tmp_path / "headed")
    fields = json.loads((one / CONFIG).read_text())
    (tmp_path / "headed" / CONFIG).write_text(json.dumps({**fields, "modules_to_save": ["lm_head"]}))
    with pytest.raises(CheckpointError, match=r"modules_to_save = \['lm_head'\]\naccepted: plain LoRA"):
        join_adapters([one, tmp_path / "headed"], tmp_path / "out")
    assert not (tmp_path / "out").exists()
