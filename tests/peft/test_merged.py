"""Adapters of every method that can be merged, as whole checkpoints that give the logits of the unmerged ones."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from smelt.core.errors import CheckpointError
from smelt.models.build import build
from smelt.models.families import Shape, spec_for
from smelt.models.hub import load, save
from smelt.peft.load import Base, load_unmerged, publish_adapter, weights_hashes
from smelt.peft.merged import merge_adapter
from smelt.peft.methods import METHODS
from smelt.tokenizers.bpe_train import train_bpe

MERGEABLE = [(name, {}) for name, method in METHODS.items() if method.merge is not None]


def adapter_on(base: Path, out: Path, name: str, settings: dict[str, Any]) -> Path:
    """Write an adapter with random numbers."""
    method = METHODS[name]
    model, tokenizer = load(base)
    chosen = method.settings(**settings)
    method.attach(model, chosen, 0)
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    out.mkdir()
    hashes = tuple(weights_hashes(base))
    publish_adapter(method, chosen, model, tokenizer, out, Base(str(base), hashes), None, {"stage": "sft"})
    return out


@pytest.fixture(params=["llama", "gpt2"])
def base(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    tokenizer = train_bpe([], vocab_size=259)
    model = build(spec_for(request.param, Shape(259, 24, 2, 4, 40)), seed=1)
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=0.3, generator=torch.Generator().manual_seed(2))
    save(model, tokenizer, tmp_path / "base")
    return tmp_path / "base"


@pytest.mark.parametrize(
    ("name", "settings"), [*MERGEABLE, ("lora", {"dora": True}), ("lora", {"targets": ("query",)})]
)
def test_the_checkpoint_gives_the_logits_of_the_adapter(
    base: Path, tmp_path: Path, name: str, settings: dict[str, Any]
) -> None:
    adapter = adapter_on(base, tmp_path / "adapter", name, settings)
    found = merge_adapter(adapter, tmp_path / "whole")
    whole, unmerged, plain = load(tmp_path / "whole")[0], load_unmerged(adapter)[0], load(base)[0]
    ids = torch.arange(30)[None]
    with torch.no_grad():
        merged, wanted, before = (model.eval()(ids).logits for model in (whole, unmerged, plain))
    torch.testing.assert_close(merged, wanted, rtol=1e-5, atol=1e-5)
    assert (wanted - before).abs().max() > 0.01 * before.abs().max()
    assert found.largest_difference <= 1e-5 * max(1.0, found.largest_logit)
    assert found.num_parameters == sum(parameter.numel() for parameter in plain.parameters())


def test_a_base_that_was_changed_is_refused(base: Path, tmp_path: Path) -> None:
    adapter = adapter_on(base, tmp_path / "adapter", "lora", {})
    (adapter / "smelt.json").write_text(json.dumps({"base_weights_sha256": ["0" * 64]}))
    with pytest.raises(CheckpointError, match="has other weights than those it was trained on"):
        merge_adapter(adapter, tmp_path / "whole")
    assert not (tmp_path / "whole").exists()
