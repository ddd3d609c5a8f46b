"""Compiled code against the definition beside it: cutting text, encoding words, learning merges, on any input."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smelt.core.errors import TokenizerError
from smelt.tokenizers.bpe import BPE
from smelt.tokenizers.bpe_train import MIN_FREQUENCY, count_words, learn_merges, train_bpe
from smelt.tokenizers.bytelevel import BYTE_ORDER
from smelt.tokenizers.fast import bpe_kernel
from smelt.tokenizers.kernels import fast_bpe, fast_train
from smelt.tokenizers.kernels.ascii_words import BYTES_AT_ONCE
from smelt.tokenizers.kernels.loads import padded
from smelt.tokenizers.kernels.pair_queue import HEAD, empty_queue, with_room
from smelt.tokenizers.kernels.scan import PATTERN_NUMBER, scan_words
from smelt.tokenizers.kernels.unicode import character_classes
from smelt.tokenizers.pipeline import byte_level
from smelt.tokenizers.pretokenize import PATTERNS, split
from smelt.tokenizers.splitters import Metaspace

patient = settings(deadline=None)
PIECES = (
    "'s", "'LL", "'ſ", "'vE", "don't", "  ", "\r\n", "\n\n", " \n ", "    ", "12345", "ABCdef", "//\n/", "the ", "mill",
    "磨坊", "👩\u200d👧", "🇫🇷", "e\u0301", "\u3000", "゛な", "שלום", "नमस्ते", "\x00", "\x1c", "\x85", "〇", "Ⅻ", "ǅ",
    "ªº", "▁", "!\"",
)  # fmt: skip
CODE = "aBstlve''\"().,_  \t\n\n\r\x0b\x1c\x00\x7f0123é磨\u3000"
texts = st.lists(st.one_of(st.text(max_size=6), st.sampled_from(PIECES)), max_size=12).map("".join)


def scanned(text: str, pattern: str) -> list[str]:
    data = text.encode()
    stops = np.empty(len(data) + 1 + BYTES_AT_ONCE, np.int64)
    count = scan_words(padded(data), len(data), character_classes(), PATTERN_NUMBER[pattern], stops)
    edges = [0, *stops[:count].tolist()]
    return [data[start:end].decode() for start, end in pairwise(edges)]


@pytest.mark.parametrize("pattern", sorted(PATTERNS))
@settings(patient, max_examples=400)
@given(text=texts)
def test_scanning_cuts_as_the_expression_does(pattern: str, text: str) -> None:
    assert scanned(text, pattern) == split(text, pattern)


@pytest.mark.parametrize("pattern", sorted(PATTERNS))
@settings(patient, max_examples=400)
@given(text=st.text(alphabet=CODE, min_size=60, max_size=300))
def test_scanning_ascii_across_the_64_bytes_seen_at_once(pattern: str, text: str) -> None:
    assert scanned(text, pattern) == split(text, pattern)


@settings(patient, max_examples=200)
@given(text=texts)
def test_scanning_at_marks(text: str) -> None:
    marked = text.replace(" ", "▁")
    assert scanned(marked, "metaspace") == Metaspace(prepend_scheme="never")(text)
    words = scanned(marked, "marks")
    assert "".join(words) == marked
    assert all("▁" not in word.lstrip("▁") for word in words)
    assert all(word.startswith("▁") for word in words[1:])


TRAINED = {
    pattern: train_bpe(
        [text * 3 for text in PIECES] + ["the mill by the mill's river " * 3], vocab_size=400, pattern=pattern
    )
    for pattern in ("gpt2", "gpt4", "o200k", "han")
}


@pytest.mark.parametrize("pattern", sorted(TRAINED))
@settings(patient, max_examples=200)
@given(documents=st.lists(texts, max_size=4))
def test_encoding_many_texts_gives_what_each_gives_alone(pattern: str, documents: list[str]) -> None:
    tokenizer = TRAINED[pattern]
    slowly = [tokenizer.encode_slowly(text) for text in documents]
    assert tokenizer.fast is not None
    assert tokenizer.fast.encode_batch(documents) == slowly
    arrays = list(tokenizer.fast.arrays(documents, end_id=7))
    assert [number for ids, _ in arrays for number in ids.tolist()] == [n for ids in slowly for n in [*ids, 7]]


# Characters of three bytes that share their first two or their last one, so that tokens end and begin within them.
ALIKE = "天太奧央夷失夢大且丕丘世丙专丐不与丏丢両丣两东丝，。ひらㄅ한"
CLAUSES = train_bpe(
    ["".join(ALIKE[(number * step) % len(ALIKE)] for number in range(200)) for step in range(1, 60)]
    + ["。" + chr(0x5000 + 641 * number % 0x1000) for number in range(4000)],
    vocab_size=900,
    pattern="gpt4",
)


def test_tokens_of_clauses_hold_parts_of_characters() -> None:
    assert {True, False} == {token[0] & 0xC0 == 0x80 for token in CLAUSES.model.tokens if len(token) > 3}
    assert any(len(token) > 3 and token[-1] & 0xF0 == 0xE0 for token in CLAUSES.model.tokens)


@settings(patient, max_examples=400)
@given(documents=st.lists(st.text([*ALIKE, "é", "a", " ", "😀", "1"], max_size=90), max_size=5))
def test_clauses_are_cut_only_where_no_token_lies_across(documents: list[str]) -> None:
    assert CLAUSES.fast is not None
    assert CLAUSES.fast.encode_batch(documents) == [CLAUSES.encode_slowly(text) for text in documents]


def test_a_full_memo_begins_again_and_the_longest_words_go_past_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, size in {"MEMO_WORDS": 1024, "LONG_ROWS": 1024, "LISTED_IDS": 1 << 14, "LONG_WORDS": 256}.items():
        monkeypatch.setattr(fast_bpe, name, size)
    tokenizer = TRAINED["gpt4"]
    kernel = bpe_kernel(tokenizer.model, "gpt4")
    assert kernel is not None
    words = [" " + "themillbyriver"[number % 9 :] * (1 + number % 7) + f"{number:o}"[-1] * 3 for number in range(400)]
    words += [" " + format(number, "012b").replace("0", "th").replace("1", "mi") for number in range(2500)]
    words += [" " + format(number, "06b").replace("0", "ri").replace("1", "el") for number in range(60)] * 3
    words += ["，磨坊在河边转动" * 3, " " * 200, "x" * 5000, "磨坊" * 900]
    text = "".join(words * 3)
    expected = tokenizer.encode_slowly(text)
    for _ in range(2):  # the second time with what is left of the first
        found, _ = kernel.encode(padded(text.encode()), np.array([len(text.encode())], np.int64))
        assert found.tolist() == expected


@settings(patient, max_examples=300)
@given(data=st.data())
def test_any_merges_are_applied_alike_or_left_to_the_definition(data: st.DataObject) -> None:
    """Merges of a tiny alphabet, in any order: most tables are none that training gives."""
    tokens = [bytes([byte]) for byte in range(256)]
    merges: list[tuple[int, int]] = []
    ids = {token: number for number, token in enumerate(tokens)}
    letters = [97, 98, 99]
    for _ in range(data.draw(st.integers(0, 12))):
        left, right = (data.draw(st.sampled_from([*letters, *range(256, len(tokens))])) for _ in range(2))
        joined = tokens[left] + tokens[right]
        if len(joined) > 24 or (left, right) in merges:
            continue
        if joined not in ids:
            ids[joined] = len(tokens)
            tokens.append(joined)
        merges.append((left, right))
    shuffled = data.draw(st.permutations(merges))
    ignore = data.draw(st.booleans())
    word = data.draw(st.text("abc", max_size=40))
    for order in (merges, shuffled):
        model = BPE(tokens, order, ignore_merges=ignore)
        kernel = bpe_kernel(model, "gpt2")
        if kernel is None:  # a merge ranks before one that made its parts
            continue
        found, _ = kernel.encode(padded(word.encode()), np.array([len(word)], np.int64))
        assert found.tolist() == (model.encode_word(word) if word else [])


def test_tokens_too_large_for_the_tables_are_left_to_the_definition() -> None:
    many = [bytes([byte]) * 60_000 for byte in range(150)]  # nine million bytes: more nodes than a row has bits for
    for tokens in (many, [b"a" * 70_000]):
        assert bpe_kernel(BPE([*(bytes([byte]) for byte in range(256)), *tokens], []), "gpt2") is None


@settings(patient, max_examples=100)
@given(documents=st.lists(texts, min_size=1, max_size=6), size=st.integers(0, 60), copies=st.integers(1, 3))
def test_learning_gives_the_merges_of_the_definition(documents: list[str], size: int, copies: int) -> None:
    documents = documents * copies
    counts = fast_train.count_texts(documents, PATTERN_NUMBER["gpt4"])
    found = fast_train.learn_merges(counts, BYTE_ORDER, size, MIN_FREQUENCY)
    _, merges = learn_merges(count_words(documents, "gpt4"), size)
    assert [tuple(pair) for pair in found.tolist()] == merges


def test_a_single_word_with_more_pairs_than_tokens_are_wanted() -> None:
    word = "".join(chr(0x4E00 + 7919 * number % 20_000) for number in range(20_000))
    found = fast_train.learn_merges(fast_train.count_texts([word], PATTERN_NUMBER["gpt2"]), BYTE_ORDER, 40, 2)
    assert [tuple(pair) for pair in found.tolist()] == learn_merges({word: 1}, 40)[1]


def test_a_queue_gets_room_and_loses_nothing() -> None:
    queue = empty_queue(4)
    queue[0], queue[1] = 2, 1
    queue[HEAD : HEAD + 4], queue[-2:] = (9, 1, 8, 2), (3, 3)
    assert with_room(queue, 1) is queue
    larger = with_room(queue, 2)
    assert len(larger) == HEAD + 2 * 10
    assert larger[HEAD : HEAD + 4].tolist() == [9, 1, 8, 2]
    assert larger[-2:].tolist() == [3, 3]


def test_counting_grows_its_table_and_its_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    words = [f" {number:x}" + "é" * (number % 20) for number in range(3000)]
    counts = fast_train.WordCounts(rows=16)
    for copies in (1, 2):
        data = [" ".join(words).encode()] * copies
        ends = np.cumsum([len(text) for text in data], dtype=np.int64)
        counts.add(padded(*data), ends, PATTERN_NUMBER["gpt2"])
    expected = count_words([" ".join(words)] * 3, "gpt2")
    assert counts.used == len(expected)
    assert {word.decode(): count for word, count in counts.items()} == expected


def test_merging_on_several_threads_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    documents = [text * 40 for text in PIECES] + ["the mill by the river turns the wheel of the miller " * 30]
    alone = train_bpe(documents, vocab_size=420)
    monkeypatch.setattr(fast_train, "LARGE_LIST", 2)
    monkeypatch.setattr(fast_train, "BATCH_BYTES", 100)
    monkeypatch.setattr(fast_train, "num_threads", lambda: 3)
    assert train_bpe(documents, vocab_size=420).fingerprint == alone.fingerprint


def test_the_memo_begins_again_when_it_is_full() -> None:
    tokenizer = TRAINED["gpt4"]
    kernel = bpe_kernel(tokenizer.model, "gpt4")
    text = " ".join(f"w{number}q" for number in range(70_000))
    expected = tokenizer.encode_slowly(text[:4000])
    for room in (2, 1 << 16):
        memo = kernel._free[0] if kernel._free else None
        if memo is not None:
            memo.room = room
        ids, _ = kernel.encode(padded(text.encode()), np.array([len(text)], np.int64))
        assert ids[: len(expected) - 2].tolist() == expected[:-2]
        assert tokenizer.decode(ids.tolist()) == text


def test_a_lone_surrogate_is_named_by_the_fast_way_too() -> None:
    tokenizer = TRAINED["gpt4"]
    for texts_with_one in (["a" * 20_000 + "\ud83d"], ["fine", "x" * 20_000, "ab \udc00"]):
        with pytest.raises(TokenizerError, match=r"lone surrogate \(U\+D"):
            tokenizer.encode_batch(texts_with_one)
    with pytest.raises(TokenizerError, match=r"at character 1200000"):  # of the text, however it was cut
        tokenizer.encode("mill " * 240_000 + "\udc00")
    with pytest.raises(TokenizerError, match="lone surrogate"):
        train_bpe(["ab \ud83d"], vocab_size=300)


@pytest.mark.parametrize("word", ["a", "ab", "磨"])
def test_a_word_of_megabytes_takes_linear_time(word: str) -> None:
    tokenizer = TRAINED["gpt4"]
    text = word * (2_000_000 // len(word))
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_many_empty_texts_take_linear_time() -> None:
    ids, ends = TRAINED["gpt4"].encode_to_array([""] * 300_000, end_id=None)
    assert len(ids) == 0 and len(ends) == 300_000


def test_added_tokens_and_the_fast_way() -> None:
    tokens = [*(bytes([byte]) for byte in BYTE_ORDER), b"<think>", b"<|end|>"]
    tokenizer = byte_level(tokens, [], pattern="gpt4", special={"<|end|>": 257}, literal={"<think>": 256})
    text = "a<think>b<|end|>" * 3000
    for allow_special in (False, True):
        expected = tokenizer.encode_slowly(text, allow_special=allow_special)
        assert tokenizer.encode(text, allow_special=allow_special) == expected
        assert tokenizer.encode_batch([text, "<think>"], allow_special=allow_special) == [expected, [256]]
