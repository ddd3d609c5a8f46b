"""`smelt eval`: the stable keys, rates by kind with intervals, copies of the training text."""

import json
from pathlib import Path

import pytest
import torch

from smelt.evals.metrics import wilson_interval
from smelt.evals.text import bits_per_byte
from smelt.models.hub import load, save

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


@pytest.fixture
def worse(checkpoint: Path, tmp_path: Path) -> Path:
    """The same model with other numbers, whose answers are others."""
    model, tokenizer = load(checkpoint)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.5 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(3))
    save(model, tokenizer, tmp_path / "worse")
    return tmp_path / "worse"


def test_two_checkpoints_side_by_side(
    smelt: Smelt, checkpoint: Path, worse: Path, gold_file: Path, text_file: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr("smelt.evals.gold.exact_match", limited(max_new_tokens=8))
    parts, out = ("--text", text_file, "--gold", gold_file), tmp_path / "card"
    words = (*parts, "--before", checkpoint, "--out", out, "--json")
    result = smelt("eval", worse, *words)
    assert result.code == 0, result.err
    values = result.json
    alone = [smelt("eval", path, *parts, "--json").json for path in (checkpoint, worse)]
    assert values["before"] == alone[0] and {name: values[name] for name in alone[1]} == alone[1]
    assert values["changes"]["exact_match"] == alone[1]["exact_match"] - 0.5 < 0
    assert values["dropped"] == [] and values["report"] == str(out / "report.md")
    page = (out / "report.md").read_text()
    assert f"Before: `{checkpoint}`. After: `{worse}`." in page
    assert "| exact_match.even | 50.0% " in page and "no such words" in page
    assert f"smelt eval {worse} --before {checkpoint} --text {text_file} --gold {gold_file}" in page
    gold = [json.loads(line)["gold"] for line in gold_file.read_text().splitlines()]
    shown = [line.split(" | ") for line in page.splitlines() if line.startswith("| q")]
    assert [row[0] for row in shown] == ["| q0", "| q1", "| q2", "| q3"]
    assert [row[2] == row[1] for row in shown] == [True, True, False, False] and len(gold) == 4
    shown = smelt("eval", worse, *words[:-1]).out.splitlines()
    assert shown[0].split() == ["metric", "before", "after"] and shown[-1] == f"report  {out / 'report.md'}"


def test_a_gate_fails_the_run(
    smelt: Smelt, checkpoint: Path, worse: Path, gold_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("smelt.evals.gold.exact_match", limited(max_new_tokens=8))
    words = ("--gold", gold_file, "--before", checkpoint, "--out", tmp_path / "card", "--must-not-drop")
    result = smelt("eval", worse, *words, "exact_match,exact_match.odd:1", "--json")
    assert result.code == 1
    assert "exact_match got worse: 0.5000 before, 0.0000 after, allowed drop 0" in result.err
    assert "exact_match.odd" not in result.err
    assert result.json["dropped"] == [{"metric": "exact_match", "before": 0.5, "after": 0.0, "allowed": 0.0}]
    assert "| exact_match | 0 | **FAILED** |" in (tmp_path / "card" / "report.md").read_text()
    assert smelt("eval", checkpoint, *words, "exact_match").code == 0
    assert smelt("eval", worse, *words, "exact_match:0.5").code == 0


def test_beginnings_of_the_text_are_continued(
    smelt: Smelt, checkpoint: Path, worse: Path, text_file: Path, tmp_path: Path
) -> None:
    def answers(text: Path, *more: object) -> list[str]:
        words = ("--text", text, "--before", checkpoint, "--out", tmp_path / "card")
        assert smelt("eval", worse, *words, *more).code == 0
        return [
            line for line in (tmp_path / "card" / "report.md").read_text().splitlines() if line.startswith("| The ")
        ]

    found = answers(text_file)
    assert len(found) == 10 and len(set(found)) == 10
    assert found == answers(text_file) != answers(text_file, "--seed", 1)
    (tmp_path / "one.txt").write_text("The mill The mill " * 50)
    answers(tmp_path / "one.txt")
    assert "| wanted |" in (tmp_path / "card" / "report.md").read_text()


def test_perplexities_of_two_tokenizers_are_not_compared(
    smelt: Smelt, checkpoint: Path, text_file: Path, tmp_path: Path
) -> None:
    assert smelt("tokenizer", "extend", checkpoint, "--add", "mill", "--out", tmp_path / "new").code == 0
    words = ("--text", text_file, "--before", checkpoint, "--out", tmp_path / "card")
    assert "only bits per byte compare" in smelt("eval", tmp_path / "new", *words).out
    assert "only bits per byte compare" in (tmp_path / "card" / "report.md").read_text()
    result = smelt("eval", tmp_path / "new", *words, "--must-not-drop", "perplexity:100")
    assert result.code == 2 and "--must-not-drop perplexity: the tokenizers differ" in result.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["--must-not-drop", "exact_match"],
            "--must-not-drop without a checkpoint to compare with",
        ),
        (["--out", "card"], "--out without a checkpoint to compare with\ntry: --before CKPT"),
        (["--before", "{}", "--must-not-drop", "exact_macht"], "no metric 'exact_macht'. Did you mean 'exact_match'?"),
        (["--before", "{}", "--must-not-drop", "exact_match"], "exact_match: it is not measured\ntry: add --gold FILE"),
        (["--before", "{}", "--out", "{}"], "is a run or a checkpoint"),
    ],
)
def test_comparisons_that_cannot_be_made(
    words: list[str], message: str, smelt: Smelt, checkpoint: Path, text_file: Path
) -> None:
    result = smelt("eval", checkpoint, "--text", text_file, *(word.format(checkpoint) for word in words))
    assert result.code == 2 and message in result.err
