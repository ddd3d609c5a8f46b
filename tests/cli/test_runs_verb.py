"""`smelt runs`: lists, one run, two runs side by side."""

import json
from pathlib import Path

import pytest

from smelt.cli.runs import spread
from smelt.train.reading import differences, flatten

from .conftest import Smelt


def make_run(path: Path, *, steps: int, done: int, rate: float) -> None:
    """Write the files of a run that lost a nat a step."""
    (path / "checkpoints" / f"step-{done:07d}").mkdir(parents=True)
    (path / "checkpoints" / "latest").write_text(f"step-{done:07d}\n")
    (path / "recipe.yaml").write_text(f"name: {path.name}\nsteps: {steps}\noptimizer:\n  learning_rate: {rate}\n")
    lines = [{"step": step, "loss": 9.0 - step, "tokens_per_second": 1000.0} for step in range(1, done + 1)]
    (path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (path / "events.jsonl").write_text(json.dumps({"event": "validation", "step": done, "loss": 9.5 - done}) + "\n")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    make_run(tmp_path / "runs" / "books", steps=4, done=4, rate=0.003)
    make_run(tmp_path / "runs" / "quick" / "base", steps=9, done=2, rate=0.001)
    return tmp_path / "runs"


def test_list_finds_runs_and_those_of_a_quickstart(smelt: Smelt, root: Path) -> None:
    found = {run["run"]: run for run in smelt("runs", "list", root, "--json").json["runs"]}
    assert set(found) == {str(root / "books"), str(root / "quick" / "base")}
    assert found[str(root / "books")]["validation_loss"] == 5.5 and found[str(root / "books")]["train_loss"] == 5.0
    rows = [line.split() for line in smelt("runs", "list", root).out.splitlines()]
    assert [str(root / "quick" / "base"), "2/9", "7.0000", "7.5000", "1,000"] in [row[:5] for row in rows]
    result = smelt("runs", "list", root / "none")
    assert result.code == 2 and "no such directory" in result.err


def test_show(smelt: Smelt, root: Path) -> None:
    values = smelt("runs", "show", root / "books", "--json").json
    assert values["last"]["loss"] == 5.0 and values["validations"] == [[4, 5.5]]
    assert values["checkpoints"] == ["step-0000004"]
    shown = smelt("runs", "show", root / "books").out
    assert "step 4 of 4" in shown and "tokens_per_second  1,000" in shown


def test_compare_shows_differences_and_losses(smelt: Smelt, root: Path) -> None:
    values = smelt("runs", "compare", root / "books", root / "quick" / "base", "--json").json
    assert values["differences"] == {
        "name": ["books", "base"], "steps": [4, 9], "optimizer.learning_rate": [0.003, 0.001],
    }  # fmt: skip
    rows = [line.split() for line in smelt("runs", "compare", root / "books", root / "quick" / "base").out.splitlines()]
    assert ["optimizer.learning_rate", "0.003", "0.001"] in rows
    assert ["training,", "2", "7.0000", "7.0000"] in rows and ["training,", "4", "5.0000", "-"] in rows
    assert ["validation,", "4", "5.5000", "-"] in rows


def test_an_unknown_run_names_the_nearest(smelt: Smelt, root: Path) -> None:
    result = smelt("runs", "show", root / "boks")
    assert result.code == 2 and "is not a run: no recipe.yaml there. Did you mean 'books'?" in result.err


def test_a_run_that_has_only_begun(smelt: Smelt, tmp_path: Path) -> None:
    (tmp_path / "runs" / "new").mkdir(parents=True)
    (tmp_path / "runs" / "new" / "recipe.yaml").write_text("name: new\n")
    shown = smelt("runs", "list", tmp_path / "runs")
    assert shown.code == 0 and "0/?" in shown.out
    assert smelt("runs", "show", tmp_path / "runs" / "new").code == 0
    (tmp_path / "none").mkdir()
    assert "no run in" in smelt("runs", "list", tmp_path / "none").out


def test_helpers() -> None:
    assert flatten({"a": {"b": 1, "c": {"d": 2}}, "e": [3]}) == {"a.b": 1, "a.c.d": 2, "e": [3]}
    assert differences({"a": 1, "b": 2}, {"a": 1, "c": 3}) == {"b": (2, None), "c": (None, 3)}
    assert spread(range(100), 4) == [0, 33, 66, 99] and spread([5], 4) == [5]
