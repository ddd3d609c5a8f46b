"""Published vocabularies beside the libraries that run them: the same ids on real text and on strings made to hurt.

GPT-2 in tiktoken and tokenizers, minimind in tokenizers, Llama 2 in sentencepiece. The default run takes a part of
each text; the slow one takes every shared file and 200,000 strings.
"""

import random
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from smelt.tokenizers.foreign import read_gpt2
from smelt.tokenizers.formats import from_json, load_tokenizer, save_as, to_json
from smelt.tokenizers.pipeline import Pipeline
from smelt.tokenizers.pretokenize import PATTERNS

pytestmark = pytest.mark.interop
tokenizers = pytest.importorskip("tokenizers", reason="extra interop is not installed")
tiktoken = pytest.importorskip("tiktoken", reason="extra interop is not installed")
sentencepiece = pytest.importorskip("sentencepiece", reason="extra interop is not installed")

PARTS = (
    *"aZs'sſK09٣²½Ⅻ .,!?-_()\"\\éßİıñÆΩωДжשלוםمرحباनमस्तेไทย한국어漢字かなカナ",
    *"\t\n\r\v\f\x00\x1c\x7f\x85\xa0\u2028\u3000\u200b\u200d\ufeff\u0301\u0308\u20e3\U0001f3fd\U00010400\uffff",
    "🙂", "👩\u200d👩\u200d👧\u200d👦", "🏳️\u200d🌈", "🇫🇷", "'s", "'LL", "don't", "  ", "\r\n", "\n\n", "      ",
    "12345", "<|im_", "السلام عليكم", "בְּרֵאשִׁית", "e\u0301\u0323", "磨坊在河边", "▁", "▁▁", "ing", " the", "<s>",
    "<0x41>", "\u202e", "z̷̢",
)  # fmt: skip
Encode = Callable[[str], list[int]]


def odd_strings(count: int, seed: int) -> Iterator[str]:
    """Yield strings of scripts, joined emoji, marks, controls and runs of white space, of assigned characters only."""
    rng = random.Random(seed)
    for _ in range(count):
        text = "".join(rng.choices(PARTS, k=rng.randint(1, 16))) + chr(rng.randrange(0x3000))
        yield "".join(one for one in text if unicodedata.category(one) not in ("Cn", "Cs"))


@pytest.fixture(scope="module")
def vocabularies(shared_data: Path) -> Path:
    return shared_data / "tokenizers"


@pytest.fixture(scope="module")
def gpt2(vocabularies: Path) -> Pipeline:
    return read_gpt2(vocabularies / "gpt2-vocab.json", vocabularies / "gpt2-merges.txt")


def in_tiktoken(tokenizer: Pipeline) -> Encode:
    [pattern] = PATTERNS["gpt2"]
    ranks = {token: number for number, token in enumerate(tokenizer.tokens[:-1])}
    reference = tiktoken.Encoding("gpt2", pat_str=pattern, mergeable_ranks=ranks, special_tokens={})
    return reference.encode_ordinary


def in_tokenizers(tokenizer: Any) -> Encode:
    return lambda text: tokenizer.encode(text, add_special_tokens=False).ids


@pytest.fixture(scope="module", params=["gpt2-tiktoken", "gpt2-tokenizers", "minimind", "llama2"])
def pair(request: pytest.FixtureRequest, gpt2: Pipeline, vocabularies: Path) -> tuple[Pipeline, Encode]:
    """Return one of ours and its reference."""
    match request.param:
        case "gpt2-tiktoken":
            return gpt2, in_tiktoken(gpt2)
        case "gpt2-tokenizers":
            files = str(vocabularies / "gpt2-vocab.json"), str(vocabularies / "gpt2-merges.txt")
            reference = tokenizers.Tokenizer(tokenizers.models.BPE.from_file(*files))
            reference.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
            return gpt2, in_tokenizers(reference)
        case "minimind":
            reference = tokenizers.Tokenizer.from_file(str(vocabularies / "minimind" / "tokenizer.json"))
            return load_tokenizer(vocabularies / "minimind"), in_tokenizers(reference)
        case _:
            path = vocabularies / "llama2.model"
            return load_tokenizer(path), sentencepiece.SentencePieceProcessor(model_file=str(path)).encode


def both_ways(tokenizer: Pipeline, text: str) -> list[int]:
    """Encode with the kernel, and short texts by the definition too."""
    assert tokenizer.fast is not None
    ids = tokenizer.fast.encode(text)
    if len(text) < 1000:
        assert tokenizer.encode_slowly(text) == ids, text
    return ids


def test_odd_strings(pair: tuple[Pipeline, Encode]) -> None:
    ours, theirs = pair
    for text in odd_strings(1000, seed=7):
        ids = both_ways(ours, text)
        assert ids == theirs(text), text
        # To SentencePiece a text's own "▁" is a space.
        assert ours.decode(ids) == (text if ours.pattern else text.replace("▁", " "))


@pytest.mark.parametrize("name", ["wiki_demo.txt", "c4_demo.jsonl", "the-verdict.txt"])
def test_real_text(name: str, pair: tuple[Pipeline, Encode], shared_data: Path) -> None:
    text = (shared_data / "text" / name).read_bytes().decode("utf-8")[:300_000]
    ours, theirs = pair
    ids = both_ways(ours, text)
    assert ids == theirs(text)
    assert ours.decode(ids) == text


@pytest.mark.slow
@pytest.mark.parametrize(("pair", "third"), [("gpt2-tiktoken", 0), ("minimind", 1), ("llama2", 2)], indirect=["pair"])
def test_shared_text_and_many_odd_strings(pair: tuple[Pipeline, Encode], third: int, shared_data: Path) -> None:
    """In pieces, which take theirs half as long as whole files; a third of the files for each, so all for one.

    Of two references of one tokenizer the faster is asked.
    """
    ours, theirs = pair
    for path in sorted(path for path in (shared_data / "text").rglob("*") if path.is_file())[third::3]:
        text = path.read_bytes().decode("utf-8")
        pieces = [text[start : start + 8192] for start in range(0, len(text), 8192)]
        for piece, ids in zip(pieces, ours.encode_batch(pieces), strict=True):
            assert ids == theirs(piece), path.name
            assert ours.decode(ids) == piece, path.name
    assert ours.fast is not None
    texts = list(odd_strings(200_000, seed=8))
    for text, ids in zip(texts, ours.fast.encode_batch(texts), strict=True):
        assert ids == theirs(text), text


@pytest.mark.parametrize("kind", ["json", "tiktoken", "gpt2"])
def test_files_of_gpt2_come_back(kind: str, gpt2: Pipeline, tmp_path: Path) -> None:
    path = tmp_path if kind == "gpt2" else tmp_path / f"tokenizer.{kind}"
    save_as(gpt2, path, kind)
    again = load_tokenizer(path)
    for text in odd_strings(300, seed=9):
        assert again.encode(text) == gpt2.encode(text)
    if kind == "json":
        assert in_tokenizers(tokenizers.Tokenizer.from_file(str(path)))(text) == gpt2.encode(text)


def test_llama2_goes_both_ways(vocabularies: Path, tmp_path: Path) -> None:
    """Written as .model and as tokenizer.json, and read by the libraries of both."""
    ours = load_tokenizer(vocabularies / "llama2.model")
    save_as(ours, tmp_path / "again.model", "sentencepiece")
    theirs = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "again.model"))
    as_json = from_json(to_json(ours))
    assert as_json.fingerprint == ours.fingerprint
    save_as(ours, tmp_path / "tokenizer.json", "json")
    hugging_face = in_tokenizers(tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json")))
    for text in odd_strings(1000, seed=10):
        ids = ours.encode(text)
        assert theirs.encode(text) == ids, text
        assert as_json.encode(text) == ids
        if "<s>" not in text:  # theirs takes a control token from plain text, which ours never does
            assert hugging_face(text) == ids, text


@pytest.mark.parametrize("spaces", [1, 2, 3, 15, 16, 17, 31, 33, 64, 100])
def test_runs_of_spaces_in_llama2(spaces: int, vocabularies: Path) -> None:
    ours = load_tokenizer(vocabularies / "llama2.model")
    theirs = sentencepiece.SentencePieceProcessor(model_file=str(vocabularies / "llama2.model"))
    for text in (" " * spaces, " " * spaces + "the", "a" + " " * spaces + "b", " " * spaces + "\x01"):
        assert both_ways(ours, text) == theirs.encode(text)
