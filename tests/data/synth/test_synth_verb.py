"""`smelt data synth`: the plan before, the summary after, keys, prompts, and a kill in the middle."""

import io
import json
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from smelt.cli.main import main
from smelt.data.formats import summarize
from smelt.data.synth.prompts import FILE, load_prompts

from .conftest import answering, completion, rows_in

ROOT = Path(__file__).resolve().parents[3]


class Terminal(io.StringIO):
    """Somebody who answers."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def smelt(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run a command line and return its code, stdout and stderr."""

    def call(*words: object, answer: str | None = None) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "stdin", io.StringIO() if answer is None else Terminal(answer))
        code = main(["data", "synth", *map(str, words)])
        return (code, *capsys.readouterr())

    return call


def at(server: Any, out: Path) -> tuple[object, ...]:
    return "--endpoint", server.url, "--model", "wise", "--out", out


def test_the_plan_costs_nothing(smelt: Any, server: Any, seeds: Path, tmp_path: Path) -> None:
    words = ("method=evol-instruct", f"data={seeds}", "generations=2", *at(server, tmp_path / "a.jsonl"), "--dry-run")
    code, out, _ = smelt(*words, "--price-in", "1.5", "--price-out", "6")
    assert code == 0 and out.splitlines() == [
        f"plan: evol-instruct by wise into {tmp_path}/a.jsonl",
        "  requests  at most 72 = 24 evolving + 24 comparing + 24 answers",
        "  tokens    about " + out.split("about ")[1].split(" in")[0] + " in (4 bytes a token), at most 73,728 out",
        "  money     at most 0.45, at 1.5 and 6 a million tokens",
        "  time      told after the first request",
    ]
    values = json.loads(smelt(*words, "--json")[1])
    assert values["requests"] == 72 and values["tokens_out"] == 72 * 1024 and values["money"] is None
    assert values["steps"] == {"evolving": 24, "comparing": 24, "answers": 24} and 2000 < values["tokens_in"] < 6000
    assert server.heard == [] and list(tmp_path.iterdir()) == [seeds]


def test_a_run_and_its_summary(smelt: Any, server: Any, seeds: Path, tmp_path: Path) -> None:
    made = tmp_path / "a.jsonl"
    words = ("method=self-instruct", f"data={seeds}", "count=9", *at(server, made), "--price-in", "10")
    code, out, err = smelt(*words)
    assert (
        code == 0 and "  requests  at most 44 = 8 new tasks + 36 answers\n" in err and "at a time are as quick" in err
    )
    rows = rows_in(made)
    assert len(rows) == 9 and out.startswith(f"rows        9 in {made}\nrefused     ")
    assert f"asked       {len(server.heard)} requests, {len(server.heard)} of them now" in out
    assert f"money       {len(server.heard) * 10 * 10 / 1e6:,.4f}\nnext        smelt data inspect {made}" in out
    assert summarize(made).formats == {"messages": 9} and summarize(made).num_bad == 0
    values = json.loads(smelt(*words, "--json")[1])
    assert values["rows"] == 9 and values["asked"] == 0 and values["requests"] == len(server.heard)


def test_somebody_at_the_terminal_is_asked(smelt: Any, server: Any, seeds: Path, tmp_path: Path) -> None:
    words = ("method=explain", f"data={seeds}", "count=2", *at(server, tmp_path / "a.jsonl"))
    code, _, err = smelt(*words, answer="n\n")
    assert code == 1 and "nothing was done" in err and server.heard == [] and not (tmp_path / "a.jsonl").exists()
    assert smelt(*words, answer="y\n")[0] == 0 and len(server.heard) == 2
    assert smelt(*words, "--yes", answer="")[0] == 0


def test_keys_come_from_a_file_or_a_named_variable(
    smelt: Any, server: Any, seeds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("method=explain", f"data={seeds}", "count=1")
    (tmp_path / "key").write_text("sk-file\n")
    monkeypatch.setenv("MY_KEY", "sk-variable")
    assert smelt(*words, *at(server, tmp_path / "a.jsonl"), "--key-file", tmp_path / "key")[0] == 0
    assert smelt(*words, *at(server, tmp_path / "b.jsonl"), "--key-variable", "MY_KEY")[0] == 0
    assert [headers["Authorization"] for _, headers, _ in server.heard] == ["Bearer sk-file", "Bearer sk-variable"]
    assert not any(b"sk-" in path.read_bytes() for path in tmp_path.iterdir() if path.name != "key"), "nowhere on disk"
    for options, what in (
        (("--key-variable", "NO_SUCH_KEY"), "--key-variable NO_SUCH_KEY holds no key"),
        (("--key-file", tmp_path / "none"), "none: no such file"),
        (("--key-file", tmp_path / "key", "--key-variable", "MY_KEY"), "accepted: one of the two"),
    ):
        code, _, err = smelt(*words, *at(server, tmp_path / "c.jsonl"), *options)
        assert code == 2 and what in err


@pytest.mark.parametrize(
    ("words", "what"),
    [
        ((), "who answers, and where to?"),
        (("--endpoint", "http://localhost/v1", "--out", "a.jsonl"), "who answers, and where to?"),
        (("--checkpoint", "x", "--endpoint", "http://localhost/v1", "--model", "m", "--out", "a.jsonl"), "who answers"),
        (("--checkpoint", "x", "--out", "a.jsonl", "method=evolve-instruct"), "evol-instruct"),
        (("--checkpoint", "x", "--out", "a.jsonl", "cuont=3"), "count"),
    ],
)
def test_what_does_not_go_together(smelt: Any, seeds: Path, words: tuple[str, ...], what: str) -> None:
    code, _, err = smelt("method=explain", f"data={seeds}", *words)
    assert code == 2 and what in err


def test_prompts_can_be_read_and_changed(smelt: Any, server: Any, seeds: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine.yaml"
    assert smelt("--write-prompts", mine)[0] == 0 and mine.read_bytes() == FILE.read_bytes()
    assert smelt("--write-prompts", mine)[0] == 2, "what was changed is not overwritten"
    text = mine.read_text(encoding="utf-8")
    mine.write_text(
        text.replace("Write a section of a textbook about {topic}", "Erzähle von {topic}"), encoding="utf-8"
    )
    (tmp_path / "topics.txt").write_text("tides\n")
    words = ("method=textbook", f"data={tmp_path / 'topics.txt'}", f"prompts={mine}", "audiences=[children]")
    assert smelt(*words, *at(server, tmp_path / "a.jsonl"))[0] == 0
    assert [turn["content"] for turn in server.heard[0][2]["messages"]] == [
        load_prompts().manner, "Erzähle von tides for children.",
    ]  # fmt: skip


def test_a_run_without_a_row_is_no_error(smelt: Any, server: Any, seeds: Path, tmp_path: Path) -> None:
    server.script = lambda body: completion("")
    code, out, _ = smelt("method=explain", f"data={seeds}", *at(server, tmp_path / "a.jsonl"))
    assert code == 0 and "rows        0" in out and ": says nothing 12\n" in out and "next" not in out


def test_killed_and_started_again(server: Any, seeds: Path, tmp_path: Path) -> None:
    out, whole = tmp_path / "a.jsonl", tmp_path / "whole.jsonl"
    parallel, enough = 3, threading.Event()
    asked: Counter[str] = Counter()

    def script(body: dict[str, Any]) -> Any:
        asked[json.dumps(body["messages"]) + str(body["seed"])] += 1
        if asked.total() > 40:
            enough.set()
        time.sleep(0.002)
        return answering(body)

    def command(out: Path) -> list[str]:
        words = ["method=self-instruct", f"data={seeds}", "count=40", *map(str, at(server, out)), "--yes"]
        return [sys.executable, "-m", "smelt.cli.main", "data", "synth", *words, "--parallel", str(parallel)]

    server.script = script
    with subprocess.Popen(command(out), cwd=ROOT, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as process:
        assert enough.wait(120)
        process.send_signal(signal.SIGKILL)
    before = asked.total()
    assert len((tmp_path / "a.jsonl.replies").read_bytes().split(b"\n")) - 1 >= before - parallel
    assert main(command(out)[3:]) == 0
    twice = [count for count in asked.values() if count > 1]
    assert len(twice) <= parallel and all(count == 2 for count in twice), "only those whose reply never arrived"
    assert main(command(whole)[3:]) == 0
    for name in ("", ".refused"):
        assert (tmp_path / f"a.jsonl{name}").read_bytes() == (tmp_path / f"whole.jsonl{name}").read_bytes()
    assert len(rows_in(out)) == 40
