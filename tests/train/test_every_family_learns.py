"""Every family learns from real text under its objective: the loss falls, by the script that draws the curves."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "learning" / "families.py"


def load_script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("learning_families", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


SCRIPT_MODULE = load_script()


@pytest.fixture(scope="module")
def prepared(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    text = str(shared_data / "text" / "books-en")
    corpus, tokenizer, _ = SCRIPT_MODULE.prepare(text, tmp_path_factory.mktemp("text"), megabytes=0.5)
    return corpus, tokenizer


@pytest.mark.slow
@pytest.mark.parametrize(("family", "objective"), SCRIPT_MODULE.runs())
def test_every_family_learns(family, objective, prepared, tmp_path):
    losses = SCRIPT_MODULE.curve(family, objective, *prepared, tmp_path, steps=60)
    assert sum(losses[-10:]) / 10 < 0.92 * losses[0]
