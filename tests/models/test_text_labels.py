"""Heads that label texts: what they read, under which layers they stand, and what a checkpoint keeps of it."""

from dataclasses import replace

import pytest
import torch

from smelt.core.errors import CheckpointError, ConfigError, UsageError
from smelt.models.build import build
from smelt.models.families import FAMILIES, Shape, spec_for
from smelt.models.heads import last_token, mean_token
from smelt.models.hub import load_model, save_model
from smelt.models.partial import under_another_top
from smelt.models.readings import classify
from smelt.models.text_labels import for_text_labels
from smelt.nn.spec import TaskSpec
from smelt.tokenizers.bpe_train import byte_tokenizer

from .conftest import scrambled

DECODERS = ("gpt2", "llama", "qwen2", "mistral", "qwen3")
HIDDEN = torch.arange(12.0).reshape(2, 3, 2)
SEGMENTS = torch.tensor([[1, 1, 0], [1, 1, 1]])


def tiny(family, **changes):
    spec = spec_for(family, Shape(40, 24, 2, 4, 32, **changes))
    return replace(spec, token_ids=replace(spec.token_ids, padding=39 if not spec.position_offset else 1))


def test_the_last_token_and_the_mean_leave_padding_out():
    assert last_token(HIDDEN, SEGMENTS).tolist() == [[2, 3], [10, 11]]
    assert last_token(HIDDEN, None).tolist() == [[4, 5], [10, 11]]
    assert mean_token(HIDDEN, SEGMENTS).tolist() == [[1, 2], [8, 9]]
    assert mean_token(HIDDEN, None).tolist() == [[2, 3], [8, 9]]
    broken = HIDDEN.clone()
    broken[0, 2] = float("nan")
    assert mean_token(broken, SEGMENTS).tolist() == [[1, 2], [8, 9]]


@pytest.mark.parametrize("reads", ["last", "first", "mean"])
@pytest.mark.parametrize("family", DECODERS)
def test_scores_do_not_depend_on_padding(family, reads):
    model = scrambled(build(for_text_labels(tiny(family), ["a", "b", "c"], reads=reads), seed=0))
    ids = torch.randint(0, 39, (1, 7))
    alone = model(ids).tasks["text"]
    padded = torch.cat([ids, torch.full((1, 4), 39)], dim=1)
    found = model(padded, segments=torch.tensor([[1] * 7 + [0] * 4]))
    assert alone.shape == (1, 3) and found.logits is None
    torch.testing.assert_close(found.tasks["text"], alone, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("reads", [None, "first", "mean"])
@pytest.mark.parametrize("family", DECODERS)
def test_a_checkpoint_keeps_labels_and_reading(tmp_path, family, reads):
    for tied in (True, False):
        spec = for_text_labels(tiny(family, tied=tied), ["ham", "spam"], reads=reads, multi_label=tied)
        [task] = spec.tasks
        assert (task.reads, task.label_names, task.multi_label) == (reads or "last", ("ham", "spam"), tied)
        model = scrambled(build(spec, seed=0))
        save_model(model, tmp_path)
        loaded = load_model(tmp_path)
        assert loaded.spec == spec
        for name, parameter in model.named_parameters():
            assert torch.equal(parameter, loaded.get_parameter(name)), name


@pytest.mark.parametrize("family", ["bert", "roberta", "xlm_roberta", "albert", "distilbert"])
def test_an_encoder_gets_the_head_of_its_layout(tmp_path, family):
    spec = for_text_labels(tiny(family), ["x", "y", "z"], multi_label=True)
    [task] = spec.tasks
    assert task.num_labels == 3 and task.multi_label and not spec.language_head
    save_model(build(spec, seed=0), tmp_path)
    assert load_model(tmp_path).spec == spec
    with pytest.raises(ConfigError, match=f"reads=mean with a {family}"):
        for_text_labels(tiny(family), ["x", "y"], reads="mean")


def test_what_no_layout_holds_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="a gemma network has no published layout that labels texts"):
        for_text_labels(spec_for("gemma", Shape(40, 24, 2, 4, 32)), ["a", "b"])
    with pytest.raises(ConfigError, match="reads=pooled with a decoder"):
        for_text_labels(tiny("gpt2"), ["a", "b"], reads="pooled")
    family = FAMILIES["gpt2"]
    config = family.hf_from_spec(for_text_labels(tiny("gpt2"), ["a", "b"], reads="mean"))
    assert config["smelt"] == {"reads": "mean"} and config["architectures"] == ["GPT2ForSequenceClassification"]
    for wrong in ({"reads": "middle"}, {"reads": "mean", "colour": "red"}):
        with pytest.raises(CheckpointError, match=r"config\.json: smelt"):
            family.spec_from_hf({**config, "smelt": wrong})


def test_layers_are_taken_over_and_the_head_is_new():
    for family in ("gpt2", "llama", "bert"):
        base = scrambled(build(tiny(family), seed=1))
        spec = for_text_labels(base.spec, ["a", "b"])
        model, report = under_another_top(base, spec, seed=3, where="base")
        assert [name for name in report.new if not name.startswith("pooler")] == [
            name for name, _ in model.named_parameters() if name.startswith("tasks")
        ]
        for name in report.loaded:
            assert torch.equal(model.get_parameter(name), base.get_parameter(name)), name
        assert model.get_parameter("tasks.text.labels.weight").std() > 0
        same, report = under_another_top(model, spec, seed=4, where="base")
        assert not report.new
        again, report = under_another_top(model, for_text_labels(spec, ["c", "d"]), seed=4, where="base")
        assert "tasks.text.labels.weight" in report.new
        weights = [network.get_parameter("tasks.text.labels.weight") for network in (model, same, again)]
        assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])


def test_decoders_label_texts_with_a_temperature_and_several_labels():
    tokenizer = byte_tokenizer()
    spec = replace(tiny("gpt2"), vocab_size=tokenizer.vocab_size)
    model = scrambled(build(for_text_labels(spec, ["ham", "spam"]), seed=0))
    scores = model(torch.tensor([tokenizer.encode("win")])).tasks["text"][0].detach()
    [_, short] = classify(model, tokenizer, ["win a lot of money", "win"], temperature=4.0)
    expected = dict(zip(("ham", "spam"), (scores / 4).softmax(-1).tolist(), strict=True))
    assert {choice.text: choice.probability for choice in short} == pytest.approx(expected, abs=1e-5)
    assert short[0].probability >= short[1].probability
    model.spec = replace(model.spec, tasks=(replace(model.spec.tasks[0], multi_label=True),))
    [[first, second]] = classify(model, tokenizer, ["win"])
    assert [first.probability, second.probability] == pytest.approx(sorted(scores.sigmoid().tolist())[::-1], abs=1e-5)
    with pytest.raises(UsageError, match="several labels of a token"):
        TaskSpec("token", 2, multi_label=True)
    with pytest.raises(UsageError, match="lacks a head that labels texts"):
        classify(build(tiny("gpt2"), seed=0), tokenizer, ["win"])
