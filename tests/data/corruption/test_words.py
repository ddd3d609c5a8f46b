"""Tables of continuations and sentence ends for each kind of vocabulary."""

from smelt.data.corruption.words import continues_word, ends_sentence, is_special
from smelt.tokenizers.base import SPECIAL
from smelt.tokenizers.bpe_train import train_bpe
from smelt.tokenizers.training import train_tokenizer

TEXT = "the miller plays, the player mills. 磨坊在河边。 playing playing played"


def test_wordpiece() -> None:
    tokenizer = train_tokenizer([TEXT * 3], algorithm="wordpiece", vocab_size=90)
    table = continues_word(tokenizer)
    for token, found in zip(tokenizer.spelling, table, strict=True):
        letters = token.removeprefix("##").isascii() and token.removeprefix("##").isalnum()
        assert found == (token.startswith("##") and letters), token


def test_byte_level() -> None:
    tokenizer = train_tokenizer([TEXT * 3], vocab_size=320)
    table = dict(zip(tokenizer.tokens, continues_word(tokenizer).tolist(), strict=True))
    assert not table[b" the"] and not table[b"."] and not table[b"<|endoftext|>"] and not table[b"\n"]
    assert table[b"i"] and all(table[token] for token in table if token.isalnum())
    assert not table[b"\xe7"] and table[b"\xa3"]  # the first byte of a character, and an inner one


def test_unigram() -> None:
    tokenizer = train_tokenizer([TEXT * 3], algorithm="unigram", vocab_size=330)
    table = dict(zip(tokenizer.spelling, continues_word(tokenizer).tolist(), strict=True))
    assert not table["▁the"] and table["m"] and not table["磨"]


def test_sentences_end_at_stops_and_lines() -> None:
    tokenizer = train_bpe([], vocab_size=256 + len(SPECIAL))
    table = dict(zip(tokenizer.tokens, ends_sentence(tokenizer).tolist(), strict=True))
    assert [token for token in (b".", b"!", b"?", b"\n", b",", b"a", b" ") if table[token]] == [b".", b"!", b"?", b"\n"]
    assert table[b"<|endoftext|>"]
    assert is_special(tokenizer).sum() == len(SPECIAL)
