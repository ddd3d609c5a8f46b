"""`smelt vectors`: train every kind, read the files back, measure, and say what is wrong."""

import json
from pathlib import Path

import numpy as np
import pytest

from smelt.models.word_vectors.model import WordVectors
from smelt.models.word_vectors.train import KINDS

from .conftest import Smelt

FEW = ("--dim", 8, "--min-count", 2, "--epochs", 2, "--buckets", 50)


@pytest.fixture
def vectors(smelt: Smelt, text_file: Path, tmp_path: Path) -> Path:
    assert smelt("vectors", "train", text_file, *FEW, "--kind", "fasttext", "--out", tmp_path / "v").code == 0
    return tmp_path / "v"


@pytest.mark.parametrize("kind", KINDS)
def test_train_every_kind(smelt: Smelt, text_file: Path, tmp_path: Path, kind: str) -> None:
    result = smelt("vectors", "train", text_file, *FEW, "--kind", kind, "--out", tmp_path / "v", "--json")
    assert result.code == 0, result.err
    found = result.json
    assert found.pop("seconds") >= 0 and found.pop("words_per_second") > 0
    words = ["the", "mill", "by", "river", "has", "sails", "and", "miller", "likes", "each", "of", "them"]
    assert found == {"vectors": str(tmp_path / "v"), "kind": kind, "words": 12, "dim": 8, "tokens": 40 * 14}
    assert set(WordVectors.load(tmp_path / "v").words) == set(words)
    again = smelt("vectors", "train", text_file, *FEW, "--kind", kind, "--out", tmp_path / "w")
    assert f"{tmp_path / 'w'} · 12 words of 8 numbers, by {kind}" in again.out
    same = WordVectors.load(tmp_path / "v").vectors, WordVectors.load(tmp_path / "w").vectors
    assert np.array_equal(*same)


def test_nearest(smelt: Smelt, vectors: Path) -> None:
    model = WordVectors.load(vectors)
    expected = model.nearest(model.vector("mill"), 3, ["mill"])
    found = smelt("vectors", "nearest", vectors, "mill", "watermill", "--count", 3, "--json").json["nearest"]
    assert [word for word, _ in found["mill"]] == [word for word, _ in expected] and len(found["watermill"]) == 3
    assert found["mill"][0][1] == pytest.approx(expected[0][1])
    shown = smelt("vectors", "nearest", vectors / "vectors.txt", "mill", "--count", 3).out.splitlines()
    assert shown[0].split() == ["mill", "cosine"] and shown[1].split()[0] == expected[0][0]
    result = smelt("vectors", "nearest", vectors / "vectors.txt", "mll")
    assert result.code == 2 and "the word 'mll' is not among the 12 known. Did you mean 'mill'?" in result.err


def test_eval(smelt: Smelt, vectors: Path, text_file: Path, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("the mill the miller\nthe mill a b\n")
    (tmp_path / "s.txt").write_text("mill miller 9\nmill of 1\nriver by 2\n")
    words = tmp_path / "words.txt"
    options = ("--analogies", tmp_path / "a.txt", "--similarity", tmp_path / "s.txt", "--text", text_file)
    more = ("--ngram-text", text_file, "--order", 2, "--words-out", words)
    result = smelt("vectors", "eval", vectors, *options, *more, "--json")
    assert result.code == 0, result.err
    found = result.json
    assert found["analogies_asked"] == 1 and found["analogies_skipped"] == 1 and found["analogies"] in (0, 1)
    assert found["similarity_pairs"] == 3 and -1 <= found["similarity"] <= 1
    assert found["words"] == 40 * 15 and found["unknown_words"] == 40 and found["bytes"] == len(words.read_bytes())
    assert words.read_text().startswith("the mill by the river has 0 sails and the miller likes each of them the mill")
    assert found["ngram"]["bits_per_byte"] < found["unigram"]["bits_per_byte"]
    assert found["bits_per_byte"] == pytest.approx(found["bits_per_word"] * found["words"] / found["bytes"])
    shown = smelt("vectors", "eval", vectors, *options).out
    assert "1 questions left out" in shown and "Spearman" in shown and "600 words, 40 of them unknown" in shown
    plain = smelt("vectors", "eval", vectors / "vectors.txt", "--text", text_file)
    assert plain.code == 2 and "vectors from a text file cannot predict words" in plain.err


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (("--kind", "skipgrams"), "unknown kind 'skipgrams'. Did you mean 'skipgram'?"),
        (("--min-count", 1000), "none of them 1000 times; the commonest occurs 120 times"),
        (("--dim", 0), "dim=0 is not possible"),
    ],
)
def test_impossible_training(
    smelt: Smelt, text_file: Path, tmp_path: Path, words: tuple[object, ...], what: str
) -> None:
    result = smelt("vectors", "train", text_file, *words, "--out", tmp_path / "v")
    assert result.code in (1, 2) and what in result.err and not (tmp_path / "v").exists()


def test_what_belongs_together(smelt: Smelt, vectors: Path, tmp_path: Path) -> None:
    result = smelt("vectors", "eval", vectors)
    assert result.code == 2 and "nothing to measure" in result.err
    result = smelt("vectors", "eval", vectors, "--similarity", "s.txt", "--words-out", "w.txt")
    assert result.code == 2 and "--ngram-text and --words-out belong to --text" in result.err
    result = smelt("vectors", "nearest", tmp_path / "none", "a")
    assert result.code == 1 and "no such file" in result.err


def test_a_sealed_directory_that_was_changed(smelt: Smelt, vectors: Path) -> None:
    settings = vectors / "word_vectors.json"
    settings.write_text(json.dumps(json.loads(settings.read_text()) | {"dim": 9}))
    result = smelt("vectors", "nearest", vectors, "mill")
    assert result.code == 1 and "word_vectors.json' has" in result.err
