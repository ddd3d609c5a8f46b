"""Whole tokenizers of every algorithm from a few texts: round trips, files, counting, what is refused."""

import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from smelt.core.errors import TokenizerError
from smelt.tokenizers import training
from smelt.tokenizers.base import SPECIAL
from smelt.tokenizers.bert import BertPreTokenizer
from smelt.tokenizers.chat import ChatTemplate
from smelt.tokenizers.formats import load_tokenizer, save_tokenizer
from smelt.tokenizers.normalize import NFKC, BertNormalizer
from smelt.tokenizers.pipeline import Pipeline
from smelt.tokenizers.training import BERT_SPECIAL, BYTE_TOKENS, count_words, train_tokenizer

TEXTS = [
    "The mill by the river has four sails. The miller likes the mill, and the river likes him.\n" * 3,
    "磨坊在河边。磨坊主喜欢磨坊。\n水车在磨坊里，磨坊在水边。" * 3,
    "Walking, talking and walking again:  12 walks, 34 talks, 1990s.\n\n" * 3,
]
SIZES = {"bpe": 340, "wordpiece": 110, "unigram": 340}
ODD = ["", " ", "  a  b ", "\n\t x\r\n", "<0x41><unk>", "Ünïcode \U0001f600 ﬁ １２", "[MASK][CLS]", *SPECIAL, "ab\x00c"]


@pytest.fixture(scope="module", params=SIZES)
def trained(request: pytest.FixtureRequest) -> Pipeline:
    return train_tokenizer(TEXTS, algorithm=request.param, vocab_size=SIZES[request.param])


def test_size_special_tokens_and_their_places(trained: Pipeline) -> None:
    kind = type(trained.model).__name__.lower()
    assert trained.vocab_size == SIZES[kind]
    if kind == "wordpiece":
        assert [trained.spelling[number] for number in range(8)] == [*BERT_SPECIAL, *SPECIAL]
    else:
        assert list(trained.spelling[-3:]) == list(SPECIAL)
    if kind == "unigram":
        assert trained.spelling[:257] == ("<unk>", *BYTE_TOKENS)
    assert set(SPECIAL) <= set(trained.special)


@pytest.mark.parametrize("text", [*TEXTS, *ODD])
def test_round_trip(trained: Pipeline, text: str) -> None:
    decoded = trained.decode(trained.encode(text))
    match type(trained.model).__name__:
        case "BPE":
            assert decoded == text
        case "Unigram":
            assert decoded == NFKC()(text)
        case _:
            wanted = "".join(BertNormalizer()(text).split())
            assert "[UNK]" in decoded or "".join(decoded.split()) == wanted


def test_no_text_becomes_a_special_token(trained: Pipeline) -> None:
    special = set(trained.special.values()) - {trained.model.unk_id}
    for text in [*trained.special, "".join(trained.special), *ODD]:
        assert not special & set(trained.encode(text)), text
        assert set(trained.encode(text, allow_special=True)) & special if text in SPECIAL else True


def test_files_bring_the_same_tokenizer_back(trained: Pipeline, tmp_path: Path) -> None:
    save_tokenizer(trained, tmp_path, template=ChatTemplate(trained), max_seq_len=64)
    loaded = load_tokenizer(tmp_path)
    assert loaded.fingerprint == trained.fingerprint
    for text in [*TEXTS, *ODD]:
        assert loaded.encode(text) == trained.encode(text)


def test_words_that_are_frequent_are_tokens(trained: Pipeline) -> None:
    words = {trained.decode([number]).strip() for number in range(trained.vocab_size)}
    assert {"mill", "river"} <= words or {"##ill", "river"} <= set(trained.spelling)


def test_the_template_of_wordpiece() -> None:
    tokenizer = train_tokenizer(TEXTS, algorithm="wordpiece", vocab_size=100)
    ids = tokenizer.encode("the mill", add_special_tokens=True)
    assert (tokenizer.spelling[ids[0]], tokenizer.spelling[ids[-1]]) == ("[CLS]", "[SEP]")


def test_bytes_of_bpe_need_no_text() -> None:
    assert train_tokenizer([], vocab_size=259).vocab_size == 259


@pytest.mark.parametrize("at_once", [1, 7, 10**9])
@pytest.mark.parametrize("kind", ["wordpiece", "unigram"])
def test_counting_by_chunks_equals_counting_whole_texts(
    kind: str, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "CHARACTERS_AT_ONCE", at_once)

    def words_of(texts: Sequence[str]) -> list[str]:
        if kind == "wordpiece":
            return BertPreTokenizer()(BertNormalizer()(" ".join(texts)))
        return [word for text in texts for word in training._RUNS.findall(NFKC()(text).replace(" ", "▁"))]

    monkeypatch.setattr(training, "CHUNKS_AT_ONCE", 3)
    texts = [*TEXTS, *ODD, " \u0301a \u3000b\xa0c  \u1112\u1161 \u11ab", "▁▁ ▁x▁"]
    assert count_words(texts, words_of) == Counter(word for text in texts for word in words_of([text]))


@pytest.mark.parametrize("at_once", [1, 5, 10**6])
def test_counting_chinese_characters_first_changes_nothing(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "CHINESE_AT_ONCE", at_once)

    def words_of(texts: Sequence[str]) -> list[str]:
        return BertPreTokenizer()(BertNormalizer()(" ".join(texts)))

    odd = ["a中b", "中文 中", "中\u0301x\u0f71", "\uf900\U0002f800㐀", "", "\U00020000\u200d中", "你", "好"]
    texts = [*TEXTS, *ODD, *odd]
    chinese: Counter[str] = Counter()
    rest = list(training._without_chinese(texts, chinese))
    expected = Counter(word for text in texts for word in words_of([text]))
    assert count_words(rest, words_of) + chinese == expected
    assert chinese["中"] == expected["中"] == 5 and "\uf900" not in chinese and not any("中" in text for text in rest)


def test_unigram_words_are_cut_where_no_token_may_go_on() -> None:
    text = "▁The▁1990s▁naïve,▁磨坊。▁▁e\u0301t"
    assert training._RUNS.findall(text) == [
        "▁The", "▁1990", "s", "▁naïve", ",", "▁磨坊", "。", "▁", "▁e\u0301t"
    ]  # fmt: skip
    assert "".join(training._RUNS.findall(text)) == text


@pytest.mark.parametrize("algorithm", SIZES)
def test_progress_goes_up_to_the_end(algorithm: str) -> None:
    rng = random.Random(1)
    words = ["".join(rng.choices("abcde", k=6)) for _ in range(400)]
    seen: list[tuple[int, int]] = []
    train_tokenizer(
        [" ".join(words * 2)],
        algorithm=algorithm,
        vocab_size=SIZES[algorithm],
        on_progress=lambda *step: seen.append(step),
    )
    assert seen and seen == sorted(seen) and all(0 <= done <= wanted for done, wanted in seen)
    assert seen[-1][0] == seen[-1][1] > 0


@pytest.mark.parametrize("algorithm", SIZES)
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"special": ("a b", "")}, "a special token is empty"),
        ({"special": ("<x>", "<y>", "<x>")}, "the special token '<x>' is there twice"),
        ({"vocab_size": 9}, "vocab"),
        ({"texts": []}, "no text to train a tokenizer on"),
        ({"texts": ["", ""]}, "no text to train a tokenizer on"),
        ({"texts": ["ok", "a\ud800b"]}, "the text has a lone surrogate (U+D800) at character 1"),
    ],
)
def test_refusals(algorithm: str, options: dict, message: str) -> None:
    settings = {"texts": TEXTS, "vocab_size": SIZES[algorithm], "algorithm": algorithm} | options
    with pytest.raises(TokenizerError) as caught:
        train_tokenizer(settings.pop("texts"), **settings)
    assert message in caught.value.what


def test_unknown_algorithm() -> None:
    with pytest.raises(TokenizerError, match=r"unknown algorithm 'worpiece'\. Did you mean 'wordpiece'\?"):
        train_tokenizer(TEXTS, algorithm="worpiece", vocab_size=300)  # type: ignore[arg-type]


@pytest.mark.parametrize("algorithm", SIZES)
def test_special_tokens_that_are_ordinary_words(algorithm: str) -> None:
    with pytest.raises(TokenizerError, match="the special token 'tool' is a word that texts may hold") as caught:
        train_tokenizer([], algorithm=algorithm, vocab_size=SIZES[algorithm], special=["<tool>", "tool"])
    assert caught.value.accepted == "a text that is cut into several words, such as '<|tool|>'"


def test_special_tokens_that_the_algorithm_has_itself() -> None:
    with pytest.raises(TokenizerError, match="the special token '<unk>' is there twice"):
        train_tokenizer([], algorithm="unigram", vocab_size=380, special=["<unk>"])
    assert train_tokenizer(TEXTS, algorithm="wordpiece", vocab_size=140, special=["[MASK]"]).special["[MASK]"] == 4
    with pytest.raises(TokenizerError, match="in the vocabulary"):
        train_tokenizer(TEXTS, vocab_size=340, pattern=r"\S+|\s+", special=["mill"])
