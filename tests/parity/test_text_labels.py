"""Decoders that label texts against transformers, in both directions: files, padding by its tokenizer, scores."""

from dataclasses import replace

import pytest
import torch

import smelt
from smelt.models.build import build
from smelt.models.families import Shape, spec_for
from smelt.models.hub import load_model
from smelt.models.readings import classify
from smelt.models.text_labels import for_text_labels
from smelt.models.token_labels import for_token_labels
from smelt.tokenizers.training import train_tokenizer
from smelt.train.stages.headed import padding_of

from .test_models import scrambled, warnings_of_transformers

transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.interop
__all__ = ["warnings_of_transformers"]

FAMILIES = {"gpt2": "GPT2", "llama": "Llama", "qwen2": "Qwen2", "mistral": "Mistral", "qwen3": "Qwen3"}
TEXTS = ["The mill stands by the river.", "A cat sat on the old mat, in the mill by the river!", "the cat"]
NAMES = ("ham", "spam", "todo")


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("family", FAMILIES)
def test_transformers_reads_our_classifier(tmp_path, family, tied, warnings_of_transformers):
    tokenizer = train_tokenizer(TEXTS * 3, algorithm="bpe", vocab_size=280)
    spec = spec_for(family, Shape(tokenizer.vocab_size, 40, 2, 4, 48, None if family == "gpt2" else 2, tied=tied))
    spec = replace(spec, token_ids=replace(spec.token_ids, padding=padding_of(spec, tokenizer)))
    model = scrambled(build(for_text_labels(spec, NAMES), seed=1), 1)
    smelt.save(model, tokenizer, tmp_path)
    theirs, found = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path, output_loading_info=True)
    assert type(theirs).__name__ == f"{FAMILIES[family]}ForSequenceClassification"
    assert not (found["missing_keys"] or found["unexpected_keys"] or warnings_of_transformers)
    assert theirs.config.id2label == dict(enumerate(NAMES)) and theirs.config.label2id["spam"] == 1
    encoded = transformers.AutoTokenizer.from_pretrained(tmp_path)(TEXTS, padding=True, return_tensors="pt")
    assert encoded["attention_mask"].min() == 0
    with torch.no_grad():
        shares = theirs.eval()(**encoded).logits.softmax(-1)
    for choices, row in zip(classify(*smelt.load(tmp_path), TEXTS), shares, strict=True):
        assert choices[0].text == NAMES[int(row.argmax())]
        ours = {choice.text: choice.probability for choice in choices}
        assert [ours[name] for name in NAMES] == pytest.approx(row.tolist(), abs=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_transformers_reads_our_labels_of_tokens_and_we_read_theirs(tmp_path, family, warnings_of_transformers):
    tokenizer = train_tokenizer(TEXTS * 3, algorithm="bpe", vocab_size=280)
    spec = spec_for(family, Shape(tokenizer.vocab_size, 40, 2, 4, 48, None if family == "gpt2" else 2))
    ours = scrambled(build(for_token_labels(spec, NAMES, crf=False), seed=1), 1)
    smelt.save(ours, tokenizer, tmp_path / "ours")
    theirs, found = transformers.AutoModelForTokenClassification.from_pretrained(
        tmp_path / "ours", output_loading_info=True
    )
    assert type(theirs).__name__ == f"{FAMILIES[family]}ForTokenClassification"
    assert not (found["missing_keys"] or found["unexpected_keys"] or warnings_of_transformers)
    assert theirs.config.id2label == dict(enumerate(NAMES))
    theirs.eval().save_pretrained(tmp_path / "theirs")
    ids = torch.randint(1, 270, (2, 9), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = theirs(ids).logits
        torch.testing.assert_close(ours(ids).tasks["token"], expected, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(load_model(tmp_path / "theirs")(ids).tasks["token"], expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("several", [False, True])
def test_we_read_theirs(tmp_path, several):
    config = transformers.LlamaConfig(
        vocab_size=70, hidden_size=40, intermediate_size=56, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=32, num_labels=4, pad_token_id=0,
        problem_type="multi_label_classification" if several else None,
    )  # fmt: skip
    theirs = scrambled(transformers.LlamaForSequenceClassification(config), 2)
    theirs.save_pretrained(tmp_path)
    ours = load_model(tmp_path)
    [task] = ours.spec.tasks
    assert (task.num_labels, task.reads, task.label_names, task.multi_label) == (4, "last", (), several)
    ids = torch.randint(1, 70, (2, 9), generator=torch.Generator().manual_seed(0))
    ids[0, 6:] = 0
    with torch.no_grad():
        expected = theirs(ids, attention_mask=(ids != 0).long()).logits
        found = ours(ids, segments=(ids != 0).long()).tasks["text"]
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
