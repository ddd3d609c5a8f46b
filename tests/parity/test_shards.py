"""Shards against transformers, both ways: theirs load here, ours load there without a word of warning."""

import logging

import pytest
import torch

from smelt.models.build import build
from smelt.models.families import Shape, spec_for
from smelt.models.hub import load_model, save_model

transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.interop

IDS = torch.randint(0, 67, (2, 9), generator=torch.Generator().manual_seed(0))
SHAPES = {
    "llama": Shape(67, 36, 3, 6, 48, num_kv_heads=2, hidden_dim=44),
    "gpt2": Shape(67, 35, 3, 5, 48, hidden_dim=52),
}


@pytest.mark.parametrize("family", SHAPES)
def test_our_shards_load_there_without_a_warning(family, tmp_path, caplog):
    model = build(spec_for(family, SHAPES[family]), seed=0)
    save_model(model, tmp_path, max_shard_bytes=12_000)
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 3
    library = logging.getLogger("transformers")
    library.addHandler(caplog.handler)
    try:
        theirs, info = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, output_loading_info=True)
    finally:
        library.removeHandler(caplog.handler)
    assert not any(info.values()) and not [record for record in caplog.records if record.levelno >= logging.WARNING]
    with torch.no_grad():
        torch.testing.assert_close(model(IDS).logits, theirs(IDS).logits, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("family", SHAPES)
def test_their_shards_load_here(family, tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    model = build(spec_for(family, SHAPES[family]), seed=0)
    save_model(model, one)
    transformers.AutoModelForCausalLM.from_pretrained(one).save_pretrained(two, max_shard_size="12KB")
    assert len(list(two.glob("model-*.safetensors"))) > 3
    theirs = dict(load_model(two).named_parameters())
    assert all(torch.equal(theirs[name], parameter) for name, parameter in model.named_parameters())
