"""WordPiece and normalizers against `tokenizers`: the same text, the same words, the same ids, as few tokens."""

import itertools
import random
import unicodedata
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from smelt.tokenizers import normalize
from smelt.tokenizers.bert import BertPreTokenizer
from smelt.tokenizers.kernels.wordpiece import FastBert
from smelt.tokenizers.normalize import BertNormalizer, Replace
from smelt.tokenizers.vocab_file import read_vocabulary
from smelt.tokenizers.wordpiece import WordPiece, decode_wordpiece
from smelt.tokenizers.wordpiece_train import train_wordpiece

pytestmark = pytest.mark.interop
tokenizers = pytest.importorskip("tokenizers", reason="extra interop is not installed")

# Assigned since the reference's tables for decomposition were made.
YOUNGER = {"\u32ff", "\U0001f16c", "\U00011938", *map(chr, range(0xA7F2, 0xA7F5)), "\uab69"}
YOUNGER |= {*map(chr, range(0x10781, 0x107BB)), *map(chr, range(0x1FBF0, 0x1FBFA))}
CHARACTERS = [
    character
    for code in itertools.chain(range(0xD800), range(0xE000, 0x30000), range(0xE0000, 0xE0200), range(0xF0000, 0xF0010))
    if unicodedata.category(character := chr(code)) != "Cn" and character not in YOUNGER
]
OPTIONS = [
    {},
    {"lowercase": False},
    {"lowercase": False, "strip_accents": True},
    {"strip_accents": False},
    {"clean_text": False, "handle_chinese_chars": False},
]


def fuzzed(num_strings: int, seed: int) -> Iterator[str]:
    """Yield odd strings: scripts, right to left, emoji with joiners, marks, white space and controls, any character."""
    rng = random.Random(seed)
    parts = [
        *"aZbß sſK09٣²½Ⅻ.,!?-_'()\"\\éßİıſçñåøÆΩΣωДжשלוםمرحباनमस्तेไทย한국어漢字かなカナ\uf900豈€$",
        *"\t\n\r\v\f\0\x1c\x1f\x7f\x85\xa0\u2028\u3000\u200b\u200d\ufeff\ufffd",
        *"\u0301\u0308\u0327\u0344\u20e3\u0901\u0903\u1b44\u302e\U0001d165\U0001d16d\U0001f3fd\U00010400\ue000",
        *[
            "🙂",
            "👩\u200d👩\u200d👧",
            "🇫🇷",
            "the",
            "Ing",
            "un",
            "  ",
            "\r\n",
            "12345",
            "磨坊",
            "שָׁלוֹם",
            "مُرَحَّب",
            "x" * 60,
        ],
    ]
    for _ in range(num_strings):
        yield "".join(rng.choices(parts, k=rng.randint(0, 24)) + rng.choices(CHARACTERS, k=rng.randint(0, 2)))


@pytest.fixture(scope="module")
def model(shared_data: Path) -> WordPiece:
    return WordPiece(read_vocabulary(shared_data / "tokenizers" / "bert-chinese-vocab.txt"))


def hugging_face(model: WordPiece, options: dict[str, Any]) -> Any:
    theirs = tokenizers.Tokenizer(tokenizers.models.WordPiece(model.id_of, unk_token="[UNK]"))
    theirs.normalizer = tokenizers.normalizers.BertNormalizer(**options)
    theirs.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    theirs.decoder = tokenizers.decoders.WordPiece()
    return theirs


class Pair:
    """Our fast encoder and theirs, which take a while to set up."""

    def __init__(self, model: WordPiece, options: dict[str, Any]) -> None:
        self.model = model
        self.ours, self.theirs = FastBert(model, BertNormalizer(**options)), hugging_face(model, options)


def assert_same_ids(texts: list[str], pair: Pair) -> None:
    """Check the fast encoder against theirs, and that decoding gives the same text."""
    encoded = [text.encode() for text in texts]
    data, ends = np.frombuffer(b"".join(encoded), np.uint8), np.cumsum([len(text) for text in encoded], dtype=np.int64)
    ids, id_ends = pair.ours.encode(data, ends)
    model, theirs = pair.model, pair.theirs
    for text, begin, end, found in zip(texts, [0, *id_ends[:-1]], id_ends, theirs.encode_batch(texts), strict=True):
        ours = ids[begin:end].tolist()
        assert ours == found.ids, repr(text[:80])
        if len(ours) < 10_000:
            assert decode_wordpiece([model.tokens[number] for number in ours]) == theirs.decode(ours)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_ids_on_fuzzed_strings(options: dict, model: WordPiece) -> None:
    texts = list(fuzzed(2000, seed=1))
    assert_same_ids(texts, Pair(model, options))
    normalizer, theirs = BertNormalizer(**options), hugging_face(model, options)
    for text in texts[:1000]:
        assert normalizer(text) == theirs.normalizer.normalize_str(text)
        words = BertPreTokenizer()(normalizer(text))
        assert [number for word in words for number in model.encode_word(word)] == theirs.encode(text).ids


@pytest.mark.parametrize("options", OPTIONS[:2], ids=str)
@pytest.mark.parametrize("name", ["tinyshakespeare.txt", "wiki_demo.txt", "c4_demo.jsonl", "poetry-zh", "books-en"])
def test_ids_on_real_text(name: str, options: dict, model: WordPiece, shared_data: Path) -> None:
    path = shared_data / "text" / name
    path = min(path.iterdir()) if path.is_dir() else path
    assert_same_ids([path.read_text(encoding="utf-8")[:100_000]], Pair(model, options))


@pytest.mark.slow
@pytest.mark.parametrize("options", OPTIONS[:2], ids=str)
def test_ids_on_all_shared_text_and_100000_fuzzed_strings(options: dict, model: WordPiece, shared_data: Path) -> None:
    pair = Pair(model, options)
    for seed in range(5):
        assert_same_ids(list(fuzzed(20_000, seed=100 + seed)), pair)
    paths = sorted(path for path in (shared_data / "text").rglob("*") if path.is_file())
    for path in paths[OPTIONS.index(options) :: 2]:  # each of the two cases reads half of them
        assert_same_ids([path.read_bytes().decode("utf-8")], pair)


NORMALIZERS = {
    **{name: {} for name in ("NFC", "NFD", "NFKC", "NFKD", "Lowercase", "StripAccents", "Strip", "Nmt")},
    "Prepend": {"prepend": "▁"},
}


@pytest.mark.parametrize("name", NORMALIZERS)
def test_normalizer_on_every_character_and_fuzzed_strings(name: str) -> None:
    ours = getattr(normalize, name)(**NORMALIZERS[name])
    theirs = getattr(tokenizers.normalizers, name)(**NORMALIZERS[name])
    every = "a".join(CHARACTERS)
    for text in [every, *fuzzed(2000, seed=2), "", " \u200b ", "\x1c a\x85"]:
        expected, found = theirs.normalize_str(text), ours(text)
        if text is every:  # a report of a megabyte would help nobody
            different = (
                [hex(ord(c)) for c in CHARACTERS if ours(c) != theirs.normalize_str(c)] if found != expected else []
            )
            assert different == []
        else:
            assert found == expected, repr(text)


@pytest.mark.parametrize("expression", [r"\s+", " {2,}", "[^a-z]+", "a*", "^", "$", r"(?<=a)b|(?=b)", r"\p{L}+", r"\d"])
def test_replacing_an_expression(expression: str) -> None:
    ours = Replace({"Regex": expression}, "<\\1>")
    theirs = tokenizers.normalizers.Replace(tokenizers.Regex(expression), "<\\1>")
    for text in ["", "\n\na", "ab\naab  a b\x1c\x85b", *fuzzed(300, seed=3)]:
        assert ours(text) == theirs.normalize_str(text), repr(text)


@pytest.mark.parametrize("pattern", ["", " ", "ab", "a.b"])
def test_replacing_a_string(pattern: str) -> None:
    ours, theirs = Replace({"String": pattern}, "▁"), tokenizers.normalizers.Replace(pattern, "▁")
    for text in ["", "ab a.b abab", "\n\na", *fuzzed(300, seed=4)]:
        assert ours(text) == theirs.normalize_str(text), repr(text)


def test_words_around_every_character() -> None:
    text = "".join(f"a{character}" for character in CHARACTERS)
    theirs = tokenizers.pre_tokenizers.BertPreTokenizer().pre_tokenize_str(text)
    assert BertPreTokenizer()(text) == [word for word, _ in theirs]


@pytest.mark.parametrize("prefix", ["##", "@@"])
@pytest.mark.parametrize("cleanup", [True, False])
def test_decoding(prefix: str, cleanup: bool) -> None:
    theirs = tokenizers.decoders.WordPiece(prefix=prefix, cleanup=cleanup)
    rng = random.Random(5)
    parts = [
        "a",
        "##b",
        "@@c",
        "##",
        ".",
        "?",
        "!",
        ",",
        "'",
        "n't",
        "'m",
        " do not",
        "do",
        "not",
        "'s",
        "##'ve",
        "re",
        " .",
        "##@@x",
    ]
    for _ in range(2000):
        tokens = rng.choices(parts, k=rng.randint(0, 12))
        assert decode_wordpiece(tokens, prefix, cleanup) == theirs.decode(tokens), tokens


def trained_by_hugging_face(text: str, vocab_size: int, alphabet_limit: int, options: dict[str, Any]) -> list[str]:
    theirs = tokenizers.Tokenizer(tokenizers.models.WordPiece(unk_token="[UNK]"))
    theirs.normalizer = tokenizers.normalizers.BertNormalizer(**options)
    theirs.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    trainer = tokenizers.trainers.WordPieceTrainer(
        vocab_size=vocab_size,
        limit_alphabet=alphabet_limit,
        min_frequency=2,
        special_tokens=["[UNK]"],
        show_progress=False,
    )
    theirs.train_from_iterator([text], trainer)
    vocabulary = theirs.get_vocab()
    return sorted(vocabulary, key=vocabulary.__getitem__)


@pytest.mark.parametrize(
    ("name", "size", "alphabet_limit", "options"),
    [
        ("tinyshakespeare.txt", 8000, 1000, {}),
        ("poetry-zh", 8000, 20_000, {}),
        ("poetry-zh", 8000, 20_000, {"handle_chinese_chars": False}),  # lines of verse are words
        ("poetry-zh", 8000, 1000, {"handle_chinese_chars": False}),
    ],
)
def test_training_needs_at_most_a_hundredth_more_tokens(
    name: str, size: int, alphabet_limit: int, options: dict, shared_data: Path
) -> None:
    path = shared_data / "text" / name
    text = (
        path.read_text() if path.is_file() else "".join(file.read_text() for file in sorted(path.iterdir()))[:700_000]
    )
    words = Counter(BertPreTokenizer()(BertNormalizer(**options)(text)))
    ours = train_wordpiece(words, size, special=["[UNK]"], alphabet_limit=alphabet_limit)
    theirs = trained_by_hugging_face(text, size, alphabet_limit, options)
    assert len(ours) <= len(theirs)
    data = np.frombuffer(text.encode(), np.uint8)
    counts = [
        len(FastBert(WordPiece(tokens), BertNormalizer(**options)).encode(data, np.array([len(data)]))[0])
        for tokens in (ours, theirs)
    ]
    assert counts[0] <= 1.01 * counts[1]
