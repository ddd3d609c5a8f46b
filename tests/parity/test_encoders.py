"""Our encoders against transformers, both ways: tiny random checkpoints of every head give the same numbers."""

from pathlib import Path
from typing import Any

import pytest
import torch

from smelt.models.build import build
from smelt.models.families import Shape, spec_for
from smelt.models.heads import Output
from smelt.models.hub import load_model, save_model
from smelt.nn.spec import TokenIds

from .test_models import draw_ids, scrambled, warnings_of_transformers

transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.interop
__all__ = ["warnings_of_transformers"]

SIZES = {"vocab_size": 67, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0, "dtype": "float32"}
BERT = SIZES | {
    "hidden_size": 35,
    "num_hidden_layers": 2,
    "num_attention_heads": 5,
    "intermediate_size": 52,
    "max_position_embeddings": 48,
    "type_vocab_size": 3,
}
THEIRS: dict[str, tuple[str, Any]] = {
    "bert-bare": ("BertModel", lambda: transformers.BertConfig(**BERT)),
    "bert-masked": ("BertForMaskedLM", lambda: transformers.BertConfig(**BERT)),
    "bert-masked-tanh": ("BertForMaskedLM", lambda: transformers.BertConfig(**BERT, hidden_act="gelu_new")),
    "bert-pretraining": ("BertForPreTraining", lambda: transformers.BertConfig(**BERT)),
    "bert-next": ("BertForNextSentencePrediction", lambda: transformers.BertConfig(**BERT)),
    "bert-text": ("BertForSequenceClassification", lambda: transformers.BertConfig(**BERT, num_labels=7)),
    "bert-token": ("BertForTokenClassification", lambda: transformers.BertConfig(**BERT, num_labels=9)),
    "bert-span": ("BertForQuestionAnswering", lambda: transformers.BertConfig(**BERT)),
}
"""A name, the class of transformers, and its configuration."""

OURS = {"bert": Shape(67, 35, 2, 5, 48, hidden_dim=52)}
AUTO = {"bert": "BertForPreTraining"}
"""Families that we make, and the class that reads what we save."""


def saved_by_transformers(name: str, seed: int, directory: Path) -> torch.nn.Module:
    kind, config = THEIRS[name]
    model = scrambled(getattr(transformers, kind)(config()), seed)
    model.save_pretrained(directory)
    return model


def pair(seed: int, num_types: int) -> dict[str, torch.Tensor]:
    """Draw two rows of ids, the second padded at its end, with types where there are any."""
    ids, mask = draw_ids(seed, 2, 17), torch.ones(2, 17, dtype=torch.long)
    mask[1, 11:] = 0
    found = {"input_ids": ids, "attention_mask": mask}
    if num_types > 1:
        found["token_type_ids"] = torch.randint(num_types, ids.shape, generator=torch.Generator().manual_seed(seed))
    return found


def run(model: Any, batch: dict[str, torch.Tensor]) -> Output:
    found: Output = model(batch["input_ids"], segments=batch["attention_mask"], types=batch.get("token_type_ids"))
    return found


def numbers(ours: Output, theirs: Any) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Pair our numbers with theirs, whatever the head is."""
    found = []
    if "last_hidden_state" in theirs:
        found.append((ours.hidden, theirs.last_hidden_state))
    if theirs.get("pooler_output") is not None:
        found.append((ours.pooled, theirs.pooler_output))
    if "prediction_logits" in theirs:
        found.append((ours.logits, theirs.prediction_logits))
    for name, key in (("next_sentence", "seq_relationship_logits"), ("sentence_order", "sop_logits")):
        if key in theirs:
            found.append((ours.tasks[name], theirs[key]))
    if "start_logits" in theirs:
        found.append((ours.tasks["span"], torch.stack((theirs.start_logits, theirs.end_logits), dim=-1)))
    if "logits" in theirs:
        found.append((ours.logits if ours.logits is not None else next(iter(ours.tasks.values())), theirs.logits))
    assert found
    return found


def real(batch: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    """Leave out what stands at padding, which transformers fills otherwise."""
    return x[batch["attention_mask"] > 0] if x.dim() == 3 else x


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("name", sorted(THEIRS))
def test_their_checkpoint_gives_the_same_numbers_here(name, seed, tmp_path):
    theirs = saved_by_transformers(name, seed, tmp_path)
    model = load_model(tmp_path)
    batch = pair(seed, model.spec.num_types)
    with torch.no_grad():
        for found, expected in numbers(run(model, batch), theirs(**batch)):
            torch.testing.assert_close(real(batch, found), real(batch, expected), atol=1e-5, rtol=1e-5)
    assert model.spec.token_ids == TokenIds(1, (2,), 0)


@pytest.mark.parametrize("name", sorted(THEIRS))
def test_gradients_equal_theirs(name, tmp_path):
    theirs = saved_by_transformers(name, 0, tmp_path)
    model = load_model(tmp_path)
    batch = pair(0, model.spec.num_types)
    found, expected = numbers(run(model, batch), theirs(**batch))[-1]
    weights = torch.randn(real(batch, found).shape, generator=torch.Generator().manual_seed(4))
    (our_gradient,) = torch.autograd.grad((real(batch, found) * weights).sum(), [model.token_embedding.weight])
    embedding = theirs.get_input_embeddings().weight
    (their_gradient,) = torch.autograd.grad((real(batch, expected) * weights).sum(), [embedding])
    torch.testing.assert_close(our_gradient, their_gradient, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", sorted(THEIRS))
def test_what_we_save_loads_there_without_a_word(name, tmp_path, warnings_of_transformers):
    saved_by_transformers(name, 0, tmp_path)
    model, again = load_model(tmp_path), tmp_path / "again"
    again.mkdir()
    save_model(model, again)
    theirs, report = getattr(transformers, THEIRS[name][0]).from_pretrained(again, output_loading_info=True)
    assert {key: set(value) for key, value in report.items() if value} == {}
    assert warnings_of_transformers == []
    assert type(theirs).__name__ == theirs.config.architectures[0]
    batch = pair(5, model.spec.num_types)
    with torch.no_grad():
        for found, expected in numbers(run(model, batch), theirs(**batch)):
            torch.testing.assert_close(real(batch, found), real(batch, expected), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", sorted(THEIRS))
def test_saving_what_was_loaded_gives_the_same_bytes(name, tmp_path):
    saved_by_transformers(name, 0, tmp_path)
    folders = [tmp_path / "one", tmp_path / "two"]
    for source, target in zip([tmp_path, folders[0]], folders, strict=True):
        target.mkdir()
        save_model(load_model(source), target)
    for file in ("model.safetensors", "config.json"):
        assert (folders[0] / file).read_bytes() == (folders[1] / file).read_bytes()


@pytest.mark.parametrize("name", sorted(OURS))
def test_what_we_make_loads_there(name, tmp_path, warnings_of_transformers):
    model = scrambled(build(spec_for(name, OURS[name]), seed=3), 3)
    save_model(model, tmp_path)
    _, report = getattr(transformers, AUTO[name]).from_pretrained(tmp_path, output_loading_info=True)
    assert {key: set(value) for key, value in report.items() if value} == {}
    assert warnings_of_transformers == []
