"""`smelt ngram`: train, measure with the keys of `smelt eval`, write; and refuse what is not its own."""

from pathlib import Path

import pytest

from smelt.data.formats import read_text
from smelt.evals.ngram import bits_per_byte
from smelt.models.ngram import NgramModel
from smelt.tokenizers.formats import load_tokenizer

from .conftest import Smelt


@pytest.fixture
def model(smelt: Smelt, text_file: Path, tmp_path: Path) -> Path:
    assert smelt("ngram", "train", text_file, "--order", 12, "--out", tmp_path / "n").code == 0
    return tmp_path / "n"


def test_train_and_eval(smelt: Smelt, text_file: Path, tmp_path: Path) -> None:
    result = smelt("ngram", "train", text_file, "--order", 3, "--out", tmp_path / "n", "--json")
    assert result.code == 0, result.err
    texts = [row.text for row in read_text(text_file)]
    found = result.json
    assert found.pop("seconds") >= 0 and len(found.pop("ngrams")) == 3
    num_bytes = sum(len(text.encode()) for text in texts)
    assert found == {"ngram": str(tmp_path / "n"), "order": 3, "vocab_size": 259, "tokens": num_bytes}
    tokenizer = load_tokenizer(tmp_path / "n")
    score = smelt("ngram", "eval", tmp_path / "n", "--text", text_file, "--json").json
    expected = bits_per_byte(NgramModel.load(tmp_path / "n" / "model"), tokenizer, texts)
    assert set(score) == {"bits_per_byte", "perplexity", "bytes"} and score["bytes"] == num_bytes
    assert score["bits_per_byte"] == pytest.approx(expected) and expected < 2
    assert score["perplexity"] == pytest.approx(2**expected), "one byte is one token here"
    assert f"{expected:.4f} bits per byte" in smelt("ngram", "eval", tmp_path / "n", "--text", text_file).out


def test_with_the_tokenizer_of_a_checkpoint(smelt: Smelt, checkpoint: Path, text_file: Path, tmp_path: Path) -> None:
    words = ("--tokenizer", checkpoint, "--order", 2, "--out", tmp_path / "n", "--json")
    assert smelt("ngram", "train", text_file, *words).json["vocab_size"] == 259


def test_generate(smelt: Smelt, model: Path) -> None:
    words = ("--prompt", "The mill by", "--max-new-tokens", 30, "--json")
    found = smelt("ngram", "generate", model, *words, "--temperature", 0).json
    assert found["text"].startswith(" the river has ")
    assert len(found["ids"]) == 30 and found["finish_reason"] == "length" and len(found["prompt_ids"]) == 12
    first = smelt("ngram", "generate", model, *words).json["text"]
    assert smelt("ngram", "generate", model, *words).json["text"] == first
    assert smelt("ngram", "generate", model, *words, "--seed", 1).json["text"] != first
    assert smelt("ngram", "generate", model, "--temperature", 0, "--max-new-tokens", 8).out == "The mill\n"


def test_a_document_ends_where_the_next_would_begin(smelt: Smelt, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    end = load_tokenizer(model).special["<|endoftext|>"]
    monkeypatch.setattr(NgramModel, "generate", lambda *words: [65, 66, end, 67])
    found = smelt("ngram", "generate", model, "--json").json
    assert found["ids"] == [65, 66] and found["finish_reason"] == "stop"


def test_what_is_not_its_own(smelt: Smelt, model: Path, text_file: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "letter.txt").write_text("dear")
    result = smelt("ngram", "train", text_file, "--out", tmp_path / "other")
    assert result.code == 1 and "holds something else, and saving would replace it" in result.err
    assert (tmp_path / "other" / "letter.txt").exists()
    result = smelt("ngram", "eval", tmp_path / "other", "--text", text_file)
    assert result.code == 1 and "holds no n-gram model" in result.err
    (model / "tokenizer.json").write_text("{}")
    result = smelt("ngram", "eval", model, "--text", text_file)
    assert result.code == 1 and "'tokenizer.json' has 2 bytes, its manifest says" in result.err
    assert smelt("ngram", "train", text_file, "--out", model).code == 0, "an earlier model is replaced"
