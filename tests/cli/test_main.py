"""Finding verbs, exit codes, one error in three lines, stdout for results alone."""

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from smelt.cli import common, main
from smelt.core.errors import SmeltError

from .conftest import Smelt

ROOT = Path(__file__).resolve().parents[2]
SUBCOMMANDS = {
    "tokenizer": ("train", "encode", "inspect"),
    "data": ("inspect", "pack", "town"),
    "runs": ("list", "show", "compare"),
    "keys": ("create", "list", "revoke"),
    "vectors": ("train", "nearest", "eval"),
    "ngram": ("train", "eval", "generate"),
}


def test_help_lists_every_verb_and_no_words_mean_help(smelt: Smelt) -> None:
    shown = smelt("--help")
    assert shown.code == 0 and shown.err == ""
    assert all(name in shown.out for name in main.VERBS)
    assert smelt().out == shown.out


def test_version(smelt: Smelt) -> None:
    from smelt import __version__

    assert smelt("--version").out == __version__ + "\n"


def test_help_is_quick_and_imports_nothing_heavy() -> None:
    code = (
        "import sys; from smelt.cli.main import main; main(['--help']); "
        "heavy = {'torch', 'numba', 'pyarrow', 'numpy', 'pydantic', 'rich', 'yaml'} & set(sys.modules); "
        "print(*sorted(heavy), file=sys.stderr)"
    )
    seconds = []
    for _ in range(3):  # processor time, which a busy machine does not lengthen; the least of three
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert done.stderr.split() == []
    assert min(seconds) < 0.4


@pytest.mark.parametrize("verb", [name for name in main.VERBS if name not in SUBCOMMANDS])
def test_every_verb_has_help_with_an_example(smelt: Smelt, verb: str) -> None:
    shown = smelt(verb, "--help")
    assert shown.code == 0
    assert f"Usage: smelt {verb}" in shown.out and f"Example: smelt {verb}" in shown.out


@pytest.mark.parametrize(("verb", "command"), [(verb, name) for verb, names in SUBCOMMANDS.items() for name in names])
def test_every_subcommand_has_help_with_an_example(smelt: Smelt, verb: str, command: str) -> None:
    shown = smelt(verb, command, "--help")
    assert shown.code == 0
    assert f"Usage: smelt {verb} {command}" in shown.out and f"Example: smelt {verb} {command}" in shown.out


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (("pretran",), "smelt has no verb 'pretran'. Did you mean 'pretrain'?"),
        (("tokenizer", "trian"), "smelt tokenizer has no command 'trian'. Did you mean 'train'?"),
        (("info", "--jsn"), "smelt info has no option '--jsn'. Did you mean '--json'?"),
        (("tokenizer",), "smelt tokenizer: missing command."),
        (("tokenizer", "train"), "smelt tokenizer train: missing argument 'TEXT ...'."),
        (
            ("tokenizer", "train", "a", "--vocab-size", "many"),
            "smelt tokenizer train: invalid value for '--vocab-size'",
        ),
        (("info", "a", "b"), "smelt info: got unexpected extra argument(s) (b)"),
    ],
)
def test_a_wrong_word_is_one_error_with_the_nearest_name(smelt: Smelt, words: tuple[str, ...], what: str) -> None:
    result = smelt(*words)
    assert result.code == 2 and result.out == ""
    assert result.err.startswith(f"error: {what}")
    assert len(result.err.splitlines()) <= 3 and result.err.splitlines()[-1].startswith("try: smelt")


def failing(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    """Let `smelt info` fail in this way."""

    def fail(name: str) -> None:
        raise error

    monkeypatch.setattr("smelt.cli.info.find_spec", fail)


@pytest.mark.parametrize(
    ("error", "code", "lines"),
    [
        (
            SmeltError("it broke", accepted="whole ones", fix="mend it"),
            1,
            "it broke\naccepted: whole ones\ntry: mend it",
        ),
        (SmeltError("a \x1b[31mred\x1b[0m name"), 1, "a �[31mred�[0m name"),
        (FileNotFoundError(2, "No such file or directory", "a.txt"), 1, "a.txt: No such file or directory"),
        (RuntimeError("a bug"), 1, "unexpected RuntimeError: a bug\ntry: the same command with --debug shows where"),
    ],
)
def test_errors_become_lines(
    smelt: Smelt, monkeypatch: pytest.MonkeyPatch, error: Exception, code: int, lines: str
) -> None:
    failing(monkeypatch, error)
    result = smelt("info", "x")
    assert (result.code, result.out, result.err) == (code, "", f"error: {lines}\n")


def test_debug_anywhere_adds_the_traceback(smelt: Smelt, monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, SmeltError("it broke"))
    for words in (("--debug", "info", "x"), ("info", "x", "--debug")):
        result = smelt(*words)
        assert "Traceback" in result.err and result.err.endswith("error: it broke\n")
    assert "no checkpoint" not in smelt("info", "--", "--debug").err, "behind -- it is a name"
    assert "Traceback" not in smelt("info", "--", "--debug").err


def test_interrupts_exit_with_130(smelt: Smelt, monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, KeyboardInterrupt())
    result = smelt("info", "x")
    assert (result.code, result.err) == (130, "interrupted\n")


@pytest.mark.parametrize("num_words", [1, 200_000], ids=["told at the flush", "told at the write"])
def test_a_reader_that_has_gone_is_no_traceback(checkpoint: Path, tmp_path: Path, num_words: int) -> None:
    long = tmp_path / "long.txt"
    long.write_text("word " * num_words)
    code = "from smelt.cli.main import run; run()"
    words = ["tokenizer", "encode", str(checkpoint), "--file", str(long)]
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-c", code, *words],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"},
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (1, "")


def test_json_is_one_ascii_line_without_nan(capsys: pytest.CaptureFixture[str]) -> None:
    common.print_json({"a": float("nan"), "b": [float("inf"), 1.5], "c": Path("x") / "y", "d": {"e": "水\u2028"}})
    line = capsys.readouterr().out
    assert line.isascii() and len(line.splitlines()) == 1
    assert json.loads(line) == {"a": None, "b": [None, 1.5], "c": "x/y", "d": {"e": "水\u2028"}}


def test_tables_align_and_hide_control_characters(capsys: pytest.CaptureFixture[str]) -> None:
    common.print_table(("name", "rows"), [("a\x1b[2J", "1"), ("水车", "1,234")], numeric=("rows",))
    assert capsys.readouterr().out == "name    rows\na�[2J      1\n水车   1,234\n"


def test_plural() -> None:
    assert [common.plural(num, "file") for num in (0, 1, 1200)] == ["0 files", "1 file", "1,200 files"]
