"""Bits per byte of an n-gram model: against the sum by hand, and between the bounds that every model keeps."""

import math

import pytest

from smelt.core.errors import UsageError
from smelt.evals.ngram import bits_per_byte
from smelt.models.ngram import NgramModel
from smelt.tokenizers.bpe_train import train_bpe
from smelt.tokenizers.pipeline import Pipeline

TEXT = "The miller walks to the mill; the river turns the wheel. 磨坊在河边。 " * 4


@pytest.fixture(scope="module")
def byte_level() -> Pipeline:
    return train_bpe([TEXT], vocab_size=275)


def documents(tokenizer: Pipeline, texts: list[str]) -> list[list[int]]:
    return [[tokenizer.special["<|endoftext|>"], *tokenizer.encode(text)] for text in texts]


def test_it_is_the_sum_over_tokens_by_bytes(byte_level: Pipeline) -> None:
    model = NgramModel.train(documents(byte_level, [TEXT]), vocab_size=275, order=3)
    texts = ["the mill 磨", "", "The wheel turns."]
    bits = 0.0
    for row in documents(byte_level, texts):
        for place in range(1, len(row)):  # the first is the end-of-text token, which is context only
            bits -= math.log2(model.distribution(row[:place])[row[place]])
    assert bits_per_byte(model, byte_level, texts) == pytest.approx(bits / (9 + 3 + 16), rel=1e-12)


def test_documents_do_not_see_each_other(byte_level: Pipeline) -> None:
    model = NgramModel.train(documents(byte_level, [TEXT]), vocab_size=275, order=3)
    once = bits_per_byte(model, byte_level, ["the mill"])
    assert bits_per_byte(model, byte_level, iter(["the mill"] * 3)) == pytest.approx(once, rel=1e-12)


def test_more_context_and_the_known_beginning_help(byte_level: Pipeline) -> None:
    rows = documents(byte_level, [TEXT])
    scores = [
        bits_per_byte(NgramModel.train(rows, vocab_size=275, order=n), byte_level, [TEXT[:60]]) for n in (1, 2, 3)
    ]
    assert scores[2] < scores[1] < scores[0] < 8
    begun = NgramModel.train(documents(byte_level, ["a b", "a c", "a d"]), vocab_size=275, order=2)
    assert bits_per_byte(begun, byte_level, ["a"]) < bits_per_byte(begun, byte_level, ["b"])


def test_a_tokenizer_without_end_of_text_starts_with_nothing() -> None:
    plain = train_bpe([], vocab_size=256, special=())
    model = NgramModel.train([[0]], vocab_size=256, order=2)
    row = plain.encode("ab")
    expected = -model.log_probabilities(row).sum() / math.log(2) / 2
    assert bits_per_byte(model, plain, ["ab"]) == pytest.approx(expected, rel=1e-12)


def test_what_cannot_be_scored(byte_level: Pipeline) -> None:
    model = NgramModel.train([[0]], vocab_size=275)
    for texts in ([], ["", ""]):
        with pytest.raises(UsageError, match=r"^the text is empty\naccepted: at least one byte of text$"):
            bits_per_byte(model, byte_level, texts)
    small = NgramModel.train([[0]], vocab_size=256)
    with pytest.raises(UsageError, match="the tokenizer has 275 ids, the n-gram model 256"):
        bits_per_byte(small, byte_level, ["a"])
