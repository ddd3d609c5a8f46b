"""Readings of an encoder against transformers, model and tokenizer, on the files that we save."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

import smelt
from smelt.models.build import build
from smelt.models.families import Shape, spec_for
from smelt.models.families.encoder_layout import Top, with_top
from smelt.models.hub import save_model
from smelt.models.readings import classify, embed, fill, surround
from smelt.models.span_readings import answer
from smelt.models.word_readings import tag
from smelt.nn.spec import TaskSpec
from smelt.tokenizers.training import train_tokenizer

from .test_models import scrambled, warnings_of_transformers

transformers = pytest.importorskip("transformers")
tokenizers = pytest.importorskip("tokenizers")
pytestmark = pytest.mark.interop
__all__ = ["warnings_of_transformers"]

TEXTS = ["The mill stands by the river.", "A cat sat on the old mat, in the mill by the river!", "the cat"]


def saved(directory: Path, top: Top | None = None) -> None:
    tokenizer = train_tokenizer(TEXTS * 3, algorithm="wordpiece", vocab_size=70, special=())
    spec = spec_for("bert", Shape(tokenizer.vocab_size, 35, 2, 5, 48))
    spec = spec if top is None else with_top(spec, top, spec.head_transform)
    smelt.save(scrambled(build(spec, seed=2), 2), tokenizer, directory)


def theirs(directory: Path, kind: str, *texts: Sequence[str]) -> object:
    tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
    model = getattr(transformers, kind).from_pretrained(directory).eval()
    with torch.no_grad():
        return model(**tokenizer(*texts, padding=True, return_tensors="pt"))


def test_masks(tmp_path):
    saved(tmp_path)
    theirs_says = transformers.pipeline("fill-mask", model=str(tmp_path), top_k=6)("The [MASK] by the river.")
    [[found]] = fill(*smelt.load(tmp_path), ["The [MASK] by the river."], top_k=6)
    assert [choice.text for choice in found] == [entry["token_str"].replace(" ", "") for entry in theirs_says]
    assert [choice.probability for choice in found] == pytest.approx(
        [entry["score"] for entry in theirs_says], rel=1e-3
    )


def test_vectors(tmp_path):
    saved(tmp_path)
    expected = theirs(tmp_path, "AutoModel", TEXTS)
    for pooling, vectors in (("cls", expected.last_hidden_state[:, 0]), ("pooled", expected.pooler_output)):
        found = embed(*smelt.load(tmp_path), TEXTS, pooling=pooling, normalized=False)
        torch.testing.assert_close(found, vectors, atol=1e-5, rtol=1e-5)


def test_labels_of_pairs(tmp_path):
    task = TaskSpec("text", 3, "pooled", label_names=("yes", "no", "perhaps"))
    saved(tmp_path, Top(False, True, (task,)))
    shares = theirs(tmp_path, "AutoModelForSequenceClassification", TEXTS, TEXTS[::-1]).logits.softmax(-1)
    found = classify(*smelt.load(tmp_path), TEXTS, seconds=TEXTS[::-1])
    for choices, row in zip(found, shares, strict=True):
        ours = {choice.text: choice.probability for choice in choices}
        assert [ours[name] for name in task.label_names] == pytest.approx(row.tolist(), abs=1e-5)


def test_labels_of_words(tmp_path):
    saved(tmp_path, Top(tasks=(TaskSpec("token", 3, label_names=("O", "B-X", "I-X")),)))
    words = [["The", "Matin", "stands"], ["cat"]]
    encoded = transformers.AutoTokenizer.from_pretrained(tmp_path)(
        words, is_split_into_words=True, padding=True, return_tensors="pt"
    )
    model = transformers.AutoModelForTokenClassification.from_pretrained(tmp_path).eval()
    best = model(**encoded).logits.argmax(-1)
    for row, labels in enumerate(tag(*smelt.load(tmp_path), words)):
        owners = encoded.word_ids(row)
        expected = [model.config.id2label[int(best[row, owners.index(number)])] for number in range(len(words[row]))]
        assert labels == expected


def test_answers(tmp_path):
    saved(tmp_path, Top(tasks=(TaskSpec("span", 2),)))
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    model = transformers.AutoModelForQuestionAnswering.from_pretrained(tmp_path).eval()
    for text in TEXTS:
        encoded = tokenizer("the mat?", text, return_tensors="pt", return_offsets_mapping=True)
        offsets = encoded.pop("offset_mapping")[0]
        here = [place for place, part in enumerate(encoded.sequence_ids(0)) if part == 1]
        with torch.no_grad():
            output = model(**encoded)
        first, last = output.start_logits[0, here].softmax(0), output.end_logits[0, here].softmax(0)
        pairs = torch.triu(first[:, None] * last)
        start, stop = divmod(int(pairs.argmax()), len(here))
        found = answer(*smelt.load(tmp_path), "the mat?", text)
        assert found.probability == pytest.approx(pairs.max().item(), rel=1e-3)
        assert found.start <= offsets[here[start]][0] and found.stop >= offsets[here[stop]][1]


def test_masks_of_a_tokenizer_of_bytes(tmp_path):
    learned = tokenizers.ByteLevelBPETokenizer()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    learned.train_from_iterator(TEXTS * 3, vocab_size=300, special_tokens=special, show_progress=False)
    learned.save_model(str(tmp_path))
    theirs = transformers.RobertaTokenizerFast(str(tmp_path / "vocab.json"), str(tmp_path / "merges.txt"))
    theirs.save_pretrained(tmp_path)
    save_model(scrambled(build(spec_for("roberta", Shape(len(theirs), 35, 2, 5, 48)), seed=2), 2), tmp_path)
    text = "The old <mask> stands by the<mask>."
    expected = transformers.pipeline("fill-mask", model=str(tmp_path), tokenizer=theirs, top_k=4)(text)
    model, ours = smelt.load(tmp_path)
    [found] = fill(model, ours, [text], top_k=4)
    for choices, entries in zip(found, expected, strict=True):
        assert [choice.text for choice in choices] == [entry["token_str"].strip() for entry in entries]
        assert [choice.probability for choice in choices] == pytest.approx(
            [entry["score"] for entry in entries], rel=1e-3
        )
    encoded = theirs(TEXTS, TEXTS[::-1])["input_ids"]
    pairs = zip(TEXTS, TEXTS[::-1], strict=True)
    assert [surround(ours, ours.encode(one), ours.encode(other)).ids for one, other in pairs] == encoded
