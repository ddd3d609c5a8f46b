"""Instruction tuning from files to a checkpoint: mixtures, padding, noise, tools and thoughts, and going on exactly."""

import json
from pathlib import Path

import pytest
import torch

from smelt.core.config import load_recipe
from smelt.core.errors import ConfigError, DataError
from smelt.core.storage import sha256_file
from smelt.data.formats import read_chats
from smelt.data.packing import IGNORED
from smelt.data.rendering import render
from smelt.models.build import build
from smelt.models.families import Shape, spec_for
from smelt.models.hub import save
from smelt.tokenizers.base import END_OF_TEXT
from smelt.tokenizers.chat import TEMPLATES, ChatTemplate
from smelt.tokenizers.formats import load_tokenizer
from smelt.train import hooks
from smelt.train.chats import Layout, lay_out
from smelt.train.loop import StepResult
from smelt.train.run import RunDirectory
from smelt.train.stages.common import StageResult
from smelt.train.stages.sft import SftRecipe, sft
from smelt.train.state import TrainState


@pytest.fixture(scope="module")
def base(files: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a checkpoint with the context of 64 tokens, and beside it a second file of chats."""
    tokenizer = load_tokenizer(files / "tokenizer")
    model = build(spec_for("llama", Shape(tokenizer.vocab_size, 16, 2, 2, 64, tied=True)), seed=1)
    folder = tmp_path_factory.mktemp("base")
    save(model, tokenizer, folder / "model")
    rows = [{"prompt": f"count {n}", "completion": " ".join(map(str, range(n % 9))) or "0"} for n in range(40)]
    (folder / "more.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def recipe_for(files: Path, base: Path, out: Path, **changes: object) -> SftRecipe:
    values = dict(
        name="chat", out=str(out), checkpoint=str(base / "model"), data=str(files / "chats.jsonl"), max_seq_len=64,
        batch_rows=4, micro_rows=2, steps=8, save_every=2, validate_every=4, compile="no", dtype="float32",
        validation_fraction=0.1,
    )  # fmt: skip
    return SftRecipe.model_validate({**values, **changes})


def mixture(files: Path, base: Path) -> list[dict[str, object]]:
    return [{"path": str(files / "chats.jsonl"), "weight": 3}, {"path": str(base / "more.jsonl"), "name": "counting"}]


def weights(result: StageResult) -> str:
    return sha256_file(Path(result.checkpoint) / "model.safetensors")


def killed_after(step: int, monkeypatch: pytest.MonkeyPatch, recipe: SftRecipe) -> StageResult:
    """Run until a step, as if killed there, and go on."""

    class Killed(BaseException):
        pass

    def killing(self: hooks.LogMetrics, state: TrainState, result: StepResult) -> None:
        original(self, state, result)
        if state.step == step:
            raise Killed

    original = hooks.LogMetrics.__call__
    with monkeypatch.context() as patched:
        patched.setattr(hooks.LogMetrics, "__call__", killing)
        with pytest.raises(Killed):
            sft(recipe)
    torch.rand(3)
    return sft(recipe, resume=True)


WAYS = {
    "packed": {},
    "padded": {"packing": False},
    "noisy": {"neftune_alpha": 5.0},
    "mixed": {"mixed": True},
    "all of it": {"mixed": True, "packing": False, "neftune_alpha": 5.0},
}


@pytest.mark.parametrize("way", WAYS)
def test_resume_equals_uninterrupted(
    way: str, files: Path, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = dict(WAYS[way])
    if changes.pop("mixed", False):
        changes["data"] = mixture(files, base)
    whole = sft(recipe_for(files, base, tmp_path / "whole", **changes))
    resumed = killed_after(5, monkeypatch, recipe_for(files, base, tmp_path / "killed", **changes))
    assert weights(resumed) == weights(whole)
    assert resumed.metrics["sources"] == whole.metrics["sources"]
    other = sft(recipe_for(files, base, tmp_path / "pieces", **{**changes, "micro_rows": 4}))
    assert other.train_loss == pytest.approx(whole.train_loss, rel=1e-5), "the same in other pieces"


def test_noise_changes_training_and_no_measurement(files: Path, base: Path, tmp_path: Path) -> None:
    results = [
        sft(recipe_for(files, base, tmp_path / str(alpha), steps=1, neftune_alpha=alpha)) for alpha in (0.0, 50.0)
    ]
    first = [RunDirectory(tmp_path / str(alpha), "chat").read_metrics()[0]["loss"] for alpha in (0.0, 50.0)]
    assert abs(first[0] - first[1]) > 1e-3
    assert weights(results[0]) != weights(results[1])


def test_padded_and_packed_rows_have_the_same_loss(files: Path, base: Path, tmp_path: Path) -> None:
    results = [
        sft(
            recipe_for(
                files,
                base,
                tmp_path / str(packing),
                steps=1,
                packing=packing,
                optimizer={"learning_rate": 1e-30, "weight_decay": 0.0},
            )
        )
        for packing in (True, False)
    ]
    assert results[0].validation_loss == pytest.approx(results[1].validation_loss, rel=1e-5)
    assert load_recipe(SftRecipe, Path(results[1].run) / "recipe.yaml").compile == "no"


def test_counts_by_source_are_those_of_the_rows_drawn(
    files: Path, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = {"labels": 0, "rows": 0, "conversations": 0}

    def watching(self: object, num_rows: int) -> object:
        batch = original(self, num_rows)
        if getattr(self, "counting", False):
            seen["labels"] += int((batch.labels != IGNORED).sum())
            seen["rows"] += len(batch.ids)
            segments = batch.segments if batch.segments is not None else torch.ones_like(batch.ids)
            seen["conversations"] += int(segments.max(dim=1).values.sum())
        return batch

    from smelt.train import sources
    from smelt.train.stages import common

    original = sources.RowSource.take
    monkeypatch.setattr(sources.RowSource, "take", watching)
    fit = common.fit

    def fitting(state: TrainState, *arguments: object) -> TrainState:
        state.source.counting = True  # type: ignore[attr-defined]
        return fit(state, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(common, "fit", fitting)
    result = sft(recipe_for(files, base, tmp_path, steps=30, data=mixture(files, base)))
    counts = result.metrics["sources"]
    assert list(counts) == ["chats", "counting"]
    for key, name in (("rows", "rows"), ("conversations", "conversations"), ("labels", "trainable_tokens")):
        assert sum(found[name] for found in counts.values()) == seen[key]
    assert seen["rows"] == 120 and 78 <= counts["chats"]["rows"] <= 102  # three in four
    report = (Path(result.run) / "report.md").read_text()
    assert f"| drawn from counting | {counts['counting']['rows']} rows, " in report
    lineage = json.loads((Path(result.checkpoint) / "smelt.json").read_text())
    assert len(lineage["data"]["sources"]) == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["data=[{path: a, wieght: 2}]"], "unknown key 'data.0.wieght'. Did you mean 'weight'?"),
        (["data=[{path: a, weight: 0}]"], "data.0.weight=0: input should be greater than 0"),
        (["data=[{path: x/a.json}, {path: y/a.json}]"], "two sources are called 'a'; give each a name of its own"),
        (["data=[]"], "there is no source of data"),
        (
            ["data=a", "packing=false", "compile=yes"],
            "compile=yes needs rows of one length, and packing=false makes many",
        ),
        (["data=a", "neftune_alpha=-1"], "neftune_alpha=-1: input should be greater than or equal to 0"),
    ],
)
def test_bad_recipes(words: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_recipe(SftRecipe, None, ["name=x", "checkpoint=y", *words])
    assert message in str(caught.value)


FUNCTION = {"name": "find", "arguments": {"what": "mill"}}
TOOLS = [{"name": "find", "parameters": {"type": "object"}}]
CALLING = {
    "conversations": [
        {"from": "human", "value": "Where?"},
        {"from": "function_call", "value": json.dumps(FUNCTION)},
        {"from": "observation", "value": "river"},
        {"from": "gpt", "value": "There."},
    ],
    "tools": json.dumps(TOOLS),
}
THINKING = {
    "messages": [
        {"role": "user", "content": "Where?"},
        {"role": "assistant", "content": "Here.", "reasoning_content": "Hm."},
        {"role": "user", "content": "And now?"},
        {"role": "assistant", "content": "There.", "reasoning_content": "Well."},
    ]
}


def chats(folder: Path, *rows: object) -> Path:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def learned(path: Path, template: ChatTemplate) -> str:
    (row,) = read_chats(path)
    ids, mask = render(row, template)
    return template.tokenizer.decode([token for token, counts in zip(ids, mask, strict=True) if counts])


def test_calls_are_learned_and_answers_are_not(files: Path, tmp_path: Path) -> None:
    template = ChatTemplate(load_tokenizer(files / "tokenizer"), TEMPLATES["qwen"].jinja)
    assert learned(chats(tmp_path, CALLING), template) == (
        '<tool_call>\n{"name": "find", "arguments": {"what": "mill"}}\n</tool_call><|im_end|>There.<|im_end|>'
    )


def test_thoughts_are_learned_by_the_rules_of_the_template(files: Path, tmp_path: Path) -> None:
    template = ChatTemplate(load_tokenizer(files / "tokenizer"), TEMPLATES["qwen3"].jinja)
    expected = "Here.<|im_end|><think>\nWell.\n</think>\n\nThere.<|im_end|>"
    assert learned(chats(tmp_path, THINKING), template) == expected
    inline = [
        {
            "role": message["role"],
            "content": f"<think>\n{message['reasoning_content']}\n</think>\n\n{message['content']}",
        }
        if "reasoning_content" in message
        else message
        for message in THINKING["messages"]
    ]
    assert learned(chats(tmp_path, {"messages": inline}), template) == expected


@pytest.mark.parametrize(
    ("row", "what"),
    [
        (
            CALLING,
            ":1: template chatml: the request has tools, for which this chat template has no place\n"
            "accepted: a template with one: llama3.1, mistral, qwen, qwen3, glm4\n",
        ),
        (
            {**CALLING, "tools": ""},
            ":1: template chatml: message 2 of 4 (assistant) has tool_calls, for which this chat template has no place",
        ),
        (
            THINKING,
            ":1: the assistant thinks, for which the template chatml has no place\n"
            "accepted: a template with one: qwen3\n",
        ),
    ],
)
def test_what_a_template_has_no_place_for(row: object, what: str, files: Path, base: Path, tmp_path: Path) -> None:
    path = chats(tmp_path, row, row)
    with pytest.raises(DataError) as caught:
        sft(recipe_for(files, base, tmp_path, data=str(path)))
    assert f"{path}{what}" in str(caught.value) and len(str(caught.value).splitlines()) <= 3


def test_nothing_to_learn_is_told_before_the_first_step(files: Path, tmp_path: Path) -> None:
    unmarked = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
    template = ChatTemplate(load_tokenizer(files / "tokenizer"), unmarked)
    rows = list(read_chats(files / "chats.jsonl"))
    with pytest.raises(DataError) as caught:
        lay_out([("chats", rows)], template, Layout(64, True, "drop", 0), "training")
    assert f"{files / 'chats.jsonl'}:1: template the model's own: the chat template does not mark" in str(caught.value)


@pytest.mark.parametrize("packing", [True, False])
def test_the_share_that_is_learned_is_printed(
    packing: bool, files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tokenizer = load_tokenizer(files / "tokenizer")
    template = ChatTemplate(tokenizer)
    rows = list(read_chats(files / "chats.jsonl"))
    rendered = [render(row, template) for row in rows]
    share = sum(sum(mask) for _, mask in rendered) / sum(len(ids) for ids, _ in rendered)
    layout = Layout(64, packing, "drop", tokenizer.special[END_OF_TEXT])
    laid = lay_out([("chats", rows)], template, layout, "training")
    assert f"{share:.0%} of the tokens carry a loss" in capsys.readouterr().err
    assert laid.trainable.sum() == sum(sum(mask[1:]) for _, mask in rendered)
    assert laid.conversations.sum() == len(rows)
