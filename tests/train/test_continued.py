"""Continued pretraining on several texts: shares, counts, what is held out, what is forgotten, and going on exactly."""

import json
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from smelt.core.config import load_recipe
from smelt.core.errors import ConfigError, DataError
from smelt.core.storage import sha256_file
from smelt.data.chosen import ChosenDocuments
from smelt.data.mixing import Mixed
from smelt.data.shards import TokenShards, source_fingerprints, write_shards
from smelt.evals import bits_per_byte
from smelt.models.build import build
from smelt.models.families import Shape, spec_for
from smelt.models.hub import load, save
from smelt.tokenizers.base import END_OF_TEXT
from smelt.tokenizers.formats import load_tokenizer
from smelt.train import hooks
from smelt.train.joined import JoinedRows
from smelt.train.loop import StepResult
from smelt.train.run import RunDirectory
from smelt.train.sources import RowSource
from smelt.train.stages import common
from smelt.train.stages.common import StageResult
from smelt.train.stages.pretrain import PretrainRecipe, pretrain
from smelt.train.stages.sft import SftRecipe, sft
from smelt.train.state import TrainState


@pytest.fixture(scope="module", autouse=True)
def quick() -> Iterator[None]:
    """Skip what takes longer than the few steps here: measuring the speed, and the plots that every run has."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("smelt.train.stages.common.measure_step", lambda *arguments: 0.01)
        patched.setattr("smelt.train.report.draw", lambda *arguments: None)
        yield


@pytest.fixture(scope="module")
def home(files: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a checkpoint, source code, and the general text once as shards."""
    folder = tmp_path_factory.mktemp("home")
    tokenizer = load_tokenizer(files / "tokenizer")
    model = build(spec_for("llama", Shape(tokenizer.vocab_size, 16, 2, 2, 32, tied=True)), seed=1)
    save(model, tokenizer, folder / "model")
    (folder / "code" / "inner").mkdir(parents=True)
    (folder / "code" / "__init__.py").write_text("")
    for number in range(20):
        text = f"def f{number}(x: int) -> int:\n    return x + {number}\n" * 3
        (folder / "code" / ("inner" if number % 2 else ".") / f"m{number}.py").write_text(text)
    texts = [json.loads(line)["text"] for line in (files / "text.jsonl").read_text().splitlines()]
    sources = source_fingerprints(files / "text.jsonl")
    write_shards(folder / "shards", texts, tokenizer, end_id=tokenizer.special[END_OF_TEXT], sources=sources)
    return folder


def mixed(home: Path, files: Path, general: str = "") -> list[dict[str, object]]:
    code = {"path": f"{home}/code/**/*.py", "weight": 3, "name": "code"}
    return [code, {"path": general or str(files / "text.jsonl"), "name": "general"}]


def recipe_for(home: Path, files: Path, out: Path, **changes: object) -> PretrainRecipe:
    values = dict(
        name="run", out=str(out), checkpoint=str(home / "model"), data=mixed(home, files), validation_fraction=0.1,
        max_seq_len=32, batch_rows=4, micro_rows=2, steps=6, save_every=2, validate_every=3, compile="no",
        dtype="float32",
    )  # fmt: skip
    return PretrainRecipe.model_validate({**values, **changes})


def weights(result: StageResult) -> str:
    return sha256_file(Path(result.checkpoint) / "model.safetensors")


@pytest.fixture(scope="module")
def result(home: Path, files: Path, tmp_path_factory: pytest.TempPathFactory) -> StageResult:
    remember = [{"path": str(home / "shards"), "name": "shards"}]
    return pretrain(recipe_for(home, files, tmp_path_factory.mktemp("runs"), remember=remember))


def test_rows_and_tokens_by_source_are_those_drawn(
    home: Path, files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows: list[torch.Tensor] = []
    take = RowSource.take

    def watching(self: RowSource, num_rows: int) -> object:
        batch = take(self, num_rows)
        rows.extend(batch.ids if getattr(self, "counting", False) else [])
        return batch

    def fitting(state: TrainState, *arguments: object) -> TrainState:
        state.source.counting = True  # type: ignore[attr-defined]
        return fit(state, *arguments)  # type: ignore[arg-type]

    fit = common.fit
    monkeypatch.setattr(common, "fit", fitting)
    monkeypatch.setattr(RowSource, "take", watching)
    result = pretrain(recipe_for(home, files, tmp_path, steps=30))
    tokenizer = load_tokenizer(files / "tokenizer")
    of_code = sum(":" in tokenizer.decode(row.tolist()) for row in rows)
    counts = result.metrics["sources"]
    assert counts["code"]["rows"] == of_code and 78 <= of_code <= 102  # three in four of 120
    assert sum(found["tokens"] for found in counts.values()) == result.tokens == 120 * 32
    assert counts["code"]["passes"] > 1 > counts["general"]["passes"]
    report = (Path(result.run) / "report.md").read_text()
    assert (
        f"| drawn from code | {of_code} rows, {of_code * 32:,} tokens, {counts['code']['passes']:,} passes |" in report
    )


@pytest.mark.parametrize("stop_after", [1, 5])
def test_a_killed_run_goes_on_exactly(
    result: StageResult, home: Path, files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop_after: int
) -> None:
    class Killed(BaseException):
        pass

    def killing(self: hooks.LogMetrics, state: TrainState, step: StepResult) -> None:
        log(self, state, step)
        if state.step == stop_after:
            raise Killed

    log = hooks.LogMetrics.__call__
    recipe = recipe_for(home, files, tmp_path, remember=[{"path": str(home / "shards"), "name": "shards"}])
    with monkeypatch.context() as patched:
        patched.setattr(hooks.LogMetrics, "__call__", killing)
        with pytest.raises(Killed):
            pretrain(recipe)
    torch.rand(3)
    resumed = pretrain(recipe, resume=True)
    assert weights(resumed) == weights(result)
    assert resumed.metrics == result.metrics, "with what was measured before the first step"


def test_forgetting_is_told_for_every_text(result: StageResult, home: Path, files: Path) -> None:
    found = result.metrics["forgetting"]
    assert list(found) == ["code", "general", "shards"]
    for name, one in found.items():
        assert one["change"] == pytest.approx(one["after"] - one["before"]) and one["change"] != 0, name
    model, tokenizer = load(home / "model")
    held_out = TokenShards.open(Path(result.run) / "data" / "1-code" / "validation")
    texts = [tokenizer.decode(held_out.document(number)[:-1].tolist()) for number in range(len(held_out.ends))]
    score = bits_per_byte(model, tokenizer, texts)
    assert found["code"]["before"] == pytest.approx(score.bits_per_byte, rel=0.05)  # which scores no end of text
    losses = result.metrics["validation_loss_by_source"]
    assert result.validation_loss == pytest.approx(0.75 * losses["code"] + 0.25 * losses["general"])
    bytes_per_token = held_out.meta.num_text_bytes / held_out.meta.num_tokens
    assert found["code"]["after"] == pytest.approx(losses["code"] / math.log(2) / bytes_per_token)
    report = (Path(result.run) / "report.md").read_text()
    assert "| shards | not trained on |" in report and "![before and after](forgetting.png)" in report
    assert (Path(result.run) / "forgetting.png").stat().st_size > 1000
    events = RunDirectory(Path(result.run).parent, "run").read_events()
    assert [set(event["by_source"]) for event in events if event["event"] == "validation"] == [{"code", "general"}] * 2
    sources = json.loads((Path(result.checkpoint) / "smelt.json").read_text())["data"]["sources"]
    assert "code/inner/m1.py" in sources and "general/text.jsonl" in sources


def test_one_source_is_drawn_as_before(home: Path, files: Path, tmp_path: Path) -> None:
    alone = pretrain(recipe_for(home, files, tmp_path, data=str(files / "text.jsonl"), steps=2))
    assert "sources" not in alone.metrics and set(alone.metrics["forgetting"]) == {"text"}
    assert (Path(alone.run) / "data" / "train").is_dir()
    assert f"data: {files / 'text.jsonl'}\n" in (Path(alone.run) / "recipe.yaml").read_text()
    fresh = {
        "checkpoint": None,
        "tokenizer": str(files / "tokenizer"),
        "model": {"dim": 16, "num_layers": 1, "num_heads": 2},
    }
    new = pretrain(recipe_for(home, files, tmp_path / "new", steps=1, **fresh))
    assert "forgetting" not in new.metrics and set(new.metrics["sources"]) == {"code", "general"}


def test_shards_hold_out_the_documents_that_their_text_holds_out(
    result: StageResult, home: Path, files: Path, tmp_path: Path
) -> None:
    from_shards = pretrain(recipe_for(home, files, tmp_path, data=mixed(home, files, str(home / "shards"))))
    assert weights(from_shards) == weights(result)
    assert from_shards.validation_loss == result.validation_loss
    with pytest.raises(ConfigError, match=r"validation_split=tail, but .*shards holds token shards"):
        pretrain(recipe_for(home, files, tmp_path / "tail", data=str(home / "shards"), validation_split="tail"))


def test_chosen_documents_read_as_copies_of_them_would(home: Path) -> None:
    shards = TokenShards.open(home / "shards")
    chosen = ChosenDocuments(shards, np.array([0, 3, 4, 199]))
    whole = np.concatenate([shards.document(number) for number in (0, 3, 4, 199)])
    assert chosen.ends[-1] == len(whole) and chosen.text_bytes.sum() == shards.text_bytes[[0, 3, 4, 199]].sum()
    for start, stop in (
        (0, len(whole)),
        (5, 6),
        (int(chosen.ends[0]), int(chosen.ends[1])),
        (10, int(chosen.ends[2]) + 1),
    ):
        assert chosen.read(start, stop).tolist() == whole[start:stop].tolist()


def test_a_validation_text_of_its_own_is_the_only_one(home: Path, files: Path, tmp_path: Path) -> None:
    given = pretrain(recipe_for(home, files, tmp_path, steps=1, validation=str(files / "text.jsonl")))
    assert list(given.metrics["forgetting"]) == ["validation"]
    assert "validation_loss_by_source" not in given.metrics


def tuning(home: Path, files: Path, out: Path, **changes: object) -> SftRecipe:
    values = dict(
        name="chat", out=str(out), checkpoint=str(home / "model"), data=str(files / "chats.jsonl"), max_seq_len=32,
        batch_rows=4, steps=10, compile="no", dtype="float32", validation_fraction=0.1,
    )  # fmt: skip
    return SftRecipe.model_validate({**values, **changes})


def test_tuning_on_chats_replays_text_and_tells_what_it_forgets(home: Path, files: Path, tmp_path: Path) -> None:
    code, chats = f"{home}/code/**/*.py", str(files / "chats.jsonl")
    data = [{"path": code, "name": "code"}, {"path": chats, "weight": 3}]
    result = sft(tuning(home, files, tmp_path, data=data, remember=str(home / "shards")))
    assert set(result.metrics["forgetting"]) == {"code", "shards"}
    counts = result.metrics["sources"]
    assert sum(found["rows"] for found in counts.values()) == 40 and counts["code"]["rows"] < counts["chats"]["rows"]
    assert counts["code"]["trainable_tokens"] == 32 * counts["code"]["rows"] and counts["code"]["conversations"] == 0
    report = (Path(result.run) / "report.md").read_text()
    assert "| code | trained on its like |" in report and "| shards | not trained on |" in report
    with pytest.raises(ConfigError, match="two sources are called 'code'"):
        load_recipe(SftRecipe, None, ["name=x", "checkpoint=y", "data=code.jsonl", "remember=code/"])
    with pytest.raises(ConfigError, match="packing=false with the text 'code' among the conversations"):
        sft(tuning(home, files, tmp_path / "padded", data=data, packing=False))
    with pytest.raises(ConfigError, match="data is nothing but text"):
        sft(tuning(home, files, tmp_path / "text", data=[data[0], {"path": str(files / "text.jsonl")}]))


def test_joined_rows_are_those_of_their_sets(result: StageResult) -> None:
    from smelt.data.packing import pack_stream

    data = Path(result.run) / "data"
    sets = tuple(pack_stream(TokenShards.open(data / name / "train"), 32) for name in ("1-code", "2-general"))
    joined = JoinedRows(sets)
    first = sets[0].num_rows
    taken = joined.take([first + 1, 0, first, 2], [0, 1, 2, 3])
    for place, (number, row) in enumerate([(1, 1), (0, 0), (1, 0), (0, 2)]):
        alone = sets[number].take([row])
        for name in ("ids", "labels", "segments", "positions"):
            assert getattr(taken, name)[place].tolist() == getattr(alone, name)[0].tolist()


def test_what_an_order_took_is_what_it_draws() -> None:
    order = Mixed([7, 990, 6], [1, 5, 0.25], 5)
    for num in (0, 1, 999, 1000, 2345):
        drawn = [row for row, _ in order.draw(range(num))]
        sets = [sum(row < 7 for row in drawn), sum(7 <= row < 997 for row in drawn), sum(row >= 997 for row in drawn)]
        assert order.taken(num) == tuple(sets)


def test_an_objective_that_hides_something_is_told_in_nats(home: Path, files: Path, tmp_path: Path) -> None:
    made = pretrain(recipe_for(home, files, tmp_path, objective="prefix", steps=1))
    assert sum(found["rows"] for found in made.metrics["sources"].values()) == 4
    losses = made.metrics["validation_loss_by_source"]
    assert {name: one["after"] for name, one in made.metrics["forgetting"].items()} == losses
    assert "Held-out text in nats a token" in (Path(made.run) / "report.md").read_text()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["data=[{path: a, wieght: 2}]"], "unknown key 'data.0.wieght'. Did you mean 'weight'?"),
        (["data=[{path: a, weight: 0}]"], "data.0.weight=0: input should be greater than 0"),
        (["data=[{path: x/a.md}, {path: y/a.md}]"], "two sources are called 'a'; give each a name of its own"),
        (["data=x/a.md", "remember=y/a.md"], "two sources are called 'a'; give each a name of its own"),
        (["data=a", "validation=b", "remember=runs/x/data/validation"], "two sources are called 'validation'"),
        (["data=a", "remember=[{path: b, weight: 2}]"], "unknown key 'remember.0.weight'"),
        (["data=[]"], "there is no source of data"),
        (["data=a", "checkpoint=null", "tokenizer=bytes", "remember=b"], "a new model has nothing to remember"),
    ],
)
def test_bad_recipes(words: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_recipe(PretrainRecipe, None, ["name=x", "checkpoint=y", *words])
    assert message in str(caught.value)


def test_a_source_that_is_too_short_is_refused(home: Path, files: Path, tmp_path: Path) -> None:
    (tmp_path / "short.txt").write_text("One line.")
    remember = [{"path": str(tmp_path / "short.txt")}]
    with pytest.raises(DataError, match="text too short"):
        pretrain(recipe_for(home, files, tmp_path, remember=remember))
