"""`smelt quickstart`: the plan, the question, the summary; the road itself is tested with train/."""

import sys
from pathlib import Path

import pytest

from smelt.train.quickstart import QuickstartRecipe, QuickstartResult

from .conftest import Smelt

RESULT = QuickstartResult(
    checkpoint="runs/q/chat/checkpoints/step-0000002",
    validation_bits_per_byte=0.75,
    floor_bits_per_byte=0.62,
    exact_match=0.9,
    exact_match_by_kind={"count": 0.9},
    tokens_per_second=1234.5,
    seconds=60.0,
    chats=[{"question": "Where is the hat?", "answer": "In the school."}],
    intervals={"count": "90.0 % (9/10, 59.6-98.2 %)"},
)


@pytest.fixture
def walked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[QuickstartRecipe, bool]]:
    """Walk nowhere; remember how."""
    calls: list[tuple[QuickstartRecipe, bool]] = []

    def walk(recipe: QuickstartRecipe, *, replace: bool) -> QuickstartResult:
        calls.append((recipe, replace))
        return RESULT

    monkeypatch.setattr("smelt.train.quickstart.quickstart", walk)
    return calls


def test_plan_before_and_summary_after(
    smelt: Smelt, walked: list[tuple[QuickstartRecipe, bool]], text_file: Path
) -> None:
    result = smelt("quickstart", "--minutes", 5, "--out", "q")
    assert result.code == 0 and walked == [(QuickstartRecipe(minutes=5, out="q"), False)]
    assert "plan for about 5 minutes, all of it in q:" in result.err and "parameters, context" in result.err
    assert "0.7500 bits per byte   floor 0.6200" in result.out
    assert "count  90.0 % (9/10, 59.6-98.2 %)" in result.out
    assert "> Where is the hat?\nIn the school." in result.out
    assert f"smelt chat {RESULT.checkpoint}" in result.out
    base = smelt("quickstart", "--text", text_file).out
    assert f"smelt generate {RESULT.checkpoint} --prompt TEXT" in base and "smelt chat" not in base
    assert f"smelt quickstart --text {text_file} --minutes 26 --out" in base


def test_json_has_the_stable_keys(
    smelt: Smelt, walked: list[tuple[QuickstartRecipe, bool]], text_file: Path, chats_file: Path
) -> None:
    result = smelt("quickstart", "--text", text_file, "--instructions", chats_file, "--yes", "--json")
    assert len(result.out.splitlines()) == 1 and walked[0][1] is True
    assert set(result.json) >= {
        "checkpoint", "validation_bits_per_byte", "floor_bits_per_byte", "exact_match", "exact_match_by_kind",
        "tokens_per_second", "seconds",
    }  # fmt: skip
    assert f"{text_file} (1 file, 0.0 MB)" in result.err and "preset small" in result.err


@pytest.mark.parametrize(("reply", "starts"), [("y\n", True), ("\n", True), ("n\n", False)])
def test_it_asks_at_a_terminal(
    smelt: Smelt,
    walked: list[tuple[QuickstartRecipe, bool]],
    monkeypatch: pytest.MonkeyPatch,
    reply: str,
    starts: bool,
) -> None:
    monkeypatch.setattr("smelt.cli.quickstart.at_terminal", lambda: True)
    result = smelt("quickstart", stdin=reply)
    assert (result.code == 0) is starts and bool(walked) is starts
    assert sys.stdin is not None and ("nothing was done" in result.err) is not starts


@pytest.mark.parametrize(
    ("words", "code", "what"),
    [
        (("--preset", "huge"), 2, "preset='huge'"),
        (("--minutes", "0"), 2, "minutes=0.0"),
        (("--instructions", "x.jsonl"), 2, "instructions need text"),
        (("--text", "no-such-folder"), 1, "no-such-folder: no such file."),
    ],
)
def test_bad_words_are_told_before_anything_is_done(
    smelt: Smelt, walked: list[tuple[QuickstartRecipe, bool]], words: tuple[str, ...], code: int, what: str
) -> None:
    result = smelt("quickstart", *words)
    assert result.code == code and what in result.err and not walked
