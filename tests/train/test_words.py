"""Prompt learning as a run: nothing new is drawn, the template is kept, few rows of each label are enough to try."""

import json
import random
from pathlib import Path

import pytest
import torch

from smelt.core.config import load_recipe
from smelt.core.errors import ConfigError, DataError
from smelt.core.storage import checkpoint_at
from smelt.models.build import build
from smelt.models.cloze import make_cloze
from smelt.models.families import Shape, spec_for
from smelt.models.hub import load, save
from smelt.models.readings import scores_of
from smelt.peft.load import is_adapter
from smelt.peft.load import load as load_tuned
from smelt.peft.merged import merge_adapter
from smelt.tokenizers.bpe_train import byte_tokenizer
from smelt.tokenizers.training import train_tokenizer
from smelt.train.stages.classify import ClassifyRecipe, classify

ASKED = {"template": "{text}={word}", "words": {"good": "g", "bad": ["b", "c"]}}
TINY = {"max_seq_len": 40, "batch_rows": 8, "steps": 2, "validate_every": 0, "dtype": "float32", "label_column": "kind"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Rows that one word gives away, and a decoder that knows nothing."""
    folder = tmp_path_factory.mktemp("words")
    chance = random.Random(0)
    lines = ["kind\ttext"]
    for number in range(60):
        words = chance.choices(["the", "day", "was", "a", "room"], k=3)
        lines.append(f"{'good' if number % 2 else 'bad'}\t{' '.join(words)} {'fine' if number % 2 else 'cold'}")
    (folder / "rows.tsv").write_text("\n".join(lines) + "\n")
    tokenizer = byte_tokenizer()
    save(build(spec_for("llama", Shape(tokenizer.vocab_size, 24, 2, 2, 64)), seed=1), tokenizer, folder / "base")
    return folder


def run(folder, out, name="r", resume=False, **settings):
    recipe = {"name": name, "out": str(out), "data": str(folder / "rows.tsv"), "checkpoint": str(folder / "base")}
    return classify(ClassifyRecipe(**{**TINY, **recipe, **ASKED, **settings}), resume=resume)


def test_a_language_model_stays_one_and_learns_the_words(folder, tmp_path):
    result = run(folder, tmp_path, steps=30, optimizer={"learning_rate": 0.01})
    assert result.metrics["test_accuracy"] > 0.8 and 0 <= result.metrics["zero_shot_accuracy"] <= 1
    model, tokenizer = load(result.checkpoint)
    base, _ = load(folder / "base")
    assert model.spec == base.spec and not model.spec.tasks
    kept = json.loads((Path(result.checkpoint) / "smelt.json").read_text())["cloze"]
    assert kept == {"template": "{text}={word}", "words": {"bad": ["b", "c"], "good": ["g"]}, "offsets": []}
    scores = scores_of(make_cloze(model, tokenizer, **kept), model, ["a cold day", "a fine day"])
    assert scores[0, 0] - scores[0, 1] > scores[1, 0] - scores[1, 1]
    assert "Before training: " in (tmp_path / "r/report.md").read_text()


def test_before_training_the_base_is_asked(folder, tmp_path):
    result = run(folder, tmp_path, steps=1, optimizer={"learning_rate": 1e-12}, content_free=["", "?"])
    assert result.metrics["zero_shot_accuracy"] == result.metrics["test_accuracy"]
    kept = json.loads((Path(result.checkpoint) / "smelt.json").read_text())["cloze"]
    model, tokenizer = load(folder / "base")
    shares = scores_of(make_cloze(model, tokenizer, **kept), model, ["", "?"]).softmax(-1)
    assert shares.mean(dim=0).tolist() == pytest.approx([0.5, 0.5], abs=0.02) and any(kept["offsets"])


@pytest.mark.parametrize(
    "tune",
    [
        {"last_blocks": 1},
        {"method": "lora"},
        {"method": "prefix", "prefix": {"num_virtual_tokens": 3}},
        {"method": "p-tuning", "p_tuning": {"num_virtual_tokens": 3, "encoder": "mlp"}},
    ],
)
def test_every_way_of_tuning(folder, tmp_path, tune):
    result = run(folder, tmp_path, tune=tune, optimizer={"name": "adamw", "learning_rate": 0.05})
    directory = checkpoint_at(result.checkpoint)
    assert is_adapter(directory) == ("method" in tune)
    model, tokenizer = load_tuned(directory)
    kept = json.loads((directory / "smelt.json").read_text())["cloze"]
    base, _ = load(folder / "base")
    texts = ["a cold day", "a fine day"]
    tuned, plain = (scores_of(make_cloze(net, tokenizer, **kept), net, texts) for net in (model, base))
    assert (tuned - plain).abs().max() > 1e-3
    if tune.get("method") == "lora":
        merge_adapter(directory, tmp_path / "merged")
        assert json.loads((tmp_path / "merged" / "smelt.json").read_text())["cloze"] == kept


def test_going_on_is_having_gone_on(folder, tmp_path):
    settings = {"steps": 4, "save_every": 2, "keep": 5, "shots": 6, "split": (0.5, 0.3, 0.2)}
    whole, part = (run(folder, tmp_path, name=name, **settings) for name in ("whole", "part"))
    last = tmp_path / "part/checkpoints/step-0000004"
    last.rename(tmp_path / "gone")
    part = run(folder, tmp_path, name="part", resume=True, **settings)
    assert part.metrics == whole.metrics
    for one, other in zip(load(whole.checkpoint)[0].parameters(), load(part.checkpoint)[0].parameters(), strict=True):
        assert torch.equal(one, other)


def test_shots_are_rows_of_each_label(folder, tmp_path):
    found = run(folder, tmp_path, steps=1, shots=2, template=None, words={}).metrics
    whole = run(folder, tmp_path, name="s", steps=1).metrics
    assert (found["training_rows"], found["validation_rows"]) == (4, 4)
    assert found["test_rows"] == whole["test_rows"] == 12
    assert "zero_shot_accuracy" not in found
    with pytest.raises(DataError, match="the validation part has 3 rows of the label 'bad', and shots=4"):
        run(folder, tmp_path, name="t", shots=4)


def test_an_encoder_and_pairs(tmp_path):
    texts = ["the room was fine", "the day was cold"]
    tokenizer = train_tokenizer([*texts, "yes no ?"] * 5, algorithm="wordpiece", vocab_size=90)
    save(build(spec_for("bert", Shape(tokenizer.vocab_size, 24, 1, 2, 64)), seed=1), tokenizer, tmp_path / "base")
    rows = [{"a": texts[i % 2], "b": texts[i // 2 % 2], "kind": i % 2 == i // 2 % 2} for i in range(40)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = {"data": str(tmp_path / "rows.jsonl"), "text_column": "a", "template": "{text}? {word}, {second}"}
    words = load_recipe(
        ClassifyRecipe,
        None,
        ["name=a", "data=b", "checkpoint=c", "template='{text} {word}'", "words={true: yes, false: no}"],
    ).words
    result = run(tmp_path, tmp_path, second_column="b", words=words, **settings)
    assert result.metrics["test_rows"] == 8
    with pytest.raises(ConfigError, match=r"with second_column=''\naccepted: \{second\} where the rows are pairs"):
        run(tmp_path, tmp_path, name="p", words=words, **settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"words": {"good": "g"}}, "words: 'bad' is not given"),
        ({"words": {"good": "g", "bad": "b", "goood": "h"}}, "words: 'goood' is no label. Did you mean 'good'?"),
        ({"words": {"good": "great", "bad": "b"}}, "'great' is 5 tokens"),
        ({"template": "What is there to be said of this is {text}={word}"}, "leaves none for the text"),
    ],
)
def test_what_does_not_fit_is_said(folder, tmp_path, settings, message):
    with pytest.raises(ConfigError) as error:
        run(folder, tmp_path, **{"max_seq_len": 32, **settings})
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["template='{text}{word}'", "checkpoint=c"], "give both a template and words"),
        (["template='{text}{word}'", "words={a: x}", "tokenizer=bytes"], "asks the language head of a checkpoint"),
        (["template='{text}{word}'", "words={a: x}", "checkpoint=c", "reads=last"], "and no reads"),
        (["content_free=[N/A]", "checkpoint=c"], "content_free is for a template"),
        (["shots=3", "multi_label=true", "checkpoint=c"], "shots and words are for one label"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(words, message):
    with pytest.raises(ConfigError, match=message):
        load_recipe(ClassifyRecipe, None, ["name=a", "data=b", *words])
