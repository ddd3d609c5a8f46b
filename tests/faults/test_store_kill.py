"""A few kills of the benchmark that the release figures come from, and a look at whether it would see a loss."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("sqlalchemy")

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "store_faults.py"


def test_killed_writers_lose_and_double_nothing() -> None:
    done = subprocess.run(
        [sys.executable, SCRIPT, "--kills", "12", "--seed", "1"], capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert found["integrity"] == "ok" and found["lost"] == found["doubled"] == 0
    assert 0 < found["acknowledged"] <= found["written"]


@pytest.fixture
def script() -> Any:
    spec = importlib.util.spec_from_file_location("store_faults", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_loss_and_a_double_would_be_seen(script: Any, tmp_path: Path) -> None:
    store = script.Store.open(tmp_path / "a.db")
    script.create_chat(store, script.Chat("w0", "w0", ""))
    for number in (1, 1.5):  # the second says what the first says, as a write tried again under a new id would
        script.add_message(store, "w0", script.Message(f"w0-{number}", "w0", None, "user", "message w0-1"))
    store.close()
    (tmp_path / "w0").write_text("1\n2\n")
    found = script.judge(tmp_path / "a.db", tmp_path, 1)
    assert found["acknowledged"] == 6 and found["doubled"] == 1
    assert found["lost"] == 5, "a message, two thumbs and two choices are noted and not there"
