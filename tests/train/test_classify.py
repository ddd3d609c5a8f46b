"""Classification: the objective by hand, what starts from where, and every fault of data or recipe in one message."""

import json
import math
import random
import shutil

import pytest
import torch

from smelt.core.config import load_recipe
from smelt.core.errors import ConfigError, DataError, UsageError
from smelt.core.storage import verify_directory
from smelt.models.build import build
from smelt.models.families import Shape, spec_for
from smelt.models.heads import Output
from smelt.models.hub import load, save
from smelt.models.readings import HeadLabels
from smelt.tokenizers.bpe_train import byte_tokenizer
from smelt.train.objectives import OBJECTIVES
from smelt.train.sources import TokenBatch
from smelt.train.stages.classify import ClassifyRecipe, classify, shortened

TINY = {
    "tokenizer": "bytes",
    "model": {"family": "llama", "dim": 24, "num_layers": 2, "num_heads": 2},
    "max_seq_len": 64,
    "batch_rows": 8,
    "steps": 3,
    "validate_every": 0,
    "dtype": "float32",
}


def objective(**settings):
    return OBJECTIVES["text_labels"](HeadLabels(byte_tokenizer(), "text"), **settings)


def batch_of(labels):
    ids = torch.zeros(len(labels), 2, dtype=torch.int64)
    return TokenBatch(ids, ids, None, None, row_labels=torch.tensor(labels))


def model_of(scores):
    return lambda ids, project, **context: Output(None, torch.zeros(1), tasks={"text": torch.tensor(scores)})


def test_the_loss_of_classes_and_their_weights():
    scores = [[math.log(3.0), 0.0], [0.0, 0.0]]  # 3 : 1 and 1 : 1
    loss, metrics = objective()(model_of(scores), batch_of([1, 0]))
    assert loss.item() == pytest.approx(math.log(4) + math.log(2))
    assert objective().weight(batch_of([1, 0])) == 2
    assert metrics == {"accuracy": 1.0}
    loss, _ = objective(weights=[1.0, 0.5])(model_of(scores), batch_of([1, 0]))
    assert loss.item() == pytest.approx(0.5 * math.log(4) + math.log(2))


def test_the_loss_of_several_labels_is_the_mean_over_them():
    scores = [[math.log(3.0), 0.0], [-1.0, 2.0]]
    both = objective(several=True)
    loss, metrics = both(model_of(scores), batch_of([[1, 0], [0, 1]]))
    first = (-math.log(0.75) + math.log(2)) / 2
    second = (math.log(1 + math.exp(-1)) + math.log(1 + math.exp(-2))) / 2
    assert loss.item() == pytest.approx(first + second)
    assert metrics == {"accuracy": 2.0}
    assert both(model_of(scores), batch_of([[1, 1], [0, 1]]))[1] == {"accuracy": 1.0}
    weighted, _ = objective(several=True, weights=[3.0, 1.0])(model_of(scores), batch_of([[1, 0], [0, 1]]))
    assert weighted.item() == pytest.approx(loss.item() + 2 * -math.log(0.75) / 2)


def test_a_pair_is_shortened_from_the_end_of_the_longer():
    assert shortened([[1, 2, 3], [4]], 2) == [[1], [4]]
    assert shortened([[1, 2], [3, 4, 5]], 2) == [[1], [3, 4]]
    assert shortened([[1]], -5) == [[1]]


@pytest.fixture
def table(tmp_path):
    """Texts of 60 rows that one word gives away."""
    chance = random.Random(0)
    lines = ["kind\ttext"]
    for number in range(60):
        words = chance.choices(["the", "day", "was", "a", "room", "with", "some", "people"], k=4)
        lines.append(f"{'good' if number % 2 else 'bad'}\t{' '.join(words)} {'fine' if number % 2 else 'cold'}")
    path = tmp_path / "rows.tsv"
    path.write_text("\n".join(lines) + "\n")
    return path


def run(tmp_path, table, name="r", resume=False, **settings):
    origin = {} if "checkpoint" not in settings else {"tokenizer": None}
    recipe = {**TINY, "name": name, "out": str(tmp_path / "runs"), "data": str(table), "label_column": "kind"}
    return classify(ClassifyRecipe(**{**recipe, **origin, **settings}), resume=resume)


def test_a_run_ends_with_its_figures_in_the_report_and_beside_the_weights(tmp_path, table):
    result = run(tmp_path, table)
    metrics = result.metrics
    assert (metrics["training_rows"], metrics["validation_rows"], metrics["test_rows"]) == (42, 6, 12)
    assert sum(map(sum, metrics["confusion"])) == 12 and set(metrics["classes"]) == {"bad", "good"}
    assert metrics["test_accuracy"] == (metrics["confusion"][0][0] + metrics["confusion"][1][1]) / 12
    verify_directory(result.checkpoint)
    lineage = json.loads((tmp_path / "runs/r/checkpoints/step-0000003/smelt.json").read_text())
    assert lineage["metrics"]["temperature"] == metrics["temperature"]
    assert lineage["data"]["labels"] == ["bad", "good"]
    report = (tmp_path / "runs/r/report.md").read_text()
    assert "## Test" in report and "| good |" in report
    model, _ = load(result.checkpoint)
    assert model.spec.tasks[0].label_names == ("bad", "good") and model.spec.tasks[0].reads == "last"


def test_padding_and_micro_batches_change_nothing(tmp_path, table):
    losses = [
        run(tmp_path, table, name=name, **settings).train_loss
        for name, settings in (("a", {}), ("b", {"pad": "full"}), ("c", {"micro_rows": 1}))
    ]
    assert losses[1] == pytest.approx(losses[0], abs=1e-5) and losses[2] == pytest.approx(losses[0], abs=1e-5)


def test_going_on_is_having_gone_on(tmp_path, table):
    whole = run(tmp_path, table, name="whole", steps=4, save_every=2, keep=5)
    part = run(tmp_path, table, name="part", steps=4, save_every=2, keep=5)
    checkpoints = tmp_path / "runs/part/checkpoints"
    shutil.rmtree(checkpoints / "step-0000004")
    part = run(tmp_path, table, name="part", steps=4, save_every=2, keep=5, resume=True)
    for (name, one), other in zip(
        load(whole.checkpoint)[0].named_parameters(), load(part.checkpoint)[0].parameters(), strict=True
    ):
        assert torch.equal(one, other), name
    assert part.metrics == whole.metrics


def test_a_base_gets_a_head_and_only_what_was_asked_for_trains(tmp_path, table):
    tokenizer = byte_tokenizer()
    base = build(spec_for("gpt2", Shape(tokenizer.vocab_size, 24, 2, 2, 64)), seed=1)
    save(base, tokenizer, tmp_path / "base")
    result = run(tmp_path, table, checkpoint=str(tmp_path / "base"), tune={"last_blocks": 1})
    model, _ = load(result.checkpoint)
    same = {
        name
        for name, parameter in base.named_parameters()
        if torch.equal(parameter, dict(model.named_parameters())[name])
    }
    assert {name.split(".")[0] for name in same} == {"token_embedding", "position_embedding", "blocks"}
    assert all(name.startswith("blocks.0.") for name in same if name.startswith("blocks"))
    assert not any(name.startswith("blocks.1.") for name in same)
    head = run(tmp_path, table, name="h", checkpoint=str(tmp_path / "base"), tune={"train": ["tasks"]})
    model, _ = load(head.checkpoint)
    assert all(torch.equal(p, dict(model.named_parameters())[name]) for name, p in base.named_parameters())


def test_several_labels_and_pairs_in_an_encoder(tmp_path):
    rows = [
        {"text": f"{'fine' if i % 2 else 'cold'} room", "b": "bed", "labels": ["x"] * (i % 2) + ["y"] * (i % 3 == 0)}
        for i in range(60)
    ]
    rows = [row for row in rows if row["labels"]]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = {"label_column": "labels", "second_column": "b", "multi_label": True, "class_weights": "balanced"}
    result = run(tmp_path, path, **settings, model={"family": "bert", "dim": 24, "num_layers": 1, "num_heads": 2})
    assert "confusion" not in result.metrics and result.metrics["classes"]["x"]["rows"] > 0
    assert load(result.checkpoint)[0].spec.tasks[0].multi_label
    with pytest.raises(DataError, match=r"rows\.jsonl:\d+: 2 labels\naccepted: one\ntry: multi_label=true"):
        run(tmp_path, path, name="s", label_column="labels")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"label_column": "king"}, "no column 'king'. Did you mean 'kind'?"),
        ({"split": (0.9, 0.0, 0.1)}, "the validation part has no row"),
        ({"on_long": "error", "max_seq_len": 8}, "tokens, more than max_seq_len=8"),
        ({"class_weights": {"good": 1.0}}, "class_weights: 'bad' is not given"),
        ({"class_weights": {"good": 1.0, "bad": 2.0, "goood": 1.0}}, "'goood' is no label. Did you mean 'good'?"),
        ({"reads": "pooled"}, "reads=pooled with a decoder"),
        ({"model": {"family": "gemma", "dim": 24, "num_heads": 2}}, "a gemma network has no published layout"),
    ],
)
def test_what_does_not_fit_is_said(tmp_path, table, settings, message):
    with pytest.raises((ConfigError, DataError)) as error:
        run(tmp_path, table, **settings)
    assert message in str(error.value)


def test_labels_of_own_files_must_be_known_and_rows_must_be_there(tmp_path, table):
    other = tmp_path / "other.tsv"
    other.write_text("kind\ttext\ngoof\tlovely\n")
    with pytest.raises(DataError, match=r"other\.tsv:2: the label 'goof' of the test part is in no training row\. Did"):
        run(tmp_path, table, test=str(other))
    other.write_text("kind\ttext\ngood\t \n")
    with pytest.raises(DataError, match="no row holds any text"):
        run(tmp_path, table, name="s", validation=str(other))
    other.write_text("kind\ttext\n" + "good\tfine\n" * 3 + "bad\tcold\n")
    with pytest.raises(DataError, match="the label 'bad' has 1 training row"):
        run(tmp_path, other, name="t", validation=str(table), test=str(table))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["checkpoint=x"], "either a tokenizer"),
        (["split=[0.5, 0.1, 0.1]"], "do not sum to 1"),
        (["multi_label=true", "balance=true"], "balance counts classes"),
        (["sample_every=3"], "writes no samples"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(words, message):
    with pytest.raises(ConfigError, match=message):
        load_recipe(ClassifyRecipe, None, ["name=a", "data=b", "tokenizer=bytes", *words])


def test_a_classifier_is_no_base_for_writing(tmp_path, table):
    from smelt.infer.generate import generate
    from smelt.infer.limits import reason_against
    from smelt.infer.sampling import Sampling
    from smelt.train.stages.common import load_to_train

    made = run(tmp_path, table).checkpoint
    with pytest.raises(ConfigError, match="labels texts and has no head that writes"):
        load_to_train(made, 32)
    model, tokenizer = load(made)
    with pytest.raises(UsageError, match="labels texts and has no head that writes"):
        generate(model, tokenizer, [[1]], Sampling())
    assert reason_against(model) == "labels texts and has no head that writes"
