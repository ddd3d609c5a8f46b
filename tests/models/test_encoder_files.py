"""Files of encoders as they were published: without a prefix, with older names, with heads that nobody asked for."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from smelt.core.errors import CheckpointError
from smelt.models.build import build
from smelt.models.families import FAMILIES, Shape, spec_for
from smelt.models.hub import load_model, save_model
from smelt.models.transformer import Transformer

from .conftest import scrambled

SHAPE = Shape(61, 24, 2, 6, 40, hidden_dim=36)
BARE = {
    "bert": "BertModel",
    "roberta": "RobertaModel",
    "xlm_roberta": "XLMRobertaModel",
    "albert": "AlbertModel",
    "distilbert": "DistilBertModel",
}


def saved(family: str, directory) -> Transformer:
    """Save a model with the heads that its family makes."""
    model = scrambled(build(spec_for(family, SHAPE), seed=1))
    save_model(model, directory)
    return model


def rewrite(directory, rename, **config) -> None:
    """Rename the tensors of a checkpoint and change its configuration; a name of None drops the tensor."""
    path = directory / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **config}))
    tensors = load_file(directory / "model.safetensors")
    kept = {new: tensor for name, tensor in tensors.items() if (new := rename(name)) is not None}
    assert kept.keys() != tensors.keys() or config
    save_file(kept, directory / "model.safetensors")


def same_hidden(model: Transformer, directory) -> None:
    ids = torch.arange(20).view(2, 10)
    assert torch.equal(load_model(directory)(ids).hidden, model(ids).hidden)


@pytest.mark.parametrize("family", BARE)
def test_a_bare_encoder_without_its_prefix_loads(family, tmp_path):
    model, prefix = saved(family, tmp_path), FAMILIES[family].prefix
    pooler = {} if model.pooler is not None or family == "distilbert" else {"pooler.dense.weight": torch.eye(24)}
    if pooler:
        pooler["pooler.dense.bias"] = torch.zeros(24)
    rewrite(
        tmp_path,
        lambda name: name.removeprefix(prefix) if name.startswith(prefix) else None,
        architectures=[BARE[family]],
    )
    path = tmp_path / "model.safetensors"
    save_file({**load_file(path), **pooler, "embeddings.position_ids": torch.arange(40)}, path)
    same_hidden(model, tmp_path)


@pytest.mark.parametrize("family", BARE)
def test_heads_of_pretraining_that_the_architecture_leaves_out_are_skipped(family, tmp_path):
    model = saved(family, tmp_path)
    path = tmp_path / "model.safetensors"
    labels = "Bert" if family == "bert" else BARE[family].removesuffix("Model")
    classifier = {"classifier.weight": torch.ones(2, 24), "classifier.bias": torch.zeros(2)}
    rewrite(tmp_path, lambda name: name, architectures=[f"{labels}ForTokenClassification"])
    save_file({**load_file(path), **classifier}, path)
    loaded = load_model(tmp_path)
    assert not loaded.spec.language_head and loaded.pooler is None
    same_hidden(model, tmp_path)
    save_file({**load_file(path), "scorer.weight": torch.ones(2)}, path)
    with pytest.raises(CheckpointError, match=r"1 unexpected: scorer\.weight"):
        load_model(tmp_path)


@pytest.mark.parametrize("family", BARE)
def test_norms_under_their_older_names_load(family, tmp_path):
    model = saved(family, tmp_path)
    rewrite(
        tmp_path,
        lambda name: name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"),
    )
    same_hidden(model, tmp_path)
