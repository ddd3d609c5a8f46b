"""Readings of a text: right numbers whatever the batch, right words, and errors that say what the model has."""

from dataclasses import replace

import pytest
import torch

from smelt.core.errors import UsageError
from smelt.models.build import build
from smelt.models.families import Shape, spec_for
from smelt.models.families.encoder_layout import Top, with_top
from smelt.models.readings import classify, embed, fill, mask_token, surround
from smelt.nn.spec import TaskSpec
from smelt.tokenizers.training import train_tokenizer

from .conftest import scrambled

TEXTS = ["the mill stands by the river", "a cat sat on the old mat in the mill by the river", "the cat"]
WORDS = TEXTS * 3


@pytest.fixture(scope="session")
def wordpiece():
    return train_tokenizer(WORDS, algorithm="wordpiece", vocab_size=60, special=())


def make(tokenizer, top: Top | None = None, **changes):
    spec = spec_for("bert", Shape(tokenizer.vocab_size + 3, 24, 2, 6, 40))  # more rows than the tokenizer has
    spec = spec if top is None else with_top(spec, top, spec.head_transform)
    return scrambled(build(replace(spec, **changes), seed=5))


def test_masks_are_filled_by_the_likeliest_tokens_of_the_tokenizer(wordpiece):
    model = make(wordpiece)
    texts = ["the [MASK] by [MASK] river", "[MASK]"]
    found = fill(model, wordpiece, texts, top_k=4)
    assert [len(masks) for masks in found] == [2, 1]
    ids = torch.tensor([wordpiece.encode(texts[0], allow_special=True, add_special_tokens=True)])
    shares = model(ids).logits[0, :, : wordpiece.vocab_size].softmax(-1)
    for place, choices in zip((2, 4), found[0], strict=True):
        best = shares[place].topk(4)
        assert [choice.text for choice in choices] == [wordpiece.decode([token]).strip() for token in best.indices]
        torch.testing.assert_close(torch.tensor([choice.probability for choice in choices]), best.values)
    assert len(fill(model, wordpiece, ["[MASK]"], top_k=1000)[0][0]) == wordpiece.vocab_size


def test_vectors_are_of_real_tokens_only_and_of_length_one(wordpiece):
    model = make(wordpiece)
    many = TEXTS * 15  # more than one batch
    for pooling in ("mean", "cls", "pooled"):
        found = embed(model, wordpiece, many, pooling=pooling)
        assert found.shape == (45, 24)
        torch.testing.assert_close(found.norm(dim=1), torch.ones(45))
        for row, text in enumerate(TEXTS):
            output = model(torch.tensor([wordpiece.encode(text, add_special_tokens=True)]))
            vectors = {"mean": output.hidden[0].mean(0), "cls": output.hidden[0, 0], "pooled": output.pooled[0]}
            raw = embed(model, wordpiece, [text], pooling=pooling, normalized=False)[0]
            torch.testing.assert_close(raw, vectors[pooling], atol=1e-5, rtol=1e-5)
            torch.testing.assert_close(found[row], raw / raw.norm(), atol=1e-5, rtol=1e-5)
            assert torch.equal(found[row], found[row + 3])
    assert embed(model, wordpiece, []).shape == (0, 24)


def test_labels_of_texts_and_pairs_come_with_names_the_likeliest_first(wordpiece):
    task = TaskSpec("text", 3, "pooled", label_names=("good", "bad", "dull"))
    model = make(wordpiece, Top(False, True, (task,)))
    for found, text in zip(classify(model, wordpiece, TEXTS), TEXTS, strict=True):
        shares = model(torch.tensor([wordpiece.encode(text, add_special_tokens=True)])).tasks["text"][0].softmax(-1)
        expected = sorted(zip(shares.tolist(), task.label_names, strict=True), reverse=True)
        assert [choice.text for choice in found] == [name for _, name in expected]
        assert [choice.probability for choice in found] == pytest.approx([share for share, _ in expected], abs=1e-5)
    [pair] = classify(model, wordpiece, ["the cat"], seconds=["the mill"])
    row = surround(wordpiece, wordpiece.encode("the cat"), wordpiece.encode("the mill"))
    output = model(torch.tensor([row.ids]), types=torch.tensor([row.types]))
    assert pair[0].probability == pytest.approx(output.tasks["text"].softmax(-1).max().item(), abs=1e-5)


def test_a_pair_gets_its_tokens_and_types(wordpiece):
    cls, sep = wordpiece.special["[CLS]"], wordpiece.special["[SEP]"]
    row = surround(wordpiece, [7, 8], [9])
    assert (row.ids, row.types) == ([cls, 7, 8, sep, 9, sep], [0, 0, 0, 0, 1, 1])
    assert row.places == (range(1, 3), range(4, 5))
    assert surround(wordpiece, [7, 8]).ids == [cls, 7, 8, sep]


def test_a_model_without_the_part_says_what_it_has(wordpiece):
    bare = make(wordpiece, Top(tasks=(TaskSpec("token", 5),)))
    with pytest.raises(UsageError) as caught:
        fill(bare, wordpiece, ["the [MASK]"])
    assert str(caught.value) == (
        "this bert model lacks a language head, which fills masks; it has layers that read both ways, "
        "5 labels of each token (token)\n"
        "accepted: a checkpoint of an encoder with a language head\n"
        "try: `smelt info CKPT` shows what a checkpoint has"
    )
    with pytest.raises(UsageError, match="lacks a pooler; it has"):
        embed(bare, wordpiece, ["x"], pooling="pooled")
    with pytest.raises(UsageError, match="lacks a head that labels texts; it has"):
        classify(bare, wordpiece, ["x"])
    decoder = build(spec_for("llama", Shape(70, 24, 2, 6, 40)), seed=1)
    with pytest.raises(UsageError, match="lacks layers that read a text both ways; it has layers that read forwards"):
        embed(decoder, wordpiece, ["x"])


def test_texts_that_cannot_be_read_are_named(wordpiece, byte_tokenizer):
    model = make(wordpiece)
    with pytest.raises(UsageError, match=r"there is no \[MASK\] in 'the cat'\naccepted: a text with \[MASK\]"):
        fill(model, wordpiece, ["[MASK]", "the cat"])
    with pytest.raises(UsageError, match="no token for a missing word\naccepted: a tokenizer with"):
        mask_token(byte_tokenizer)
    with pytest.raises(UsageError, match="42 tokens in a context of 40"):
        embed(model, wordpiece, ["the " * 40])
    with pytest.raises(UsageError, match="2 texts and 1 second ones"):
        classify(
            make(wordpiece, Top(False, True, (TaskSpec("text", 2, "pooled"),))), wordpiece, ["a", "b"], seconds=["c"]
        )
    with pytest.raises(UsageError, match="the head text gives one number, not labels"):
        classify(make(wordpiece, Top(False, True, (TaskSpec("text", 1, "pooled"),))), wordpiece, ["a"])
