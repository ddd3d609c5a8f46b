"""`smelt fill`, `embed`, `label` and `answer`: each reaches its function, and says what a checkpoint lacks."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from smelt.models.build import build
from smelt.models.families import Shape, spec_for
from smelt.models.families.encoder_layout import Top, with_top
from smelt.models.hub import load, save
from smelt.models.readings import embed, fill
from smelt.nn.spec import TaskSpec
from smelt.tokenizers.training import train_tokenizer

from .conftest import Smelt

TEXTS = ["the mill stands by the river", "a cat sat on the old mat in the mill"]


@pytest.fixture(scope="module")
def encoders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with one tiny encoder for each head."""
    directory = tmp_path_factory.mktemp("encoders")
    tokenizer = train_tokenizer(TEXTS * 3, algorithm="wordpiece", vocab_size=60, special=())
    spec = spec_for("bert", Shape(tokenizer.vocab_size, 24, 2, 6, 40))
    tops = {
        "masked": Top(True, True, spec.tasks),
        "text": Top(False, True, (TaskSpec("text", 2, "pooled", label_names=("good", "bad")),)),
        "words": Top(tasks=(TaskSpec("token", 2, crf=True, label_names=("B-X", "I-X")),)),
        "span": Top(tasks=(TaskSpec("span", 2),)),
    }
    for name, top in tops.items():
        model = build(replace(with_top(spec, top, spec.head_transform)), seed=3)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter += 0.2 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1))
        save(model, tokenizer, directory / name)
    return directory


def test_fill(smelt: Smelt, encoders: Path) -> None:
    text = "the [MASK] by the [MASK]"
    expected = fill(*load(encoders / "masked"), [text], top_k=3)[0]
    result = smelt("fill", encoders / "masked", "--text", text, "--top-k", 3, "--json")
    assert result.code == 0
    assert [[choice["text"] for choice in mask] for mask in result.json["masks"]] == [
        [choice.text for choice in mask] for mask in expected
    ]
    lines = smelt("fill", encoders / "masked", "--top-k", 3, stdin=text + "\n").out.splitlines()
    assert lines[0].split() == ["mask", "word", "probability"] and len(lines) == 7
    assert lines[1].split() == ["1", expected[0][0].text, f"{expected[0][0].probability:.4f}"]


def test_embed(smelt: Smelt, encoders: Path, tmp_path: Path) -> None:
    expected, out = embed(*load(encoders / "masked"), TEXTS), tmp_path / "vectors"
    words = ("--text", TEXTS[0], "--text", TEXTS[1])
    assert smelt("embed", encoders / "masked", *words, "--out", out).out == f"{out}: 2 vectors of 24 numbers\n"
    assert np.array_equal(np.load(out), expected.numpy())
    (tmp_path / "texts.txt").write_text("\n".join(TEXTS) + "\n\n")
    result = smelt("embed", encoders / "masked", "--text-file", tmp_path / "texts.txt", "--json")
    assert (result.json["texts"], result.json["dim"]) == (2, 24)
    assert np.allclose(result.json["embeddings"], expected)
    lines = smelt("embed", encoders / "masked", *words, "--pooling", "pooled", "--raw").out.splitlines()
    raw = embed(*load(encoders / "masked"), TEXTS, pooling="pooled", normalized=False)
    assert np.allclose([[float(number) for number in line.split()] for line in lines], raw, atol=1e-4)


def test_label(smelt: Smelt, encoders: Path) -> None:
    shares = smelt("label", encoders / "text", "--text", TEXTS[0], "--json").json["labels"]
    assert set(shares) == {"good", "bad"} and sum(shares.values()) == pytest.approx(1)
    pair = smelt("label", encoders / "text", "--text", TEXTS[0], "--second", TEXTS[1]).out.splitlines()
    assert pair[0].split() == ["label", "probability"] and len(pair) == 3
    text = "the Mill,\u200b by the river"
    spans = smelt("label", encoders / "words", "--text", text, "--json").json["spans"]
    assert spans and all(text[span["start"] : span["stop"]] == span["text"] for span in spans)
    assert {span["label"] for span in spans} == {"X"} and spans[0]["start"] == 0
    assert smelt("label", encoders / "words", "--text", text).out.splitlines()[0].split() == [
        "text",
        "label",
        "characters",
    ]


def test_answer(smelt: Smelt, encoders: Path) -> None:
    words = ("answer", encoders / "span", "--question", "the mat", "--text", TEXTS[1])
    found = smelt(*words, "--json").json
    assert found["answer"] == TEXTS[1][found["start"] : found["stop"]] and 0 < found["probability"] <= 1
    assert smelt(*words).out == found["answer"] + "\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ("fill", "text", "--text", "a [MASK]"),
            "this bert model lacks a language head, which fills masks; it has layers",
        ),
        (("fill", "masked", "--text", "a cat"), "there is no [MASK] in 'a cat'"),
        (("embed", "words", "--text", "a", "--pooling", "pooled"), "this bert model lacks a pooler; it has"),
        (("embed", "words", "--text", "a", "--pooling", "max"), "--pooling max\naccepted: mean, cls, pooled"),
        (("embed", "words"), "there is no text\naccepted: at least one line that is not empty"),
        (("label", "span", "--text", "a cat"), "this bert model lacks a head that labels texts; it has"),
        (("answer", "words", "--question", "who?", "--text", "a cat"), "lacks a head that points at answers; it has"),
    ],
)
def test_what_is_missing_is_said(smelt: Smelt, encoders: Path, words: tuple[str, ...], message: str) -> None:
    result = smelt(words[0], encoders / words[1], *words[2:])
    assert result.code == 2 and message in result.err and not result.out
