"""Kills by the benchmark that the release figures come from, so that CI sees them every time.

Other stages are killed in the tests of each, in one process: starting them takes most of the time.
"""

import importlib.util
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "kill_resume.py"


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_killed_runs_resume_to_the_same_weights() -> None:
    spec = importlib.util.spec_from_file_location("kill_resume", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.main(kills=2, seed=1, both=False) == 0
