"""What sentencepiece does, we do: normalized text, ids, n-best lists with their scores, text again, model files.

The shared models are one Unigram (ChatGLM) and one BPE; small ones are trained on the spot for every option that
changes the text, and `tokenizers` reads the same Unigram and the same map.
"""

import base64
import io
import random
import struct
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from smelt.tokenizers.charsmap import Precompiled
from smelt.tokenizers.formats import load_tokenizer, save_as
from smelt.tokenizers.kernels.unigram import FastUnigram
from smelt.tokenizers.sentencepiece_file import (
    NORMAL,
    UNKNOWN,
    USER_DEFINED,
    NormalizerSpec,
    SentencePieceModel,
    read_fields,
    read_model,
    write_model,
)
from smelt.tokenizers.sentencepiece_text import detokenize, fast_normalizer, normalize, unigram_of
from smelt.tokenizers.unigram import Unigram
from smelt.tokenizers.unigram_train import train_unigram

pytestmark = pytest.mark.interop
sentencepiece = pytest.importorskip("sentencepiece", reason="extra interop is not installed")

PARTS = [
    *"aZs' 09²½ﷺﬁſ¨é漢字각ㅏהनไ~～▁-=<n>\t\n\r\x00\x01\x7f\u3000\u200b\u200d\ufeff\u0301\U0001f3fd\U00010400\uffff",
    *("ab", "abc", " x", "  ", "▁▁", "世界", "世", "\u1100\u1161", "<n>", "<unk>", "<s>", "<0x41>", "the "),
    *("ing", "aaaa", "👩\u200d👩\u200d👧", "🇫🇷", "é\u0301x", "ſA", "＜n＞", "----", "基督教"),
]  # fmt: skip
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "symbols": {
        "normalization_rule_name": "nmt_nfkc_cf",
        "user_defined_symbols": ["<n>", "ſA", "▁▁", "é\u0301x", "＜", "世界"],
        "byte_fallback": True,
    },
    "as it is": {
        "normalization_rule_name": "identity",
        "add_dummy_prefix": False,
        "remove_extra_whitespaces": False,
        "user_defined_symbols": ["ab", "abc", " x"],
    },
    "lines": {"normalization_rule_name": "identity", "byte_fallback": True},
    "suffix": {"treat_whitespace_as_suffix": True, "user_defined_symbols": ["世界", "世"]},
}


def odd_strings(count: int, seed: int) -> Iterator[str]:
    """Yield strings of scripts, marks, controls, spaces and pieces of models, of which one is any character."""
    rng = random.Random(seed)
    for _ in range(count):
        any_character = chr(rng.randrange(1, 0x3100))
        text = "".join(rng.choices(PARTS, k=rng.randint(0, 20)))
        yield text + (any_character if unicodedata.category(any_character) != "Cn" else "")


def trained(**options: Any) -> bytes:
    words = ["the", "mill", "river", "walking", "abc", "世界", "banana", "a", "ab", "-", "--", "----", "fi", "½"]
    rng = random.Random(1)
    lines = [" ".join(rng.choices(words, k=6)) for _ in range(300)]
    file = io.BytesIO()
    settings = {"vocab_size": 330 if options.get("byte_fallback") else 70, "model_type": "unigram", "minloglevel": 2}
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_writer=file, num_threads=1, hard_vocab_limit=False, **settings | options
    )
    return file.getvalue()


@pytest.fixture(scope="module", params=sorted(OPTIONS))
def small(request: pytest.FixtureRequest) -> bytes:
    return trained(**OPTIONS[request.param])


@pytest.fixture(scope="module")
def chatglm(shared_data: Path) -> tuple[SentencePieceModel, Any]:
    data = (shared_data / "tokenizers" / "chatglm-ice_text.model").read_bytes()
    return read_model(data), sentencepiece.SentencePieceProcessor(model_proto=data)


def their_nbest(theirs: Any, text: str, n: int) -> list[tuple[list[int], float]]:
    """Return n-best lists with scores, which their Python has only inside a serialized message."""
    found = []
    for _, _, item in read_fields(theirs.nbest_encode(text, nbest_size=n, return_type="serialized_proto")):
        fields = list(read_fields(item))
        ids = [dict((number, value) for number, _, value in read_fields(piece)).get(2, 0)
               for number, _, piece in fields if number == 2]  # fmt: skip
        scores = [struct.unpack("<f", value)[0] for number, _, value in fields if number == 3]
        found.append((ids, scores[0] if scores else 0.0))
    return found


def fast_encoder(model: SentencePieceModel) -> Callable[[list[str]], list[list[int]]]:
    """Return what encodes texts by the kernels, which take a large vocabulary half a second to set up."""
    normalizer, unigram = fast_normalizer(model), FastUnigram(unigram_of(model))

    def encode(texts: list[str]) -> list[list[int]]:
        data = [text.encode("utf-8") for text in texts]
        ends = np.cumsum([len(text) for text in data])
        normalized, ends = normalizer.normalize(np.frombuffer(b"".join(data), np.uint8), ends)
        ids, id_ends = unigram.encode(normalized, ends)
        return [part.tolist() for part in np.split(ids, id_ends[:-1])]

    return encode


def assert_alike(model: SentencePieceModel, theirs: Any, texts: list[str]) -> None:
    reference = unigram_of(model)
    fast = fast_encoder(model)(texts)
    rng = random.Random(2)
    for text, ids in zip(texts, fast, strict=True):
        normalized = normalize(text, model)
        assert normalized == theirs.normalize(text), repr(text)
        assert reference.encode_word(normalized) == ids == theirs.encode(text), repr(text)
        assert detokenize(ids, model) == theirs.decode(ids)
        if normalized:
            n = rng.choice([2, 5, 20])
            assert reference.nbest(normalized, n) == their_nbest(theirs, text, n), repr(text)


def test_fuzzed_strings(chatglm: tuple[SentencePieceModel, Any]) -> None:
    assert_alike(*chatglm, list(odd_strings(600, seed=1)))


def test_fuzzed_strings_with_every_option(small: bytes) -> None:
    assert_alike(
        read_model(small), sentencepiece.SentencePieceProcessor(model_proto=small), list(odd_strings(500, seed=3))
    )


def test_the_tokenizer_of_a_model(small: bytes, tmp_path: Path) -> None:
    (tmp_path / "one.model").write_bytes(small)
    tokenizer = load_tokenizer(tmp_path / "one.model")
    texts = ["", " ", "▁", "a \n b", " a▁", "\n ", *odd_strings(300, seed=6)]
    expected = sentencepiece.SentencePieceProcessor(model_proto=small).encode(texts)
    assert [tokenizer.encode_slowly(text) for text in texts] == expected
    assert tokenizer.fast is not None
    assert tokenizer.fast.encode_batch(texts) == expected
    save_as(tokenizer, tmp_path / "again.model", "sentencepiece")
    again = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "again.model"))
    assert again.encode(texts) == expected


def test_tokenizers_sees_the_ends_of_a_text_not_of_its_lines(tmp_path: Path) -> None:
    (tmp_path / "one.model").write_bytes(small := trained(**OPTIONS["lines"]))
    save_as(load_tokenizer(tmp_path / "one.model"), tmp_path / "tokenizer.json", "json")
    tokenizers = pytest.importorskip("tokenizers", reason="extra interop is not installed")
    theirs = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    texts = ["a \n b", " a▁", "\n ", "▁▁", " a  ▁b▁▁ ", "the\n  mill \n"]
    expected = sentencepiece.SentencePieceProcessor(model_proto=small).encode(texts)
    assert [theirs.encode(text, add_special_tokens=False).ids for text in texts] == expected


def test_symbols_are_measured_in_bytes_to_encode_and_in_characters_for_nbest() -> None:
    kinds = np.array([UNKNOWN, NORMAL, USER_DEFINED, USER_DEFINED, NORMAL, NORMAL], np.uint8)
    scores = np.array([0, -1, 0, 0, -5.05, -5], np.float32)
    model = SentencePieceModel(
        ("<unk>", "▁", "éa", "ab", "b", "é"), scores, kinds, normalizer=NormalizerSpec(add_dummy_prefix=False)
    )
    theirs = sentencepiece.SentencePieceProcessor(model_proto=write_model(model))
    assert unigram_of(model).encode_word("éab") == theirs.encode("éab") == [2, 4]
    assert (
        [ids for ids, _ in unigram_of(model).nbest("éab", 2)]
        == theirs.nbest_encode("éab", nbest_size=2)
        == [[5, 3], [2, 4]]
    )


@pytest.mark.parametrize("escape", [False, True])
@pytest.mark.parametrize("prefix", [False, True])
@pytest.mark.parametrize("extra", [False, True])
def test_every_treatment_of_spaces(escape: bool, prefix: bool, extra: bool, small: bytes) -> None:
    model = read_model(small)
    spec = replace(
        model.normalizer, escape_whitespaces=escape, add_dummy_prefix=prefix, remove_extra_whitespaces=extra
    )  # fmt: skip
    changed = replace(model, normalizer=spec)
    theirs = sentencepiece.SentencePieceProcessor(model_proto=write_model(changed))
    for text in ["", " ", "  a  b ", "a\u3000 b\n", "¨ ¨", " \x01 ", "▁a▁", *odd_strings(200, seed=4)]:
        assert normalize(text, changed) == theirs.normalize(text), repr(text)


@pytest.mark.parametrize("name", ["wiki_demo.txt", "the-verdict.txt", "sales_textbook.txt", "poetry-zh/ci.song.0.json"])
def test_real_text(name: str, chatglm: tuple[SentencePieceModel, Any], shared_data: Path) -> None:
    model, theirs = chatglm
    text = (shared_data / "text" / name).read_bytes().decode("utf-8")[:400_000]
    assert fast_encoder(model)([text]) == [theirs.encode(text)]


def test_scores_beyond_a_hundred_thousand(chatglm: tuple[SentencePieceModel, Any]) -> None:
    model, theirs = chatglm
    text = "".join(odd_strings(3000, seed=9))
    ids = theirs.encode(text)
    reference = unigram_of(model)
    assert sum(reference.edge_scores[token] for token in ids) < -200_000
    assert fast_encoder(model)([text]) == [ids] == [reference.encode_word(normalize(text, model))]


def test_nbest_where_the_search_must_drop_hypotheses(chatglm: tuple[SentencePieceModel, Any]) -> None:
    model, theirs = chatglm
    text = (
        "The quick brown fox jumped over the lazy dog, 中文句子也很长，需要分词。 aaaaaaaaaaaaaaaa ------------- " * 2
    )
    assert unigram_of(model).nbest(normalize(text, model), 300) == their_nbest(theirs, text, 300)


@pytest.mark.slow
def test_all_shared_text_and_many_strings(chatglm: tuple[SentencePieceModel, Any], shared_data: Path) -> None:
    model, theirs = chatglm
    encode = fast_encoder(model)
    for path in sorted(path for path in (shared_data / "text").rglob("*") if path.is_file()):
        text = path.read_bytes().decode("utf-8")
        assert encode([text]) == [theirs.encode(text)], path.name
    texts = list(odd_strings(200_000, seed=5))
    assert encode(texts) == theirs.encode(texts)


@pytest.mark.parametrize("name", ["chatglm-ice_text.model", "llama2.model"])
def test_files_are_written_as_they_were_read(name: str, shared_data: Path) -> None:
    data = (shared_data / "tokenizers" / name).read_bytes()
    assert write_model(read_model(data)) == data


def test_trained_files_are_written_as_they_were_read(small: bytes) -> None:
    assert write_model(read_model(small)) == small


def test_sampling_has_their_distribution(small: bytes) -> None:
    model, theirs = read_model(small), sentencepiece.SentencePieceProcessor(model_proto=small)
    text = "banana"
    ours, generator = unigram_of(model), np.random.default_rng(1)
    drawn = Counter(tuple(ours.sample(normalize(text, model), 0.3, generator)) for _ in range(3000))
    sentencepiece.set_random_generator_seed(1)
    other = Counter(
        tuple(theirs.encode(text, enable_sampling=True, nbest_size=-1, alpha=0.3)) for _ in range(3000)
    )  # fmt: skip
    common = [path for path, count in (drawn + other).items() if count >= 20]
    # Two samples of 3000: the chi-square statistic has as many degrees of freedom as there are paths.
    statistic = sum((drawn[path] - other[path]) ** 2 / (drawn[path] + other[path]) for path in common)
    assert statistic < len(common) + 5 * (2 * len(common)) ** 0.5


def test_a_unigram_in_tokenizers(small: bytes) -> None:
    tokenizers = pytest.importorskip("tokenizers", reason="extra interop is not installed")
    model = read_model(small)
    vocabulary = list(zip(model.tokens, model.scores.tolist(), strict=True))
    theirs = tokenizers.Tokenizer(tokenizers.models.Unigram(vocabulary, model.unk_id, model.trainer.byte_fallback))
    ours = Unigram(
        model.tokens, model.scores.tolist(), unk_id=model.unk_id, byte_fallback=model.trainer.byte_fallback,
        precision="double",
    )  # fmt: skip
    fast = FastUnigram(ours)
    for text in odd_strings(500, seed=6):
        text = text.replace("<unk>", "")  # an added token there, which the model never sees
        ids = ours.encode_word(text)
        assert ids == theirs.encode(text).ids, repr(text)
        data = np.frombuffer(text.encode("utf-8"), np.uint8)
        assert fast.encode(data, np.array([len(data)]))[0].tolist() == ids


def test_the_map_in_tokenizers_on_plain_characters(small: bytes) -> None:
    tokenizers = pytest.importorskip("tokenizers", reason="extra interop is not installed")
    if not (blob := read_model(small).normalizer.precompiled_charsmap):
        pytest.skip("this model has no map")
    theirs = tokenizers.normalizers.Precompiled(blob)
    ours = Precompiled(base64.b64encode(blob).decode("ascii"))
    characters = [chr(code) for code in range(1, 0x30000) if unicodedata.category(chr(code)) not in ("Cs", "Cn")]
    for character in characters:
        assert ours(character) == theirs.normalize_str(character), hex(ord(character))
    # Between letters that join nothing, for `tokenizers` treats a grapheme cluster as one character.
    text = "".join(f"x{character}" for character in characters if unicodedata.category(character)[0] in "LNPS")
    assert len(ours(text)) > 30_000
    assert ours(text) == ours.charsmap.replace_all(text.encode("utf-8"))


def test_training_is_as_good_as_theirs(shared_data: Path) -> None:
    text = (shared_data / "text" / "tinyshakespeare.txt").read_text(encoding="utf-8")
    size = 2000
    file = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(text.split("\n")), model_writer=file, vocab_size=size, num_threads=1, minloglevel=2
    )
    theirs = read_model(file.getvalue())
    normalized = [normalize(line, theirs) for line in text.split("\n")[:4000]]
    counts = Counter(f"▁{word}" for line in text.split("\n") for word in line.split())
    tokens, scores = train_unigram(counts, size, special=["<unk>", "<s>", "</s>"])
    kinds = np.array([2, 3, 3] + [NORMAL] * (size - 3), np.uint8)
    ours = replace(theirs, tokens=tuple(tokens), scores=np.array(scores, np.float32), kinds=kinds)
    results = []
    for model in (ours, theirs):
        ids = sentencepiece.SentencePieceProcessor(model_proto=write_model(model)).encode(text.split("\n")[:4000])
        unigram = unigram_of(model)
        likelihood = sum(unigram.edge_scores[token] for line in ids for token in line)
        results.append((sum(map(len, ids)), likelihood))
    assert sum(map(len, normalized)) > 0
    assert results[0][0] <= 1.01 * results[1][0]
    assert results[0][1] >= 1.01 * results[1][1]
