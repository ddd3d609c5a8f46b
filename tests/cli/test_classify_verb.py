"""`smelt classify`, and `smelt label` with what it made: from a table of texts to a label for a new one."""

from pathlib import Path

from .conftest import Smelt

ROWS = "label\ttext\n" + "praise\tfine fine\ncomplaint\tcold cold\n" * 20
WORDS = ["tokenizer=bytes", "model.dim=24", "model.num_layers=1", "model.num_heads=2", "dtype=float32", "batch_rows=8"]


def test_from_a_table_to_a_label(smelt: Smelt, tmp_path: Path) -> None:
    (tmp_path / "rows.tsv").write_text(ROWS)
    words = ["name=c", f"out={tmp_path}", f"data={tmp_path / 'rows.tsv'}", "max_seq_len=32", "steps=40", *WORDS]
    shown = smelt("classify", *words, "reads=mean", "optimizer.learning_rate=0.01")
    assert shown.code == 0 and "next        smelt label" in shown.out
    assert "training: 28 texts of 9 to 9 tokens, 9 on average; 0 cut" in shown.err
    assert "test: accuracy 100.0%" in shown.err
    made = smelt("label", tmp_path / "c", "--text", "fine", "--json")
    assert made.json["labels"]["praise"] > 0.9
    assert smelt("label", tmp_path / "c", "--text", "cold").out.splitlines()[1].startswith("complaint")
    refused = smelt("generate", tmp_path / "c", "--prompt", "fine")
    assert refused.code == 2 and "labels texts and has no head that writes" in refused.err


def test_the_temperature_of_a_checkpoint_counts(smelt: Smelt, tmp_path: Path) -> None:
    from smelt.core.storage import checkpoint_at
    from smelt.train.checkpoint import add_metrics

    (tmp_path / "rows.tsv").write_text(ROWS)
    words = ["name=c", f"out={tmp_path}", f"data={tmp_path / 'rows.tsv'}", "max_seq_len=32", "steps=2", *WORDS]
    made = smelt("classify", *words, "label_column=label", "text_column=text", "--json")
    assert {"test_accuracy", "test_f1", "confusion", "temperature"} <= set(made.json["metrics"])
    shares = []
    for temperature in (0.1, 10.0):
        add_metrics(checkpoint_at(tmp_path / "c"), {"temperature": temperature})
        found = smelt("label", tmp_path / "c", "--text", "fine", "--json").json["labels"]
        shares.append(max(found.values()))
    assert shares[0] > shares[1] > 0.5
    # p / (1 - p) of one is that of the other to the power of the ratio of temperatures
    odds = [share / (1 - share) for share in shares]
    assert abs(odds[1] ** 100 / odds[0] - 1) < 1e-2


def test_columns_by_number_and_a_missing_one(smelt: Smelt, tmp_path: Path) -> None:
    (tmp_path / "rows.tsv").write_text(ROWS.partition("\n")[2])
    words = ["name=c", f"out={tmp_path}", f"data={tmp_path / 'rows.tsv'}", "max_seq_len=32", "steps=1", *WORDS]
    assert smelt("classify", *words, "text_column=2", "label_column=1", "--json").json["metrics"]["test_rows"] == 8
    missing = smelt("classify", *words[1:], "name=d", "text_column=txt")
    assert missing.code == 1 and "no column" in missing.err and "text_column=2 label_column=1" in missing.err


def test_words_in_a_template_with_and_without_training(smelt: Smelt, tmp_path: Path) -> None:
    from smelt.models.build import build
    from smelt.models.families import Shape, spec_for
    from smelt.models.hub import save
    from smelt.tokenizers.bpe_train import byte_tokenizer

    (tmp_path / "rows.tsv").write_text(ROWS)
    tokenizer = byte_tokenizer()
    save(build(spec_for("llama", Shape(tokenizer.vocab_size, 24, 1, 2, 32)), seed=1), tokenizer, tmp_path / "base")
    words = ["name=c", f"out={tmp_path}", f"data={tmp_path / 'rows.tsv'}", f"checkpoint={tmp_path / 'base'}"]
    asked = [
        "template='{text}={word}'",
        "words={praise: p, complaint: [c, d]}",
        "shots=2",
        "max_seq_len=32",
        "steps=30",
    ]
    made = smelt("classify", *words, *asked, "dtype=float32", "batch_rows=8", "optimizer.learning_rate=0.01", "--json")
    assert made.json["metrics"]["training_rows"] == 4 and "before training: " in made.err
    assert smelt("label", tmp_path / "c", "--text", "fine", "--json").json["labels"]["praise"] > 0.9
    given = ["--template", "{text}={word}", "--word", "praise=p", "--word", "complaint=c", "--word", "complaint=d"]
    untrained = smelt("label", tmp_path / "base", "--text", "fine", *given, "--json").json["labels"]
    assert set(untrained) == {"praise", "complaint"} and untrained["praise"] < 0.9
    for options, message in (
        (given[:2], "--template or --word is missing"),
        (given[:4], "--word names one label, 'praise'"),
        ([*given[:2], "--word", "p"], "--word p"),
    ):
        refused = smelt("label", tmp_path / "base", "--text", "fine", *options)
        assert refused.code == 2 and message in refused.err
