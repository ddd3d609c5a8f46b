"""`smelt seq2seq` and `smelt generate` on what it made: from pairs to an answer, in words."""

import json
from pathlib import Path

from .conftest import TINY, Smelt


def test_from_pairs_to_an_answer(smelt: Smelt, tmp_path: Path) -> None:
    rows = [{"source": f"{number}", "target": "yes"} for number in range(40)]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    shown = smelt("data", "inspect", tmp_path / "pairs.jsonl")
    assert "format   pairs 40" in shown.out and "[[yes]]" in shown.out
    words = ["name=p", f"out={tmp_path}", f"data={tmp_path / 'pairs.jsonl'}", "steps=60", *TINY]
    made = smelt("seq2seq", *words, "optimizer.learning_rate=0.01", "--json")
    assert made.code == 0 and made.json["steps"] == 60
    found = smelt("generate", tmp_path / "p", "--prompt", "7", "--temperature", 0, "--max-new-tokens", 8, "--json")
    assert found.json["text"] == "yes" and found.json["finish_reason"] == "stop"
    end = found.json["prompt_ids"][-1]
    assert found.json["prompt_ids"][0] != end and found.json["ids"][-1] == end
    assert smelt("generate", tmp_path / "p", "--prompt", "7", "--num-beams", 3).out == "yes\n"
    info = smelt("info", tmp_path / "p").out
    assert "encoder" in info and "t5" in info
    again = smelt("sft", "name=q", f"out={tmp_path}", f"checkpoint={tmp_path / 'p'}", "data=x", "max_seq_len=32")
    assert again.code == 2 and "is an encoder-decoder" in again.err


def test_help_lists_the_families_that_can(smelt: Smelt) -> None:
    assert "t5, mt5, transformer2017, or an encoder's" in " ".join(smelt("seq2seq", "--help").out.split())
