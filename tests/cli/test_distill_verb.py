"""`smelt distill`: from a teacher to a student, to its own words, to a file of answers and a student of these."""

import json
from pathlib import Path

from .conftest import Smelt

SMALL = ("max_seq_len=64", "batch_rows=2", "steps=2", "dtype=float32", "compile=no")


def test_teacher_to_student(smelt: Smelt, checkpoint: Path, chats_file: Path, text_file: Path, tmp_path: Path) -> None:
    runs = f"out={tmp_path / 'runs'}"
    blocks = smelt(
        "distill", f"teacher={checkpoint}", "layers=[1]", f"data={chats_file}", runs, "name=a", "on_policy=0.5",
        *SMALL, "--json",
    )  # fmt: skip
    assert blocks.code == 0, blocks.err
    assert blocks.json["steps"] == 2 and blocks.json["validation_loss"] is not None
    assert smelt("generate", tmp_path / "runs" / "a", "--prompt", "1 and 1?", "--chat", "--max-new-tokens", 3).code == 0
    again = smelt(
        "distill", f"teacher={checkpoint}", f"checkpoint={tmp_path / 'runs' / 'a'}", f"data={text_file}", runs,
        "name=b", "loss=hidden", *SMALL,
    )  # fmt: skip
    assert again.code == 0 and "next        smelt generate" in again.out, again.err
    shape = ("model.dim=16", "model.num_layers=1", "model.num_heads=2")
    new = smelt("distill", f"teacher={checkpoint}", *shape, f"data={text_file}", runs, "name=c", *SMALL, "--json")
    assert new.code == 0 and len(new.out.splitlines()) == 1
    finished = smelt("distill", tmp_path / "runs" / "c" / "recipe.yaml", "--resume", "--json")
    assert finished.code == 0 and finished.json["validation_loss"] == new.json["validation_loss"]


def test_the_teacher_writes_and_a_student_reads(
    smelt: Smelt, checkpoint: Path, text_file: Path, tmp_path: Path
) -> None:
    out = tmp_path / "answers.jsonl"
    words = ("distill", "--write-answers", out, f"teacher={checkpoint}", f"data={text_file}", "max_new_tokens=4")
    made = smelt(*words, "temperature=1", "--json")
    assert made.code == 0, made.err
    assert made.json["file"] == str(out) and made.json["questions"] == 40
    assert len(out.read_text().splitlines()) == 40
    shown = smelt(*words, "temperature=1")
    assert "40 of 40 questions are answered" in shown.err and f"data={out}" in shown.out
    refused = smelt(*words, "temperature=0.5")
    assert refused.code == 2 and "temperature=0.5, but" in refused.err


def test_what_goes_wrong_is_said_in_three_lines(
    smelt: Smelt, checkpoint: Path, text_file: Path, tmp_path: Path
) -> None:
    words = ("distill", f"teacher={checkpoint}", f"data={text_file}", f"out={tmp_path}", "name=a", *SMALL)
    for more, what in (
        ((), "give one of checkpoint, layers and model, not none"),
        (("layers=[0,2]",), "layers=[0, 2] of a teacher with 2 blocks"),
        (("layers=[0]", "max_seq_len=97"), "max_seq_len=97 is longer than the context of teacher="),
        (("layers=[0]", "loss=triple", "beta=0.2"), "beta is no setting of loss=triple"),
        (("layers=[0]", "teacher=nowhere/at-all/here"), "nowhere"),
    ):
        result = smelt(*words, *more)
        assert result.code in (1, 2) and what in result.err, (more, result.err)
        assert len(result.err.strip().splitlines()) <= 3
    (tmp_path / "pairs.jsonl").write_text(json.dumps({"source": "a", "target": "b"}) + "\n")
    pairs = smelt(*words, "layers=[0]", f"data={tmp_path / 'pairs.jsonl'}")
    assert pairs.code == 1 and "a pair, not plain text" in pairs.err
