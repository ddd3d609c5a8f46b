"""The road general -> code -> instructions: recipes/road shrunk to a few steps, each stage from the one before it."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from smelt.core.config import load_recipe
from smelt.models.hub import load
from smelt.train.run import RunDirectory
from smelt.train.stages.pretrain import PretrainRecipe, pretrain
from smelt.train.stages.sft import SftRecipe, sft

ROAD = Path(__file__).resolve().parents[2] / "recipes" / "road"
SHRUNK = [
    "minutes=null",
    "steps=4",
    "max_seq_len=64",
    "batch_rows=4",
    "validate_every=2",
    "sample_every=4",
    "compile=no",
]
SMALL = ["model.dim=16", "model.num_layers=1", "model.num_heads=2", "tokenizer=tokenizer"]


@pytest.fixture(scope="module", autouse=True)
def quick() -> Iterator[None]:
    """Skip what takes longer than the few steps here: measuring the speed, and the plots that every run has."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("smelt.train.stages.common.measure_step", lambda *arguments: 0.01)
        patched.setattr("smelt.train.report.draw", lambda *arguments: None)
        yield


def project(files: Path, folder: Path) -> None:
    """Lay out what the recipes name: prose, a package of Python files, conversations, a tokenizer."""
    (folder / "tokenizer").symlink_to(files / "tokenizer")
    (folder / "books").mkdir()
    sentences = [json.loads(line)["text"] for line in (files / "text.jsonl").read_text().splitlines()]
    for number in range(20):
        (folder / "books" / f"{number}.md").write_text("\n".join(sentences[number::20]))
    (folder / "smelt" / "inner").mkdir(parents=True)
    (folder / "smelt" / "__init__.py").write_text("")
    for number in range(12):
        (folder / "smelt" / "inner" / f"m{number}.py").write_text(
            f"def add(x: int) -> int:\n    return x + {number}\n" * 9
        )
    rows = [{"instruction": f"Say {n}.", "input": "", "output": f"It is {n}."} for n in range(30)]
    (folder / "chats.json").write_text(json.dumps(rows))


def test_each_stage_begins_where_the_one_before_it_ended(
    files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project(files, tmp_path)
    monkeypatch.chdir(tmp_path)
    general = pretrain(load_recipe(PretrainRecipe, ROAD / "1-general.yaml", [*SHRUNK, *SMALL, "data=books"]))
    assert general.run == "runs/road-general" and "forgetting" not in general.metrics

    of_code = load_recipe(PretrainRecipe, ROAD / "2-code.yaml", SHRUNK)
    (code, books) = of_code.data
    assert (code.path, books.weight) == ("smelt/**/*.py", 0.15)
    at_home = (code, books.model_copy(update={"path": "books"}))
    second = pretrain(of_code.model_copy(update={"data": at_home}))
    assert set(second.metrics["forgetting"]) == {"code", "books"} == set(second.metrics["sources"])
    held_out = [Path(run, "data", part, "document_bytes.bin") for run, part in (
        ("runs/road-general", "validation"), ("runs/road-code", "2-books/validation")
    )]  # fmt: skip
    assert held_out[0].read_bytes() == held_out[1].read_bytes(), "the books held out are those of the first stage"

    of_chats = load_recipe(SftRecipe, ROAD / "3-instructions.yaml", SHRUNK[1:])
    assert [source.weight for source in of_chats.data] == [0.92, 0.06, 0.02]
    at_home = tuple(source.model_copy(update={"path": path}) for source, path in zip(
        of_chats.data, ("chats.json", "smelt/**/*.py", "books"), strict=True
    ))  # fmt: skip
    third = sft(of_chats.model_copy(update={"data": at_home}))
    assert set(third.metrics["forgetting"]) == {"code", "books"}
    before, after = (run.metrics["forgetting"]["books"] for run in (third, second))
    assert before["before"] == pytest.approx(after["after"], rel=1e-4), "what one stage ends with, the next begins with"
    samples = [event for event in RunDirectory("runs", "road-instructions").read_events() if event["event"] == "sample"]
    assert samples and load(third.checkpoint)[0].spec.vocab_size == load(general.checkpoint)[0].spec.vocab_size
    parents = [
        json.loads((Path(run.checkpoint) / "smelt.json").read_text())["parents"] for run in (general, second, third)
    ]
    assert parents[0] == [] and [Path(p[0]["path"]).parts[1] for p in parents[1:]] == ["road-general", "road-code"]
