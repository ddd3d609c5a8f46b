"""The server under load and faults: short runs of the script that the release figures come from.

The bars of time are twenty times as wide as there, for a machine that runs other tests meanwhile; those of lost answers
and of what stays behind are the same.
"""

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("fastapi")

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "serve_load.py"
PARTS = {
    "streams": ("--minutes", "0.05"),
    "overload": ("--seconds", "4"),
    "disconnects": ("--requests", "60"),
    "terms": ("--times", "1"),
    "slowloris": ("--seconds", "3"),
}


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("part", PARTS)
def test_a_short_run_keeps_all_bars(part: str) -> None:
    words = [sys.executable, str(SCRIPT), part, *PARTS[part], "--slack", "20"]
    done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 0 and "ok " in done.stdout, done.stdout
