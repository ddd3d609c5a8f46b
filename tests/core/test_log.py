import io
import sys

import pytest

from smelt.core import log
from smelt.core.log import LiveLine, printable, say


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def use_terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Put a terminal in the place of stderr; called by the test itself, after pytest has set up its own capture."""
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setattr(LiveLine, "shown", None)
    return screen


def test_say_writes_to_stderr_only(capsys: pytest.CaptureFixture[str]) -> None:
    say("hello")
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "hello\n")


def test_foreign_text_cannot_steer_the_terminal() -> None:
    assert printable("a\x1b[2Jb\rc\x07\u202e") == "a\ufffd[2Jb\ufffdc\ufffd\ufffd"
    assert printable("Füße 中文\n\tx") == "Füße 中文\n\tx"


def test_a_terminal_line_is_rewritten_in_place(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = use_terminal(monkeypatch)
    monkeypatch.setenv("COLUMNS", "10")
    line = LiveLine()
    line.update("step 1")
    line.update("step 2 of a hundred")
    line.close()
    line.close()
    assert terminal.getvalue() == "\r\x1b[2Kstep 1\r\x1b[2Kstep 2 of\n"


def test_a_message_does_not_run_into_the_live_line(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = use_terminal(monkeypatch)
    line = LiveLine()
    line.update("step 1")
    say("saved")
    line.update("step 2")
    line.close()
    assert terminal.getvalue() == "\r\x1b[2Kstep 1\nsaved\n\r\x1b[2Kstep 2\n"


def test_off_a_terminal_updates_are_thinned(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([0.0, 0.5, 1.0, 1.9])
    monkeypatch.setattr(log.time, "monotonic", lambda: next(clock))
    line = LiveLine(interval_seconds=1.0)
    for number in range(4):
        line.update(f"step {number}")
    line.close()
    assert capsys.readouterr().err == "step 0\nstep 2\n"
