"""`smelt extract`, and `smelt triples` and `smelt answer` with what it made."""

import json
from pathlib import Path

from .conftest import Smelt

WORDS = ["tokenizer=bytes", "model.dim=24", "model.num_layers=1", "model.num_heads=2", "dtype=float32", "batch_rows=8"]


def test_from_triples_to_those_of_a_text(smelt: Smelt, tmp_path: Path) -> None:
    fact = {"h": {"name": "pump", "pos": [4, 8]}, "relation": "fault", "t": {"name": "leaks", "pos": [9, 14]}}
    rows = [{"text": f"the pump leaks {number}", "spo_list": [fact]} for number in range(20)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = ["name=c", f"out={tmp_path}", f"data={tmp_path / 'rows.jsonl'}", "max_seq_len=48", "steps=60", *WORDS]
    shown = smelt("extract", *words, "optimizer.learning_rate=0.01", "second_prompt=RELATION of SUBJECT")
    assert shown.code == 0, shown.err
    assert f"next        smelt triples {tmp_path}" in shown.out.replace(str(tmp_path.resolve()), str(tmp_path))
    assert "training: 48 prompts of 16 texts, 16 of them with nothing to find" in shown.err and "test: F1" in shown.err
    made = smelt("triples", tmp_path / "c", "--text", "the pump leaks 77", "--json").json["triples"]
    assert [(one["subject"], one["relation"], one["object"]) for one in made] == [("pump", "fault", "leaks")]
    assert 0.25 < made[0]["probability"] <= 1
    assert smelt("triples", tmp_path / "c", "--text", "the pump leaks").out.splitlines()[1].split()[:3] == [
        "pump",
        "fault",
        "leaks",
    ]
    pieces = smelt("triples", tmp_path / "c", "--prompt", "fault", "--text", "the pump leaks", "--json").json["pieces"]
    assert [(piece["text"], piece["start"], piece["stop"]) for piece in pieces] == [("pump", 4, 8)]
    table = smelt("triples", tmp_path / "c", "--prompt", "fault", "--text", "the pump leaks").out.splitlines()
    assert table[1].split()[:4] == ["pump", "4", "to", "8"]


def test_from_questions_to_an_answer(smelt: Smelt, tmp_path: Path) -> None:
    asked = [{"question": "colour?", "answers": [{"text": "red", "answer_start": 6}]}]
    rows = [{"context": f"{number} is red", "qas": asked} for number in range(10, 30)]
    (tmp_path / "dev.json").write_text(json.dumps({"data": [{"paragraphs": rows}]}))
    words = ["name=q", f"out={tmp_path}", f"data={tmp_path / 'dev.json'}", "max_seq_len=32", "steps=2", *WORDS]
    made = smelt("extract", *words, "pointer=answer", "--json")
    assert {"test_exact_match", "test_f1", "test_f1_interval", "trained_parameters"} <= set(made.json["metrics"])
    found = smelt("answer", tmp_path / "q", "--question", "colour?", "--text", "12 is red", "--json").json
    assert found["answer"] == "12 is red"[found["start"] : found["stop"]]
    refused = smelt("triples", tmp_path / "q", "--text", "12 is red")
    assert refused.code == 2 and "was not trained on triples" in refused.err and "smelt answer" in refused.err
