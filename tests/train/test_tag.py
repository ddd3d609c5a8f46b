"""Tagging: the objective by hand, what cannot be said, a run from data to entities, resumption, faults."""

import json
import math
import random
import shutil

import pytest
import torch

from smelt.core.config import load_recipe
from smelt.core.errors import ConfigError, DataError
from smelt.data.records import Entity, EntityRow
from smelt.data.spans import mark_names
from smelt.models.build import build
from smelt.models.families import Shape, spec_for
from smelt.models.hub import load, save
from smelt.models.token_labels import find_entities, for_token_labels
from smelt.tokenizers.bpe_train import byte_tokenizer
from smelt.train.objectives import OBJECTIVES
from smelt.train.sources import TokenBatch
from smelt.train.stages.tag import TagRecipe, labels_of, parts_of, tag, to_rows

TINY = {
    "tokenizer": "bytes",
    "model": {"family": "bert", "dim": 24, "num_layers": 1, "num_heads": 2},
    "max_seq_len": 48,
    "batch_rows": 8,
    "steps": 3,
    "validate_every": 0,
    "dtype": "float32",
}
NAMES = mark_names(["LOC", "PER"])


def tagger(crf, family="bert"):
    spec = spec_for(family, Shape(byte_tokenizer().vocab_size, 24, 1, 2, 48))
    return build(for_token_labels(spec, NAMES, crf=crf), seed=0)


def batch():
    ids = torch.randint(0, 200, (2, 5), generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([[-100, 1, 2, 0, -100], [3, -100, -100, -100, -100]])
    return TokenBatch(ids, labels, torch.tensor([[1] * 5, [1] * 3 + [0] * 2]), None)


def test_the_loss_is_that_of_labelled_tokens_and_of_a_new_crf_the_same():
    objective = OBJECTIVES["token_labels"]("token")
    plain, crf = tagger(False), tagger(True)
    loss, metrics = objective(plain, batch())
    scores = plain(batch().ids, segments=batch().segments).tasks["token"].log_softmax(-1)
    by_hand = -(scores[0, 1, 1] + scores[0, 2, 2] + scores[0, 3, 0] + scores[1, 0, 3])
    assert objective.weight(batch()) == 4 and loss.item() == pytest.approx(by_hand.item(), rel=1e-6)
    best = scores.argmax(-1)
    assert metrics == {"accuracy": float((best == batch().labels).sum())}
    new_loss, none = objective(crf, batch())
    assert new_loss.item() == pytest.approx(loss.item(), rel=1e-6) and none == {}  # its own scores are zero
    with torch.no_grad():
        crf.tasks["token"].crf.transitions[1, 2] = 5.0
    assert objective(crf, batch())[0].item() < loss.item() - 1  # "B-LOC, then I-LOC" stands in the first row


def test_what_labels_of_words_cannot_say_is_counted_by_reason():
    text = "Ada Lovelace of London. " + "x " * 20 + "Turin is New York"
    given = [(0, 12, "PER"), (4, 12, "PER"), (16, 18, "LOC"), (64, 69, "LOC"), (70, 81, "LOC")]
    entities = tuple(Entity(label, start, stop) for start, stop, label in given)
    model = tagger(True)
    rows, lost = to_rows([EntityRow(text, entities, "a:1")], NAMES, 30, model, byte_tokenizer())
    assert (lost.total, lost.overlapping, lost.inside_words, lost.divided_texts) == (5, 1, 1, 1)
    said = sum(int((row == NAMES.index(name)).sum()) for row in rows.labels for name in ("B-PER", "B-LOC"))
    assert said == 5 - 1 - 1 - lost.across_stretches and rows.num_rows == 3
    assert "1 texts divided; 5 entities, of which cannot be said: 1 (a longer one overlaps them), 1 (they" in lost.line


def test_a_decoder_is_labelled_at_the_last_token_of_a_word():
    row = EntityRow("Ada is", (Entity("PER", 0, 3),), "a:1")
    for family, places in (("bert", [0, 3]), ("gpt2", [2, 5])):
        rows, _ = to_rows([row], NAMES, 30, tagger(False, family), byte_tokenizer())
        labelled = [place for place, label in enumerate(rows.labels[0]) if label >= 0]
        assert [place - labelled[0] for place in labelled] == [0, 3]
        assert labelled[0] - places[0] in (0, 1)  # tokens around
        taken = rows.take([0, 0])
        assert taken.packed.labels.shape == (2, len(rows.ids[0])) and taken.packed.labels[1, labelled[0]] == 3


@pytest.fixture
def names(tmp_path):
    """Texts of 60 rows in which a capital letter gives a name away, and a word before it what it names."""
    chance = random.Random(0)
    path, rows = tmp_path / "names.jsonl", []
    for _ in range(60):
        name, kind = chance.choice(["Ada", "Bob", "Eve Lin"]), chance.choice(["PER", "LOC"])
        text = f"{'mr' if kind == 'PER' else 'in'} {name} {chance.choice(['was', 'is'])} old"
        rows.append({"text": text, "entities": [{"start": 3, "end": 3 + len(name), "label": kind}]})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def run(tmp_path, data, name="r", resume=False, **settings):
    origin = {} if "checkpoint" not in settings else {"tokenizer": None}
    recipe = {**TINY, "name": name, "out": str(tmp_path / "runs"), "data": str(data)}
    return tag(TagRecipe(**{**recipe, **origin, **settings}), resume=resume)


def test_a_run_learns_and_ends_with_its_figures(tmp_path, names):
    settings = {"steps": 90, "optimizer": {"name": "adamw", "learning_rate": 0.01}}
    result = run(tmp_path, names, **settings)
    metrics = result.metrics
    assert metrics["test_f1"] == 1.0 and metrics["test_f1_interval"] == [1.0, 1.0] and metrics["validation_f1"] == 1.0
    assert set(metrics["labels"]) == {"LOC", "PER"}
    assert (
        metrics["test_entities"]
        == metrics["test_texts"]
        == 12
        == sum(score["rows"] for score in metrics["labels"].values())
    )
    assert "| PER | 1.000 | 1.000 | 1.000 |" in (tmp_path / "runs/r/report.md").read_text()
    model, tokenizer = load(result.checkpoint)
    assert (model.spec.tasks[0].crf, model.spec.tasks[0].label_names) == (True, NAMES)
    assert find_entities(model, tokenizer, ["in Eve Lin is old"]) == [[Entity("LOC", 3, 10)]]


def test_going_on_is_having_gone_on(tmp_path, names):
    settings = {"steps": 4, "save_every": 2, "keep": 5}
    whole = run(tmp_path, names, name="whole", **settings)
    shutil.copytree(tmp_path / "runs/whole", tmp_path / "runs/part")
    shutil.rmtree(tmp_path / "runs/part/checkpoints/step-0000004")
    part = run(tmp_path, names, name="part", resume=True, **settings)
    for (name, one), other in zip(
        load(whole.checkpoint)[0].named_parameters(), load(part.checkpoint)[0].parameters(), strict=True
    ):
        assert torch.equal(one, other), name
    assert part.metrics == whole.metrics


def test_a_decoder_as_base_gets_a_head_and_only_what_was_asked_for_trains(tmp_path, names):
    tokenizer = byte_tokenizer()
    base = build(spec_for("gpt2", Shape(tokenizer.vocab_size, 24, 2, 2, 48)), seed=1)
    save(base, tokenizer, tmp_path / "base")
    result = run(tmp_path, names, checkpoint=str(tmp_path / "base"), tune={"last_blocks": 1, "rates": {"*.crf": 10}})
    trained = dict(load(result.checkpoint)[0].named_parameters())
    same = {name for name, one in base.named_parameters() if name in trained and torch.equal(one, trained[name])}
    assert {name.split(".")[0] for name in same} == {"token_embedding", "position_embedding", "blocks"}
    assert not any(name.startswith("blocks.1.") for name in same)
    assert trained["tasks.token.crf.transitions"].abs().max() > 0
    settings = {"tune": {"method": "lora"}, "crf": False, "micro_rows": 3}
    lora = run(tmp_path, names, name="lora", checkpoint=str(tmp_path / "base"), **settings)
    assert math.isfinite(lora.train_loss) and not load(lora.checkpoint)[0].spec.tasks[0].crf


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rename": {"PRE": "X"}}, "no entity is called 'PRE'. Did you mean 'PER'?"),
        ({"split": (0.9, 0.0, 0.1)}, "the validation part has no row"),
        ({"model": {"family": "gemma", "dim": 24, "num_heads": 2}}, "a gemma network has no published layout"),
        ({"crf": False, "tune": {"rates": {"tasks.token.crf": 10}}}, "'tasks.token.crf' matches nothing"),
    ],
)
def test_what_does_not_fit_is_said(tmp_path, names, settings, message):
    with pytest.raises((ConfigError, DataError)) as error:
        run(tmp_path, names, **settings)
    assert message in str(error.value)


def test_parts_of_their_own_must_have_known_labels_and_training_must_name_something(tmp_path, names):
    other = tmp_path / "other.conll"
    other.write_text("Ada B-PRE\n")
    with pytest.raises(DataError, match=r"other\.conll:1: the label 'PRE' of the test part is in no training text\."):
        run(tmp_path, names, test=str(other))
    renamed = parts_of(TagRecipe(name="a", tokenizer="bytes", data=str(names), test=str(other), rename={"PER": "PRE"}))
    assert renamed[2] == [EntityRow("Ada", (Entity("PRE", 0, 3),), f"{other}:1")]
    assert [len(part) for part in renamed] == [53, 7, 1] and labels_of(renamed) == ["LOC", "PRE"]
    other.write_text("Ada O\n")
    with pytest.raises(DataError, match="no training text names anything"):
        run(tmp_path, other, name="t", validation=str(names), test=str(names), split=(1, 0, 0))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["checkpoint=x"], "either a tokenizer"),
        (["split=[0.5, 0.1, 0.1]"], "do not sum to 1"),
        (["sample_every=3"], "writes no samples"),
        (["compile=yes"], "compiled anew"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(words, message):
    with pytest.raises(ConfigError, match=message):
        load_recipe(TagRecipe, None, ["name=a", "data=b", "tokenizer=bytes", *words])
