"""Our encoders against transformers, both ways: tiny random checkpoints of every head give the same numbers."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from smelt.models.build import build, count_parameters
from smelt.models.families import FAMILIES, PRESETS, Shape, spec_for
from smelt.models.families.encoder_layout import Top, with_top
from smelt.models.heads import Output
from smelt.models.hub import load_model, save_model
from smelt.nn.spec import TaskSpec, TokenIds

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
ROBERTA = BERT | {"pad_token_id": 2, "bos_token_id": 0, "eos_token_id": 1, "max_position_embeddings": 51}
XLM = ROBERTA | {"type_vocab_size": 1}
ALBERT = BERT | {"embedding_size": 11}
DISTIL = SIZES | {"dim": 35, "n_layers": 2, "n_heads": 5, "hidden_dim": 52, "max_position_embeddings": 48}
THEIRS: dict[str, tuple[str, Any]] = {
    "bert-bare": ("BertModel", lambda: transformers.BertConfig(**BERT)),
    "bert-masked": ("BertForMaskedLM", lambda: transformers.BertConfig(**BERT)),
    "bert-masked-tanh": ("BertForMaskedLM", lambda: transformers.BertConfig(**BERT, hidden_act="gelu_new")),
    "bert-pretraining": ("BertForPreTraining", lambda: transformers.BertConfig(**BERT)),
    "bert-next": ("BertForNextSentencePrediction", lambda: transformers.BertConfig(**BERT)),
    "bert-text": ("BertForSequenceClassification", lambda: transformers.BertConfig(**BERT, num_labels=7)),
    "bert-token": ("BertForTokenClassification", lambda: transformers.BertConfig(**BERT, num_labels=9)),
    "bert-span": ("BertForQuestionAnswering", lambda: transformers.BertConfig(**BERT)),
    "roberta-bare": ("RobertaModel", lambda: transformers.RobertaConfig(**ROBERTA)),
    "roberta-masked": ("RobertaForMaskedLM", lambda: transformers.RobertaConfig(**ROBERTA)),
    "roberta-masked-relu": ("RobertaForMaskedLM", lambda: transformers.RobertaConfig(**ROBERTA, hidden_act="relu")),
    "roberta-text": ("RobertaForSequenceClassification", lambda: transformers.RobertaConfig(**ROBERTA, num_labels=7)),
    "roberta-token": ("RobertaForTokenClassification", lambda: transformers.RobertaConfig(**ROBERTA, num_labels=9)),
    "roberta-span": ("RobertaForQuestionAnswering", lambda: transformers.RobertaConfig(**ROBERTA)),
    "xlm_roberta-bare": ("XLMRobertaModel", lambda: transformers.XLMRobertaConfig(**XLM)),
    "xlm_roberta-masked": ("XLMRobertaForMaskedLM", lambda: transformers.XLMRobertaConfig(**XLM)),
    "albert-bare": ("AlbertModel", lambda: transformers.AlbertConfig(**ALBERT)),
    "albert-masked": ("AlbertForMaskedLM", lambda: transformers.AlbertConfig(**ALBERT)),
    "albert-pretraining": ("AlbertForPreTraining", lambda: transformers.AlbertConfig(**ALBERT)),
    "albert-pretraining-relu": ("AlbertForPreTraining", lambda: transformers.AlbertConfig(**ALBERT, hidden_act="relu")),
    "albert-text": ("AlbertForSequenceClassification", lambda: transformers.AlbertConfig(**ALBERT, num_labels=7)),
    "albert-token": ("AlbertForTokenClassification", lambda: transformers.AlbertConfig(**ALBERT, num_labels=9)),
    "albert-span": ("AlbertForQuestionAnswering", lambda: transformers.AlbertConfig(**ALBERT)),
    "distilbert-bare": ("DistilBertModel", lambda: transformers.DistilBertConfig(**DISTIL)),
    "distilbert-masked": ("DistilBertForMaskedLM", lambda: transformers.DistilBertConfig(**DISTIL)),
    "distilbert-masked-relu": (
        "DistilBertForMaskedLM",
        lambda: transformers.DistilBertConfig(**DISTIL, activation="relu"),
    ),
    "distilbert-text": (
        "DistilBertForSequenceClassification",
        lambda: transformers.DistilBertConfig(**DISTIL, num_labels=7),
    ),
    "distilbert-token": (
        "DistilBertForTokenClassification",
        lambda: transformers.DistilBertConfig(**DISTIL, num_labels=9),
    ),
    "distilbert-span": ("DistilBertForQuestionAnswering", lambda: transformers.DistilBertConfig(**DISTIL)),
}
"""A name, the class of transformers, and its configuration."""

AUTO = {
    "bert": "BertForPreTraining",
    "roberta": "RobertaForMaskedLM",
    "xlm_roberta": "XLMRobertaForMaskedLM",
    "albert": "AlbertForPreTraining",
    "distilbert": "DistilBertForMaskedLM",
}
"""Families that we make, and the class that reads what we save."""
OURS = {name: Shape(67, 35, 2, 5, 48, hidden_dim=52) for name in AUTO}


def saved_by_transformers(name: str, seed: int, directory: Path) -> torch.nn.Module:
    kind, config = THEIRS[name]
    model = scrambled(getattr(transformers, kind)(config()), seed)
    model.save_pretrained(directory)
    return model


def pair(seed: int, num_types: int, padding: int) -> dict[str, torch.Tensor]:
    """Draw two rows of ids, the second padded at its end, with types where there are any."""
    ids, mask = draw_ids(seed, 2, 17), torch.ones(2, 17, dtype=torch.long)
    mask[1, 11:] = 0
    found = {"input_ids": torch.where(mask > 0, ids, padding), "attention_mask": mask}
    if num_types:
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
    batch = pair(seed, model.spec.num_types, theirs.config.pad_token_id)
    with torch.no_grad():
        for found, expected in numbers(run(model, batch), theirs(**batch)):
            torch.testing.assert_close(real(batch, found), real(batch, expected), atol=1e-5, rtol=1e-5)
    config = theirs.config
    assert model.spec.token_ids == TokenIds(config.bos_token_id, (config.eos_token_id,), config.pad_token_id)


@pytest.mark.parametrize("name", sorted(THEIRS))
def test_gradients_equal_theirs(name, tmp_path):
    theirs = saved_by_transformers(name, 0, tmp_path)
    model = load_model(tmp_path)
    batch = pair(0, model.spec.num_types, theirs.config.pad_token_id)
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
    batch = pair(5, model.spec.num_types, theirs.config.pad_token_id)
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


@pytest.mark.parametrize("name", [name for name, spec in PRESETS.items() if spec.family in AUTO and "sim" not in name])
def test_presets_have_as_many_parameters_as_theirs(name):
    published = FAMILIES[PRESETS[name].family].hf_from_spec(PRESETS[name])
    config = transformers.AutoConfig.for_model(**published)
    with torch.device("meta"):
        theirs = getattr(transformers, published["architectures"][0])(config)
    assert count_parameters(PRESETS[name]) == sum(parameter.numel() for parameter in theirs.parameters())


def test_a_pooler_and_a_language_head_together_are_read_by_the_class_of_each(tmp_path, warnings_of_transformers):
    model = build(replace(PRESETS["simbert-tiny"], vocab_size=67, max_seq_len=48), seed=3)
    save_model(scrambled(model, 3), tmp_path)
    bare, bare_report = transformers.AutoModel.from_pretrained(tmp_path, output_loading_info=True)
    masked, masked_report = transformers.BertForMaskedLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not bare_report["missing_keys"] and not masked_report["missing_keys"]
    assert {key.split(".")[0] for key in bare_report["unexpected_keys"]} == {"cls"}
    assert {key.split(".")[1] for key in masked_report["unexpected_keys"]} == {"pooler"}
    batch = pair(0, 2, 0)
    with torch.no_grad():
        ours = run(load_model(tmp_path), batch)
        torch.testing.assert_close(ours.pooled, bare(**batch).pooler_output, atol=1e-5, rtol=1e-5)
        expected = masked(**batch).logits
    torch.testing.assert_close(real(batch, ours.logits), real(batch, expected), atol=1e-5, rtol=1e-5)


def test_a_head_of_its_own_matrix_leaves_the_bias_that_they_do_not_use(tmp_path):
    theirs = scrambled(transformers.BertForMaskedLM(transformers.BertConfig(**BERT, tie_word_embeddings=False)), 1)
    theirs.save_pretrained(tmp_path)
    model, batch = load_model(tmp_path), pair(0, 3, 0)
    assert not model.spec.tied and "cls.predictions.bias" in theirs.state_dict()
    with torch.no_grad():
        found, expected = run(model, batch).logits, theirs(**batch).logits
    torch.testing.assert_close(real(batch, found), real(batch, expected), atol=1e-5, rtol=1e-5)


def test_a_crf_behind_labels_is_left_out_by_other_readers(tmp_path):
    task = TaskSpec("token", 4, crf=True, label_names=("O", "B-PER", "I-PER", "B-LOC"))
    spec = with_top(spec_for("bert", OURS["bert"]), Top(tasks=(task,)), None)
    model = scrambled(build(spec, seed=3), 3)
    save_model(model, tmp_path)
    theirs, report = transformers.AutoModelForTokenClassification.from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"] and {key.split(".")[0] for key in report["unexpected_keys"]} == {"crf"}
    assert theirs.config.id2label[1] == "B-PER"
    batch, loaded = pair(0, 2, 0), load_model(tmp_path)
    with torch.no_grad():
        found, expected = run(loaded, batch).tasks["token"], theirs(**batch).logits
    torch.testing.assert_close(real(batch, found), real(batch, expected), atol=1e-5, rtol=1e-5)
    assert loaded.spec == spec
    assert torch.equal(loaded.tasks["token"].crf.transitions, model.tasks["token"].crf.transitions)
