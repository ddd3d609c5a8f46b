"""A run's report: what it says of the run's files, and the plots, which the other tests of runs leave out."""

from pathlib import Path

import pytest

from smelt.train import report
from smelt.train.run import RunDirectory

DRAW = report.draw  # as it is before the fixture of all tests here takes it away
PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    """A run of 30 steps with two validations and a sample."""
    made = RunDirectory(tmp_path, "run")
    made.create(resume=False)
    for step in range(1, 31):
        row = {"step": step, "tokens": 64 * step, "loss": 4 / step, "learning_rate": 1e-3, "tokens_per_second": 100.0}
        made.log_metrics(row)
    for step in (15, 30):
        made.log_event("validation", step=step, loss=5 / step)
    made.log_event("sample", step=30, prompt="the mill", text="stands\nby a river")
    return made


def test_a_report_has_facts_losses_validations_and_samples(run: RunDirectory) -> None:
    report.write_report(run, "A run", [("steps", "30")], ["smelt chat"], ["## More"])
    text = (run.path / "report.md").read_text()
    assert text.startswith("# A run\n") and "| steps | 30 |" in text and "## More" in text and "- smelt chat" in text
    assert "| 1 | 64 | 4.0000 |  |" in text and "| 30 | 1,920 | 0.1333 | 0.1667 |" in text
    assert "after “the mill”" in text and "> stands\n> by a river" in text


def test_its_plots_are_pictures(run: RunDirectory) -> None:
    pytest.importorskip("matplotlib")
    DRAW(run, run.read_metrics(), run.read_events())
    for name in ("loss.png", "rate.png"):
        data = (run.path / name).read_bytes()
        assert data.startswith(PNG) and len(data) > 5000


def test_smoothing_averages_what_there_is_and_never_leaves_its_range() -> None:
    assert report.smooth([3.0]) == [3.0]
    smoothed = report.smooth([0.0, 1.0] * 50)
    assert smoothed[1] == pytest.approx(2 / 3) and 0.4 < smoothed[-1] < 0.6
