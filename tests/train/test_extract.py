"""Extraction: both losses by hand, runs on triples, on questions and on plain rows, and every fault in one message."""

import json
import math
import shutil

import pytest
import torch

from smelt.core.config import load_recipe
from smelt.core.errors import ConfigError, DataError
from smelt.core.storage import checkpoint_at
from smelt.data.label_rows import BEGINS, ENDS
from smelt.data.packing import IGNORED
from smelt.models.build import build
from smelt.models.families import Shape, spec_for
from smelt.models.heads import Output
from smelt.models.hub import load, save
from smelt.models.span_readings import answer, schema_of, triples
from smelt.tokenizers.bpe_train import byte_tokenizer
from smelt.train.objectives import OBJECTIVES
from smelt.train.sources import TokenBatch
from smelt.train.stages.extract import ExtractRecipe, extract

TINY = {
    "tokenizer": "bytes",
    "model": {"dim": 24, "num_layers": 1, "num_heads": 2},
    "max_seq_len": 48,
    "batch_rows": 8,
    "steps": 2,
    "validate_every": 0,
    "dtype": "float32",
}
BOTH = BEGINS | ENDS


def batch_of(labels):
    ids = torch.zeros(len(labels), len(labels[0]), dtype=torch.int64)
    return TokenBatch(ids, torch.tensor(labels), None, None)


def model_of(scores):
    return lambda ids, project, **context: Output(None, torch.zeros(1), tasks={"span": torch.as_tensor(scores)})


def test_the_loss_of_pieces_is_the_mean_over_rows_of_both_ends():
    three = math.log(3.0)
    scores = torch.tensor([[[math.nan, math.inf], [three, -three], [0.0, three]]], requires_grad=True)
    objective = OBJECTIVES["pointing"]("span", "spans")
    found, metrics = objective(model_of(scores), batch_of([[IGNORED, BEGINS, 0]]))
    begin, end = math.log(1 + 1) + math.log(1 + 1 / 3), math.log(1 + 1 / 3 + 3)
    assert found.item() == pytest.approx((begin + end) / 2) and metrics == {}
    found.backward()
    assert torch.allclose(scores.grad[0, :2], torch.tensor([[0.0, 0.0], [-1 / 8, 1 / 26]]))
    assert objective.weight(batch_of([[0], [BOTH]])) == 2
    both, _ = objective(model_of(scores), batch_of([[IGNORED, IGNORED, BOTH]]))
    assert both.item() == pytest.approx((math.log(1 + 1) + math.log(1 + 1 / 3)) / 2)
    nothing, _ = objective(model_of(scores), batch_of([[IGNORED, IGNORED, IGNORED]]))
    nothing.backward()
    assert nothing.item() == 0 and scores.grad.isfinite().all()


def test_the_loss_of_an_answer_is_over_all_slots_of_a_row():
    three = math.log(3.0)
    first = [[0.0, 0.0], [9.0, 9.0], [three, 0.0], [0.0, three]]
    second = [[three, three], [9.0, 9.0], [0.0, 0.0], [9.0, 9.0]]
    scores = [first, second]
    batch = batch_of([[0, IGNORED, BEGINS, ENDS], [BOTH, IGNORED, 0, IGNORED]])  # the second has nothing to find
    objective = OBJECTIVES["pointing"]("span", "answer")
    found, metrics = objective(model_of(scores), batch)
    assert found.item() == pytest.approx(-math.log(3 / 5) - math.log(3 / 4))
    assert objective.weight(batch) == 2 and metrics == {"accuracy": 2.0}
    scores[0][2][0] = -1.0
    assert objective(model_of(scores), batch)[1] == {"accuracy": 1.0}


def spo(subject, relation, text, target):
    ends = [{"name": name, "pos": [text.index(name), text.index(name) + len(name)]} for name in (subject, target)]
    return {"h": ends[0], "relation": relation, "t": ends[1]}


@pytest.fixture
def faults(tmp_path):
    rows = []
    for number in range(40):
        part, fault = ("pump", "hose", "belt")[number % 3], ("leaks", "squeaks")[number % 2]
        text = f"report {number} the {part} {fault}"
        listed = [spo(part, "fault", text, fault)] + [spo("report", "about", text, part)] * (number % 4 == 0)
        rows.append({"text": text, "spo_list": listed if number % 5 else []})
    path = tmp_path / "faults.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def questions(tmp_path):
    paragraphs = []
    for number in range(30):
        who = "Ada" if number % 2 else "Bob"
        context = f"It was told that {who} saw the mill number {number} by the river of old days."
        start = context.index("mill")
        answers = (("mill", start if number % 10 else 1), (f"mill number {number}", start))
        found = [{"text": text, "answer_start": place} for text, place in answers]
        paragraphs.append({"context": context, "qas": [{"id": str(number), "question": "what?", "answers": found}]})
    path = tmp_path / "dev.json"
    path.write_text(json.dumps({"data": [{"paragraphs": paragraphs}]}))
    return path


def run(tmp_path, data, name="r", resume=False, **settings):
    origin = {"tokenizer": None} if "checkpoint" in settings else {}
    recipe = {**TINY, "name": name, "out": str(tmp_path / "runs"), "data": str(data), "split": (0.6, 0.2, 0.2)}
    return extract(ExtractRecipe(**{**recipe, **origin, **settings}), resume=resume)


def test_triples_are_learned_and_found_in_two_hops(tmp_path, faults, capsys):
    rate = {"name": "adamw", "learning_rate": 1e-2}
    prompt = "RELATION of SUBJECT"
    result = run(tmp_path, faults, steps=120, second_prompt=prompt, negative_ratio=0.4, optimizer=rate)
    metrics = result.metrics
    assert metrics["test_texts"] == 8 and set(metrics["relations"]) == {"fault", "about"}
    assert metrics["test_f1"] > 0.5 and metrics["test_f1_interval"][0] <= metrics["test_f1"]
    said = capsys.readouterr().err
    assert "training: " in said and "prompts of 24 texts" in said and "0 not at the ends of words" in said
    directory = checkpoint_at(result.checkpoint)
    schema = schema_of(directory)
    assert schema.ask("pump", "fault") == "fault of pump" and schema.relations[0] == "fault"
    model, tokenizer = load(directory)
    found = triples(model, tokenizer, "report 77 the hose leaks", schema)
    assert ("hose", "fault", "leaks") in found and all(0 < share <= 1 for share in found.values())
    assert "## Test" in (tmp_path / "runs/r/report.md").read_text()


def test_questions_are_answered_in_windows(tmp_path, questions, capsys):
    result = run(tmp_path, questions, pointer="answer", stride_tokens=16, max_seq_len=40)
    metrics = result.metrics
    assert metrics["test_questions"] == 6 and metrics["test_measure"] == "SQuAD"
    assert 0 <= metrics["test_exact_match"] <= metrics["test_f1"] <= 1
    said = capsys.readouterr().err
    assert "3 of 60 answers do not stand where the file says" in said
    found = answer(*load(result.checkpoint), "what?", "a mill " * 20)
    assert found.text == ("a mill " * 20)[found.start : found.stop]


def test_plain_rows_count_by_their_places(tmp_path):
    rows = [
        {"prompt": "part", "text": f"the pump {number}", "spans": [{"start": 4, "end": 8}] * (number % 2)}
        for number in range(20)
    ]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    metrics = run(tmp_path, path).metrics
    assert metrics["test_texts"] == 4 and "relations" not in metrics
    with pytest.raises(DataError, match=r"rows\.jsonl:\d+: a question without an answer\n.*\ntry: pointer=spans"):
        run(tmp_path, path, name="a", pointer="answer")


def test_going_on_is_having_gone_on_and_micro_batches_change_nothing(tmp_path, faults):
    whole = run(tmp_path, faults, name="whole", steps=4, save_every=2, keep=5)
    part = run(tmp_path, faults, name="part", steps=4, save_every=2, keep=5, micro_rows=3)
    assert part.train_loss == pytest.approx(whole.train_loss, abs=1e-5)
    shutil.rmtree(tmp_path / "runs/whole/checkpoints/step-0000004")
    again = run(tmp_path, faults, name="whole", steps=4, save_every=2, keep=5, resume=True)
    assert again.train_loss == whole.train_loss and again.metrics == whole.metrics


def test_a_checkpoint_gets_a_head_and_its_layers_stay_where_they_are_frozen(tmp_path, faults):
    tokenizer = byte_tokenizer()
    base = build(spec_for("bert", Shape(tokenizer.vocab_size, 24, 1, 2, 48)), seed=1)
    save(base, tokenizer, tmp_path / "base")
    made = run(tmp_path, faults, checkpoint=str(tmp_path / "base"), tune={"train": ["tasks"]}).checkpoint
    model, _ = load(made)
    kept = dict(model.named_parameters())
    same = [name for name, p in base.named_parameters() if name in kept and torch.equal(p, kept[name])]
    assert len(same) == len([name for name in kept if not name.startswith("tasks")])
    decoder = build(spec_for("llama", Shape(tokenizer.vocab_size, 24, 1, 2, 48)), seed=1)
    save(decoder, tokenizer, tmp_path / "decoder")
    with pytest.raises(ConfigError, match="a llama network has no published layout that points"):
        run(tmp_path, faults, name="d", checkpoint=str(tmp_path / "decoder"))


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"pointer": "answer"}, ConfigError, "pointer=answer with triples"),
        ({"split": (1.0, 0.0, 0.0)}, DataError, "the validation part has no text with"),
        ({"split": (0.0, 0.5, 0.5), "test": "DATA", "validation": "DATA"}, ConfigError, "leaves no text to train with"),
    ],
)
def test_what_does_not_fit_is_said(tmp_path, faults, settings, error, message):
    settings = {key: str(faults) if value == "DATA" else value for key, value in settings.items()}
    with pytest.raises(error) as raised:
        run(tmp_path, faults, **settings)
    assert message in str(raised.value)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["checkpoint=x"], "either a tokenizer"),
        (["split=[0.5, 0.1, 0.1]"], "do not sum to 1"),
        (["second_prompt=SUBJECT"], "lacks SUBJECT or RELATION"),
        (["sample_every=3"], "writes no samples"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(words, message):
    with pytest.raises(ConfigError) as raised:
        load_recipe(ExtractRecipe, None, ["name=a", "data=b", "tokenizer=bytes", *words])
    assert message in str(raised.value)


def test_answers_that_all_stand_elsewhere_leave_nothing_to_train_with(tmp_path, questions):
    questions.write_text(questions.read_text().replace('"answer_start": ', '"answer_start": 9'))
    with pytest.raises(DataError, match="the training part has no text with what it needs"):
        run(tmp_path, questions, pointer="answer")


def test_a_text_that_has_no_token_is_named(tmp_path, faults):
    rows = faults.read_text() + json.dumps({"text": " ", "spo_list": []}) + "\n"
    faults.write_text(rows)
    with pytest.raises(DataError, match=r"faults\.jsonl:41: the tokenizer makes no token"):
        run(tmp_path, faults, split=(0.98, 0.01, 0.01), validation=str(faults), test=str(faults))
