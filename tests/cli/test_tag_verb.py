"""`smelt tag`, and `smelt label` with what it made: from columns of words to the names in a new text."""

from pathlib import Path

from .conftest import Smelt

ROWS = "mr O\nAda B-PER\n\nin O\nRome B-LOC\n\n" * 20
WORDS = ["tokenizer=bytes", "model.family=bert", "model.dim=24", "model.num_layers=1", "model.num_heads=2"]


def test_from_columns_to_names(smelt: Smelt, tmp_path: Path) -> None:
    (tmp_path / "rows.conll").write_text(ROWS)
    words = ["name=t", f"out={tmp_path}", f"data={tmp_path / 'rows.conll'}", "max_seq_len=32", "steps=40", *WORDS]
    shown = smelt("tag", *words, "dtype=float32", "batch_rows=8", "optimizer.learning_rate=0.01")
    assert shown.code == 0 and "next        smelt label" in shown.out
    assert "training: 28 texts in 28 rows, 0 texts divided; 28 entities" in shown.err
    assert "test: F1 1.000" in shown.err
    made = smelt("label", tmp_path / "t", "--text", "in Rome", "--json")
    assert made.json["spans"] == [{"label": "LOC", "start": 3, "stop": 7, "text": "Rome"}]
    assert smelt("label", tmp_path / "t", "--text", "mr Ada").out.split()[-5:] == ["Ada", "PER", "3", "to", "6"]
