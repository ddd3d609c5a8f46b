"""Bits per byte against the obvious computation, window by window and token by token."""

import math

import pytest
import torch

from smelt.core.errors import UsageError
from smelt.evals import bits_per_byte
from smelt.evals import text as text_module
from smelt.evals.text import split
from smelt.tokenizers.bpe_train import train_bpe

TEXT = "The miller walks to the mill; the river turns the wheel. 磨坊在河边。 " * 3


@torch.inference_mode()
def nats_of(model, context, token):
    return -float(model(torch.tensor([context])).logits[0, -1].log_softmax(-1)[token])


def brute_force(model, ids, max_seq_len, stride):
    """Score every token on its own forward, with the context that its window gives it."""
    total, scored, begin = 0.0, 1, 0
    while scored < len(ids):
        end = min(begin + max_seq_len + 1, len(ids))
        for place in range(scored, end):
            total += nats_of(model, ids[begin:place], ids[place])
        scored, begin = end, begin + stride
    return total


def test_windows_score_each_token_once():
    windows = list(split([0, 1, 2, 3, 4, 5], 3, 2))
    assert [(list(window.ids), window.num_scored) for window in windows] == [([0, 1, 2, 3], 3), ([2, 3, 4, 5], 2)]
    assert list(split([7], 3, 2)) == []


@pytest.mark.parametrize(("max_seq_len", "stride"), [(8, 1), (8, 3), (8, 8), (5, 4), (1, 1), (50, 20)])
@pytest.mark.parametrize("num_tokens", [1, 2, 7, 8, 9, 10, 40, 41])
def test_windows_keep_their_promises(max_seq_len, stride, num_tokens):
    ids = list(range(num_tokens + 1))
    scored = []
    for window in split(ids, max_seq_len, stride):
        assert len(window.ids) <= max_seq_len + 1
        for token in window.ids[len(window.ids) - window.num_scored :]:
            context = window.ids.index(token)
            assert context >= max_seq_len - stride or window.ids[0] == 0
            scored.append(token)
    assert scored == ids[1:]


def test_a_short_text_is_one_full_forward(model, tokenizer):
    text = "the mill 磨坊"
    ids = [tokenizer.special["<|endoftext|>"], *tokenizer.encode(text)]
    nats = sum(nats_of(model, ids[:place], ids[place]) for place in range(1, len(ids)))
    score = bits_per_byte(model, tokenizer, [text])
    assert score.num_bytes == 9 + 6 and score.num_tokens == len(ids) - 1
    assert score.bits_per_byte == pytest.approx(nats / math.log(2) / 15, rel=1e-5)
    assert score.perplexity == pytest.approx(math.exp(nats / score.num_tokens), rel=1e-4)


@pytest.mark.parametrize(("max_seq_len", "stride"), [(16, 5), (16, 16), (40, 1)])
def test_strided_windows_equal_brute_force(model, tokenizer, max_seq_len, stride):
    ids = [tokenizer.special["<|endoftext|>"], *tokenizer.encode(TEXT)]
    expected = brute_force(model, ids, max_seq_len, stride) / math.log(2) / len(TEXT.encode())
    score = bits_per_byte(model, tokenizer, [TEXT], max_seq_len=max_seq_len, stride=stride)
    assert score.bits_per_byte == pytest.approx(expected, rel=1e-5)


def test_documents_do_not_see_each_other(model, tokenizer, monkeypatch):
    texts = [TEXT, "", "the mill", "x", TEXT[:80]]
    alone = [bits_per_byte(model, tokenizer, [text], max_seq_len=32) for text in texts if text]
    bits = sum(score.bits_per_byte * score.num_bytes for score in alone)
    for batch_tokens, pool in ((8192, 1024), (40, 3)):  # in one batch, and in many small ones
        monkeypatch.setattr(text_module, "BATCH_TOKENS", batch_tokens)
        monkeypatch.setattr(text_module, "POOL_WINDOWS", pool)
        monkeypatch.setattr(text_module, "LOGIT_ENTRIES", 265 * 7)
        together = bits_per_byte(model, tokenizer, iter(texts), max_seq_len=32)
        assert together.num_bytes == sum(score.num_bytes for score in alone)
        assert together.num_tokens == sum(score.num_tokens for score in alone)
        assert together.bits_per_byte == pytest.approx(bits / together.num_bytes, rel=1e-6)


def test_a_uniform_model_needs_log2_of_its_vocabulary_a_token(model, tokenizer):
    class Uniform:
        spec, head_weight, max_text_tokens = model.spec, model.head_weight, model.max_text_tokens

        def __call__(self, ids, *, project):
            return type("Output", (), {"hidden": torch.zeros(*ids.shape, 1)})

        def project(self, hidden):
            return hidden.expand(-1, 265)

    score = bits_per_byte(Uniform(), tokenizer, ["xyz", "the"])
    assert tokenizer.encode("the") != tokenizer.encode("xyz")
    assert score.perplexity == pytest.approx(265)
    assert score.bits_per_byte == pytest.approx(score.num_tokens * math.log2(265) / 6)


def test_special_text_is_scored_as_text(model, tokenizer):
    assert bits_per_byte(model, tokenizer, ["<|endoftext|>"]).num_tokens > 1


def test_sizes_that_do_not_fit_are_refused(model, tokenizer):
    with pytest.raises(UsageError) as error:
        bits_per_byte(model, tokenizer, ["a"], max_seq_len=161)
    assert str(error.value) == "max_seq_len: 161 is not possible\naccepted: 1 to the model's context, 160"
    with pytest.raises(UsageError) as error:
        bits_per_byte(model, tokenizer, ["a"], max_seq_len=8, stride=9)
    assert str(error.value) == "stride: 9 is not possible\naccepted: 1 to max_seq_len, 8"


@pytest.mark.parametrize("texts", [[], [""]])
def test_an_empty_text_is_refused(model, tokenizer, texts):
    with pytest.raises(UsageError) as error:
        bits_per_byte(model, tokenizer, texts)
    assert str(error.value) == "the text is empty\naccepted: at least one byte of text"


def test_a_tokenizer_without_a_start_token_needs_one(model):
    plain = train_bpe(["a"], vocab_size=257, special=("<s>",))
    with pytest.raises(UsageError) as error:
        bits_per_byte(model, plain, ["abc"])
    assert str(error.value) == (
        "the tokenizer has no <|endoftext|> to start a document with\ntry: pass the start token's id as start_id"
    )
    assert bits_per_byte(model, plain, ["abc"], start_id=256).num_tokens == 3
