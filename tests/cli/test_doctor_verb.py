"""`smelt doctor`: facts, extras as pyproject.toml has them, problems as exit code 1."""

import tomllib
from pathlib import Path

import pytest

from smelt.cli.doctor import EXTRAS

from .conftest import Smelt


def test_facts_and_exit_code(smelt: Smelt, tmp_path: Path) -> None:
    result = smelt("doctor", "--runs", tmp_path / "runs", "--json")
    assert result.code == 0 and result.json["problems"] == []
    assert {"python", "torch", "cores", "processor", "compiler", "memory", "disk", "extras"} <= set(result.json)
    shown = smelt("doctor", "--runs", tmp_path / "runs")
    assert shown.out.rstrip().endswith("ready") and "pip install 'smelt-lm[" in shown.out
    assert not (tmp_path / "runs").exists(), "looking makes nothing"


def test_every_extra_is_explained() -> None:
    project = tomllib.loads((Path(__file__).resolve().parents[2] / "pyproject.toml").read_text())["project"]
    assert set(EXTRAS) == set(project["optional-dependencies"])


def test_a_directory_that_cannot_be_written_is_a_problem(
    smelt: Smelt, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(**settings: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("smelt.cli.doctor.tempfile.NamedTemporaryFile", refuse)
    result = smelt("doctor", "--runs", tmp_path)
    assert result.code == 1 and "cannot be written (Permission denied)" in result.out and "not ready" in result.out


def test_a_torch_that_does_not_load_is_a_problem(smelt: Smelt, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> str:
        raise ImportError("libgomp.so.1 is missing")

    monkeypatch.setattr("smelt.cli.doctor.accelerator", fail)
    result = smelt("doctor", "--runs", tmp_path, "--json")
    assert result.code == 1 and "libgomp.so.1 is missing" in result.json["problems"][0]
