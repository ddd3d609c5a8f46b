"""Whatever a user gets wrong is one error of at most three lines that names the place, and no traceback.

Masked labels and a full disk are tested where they arise as well, in tests/data and tests/faults.
"""

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from smelt.core.storage import seal

from .conftest import CONTEXT, TINY, Result, Smelt, write_chats


def one_error(result: Result, *parts: str, code: int = 1) -> None:
    """Check the answer: exit code, nothing on stdout, at most three lines with these parts at the end of stderr."""
    assert result.code == code, result.err
    assert result.out == "" and "Traceback" not in result.err
    lines = result.err.splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("error: "))
    assert len(lines) - start <= 3, result.err
    message = "\n".join(lines[start:])
    for part in parts:
        assert part in message, message


@pytest.fixture
def pretrain(smelt: Smelt, tmp_path: Path) -> Callable[..., Result]:
    """Start a tiny run on a text, which is expected to be refused."""

    def call(data: Path, *words: str) -> Result:
        return smelt("pretrain", f"data={data}", f"out={tmp_path / 'runs'}", "name=a", "steps=2", *TINY, *words)

    return call


def test_missing_file(smelt: Smelt, checkpoint: Path, pretrain: Callable[..., Result], tmp_path: Path) -> None:
    missing = tmp_path / "text.txt"
    (tmp_path / "text.md").write_text("x")
    for result in (
        pretrain(missing),
        smelt("tokenizer", "train", missing),
        smelt("data", "inspect", missing),
        smelt("eval", checkpoint, "--text", missing),
    ):
        one_error(result, f"{missing}: no such file. Did you mean 'text.md'?", "try: check the path")
    one_error(smelt("generate", checkpoint, "--prompt-file", missing), f"{missing}: no such file")
    one_error(smelt("tokenizer", "encode", missing, "x"), f"{missing}: no such tokenizer file")


def test_empty_file(smelt: Smelt, pretrain: Callable[..., Result], tmp_path: Path) -> None:
    (tmp_path / "a.txt").touch()
    one_error(pretrain(tmp_path / "a.txt"), "a.txt: empty (0 bytes)")
    one_error(smelt("tokenizer", "train", tmp_path / "a.txt"), "a.txt: empty (0 bytes)")


def test_not_utf8_says_where(smelt: Smelt, checkpoint: Path, pretrain: Callable[..., Result], tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("The café of the mill".encode("latin-1"))
    for result in (
        pretrain(tmp_path / "a.txt"),
        smelt("tokenizer", "encode", checkpoint, "--file", tmp_path / "a.txt"),
    ):
        one_error(result, "a.txt: byte 7 is not UTF-8; it looks like Windows-1252")


def test_unknown_row_format(smelt: Smelt, checkpoint: Path, pretrain: Callable[..., Result], tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"instructions": "x", "output": "y"}\n')
    for result in (pretrain(tmp_path / "a.jsonl"), smelt("eval", checkpoint, "--gold", tmp_path / "a.jsonl")):
        one_error(result, "a.jsonl:1: unknown row format with keys 'instructions', 'output'", "nearest is 'alpaca'")


@pytest.mark.parametrize(
    ("chat", "what"),
    [
        ([("user", "hi"), ("assistant", None)], "message 2: assistant message without content"),
        ([("user", "hi"), ("assistant", " ")], "message 2: empty assistant turn"),
        ([("user", "hi")], "no assistant turn among 1 messages"),
        ([("human", "hi"), ("asistant", "ho")], "message 2: role 'asistant' unknown; did you mean 'assistant'?"),
    ],
)
def test_rows_that_teach_nothing(
    smelt: Smelt, checkpoint: Path, tmp_path: Path, chat: list[tuple[str, str]], what: str
) -> None:
    path = write_chats(tmp_path / "a.jsonl", [[("user", "a"), ("assistant", "b")], chat])
    words = (f"checkpoint={checkpoint}", f"data={path}", f"out={tmp_path / 'runs'}", "name=b", "max_seq_len=64")
    one_error(smelt("sft", *words), f"a.jsonl:2: {what}" if what.startswith("no ") else f"a.jsonl:2, {what}")
    one_error(smelt("eval", checkpoint, "--gold", path), what)


def test_all_labels_masked(smelt: Smelt, checkpoint: Path, tmp_path: Path) -> None:
    path = write_chats(tmp_path / "a.jsonl", [[("user", "long " * 20), ("assistant", "b")]])
    words = (f"checkpoint={checkpoint}", f"data={path}", f"out={tmp_path / 'runs'}", "name=b", "on_long=truncate")
    one_error(smelt("sft", *words, "max_seq_len=64"), "no example left of 1: 0 dropped and 1 emptied as too long")


def test_vocabulary_smaller_than_the_alphabet(smelt: Smelt, text_file: Path, tmp_path: Path) -> None:
    result = smelt("tokenizer", "train", text_file, "--vocab-size", 100, "--out", tmp_path / "t")
    one_error(result, "vocab_size=100 is smaller than the alphabet", "259 or more")
    assert not (tmp_path / "t").exists()


def test_tokenizer_of_another_model(smelt: Smelt, checkpoint: Path, text_file: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(checkpoint, other)
    smelt("tokenizer", "train", text_file, "--vocab-size", 280, "--out", tmp_path / "tok")
    shutil.copy(tmp_path / "tok" / "tokenizer.json", other / "tokenizer.json")
    one_error(smelt("generate", other, "--prompt", "x"), "'tokenizer.json' has ", "its manifest says")
    seal(other)
    one_error(smelt("generate", other, "--prompt", "x"), "tokenizer.json has SHA-256", "restore the tokenizer.json")
    smelt("data", "pack", text_file, "--tokenizer", tmp_path / "tok", "--out", tmp_path / "shards")
    one_error(smelt("eval", checkpoint, "--memorization", tmp_path / "shards"), "made with tokenizer")


def test_context_longer_than_the_model_s(smelt: Smelt, checkpoint: Path, chats_file: Path, tmp_path: Path) -> None:
    one_error(
        smelt("generate", checkpoint, "--prompt", "x" * 200),
        f"prompt 0 has 201 tokens, but the model's context holds {CONTEXT}", code=2,
    )  # fmt: skip
    words = (f"checkpoint={checkpoint}", f"data={chats_file}", f"out={tmp_path / 'runs'}", "name=b")
    one_error(smelt("sft", *words, "max_seq_len=1000"), "max_seq_len=1000 is longer than the context", code=2)


def test_unknown_key_and_wrong_type(pretrain: Callable[..., Result], text_file: Path) -> None:
    one_error(
        pretrain(text_file, "optimizer.learning_rat=1"),
        "unknown key 'optimizer.learning_rat'. Did you mean 'learning_rate'?", code=2,
    )  # fmt: skip
    one_error(pretrain(text_file, "optimizer.learning_rate=fast"), "optimizer.learning_rate='fast'", code=2)
    one_error(pretrain(text_file, "epochs=2"), "give one of steps, epochs and minutes", code=2)


def test_unknown_recipe_file(smelt: Smelt, tmp_path: Path) -> None:
    one_error(smelt("pretrain", tmp_path / "r.yaml"), "r.yaml: no such file", code=2)
    (tmp_path / "r.yaml").write_text("name: [")
    one_error(smelt("pretrain", tmp_path / "r.yaml"), "r.yaml: not readable as YAML", code=2)


def test_disk_full(smelt: Smelt, text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr("smelt.core.storage.os.fsync", full)
        result = smelt("tokenizer", "train", text_file, "--vocab-size", 270, "--out", tmp_path / "t")
    one_error(result, "disk full while writing", "bytes free", "free some space")
    assert not (tmp_path / "t" / "tokenizer.json").exists()


@pytest.mark.parametrize(
    ("harm", "what"),
    [
        (lambda path: path.unlink(), "the file 'model.safetensors' is missing"),
        (lambda path: path.write_bytes(path.read_bytes()[:-9]), "'model.safetensors' has "),
        (
            lambda path: path.write_bytes(path.read_bytes()[:-1] + b"\x01"),
            "'model.safetensors' does not match its SHA-256",
        ),
    ],
    ids=["missing", "truncated", "corrupt"],
)
def test_damaged_checkpoint(
    smelt: Smelt, checkpoint: Path, tmp_path: Path, harm: Callable[[Path], object], what: str
) -> None:
    shutil.copytree(checkpoint, tmp_path / "c")
    harm(tmp_path / "c" / "model.safetensors")
    for words in (("generate", tmp_path / "c", "--prompt", "x"), ("chat", tmp_path / "c")):
        one_error(smelt(*words), what, "try: restore the directory from a copy")


def test_missing_checkpoint(smelt: Smelt, tmp_path: Path) -> None:
    for words in (("generate", tmp_path / "none", "--prompt", "x"), ("chat", tmp_path / "none")):
        one_error(smelt(*words), "none: no such directory", "try: `smelt runs list`")
    one_error(smelt("eval", tmp_path, "--text", "x"), "holds no checkpoint")


def test_text_too_short_for_one_row(pretrain: Callable[..., Result], tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("short")
    (tmp_path / "b.txt").write_text("short")
    one_error(pretrain(tmp_path / "*.txt"), "text too short", "at least 33 tokens")


def test_nan_loss(pretrain: Callable[..., Result], text_file: Path) -> None:
    result = pretrain(text_file, "optimizer.learning_rate=1e38", "optimizer.name=adamw", "steps=5", "batch_rows=2")
    one_error(result, "the weights were not changed", "lower optimizer.learning_rate")


def test_a_run_that_exists(smelt: Smelt, text_file: Path, tmp_path: Path, pretrain: Callable[..., Result]) -> None:
    (tmp_path / "runs" / "a").mkdir(parents=True)
    (tmp_path / "runs" / "a" / "recipe.yaml").write_text("name: a\n")
    one_error(pretrain(text_file), "exists already", "--resume", code=2)
    one_error(pretrain(text_file, "name=../a"), "run name '../a'", code=2)
