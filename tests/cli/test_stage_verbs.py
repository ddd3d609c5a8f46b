"""`smelt pretrain` and `smelt sft`: recipes from words, real runs of a few steps, Ctrl-C and resume."""

import json
import shlex
import signal
from pathlib import Path

import pytest

from smelt.cli.common import recipe_keys, recipe_of, type_name
from smelt.core.errors import ConfigError, UsageError
from smelt.train.stages.distill import DistillRecipe
from smelt.train.stages.pretrain import PretrainRecipe
from smelt.train.stages.seq2seq import Seq2SeqRecipe
from smelt.train.stages.sft import SftRecipe

from .conftest import TINY, Smelt

KEYS = {
    "checkpoint", "run", "steps", "tokens", "seconds", "tokens_per_second", "train_loss", "validation_loss", "metrics",
}  # fmt: skip


@pytest.fixture
def words(text_file: Path, tmp_path: Path) -> list[str]:
    """The words of a tiny run."""
    return [f"data={text_file}", f"out={tmp_path / 'runs'}", "name=a", "steps=3", *TINY]


@pytest.mark.parametrize(
    ("verb", "kind"),
    [("pretrain", PretrainRecipe), ("sft", SftRecipe), ("seq2seq", Seq2SeqRecipe), ("distill", DistillRecipe)],
)
def test_help_lists_every_key_of_the_recipe(smelt: Smelt, verb: str, kind: type) -> None:
    shown = smelt(verb, "--help").out
    keys = dict(recipe_keys(kind))
    assert {"name", "optimizer.learning_rate", "checkpoint"} <= set(keys)
    listed = [line.split()[0] for line in shown.splitlines() if line.strip()]
    assert set(keys) <= set(listed)
    assert all(text and not text.startswith(" [") for text in keys.values()), "every key says what it is"


def test_keys_show_type_bounds_and_default() -> None:
    keys = dict(recipe_keys(PretrainRecipe))
    assert keys["name"].endswith("[text; required]")
    assert keys["optimizer.learning_rate"] == "Peak learning rate. [number > 0; default: 0.003]"
    assert keys["optimizer.beta1"].endswith("[number >= 0 and < 1; default: 0.9]")
    assert keys["dtype"].endswith("[auto|float32|bfloat16; default: auto]")
    assert keys["steps"].endswith("[whole number > 0; default: empty]")
    assert keys["model.tied"].endswith("[true|false; default: true]")
    assert type_name(tuple[str, ...]) == "list of text"


def test_words_are_one_recipe_file_and_settings(tmp_path: Path) -> None:
    recipe = tmp_path / "r=1.yaml"
    recipe.write_text("name: a\ndata: b\ntokenizer: bytes\nsteps: 3\n")
    made = recipe_of(PretrainRecipe, [str(recipe), "steps=5", "optimizer.name=adamw"], resume=False)
    assert (made.name, made.steps, made.optimizer.name) == ("a", 5, "adamw")
    with pytest.raises(UsageError, match="two recipes"):
        recipe_of(PretrainRecipe, [str(recipe), "steps"], resume=False)
    with pytest.raises(ConfigError, match="'name' is required"):
        recipe_of(PretrainRecipe, [], resume=False)
    recipe_of(PretrainRecipe, [str(recipe), "data=" + "x" * 5000], resume=False)  # longer than a file name may be


def test_resuming_a_run_means_the_run_where_it_stands_now(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = tmp_path / "moved" / "b"
    (run / "checkpoints").mkdir(parents=True)
    (run / "recipe.yaml").write_text("name: a\nout: runs\ndata: x\ntokenizer: bytes\n")
    for word in (run, run / "recipe.yaml"):
        made = recipe_of(PretrainRecipe, [str(word)], resume=True)
        assert (made.out, made.name) == (str(tmp_path / "moved"), "b")
    assert recipe_of(PretrainRecipe, [str(run)], resume=False).out == "runs"
    monkeypatch.chdir(tmp_path)
    assert recipe_of(PretrainRecipe, ["moved/b/recipe.yaml"], resume=True).out == "moved"


def test_pretrain_then_sft(smelt: Smelt, words: list[str], chats_file: Path, tmp_path: Path) -> None:
    base = smelt("pretrain", *words, "max_seq_len=64", "--json")
    assert base.code == 0, base.err
    assert len(base.out.splitlines()) == 1 and set(base.json) >= KEYS
    assert base.json["steps"] == 3 and base.json["run"] == str(tmp_path / "runs" / "a")
    chat = smelt(
        "sft", f"checkpoint={tmp_path / 'runs' / 'a'}", f"data={chats_file}", f"out={tmp_path / 'runs'}", "name=b",
        "steps=2", "max_seq_len=64", "batch_rows=2", "compile=no", "--json",
    )  # fmt: skip
    assert chat.code == 0, chat.err
    assert set(chat.json) >= KEYS and (Path(chat.json["checkpoint"]) / "model.safetensors").is_file()
    assert smelt("generate", tmp_path / "runs" / "b", "--prompt", "1 and 1?", "--chat", "--max-new-tokens", 3).code == 0
    assert smelt("runs", "compare", tmp_path / "runs" / "a", tmp_path / "runs" / "b").code == 0


def test_ctrl_c_saves_says_how_to_go_on_and_that_command_does(
    smelt: Smelt, words: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from smelt.train import loop

    def step_then_ctrl_c(*rest: object) -> object:
        done = taken(*rest)  # type: ignore[arg-type]
        signal.raise_signal(signal.SIGINT)
        return done

    taken = loop.train_step
    with monkeypatch.context() as patched:
        patched.setattr(loop, "train_step", step_then_ctrl_c)
        result = smelt("pretrain", *words, "--json")
    assert result.code == 130 and result.json["steps"] == 1
    command = shlex.split(result.err.splitlines()[-1])
    assert command == ["smelt", "pretrain", f"{tmp_path / 'runs' / 'a'}/recipe.yaml", "--resume"]
    finished = smelt(*command[1:])
    assert finished.code == 0 and "resuming" in finished.err
    assert f"checkpoint  {tmp_path / 'runs' / 'a' / 'checkpoints' / 'step-0000003'}" in finished.out
    assert "3 steps" in finished.out and "next        smelt generate" in finished.out
    lines = (tmp_path / "runs" / "a" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 2, 3]
