"""The stages from files to a checkpoint: result, run directory, resume, refusals."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from smelt.core.errors import CheckpointError, ConfigError, ResourceError, UsageError
from smelt.core.storage import read_pointer, sha256_file
from smelt.models.hub import load
from smelt.train import hooks, plan
from smelt.train.checkpoint import latest_valid, saved_steps
from smelt.train.loop import StepResult
from smelt.train.run import RunDirectory
from smelt.train.stages.common import StageResult
from smelt.train.stages.pretrain import ModelRecipe, PretrainRecipe, pretrain
from smelt.train.stages.sft import SftRecipe, sft
from smelt.train.state import TrainState


def base_recipe(files: Path, out: Path, **changes: object) -> PretrainRecipe:
    values = dict(
        name="base",
        out=str(out),
        data=str(files / "text.jsonl"),
        validation_fraction=0.1,
        tokenizer=str(files / "tokenizer"),
        model=ModelRecipe(dim=16, num_layers=2, num_heads=2),
        max_seq_len=32,
        batch_rows=4,
        micro_rows=2,
        steps=6,
        save_every=2,
        validate_every=3,
        sample_every=3,
        sample_prompts=("the mill",),
        compile="no",
        dtype="float32",
    )
    return PretrainRecipe.model_validate({**values, **changes})


def weights(result: StageResult) -> str:
    return sha256_file(Path(result.checkpoint) / "model.safetensors")


@pytest.fixture(scope="module")
def base(files: Path, tmp_path_factory: pytest.TempPathFactory) -> StageResult:
    return pretrain(base_recipe(files, tmp_path_factory.mktemp("runs")))


def test_pretrain_leaves_a_run_that_others_can_read(base: StageResult) -> None:
    run = RunDirectory(Path(base.run).parent, "base")
    assert [line["step"] for line in run.read_metrics()] == [1, 2, 3, 4, 5, 6]
    kinds = [event["event"] for event in run.read_events()]
    assert kinds.count("validation") == 2 and kinds.count("sample") == 2 and kinds.count("checkpoint") == 3
    assert (run.path / "report.md").read_text().startswith("# Run base")
    assert base.validation_loss is not None and base.tokens == 6 * 4 * 32
    assert len(saved_steps(run.checkpoints)) >= 2  # the newest two; the best one may be a third
    lineage = json.loads((Path(base.checkpoint) / "smelt.json").read_text())
    assert lineage["stage"] == "pretrain" and lineage["step"] == 6 and lineage["recipe"]["steps"] == 6
    model, tokenizer = load(base.checkpoint)
    assert model.spec.vocab_size == tokenizer.vocab_size


def test_the_resolved_recipe_is_itself_a_recipe(base: StageResult, files: Path, tmp_path: Path) -> None:
    from smelt.core.config import load_recipe

    again = load_recipe(PretrainRecipe, Path(base.run) / "recipe.yaml", [f"out={tmp_path}"])
    assert weights(pretrain(again)) == weights(base)


@pytest.mark.parametrize("stop_after", [1, 2, 3, 5])
def test_resume_equals_uninterrupted(
    base: StageResult, files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop_after: int
) -> None:
    class Killed(BaseException):
        pass

    def killed(self: hooks.LogMetrics, state: TrainState, result: StepResult) -> None:
        original(self, state, result)
        if state.step == stop_after:
            raise Killed

    original = hooks.LogMetrics.__call__
    monkeypatch.setattr(hooks.LogMetrics, "__call__", killed)
    recipe = base_recipe(files, tmp_path)
    with pytest.raises(Killed):
        pretrain(recipe)
    monkeypatch.setattr(hooks.LogMetrics, "__call__", original)
    torch.rand(3)  # another process would not have this random state either
    result = pretrain(recipe, resume=True)
    assert weights(result) == weights(base)
    assert [line["step"] for line in RunDirectory(tmp_path, "base").read_metrics()] == [1, 2, 3, 4, 5, 6]


def test_damaged_checkpoint_falls_back_loudly(
    base: StageResult, files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(base.run, tmp_path / "base")
    run = RunDirectory(tmp_path, "base")
    newest = saved_steps(run.checkpoints)[0]
    data = bytearray((newest / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (newest / "model.safetensors").write_bytes(data)
    found = latest_valid(run.checkpoints)
    assert found is not None and found != newest
    assert "does not match its SHA-256" in capsys.readouterr().err
    with pytest.raises(CheckpointError, match="SHA-256"):
        load(newest)
    assert weights(pretrain(base_recipe(files, tmp_path), resume=True)) == weights(base)


def test_continued_pretraining_starts_from_the_checkpoint(base: StageResult, files: Path, tmp_path: Path) -> None:
    result = pretrain(base_recipe(files, tmp_path, tokenizer=None, checkpoint=base.checkpoint, steps=1))
    lineage = json.loads((Path(result.checkpoint) / "smelt.json").read_text())
    assert lineage["parents"][0]["weights_sha256"] == weights(base)


def test_sft_trains_the_assistant_only(
    base: StageResult, files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = SftRecipe(
        name="chat", out=str(tmp_path), checkpoint=base.run, data=str(files / "chats.jsonl"), max_seq_len=32,
        batch_rows=4, epochs=2, compile="no", validation_fraction=0.1,
    )  # fmt: skip
    result = sft(recipe)
    assert "% of the tokens carry a loss" in capsys.readouterr().err
    assert (Path(result.checkpoint) / "chat_template.jinja").exists()
    assert result.validation_loss is not None
    with pytest.raises(UsageError, match=r"run .* exists already\ntry: name=ANOTHER"):
        sft(recipe)


def test_early_stop_returns_the_best_step(files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    losses = iter([1.0, 3.0, 4.0, 5.0, 6.0])
    monkeypatch.setattr("smelt.train.stages.common.held_out_loss", lambda *arguments: next(losses))
    result = pretrain(
        base_recipe(files, tmp_path, steps=20, validate_every=2, patience=2, save_every=2, sample_every=0)
    )
    assert (result.steps, result.stopped, result.metrics["best_step"]) == (6, "early stop", 2)
    assert result.checkpoint.endswith("step-0000002")


def test_interrupt_saves_and_says_so(files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = hooks.LogMetrics.__call__

    def interrupting(self: hooks.LogMetrics, state: TrainState, result: StepResult) -> None:
        original(self, state, result)
        if state.step == 3:
            import os
            import signal

            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(hooks.LogMetrics, "__call__", interrupting)
    result = pretrain(base_recipe(files, tmp_path, save_every=0))
    assert (result.steps, result.stopped) == (3, "interrupted")
    assert result.checkpoint.endswith("step-0000003")


def test_disk_full_does_not_end_the_run(files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from smelt.train.stages import common

    original, calls = common.save_checkpoint, []

    def full_once(*arguments: object, **named: object) -> Path:
        calls.append(1)
        if len(calls) == 2:
            raise ResourceError("disk full while writing step")
        return original(*arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(common, "save_checkpoint", full_once)
    result = pretrain(base_recipe(files, tmp_path))
    assert result.steps == 6
    assert "checkpoint failed" in [event["event"] for event in RunDirectory(tmp_path, "base").read_events()]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"max_seq_len": 40_000}, "text too short: .* tokens do not fill one row of 40,000"),
        ({"tokenizer": None}, "give either a tokenizer"),
        ({"steps": 3, "epochs": 2}, "give one of steps, epochs and minutes"),
        ({"model": {"preset": "lama"}}, "no preset 'lama'"),
    ],
)
def test_bad_recipes(files: Path, tmp_path: Path, changes: dict[str, object], message: str) -> None:
    with pytest.raises(Exception, match=message):
        pretrain(base_recipe(files, tmp_path, **changes))


def test_context_longer_than_the_models(base: StageResult, files: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"max_seq_len=64 is longer than the context of .*, 32"):
        pretrain(base_recipe(files, tmp_path, tokenizer=None, checkpoint=base.checkpoint, max_seq_len=64))
    with pytest.raises(ConfigError, match="max_seq_len=64"):
        sft(
            SftRecipe(name="c", out=str(tmp_path), checkpoint=base.run, data=str(files / "chats.jsonl"), max_seq_len=64)
        )


def test_plan_refuses_with_the_smallest_change(files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan.runtime, "free_memory_bytes", lambda: int(plan.BASE_BYTES / 0.9) + 900_000)
    with pytest.raises(ResourceError, match=r"the run needs about .* free memory is .*\ntry: micro_rows=\d+"):
        pretrain(base_recipe(files, tmp_path, batch_rows=64, micro_rows=64))


def test_pointers(tmp_path: Path) -> None:
    assert read_pointer(tmp_path / "latest") is None
