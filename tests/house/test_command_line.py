"""Every verb answers --help, and the front page of the help costs no import of torch."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from .repository import verb_table
from .source import ROOT, write_tree

MAIN = ROOT / "smelt" / "cli" / "main.py"
written = pytest.mark.skipif(not MAIN.exists(), reason="smelt/cli/main.py does not exist yet")
VERBS = verb_table(ROOT) if MAIN.exists() else {}


@written
def test_there_are_verbs_and_each_names_a_module_and_its_purpose() -> None:
    assert VERBS
    for name, (module, purpose) in VERBS.items():
        assert importlib.util.find_spec(module) is not None, f"{name}: no module {module}"
        assert purpose and "\n" not in purpose, name


@written
@pytest.mark.parametrize("verb", VERBS)
def test_verb_answers_help(verb: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from smelt.cli.main import run

    monkeypatch.setattr(sys, "argv", ["smelt", verb, "--help"])
    try:
        code = run()
    except SystemExit as left:
        code = left.code
    shown = capsys.readouterr().out
    assert code in (0, None)
    assert "--help" in shown or "usage" in shown.lower()


@written
def test_help_never_imports_torch() -> None:
    code = """
import sys
sys.argv = ["smelt", "--help"]
from smelt.cli.main import run
try:
    code = run()
except SystemExit as left:
    code = left.code
heavy = [name for name in ("torch", "numba", "pyarrow", "transformers") if name in sys.modules]
assert not code, code
assert not heavy, heavy
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    missing = [verb for verb in VERBS if verb not in done.stdout]
    assert not missing, f"not listed by smelt --help: {missing}"


def test_verb_table_is_read_without_importing(tmp_path: Path) -> None:
    text = 'raise SystemExit("imported")\nVERBS: dict[str, tuple[str, str]] = {"sft": ("smelt.cli.sft", "Teach it.")}\n'
    write_tree(tmp_path, {"smelt/cli/main.py": text})
    assert verb_table(tmp_path) == {"sft": ("smelt.cli.sft", "Teach it.")}
    write_tree(tmp_path, {"smelt/cli/main.py": "VERBS = dict(sft=1)\n"})
    with pytest.raises(ValueError, match="malformed"):
        verb_table(tmp_path)
