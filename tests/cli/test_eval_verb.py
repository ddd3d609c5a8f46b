"""`smelt eval`: the stable keys, rates by kind with intervals, copies of the training text."""

import json
from pathlib import Path

import pytest

from smelt.evals.metrics import wilson_interval
from smelt.evals.text import bits_per_byte
from smelt.models.hub import load

from .conftest import Smelt


def test_the_stride_is_passed_on(smelt: Smelt, checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "long.txt").write_text("the mill by the river " * 10)
    found = smelt("eval", checkpoint, "--text", tmp_path / "long.txt", "--stride", 20, "--json").json
    expected = bits_per_byte(*load(checkpoint), ["the mill by the river " * 10], stride=20)
    assert found["bits_per_byte"] == pytest.approx(expected.bits_per_byte, rel=1e-6)
    result = smelt("eval", checkpoint, "--text", tmp_path / "long.txt", "--stride", 1000)
    assert result.code == 2 and "stride: 1000 is not possible" in result.err


def test_text(smelt: Smelt, checkpoint: Path, text_file: Path) -> None:
    result = smelt("eval", checkpoint, "--text", text_file, "--json")
    assert result.code == 0
    texts = [json.loads(line)["text"] for line in text_file.read_text().splitlines()]
    expected = bits_per_byte(*load(checkpoint), texts)
    assert result.json == {
        "bits_per_byte": pytest.approx(expected.bits_per_byte),
        "perplexity": pytest.approx(expected.perplexity),
        "bytes": sum(map(len, texts)),
    }
    assert f"{expected.bits_per_byte:.4f} bits per byte" in smelt("eval", checkpoint, "--text", text_file).out


@pytest.fixture
def gold_file(smelt: Smelt, checkpoint: Path, tmp_path: Path) -> Path:
    """Two questions whose gold answer is what the model says, and two where it is not."""
    rows = []
    for number in range(4):
        asked = f"q{number}"
        said = smelt(
            "generate", checkpoint, "--prompt", asked, "--chat", "--temperature", 0, "--max-new-tokens", 8, "--json"
        )
        gold = said.json["text"].strip() if number < 2 else "no such words"
        turns = [{"role": "user", "content": asked}, {"role": "assistant", "content": gold}]
        rows.append({"messages": turns, "kind": ("even", "odd")[number % 2], "gold": gold})
    path = tmp_path / "gold.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_gold_by_kind_with_intervals(
    smelt: Smelt, checkpoint: Path, gold_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("smelt.evals.gold.SPARE_TOKENS", 0)  # cut answers at the length of the longest gold text
    gold = [json.loads(line)["gold"] for line in gold_file.read_text().splitlines()]
    monkeypatch.setattr("smelt.evals.gold.exact_match", limited(max_new_tokens=8))
    result = smelt("eval", checkpoint, "--gold", gold_file, "--json")
    assert result.code == 0, result.err
    assert result.json["exact_match"] == 0.5 and len(gold) == 4
    assert result.json["exact_match_by_kind"] == {"even": 0.5, "odd": 0.5}
    assert result.json["exact_match_intervals"]["all"] == pytest.approx(wilson_interval(2, 4))
    shown = smelt("eval", checkpoint, "--gold", gold_file, "--show-wrong")
    rows = [line.split() for line in shown.out.splitlines()]
    assert ["even", "50.0%", "9.5%", "to", "90.5%", "1/2"] in rows and [
        "all",
        "50.0%",
        "15.0%",
        "to",
        "85.0%",
        "2/4",
    ] in rows
    assert "gold   no such words" in shown.err


def limited(**settings: int) -> object:
    """Return exact_match with other settings."""
    from smelt.evals.gold import exact_match

    def call(*rest: object, **more: object) -> object:
        return exact_match(*rest, **more, **settings)  # type: ignore[arg-type]

    return call


def test_memorization_of_text_and_of_shards(
    smelt: Smelt, checkpoint: Path, text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = ("--num-samples", 4, "--span-tokens", 5)
    result = smelt("eval", checkpoint, "--memorization", text_file, *few, "--json")
    assert result.code == 0
    found = result.json["memorization"]
    assert found["span_tokens"] == 5 and 0 <= found["from_prefixes"] <= 1 and 0 <= found["from_nothing"] <= 1
    assert found["intervals"]["from_nothing"] == pytest.approx(wilson_interval(round(4 * found["from_nothing"]), 4))
    shards = tmp_path / "shards"
    smelt("data", "pack", text_file, "--tokenizer", checkpoint, "--out", shards)
    assert smelt("eval", checkpoint, "--memorization", shards, *few, "--json").json == result.json
    assert "5 or more training tokens in a row" in smelt("eval", checkpoint, "--memorization", shards, *few).out


def test_nothing_to_measure(smelt: Smelt, checkpoint: Path) -> None:
    result = smelt("eval", checkpoint)
    assert result.code == 2 and "nothing to measure" in result.err
