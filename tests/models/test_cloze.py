"""Labels as words in a template: what is read, what is scored, and what does not fit."""

import math
from collections.abc import Callable

import pytest
import torch

from smelt.core.errors import ConfigError, UsageError
from smelt.models.cloze import calibrated, check_template, fill_labels, make_cloze, pieces
from smelt.models.families import Shape, spec_for
from smelt.models.families.bert import TOPS, make
from smelt.models.readings import batches, scores_of
from smelt.models.transformer import Transformer
from smelt.tokenizers.bpe_train import byte_tokenizer
from smelt.tokenizers.pipeline import Pipeline
from smelt.tokenizers.training import train_tokenizer

from .conftest import scrambled

TEXTS = ["the room was fine", "a cold room, and the day was cold too", "fine"]
WORDS = {"bad": ("x", "y"), "good": ("z",)}


@pytest.fixture(scope="module")
def wordpiece() -> Pipeline:
    """Return a tokenizer with [MASK], whose words are whole."""
    return train_tokenizer([*TEXTS, "it was good bad poor"] * 5, algorithm="wordpiece", vocab_size=120)


@pytest.fixture
def decoder(tiny: Callable[..., Transformer]) -> Transformer:
    """Return a decoder of bytes."""
    return tiny("gpt2", vocab_size=byte_tokenizer().vocab_size, max_seq_len=64).eval()


def encoder(tokenizer: Pipeline, **changes: object) -> Transformer:
    return scrambled(Transformer(make(Shape(tokenizer.vocab_size, 20, 2, 2, 40), **changes))).eval()  # type: ignore


def test_a_template_is_cut_at_its_places() -> None:
    assert pieces("{text} It was {word}.") == [("", "", "text"), (" It was", " ", "word"), (".", "", "")]
    assert pieces("A: {text}{word}") == [("A:", " ", "text"), ("", "", "word"), ("", "", "")]


def test_a_decoder_scores_what_comes_next(decoder: Transformer) -> None:
    tokenizer = byte_tokenizer()
    cloze = make_cloze(decoder, tokenizer, "So: {text}={word}", WORDS)
    start = tokenizer.special["<|endoftext|>"]
    found = scores_of(cloze, decoder, TEXTS)
    for text, scores in zip(TEXTS, found, strict=True):
        ids = [start, *tokenizer.encode(f"So: {text}=")]
        assert cloze.surround(cloze.encode(text)).ids == ids
        shares = decoder(torch.tensor([ids])).logits[0, -1].log_softmax(-1)
        x, y, z = (shares[tokenizer.encode(word)[0]] for word in "xyz")
        wanted = torch.stack([(x + y) / 2, z])
        torch.testing.assert_close(scores.log_softmax(-1), wanted.log_softmax(-1), atol=1e-5, rtol=0)


def test_an_encoder_scores_its_mask_wherever_it_stands(wordpiece: Pipeline) -> None:
    model = encoder(wordpiece)
    words = {"0": ("bad", "poor"), "1": ("good",)}
    for template, whole in (("{text}, it was {word}.", "{}, it was [MASK]."), ("{word} day: {text}", "[MASK] day: {}")):
        cloze = make_cloze(model, wordpiece, template, words)
        found = scores_of(cloze, model, TEXTS)
        for text, scores in zip(TEXTS, found, strict=True):
            ids = wordpiece.encode(whole.format(text), allow_special=True, add_special_tokens=True)
            assert cloze.surround(cloze.encode(text)).ids == ids
            logits = model(torch.tensor([ids])).logits[0, ids.index(wordpiece.special["[MASK]"])]
            bad, poor, good = (logits[wordpiece.encode(word)[0]] for word in ("bad", "poor", "good"))
            torch.testing.assert_close(scores, torch.stack([(bad + poor) / 2, good]), atol=1e-5, rtol=0)


def test_a_word_has_the_space_before_it(decoder: Transformer) -> None:
    tokenizer = train_tokenizer(["was fine was cold"] * 9, vocab_size=300)
    cloze = make_cloze(model_for(decoder, tokenizer), tokenizer, "{text} was {word}", {"0": ("cold",), "1": ("fine",)})
    assert [tokenizer.decode(ids) for ids in cloze.word_ids] == [" cold", " fine"]
    row = cloze.surround(cloze.encode("it"))
    assert row.ids[1:] == tokenizer.encode("it was") and row.types == [0] * len(row.ids)
    with pytest.raises(ConfigError, match="'s' is joined with the ' wa' before it, so that it never comes by itself"):
        make_cloze(model_for(decoder, tokenizer), tokenizer, "{text} wa{word}", {"0": ("s",), "1": ("fine",)})


def model_for(model: Transformer, tokenizer: Pipeline) -> Transformer:
    shape = Shape(tokenizer.vocab_size, 20, 1, 5, 40, hidden_dim=28)
    return scrambled(Transformer(spec_for(model.spec.family, shape)))


def test_pairs_and_cut_texts(decoder: Transformer) -> None:
    cloze = make_cloze(decoder, byte_tokenizer(), "{second}? {text}{word}", WORDS)
    texts = cloze.encode("one", "two")
    assert byte_tokenizer().decode(cloze.surround(texts).ids[1:]) == "two? one"
    cut = cloze.surround([texts[0][:2], texts[1][:1]])  # the space before a text is a token of it
    assert byte_tokenizer().decode(cut.ids[1:]) == "t? o"
    with pytest.raises(ConfigError, match="with no second text"):
        fill_labels(cloze, decoder, ["one"])


def test_offsets_make_an_empty_text_even(decoder: Transformer) -> None:
    cloze = make_cloze(decoder, byte_tokenizer(), "{text}={word}", WORDS)
    [before] = fill_labels(cloze, decoder, ["N/A"])
    even = calibrated(cloze, decoder, ["N/A"])
    assert abs(before[0].probability - 0.5) > 0.01
    assert [choice.probability for choice in fill_labels(even, decoder, ["N/A"])[0]] == pytest.approx(
        [0.5] * 2, abs=1e-5
    )
    two = calibrated(even, decoder, ["N/A", "?"])  # anew, not on top of the first
    shares = scores_of(cloze, decoder, ["N/A", "?"]).softmax(-1).mean(0)
    assert two.offsets == pytest.approx([math.log(share) for share in shares.tolist()], abs=1e-5)
    again = make_cloze(decoder, byte_tokenizer(), **two.as_dict())
    assert torch.equal(scores_of(again, decoder, TEXTS), scores_of(two, decoder, TEXTS))


def test_padding_changes_no_score(decoder: Transformer) -> None:
    cloze = make_cloze(decoder, byte_tokenizer(), "{text}={word}", WORDS)
    alone = torch.cat([scores_of(cloze, decoder, [text]) for text in TEXTS])
    torch.testing.assert_close(scores_of(cloze, decoder, TEXTS), alone, atol=1e-5, rtol=0)
    rows = [cloze.surround(cloze.encode(text)) for text in TEXTS]
    assert next(iter(batches(decoder, rows)))[1].shape[0] == 3


@pytest.mark.parametrize(
    ("template", "words", "message"),
    [
        ("It was {word}", WORDS, "has no place for the text"),
        ("{text} It was", WORDS, "has no place for the word\ntry: template='{text} It was {word}'"),
        ("{text}{text}={word}", WORDS, "has {text} twice"),
        ("{txt}={word}", WORDS, "has a place {txt}. Did you mean 'text'?"),
        ("{text} It was {word}.", WORDS, "goes on behind {word}, and a decoder reads forwards only"),
        ("{text}={word}", {"a": ("x",), "b": ()}, "the label 'b' has none"),
        ("{text}={word}", {"a": ("x",), "b": ("y", "x")}, "'x' of 'b' stands for 'a' too"),
        ("{text}={word}", {"a": ("fine",), "b": ("x",)}, "'fine' is 4 tokens ('f' 'i' 'n' 'e'), and the gap has room"),
        ("{text}={word}", {"a": ("",), "b": ("x",)}, "'' is not in the vocabulary"),
    ],
)
def test_what_does_not_fit_is_said(
    decoder: Transformer, template: str, words: dict[str, tuple[str]], message: str
) -> None:
    with pytest.raises(ConfigError) as error:
        make_cloze(decoder, byte_tokenizer(), template, words)
    assert message in str(error.value)


def test_what_a_model_must_have(wordpiece: Pipeline, decoder: Transformer) -> None:
    words = {"0": ("bad",), "1": ("good",)}
    with pytest.raises(ConfigError, match="'lovely' is not in the vocabulary"):
        make_cloze(encoder(wordpiece), wordpiece, "{text} {word}", {**words, "2": ("lovely",)})
    with pytest.raises(
        UsageError, match="lacks a language head, which scores words; it has layers that read both ways"
    ):
        make_cloze(encoder(wordpiece, top=TOPS["BertModel"]), wordpiece, "{text} {word}", words)
    with pytest.raises(UsageError, match="no token for a missing word"):
        make_cloze(encoder(byte_tokenizer()), byte_tokenizer(), "{text}{word}", WORDS)
    check_template("{word}: {text}.", reads_on=True)
