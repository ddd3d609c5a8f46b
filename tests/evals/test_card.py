"""The report card: which direction is better, what fails a gate, and the page with its table, plot and answers."""

import math
from pathlib import Path

import pytest

from smelt.core.errors import RegressionError, UsageError
from smelt.evals.card import Answered, Drop, Gate, Reading, failed, parse_gates, readings, refuse_drops, worsening
from smelt.evals.card_page import cell, check_out, verdict, write_page

EVALUATED = {
    "bits_per_byte": 2.5,
    "perplexity": 90.0,
    "bytes": 1000,
    "exact_match": 0.5,
    "exact_match_by_kind": {"sums": 0.25, "facts": 0.75},
    "exact_match_intervals": {"sums": [0.1, 0.4], "facts": [0.6, 0.9], "all": [0.4, 0.6]},
    "memorization": {
        "from_prefixes": 0.1,
        "from_nothing": 0.0,
        "span_tokens": 50,
        "intervals": {"from_prefixes": [0.05, 0.2], "from_nothing": [0.0, 0.06]},
    },
}


def test_every_figure_of_an_evaluation_becomes_a_metric() -> None:
    assert readings(EVALUATED) == {
        "bits_per_byte": Reading(2.5),
        "perplexity": Reading(90.0),
        "exact_match": Reading(0.5, 0.4, 0.6),
        "exact_match.sums": Reading(0.25, 0.1, 0.4),
        "exact_match.facts": Reading(0.75, 0.6, 0.9),
        "memorization.from_prefixes": Reading(0.1, 0.05, 0.2),
        "memorization.from_nothing": Reading(0.0, 0.0, 0.06),
    }
    assert readings({"bits_per_byte": 1.0}) == {"bits_per_byte": Reading(1.0)}


@pytest.mark.parametrize(
    ("metric", "before", "after", "expected"),
    [
        ("exact_match", 0.5, 0.4, 0.1),
        ("exact_match.sums", 0.5, 0.7, -0.2),
        ("bits_per_byte", 2.0, 2.1, 0.1),
        ("perplexity", 9.0, 8.0, -1.0),
        ("memorization.from_prefixes", 0.1, 0.3, 0.2),
        ("memorization.from_nothing", 0.1, 0.0, -0.1),
    ],
)
def test_each_metric_knows_which_direction_is_better(metric: str, before: float, after: float, expected: float) -> None:
    assert worsening(metric, before, after) == pytest.approx(expected)


def test_gates_are_read() -> None:
    text = "exact_match, bits_per_byte:0.01,exact_match.sums:.5"
    assert parse_gates(text, ["text", "gold"], ["sums"]) == [
        Gate("exact_match"),
        Gate("bits_per_byte", 0.01),
        Gate("exact_match.sums", 0.5),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "exact_matsch",
            "no metric 'exact_matsch'. Did you mean 'exact_match'?\naccepted: exact_match, exact_match.sums",
        ),
        ("exact_match.sum", "no metric 'exact_match.sum'. Did you mean 'exact_match.sums'?"),
        ("", "no metric ''."),
        ("bits_per_byte", "--must-not-drop bits_per_byte: it is not measured\ntry: add --text FILE"),
        ("exact_match:", "--must-not-drop exact_match:: '' is no allowed drop"),
        ("exact_match:-1", "'-1' is no allowed drop\naccepted: a number from 0 on"),
        ("exact_match:nan", "'nan' is no allowed drop"),
        ("exact_match:1 %", "'1 %' is no allowed drop"),
    ],
)
def test_gates_that_mean_nothing(text: str, message: str) -> None:
    with pytest.raises(UsageError) as error:
        parse_gates(text, ["gold"], ["sums"])
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("gate", "before", "after", "holds"),
    [
        (Gate("exact_match"), 0.9, 0.9, True),
        (Gate("exact_match"), 0.9, 0.89, False),
        (Gate("exact_match", 0.02), 0.90, 0.88, True),  # which is 0.020000000000000018
        (Gate("exact_match", 0.02), 0.90, 0.8799, False),
        (Gate("exact_match"), 0.5, 0.9, True),
        (Gate("bits_per_byte", 0.01), 2.0, 2.009, True),
        (Gate("bits_per_byte", 0.01), 2.0, 2.011, False),
        (Gate("bits_per_byte"), 2.0, 1.0, True),
        (Gate("bits_per_byte", 5.0), 2.0, math.nan, False),
        (Gate("bits_per_byte", 5.0), math.nan, 2.0, False),
        (Gate("perplexity", 5.0), 2.0, math.inf, False),
    ],
)
def test_a_gate_fails_beyond_what_is_allowed(gate: Gate, before: float, after: float, holds: bool) -> None:
    found = failed([gate], {gate.metric: Reading(before)}, {gate.metric: Reading(after)})
    assert (not found) is holds


def test_the_error_names_metric_before_after_and_allowed() -> None:
    refuse_drops([], "report.md")
    drops = [Drop(Gate("exact_match"), 0.9, 0.8), Drop(Gate("bits_per_byte", 0.01), 2.0, 2.5)]
    with pytest.raises(RegressionError) as error:
        refuse_drops(drops, "card/report.md")
    assert error.value.exit_code == 1
    assert str(error.value) == (
        "exact_match got worse: 0.9000 before, 0.8000 after, allowed drop 0; "
        "bits_per_byte got worse: 2.0000 before, 2.5000 after, allowed drop 0.01\n"
        "try: look at the answers side by side in card/report.md"
    )


def test_the_verdict_knows_about_chance() -> None:
    assert verdict("bits_per_byte", Reading(2.0), Reading(1.5)) == "better"
    assert verdict("bits_per_byte", Reading(2.0), Reading(math.nan)) == "no number"
    assert verdict("exact_match", Reading(0.5, 0.4, 0.6), Reading(0.5, 0.4, 0.6)) == "same"
    assert verdict("exact_match", Reading(0.5, 0.4, 0.6), Reading(0.45, 0.35, 0.55)) == "worse, intervals overlap"
    assert verdict("exact_match", Reading(0.5, 0.4, 0.6), Reading(0.8, 0.7, 0.9)) == "better"


def page(out: Path, **settings: object) -> str:
    before = readings(EVALUATED)
    intervals = {**EVALUATED["exact_match_intervals"], "all": [0.7, 0.9]}
    after = readings({**EVALUATED, "exact_match": 0.8, "bits_per_byte": 2.4, "exact_match_intervals": intervals})
    return write_page(out, ("old", "new"), before, after, command="smelt eval new", **settings).read_text()


def test_the_page(tmp_path: Path) -> None:
    gates = [Gate("exact_match"), Gate("bits_per_byte", 0.01)]
    answers = [Answered("2 + 2?", "4", "5 | <b>five</b>\nor so", "4"), Answered("again?", "", "", "x" * 1000)]
    text = page(tmp_path / "card", gates=gates, drops=[Drop(gates[1], 2.5, 2.6)], answers=answers, notes=["Note."])
    assert "Before: `old`. After: `new`." in text
    assert "| bits_per_byte | 2.5000 | 2.4000 | -0.1000 | better |" in text
    assert "| exact_match | 50.0% (40.0% to 60.0%) | 80.0% (70.0% to 90.0%) | +30.0 points | better |" in text
    assert "| exact_match | 0 | holds |" in text and "| bits_per_byte | 0.01 | **FAILED** |" in text
    assert "| 2 + 2? | 4 | 5 \\| &lt;b>five&lt;/b><br>or so | 4 |" in text
    assert "x" * 400 + " …" in text and "x" * 401 not in text
    assert "\nNote.\n" in text and "```\nsmelt eval new\n```" in text
    for line in text.splitlines():  # no cell breaks its table
        if line.startswith("|"):
            assert line.replace("\\|", "").count("|") in (4, 5, 6)


def test_the_plot_is_drawn_or_its_absence_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib")
    assert "![before and after](card.png)" in page(tmp_path / "one")
    assert (tmp_path / "one" / "card.png").read_bytes().startswith(b"\x89PNG")
    monkeypatch.setattr("smelt.evals.card_page.available", lambda module: False)
    assert "pip install 'smelt-lm[report]'" in page(tmp_path / "two")
    assert not (tmp_path / "two" / "card.png").exists()


@pytest.mark.parametrize("values", [{"bits_per_byte": 2.0}, {"bits_per_byte": math.nan, "perplexity": math.nan}])
def test_a_plot_of_one_metric_and_of_no_number(tmp_path: Path, values: dict[str, float]) -> None:
    pytest.importorskip("matplotlib")
    write_page(tmp_path, ("a", "b"), readings(values), readings(values), command="")
    assert (tmp_path / "card.png").is_file()


def test_cells_hold_any_text() -> None:
    assert cell("a\x1b[31m`b`\\") == "a\N{REPLACEMENT CHARACTER}[31m\\`b\\`\\\\"


def test_runs_and_checkpoints_are_not_written_into(tmp_path: Path) -> None:
    for name in ("recipe.yaml", "manifest.json", "config.json"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).write_text("")
        with pytest.raises(UsageError, match="is a run or a checkpoint"):
            check_out(tmp_path / name)
    with pytest.raises(UsageError, match="is a file"):
        check_out(tmp_path / "recipe.yaml" / "recipe.yaml")
    check_out(tmp_path / "new")
