"""Pairs from file to checkpoint: the loss by hand, exact resume, what is refused, and both ends of a checkpoint."""

import json
from pathlib import Path

import pytest
import torch

from smelt.core.errors import ConfigError, DataError
from smelt.core.storage import sha256_file
from smelt.data.packing import IGNORED
from smelt.data.pairs import pack_pairs
from smelt.infer import Sampling, generate
from smelt.models.build import build
from smelt.models.families import Shape, spec_for
from smelt.models.hub import load
from smelt.peft.load import load as load_adapted
from smelt.peft.load import load_unmerged
from smelt.peft.merged import merge_adapter
from smelt.train import hooks
from smelt.train.loop import StepResult
from smelt.train.objectives.cross_entropy import TokenCrossEntropy, reference
from smelt.train.run import RunDirectory
from smelt.train.sources import ArrayRows, to_batch
from smelt.train.stages import common
from smelt.train.stages.common import StageResult
from smelt.train.stages.pretrain import PretrainRecipe, pretrain
from smelt.train.stages.seq2seq import Seq2SeqRecipe, seq2seq, source_ids
from smelt.train.stages.sft import SftRecipe, sft
from smelt.train.state import TrainState

SIZES = {"dim": 16, "num_layers": 2, "num_heads": 2}


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pairs") / "pairs.jsonl"
    rows = [{"source": f"{number} and 1", "target": f"{number + 1}"} for number in range(60)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def recipe_for(pairs: Path, files: Path, out: Path, **changes: object) -> Seq2SeqRecipe:
    values = dict(
        name="base",
        out=str(out),
        data=str(pairs),
        validation_fraction=0.1,
        tokenizer=str(files / "tokenizer"),
        model=SIZES,
        max_seq_len=24,
        batch_rows=4,
        micro_rows=2,
        steps=6,
        save_every=2,
        validate_every=3,
        sample_every=3,
        sample_prompts=("3 and 1",),
        compile="no",
        dtype="float32",
    )
    return Seq2SeqRecipe.model_validate({**values, **changes})


def weights(result: StageResult) -> str:
    return sha256_file(Path(result.checkpoint) / "model.safetensors")


@pytest.fixture(scope="module", params=["t5", "transformer2017"])
def base(
    request: pytest.FixtureRequest, pairs: Path, files: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, StageResult]:
    out, model = tmp_path_factory.mktemp("runs"), {"family": request.param, **SIZES}
    return request.param, seq2seq(recipe_for(pairs, files, out, model=model))


def test_a_packed_batch_has_the_loss_of_its_pairs_one_by_one() -> None:
    generator = torch.Generator().manual_seed(1)
    model = build(spec_for("t5", Shape(40, 16, 2, 2, 24)), seed=1)

    def draw(size: int) -> list[int]:
        return torch.randint(3, 40, (size,), generator=generator).tolist()

    found = [(draw(size), draw(9 - size)) for size in range(1, 9)]
    rows = ArrayRows(pack_pairs(found, 24, start_id=2)[0])
    batch = to_batch(rows.take(range(rows.num_rows)))
    expected = 0.0
    for source, target in found:
        logits = model(torch.tensor([[2, *target[:-1]]]), source=torch.tensor([source])).logits[0]
        expected += torch.nn.functional.cross_entropy(logits, torch.tensor(target), reduction="sum").item()
    objective = TokenCrossEntropy()
    assert objective(model, batch)[0].item() == pytest.approx(expected, rel=1e-5)
    assert reference(model, batch).item() == pytest.approx(expected, rel=1e-5)
    assert objective.weight(batch) == sum(len(target) for _, target in found) == int((batch.labels != IGNORED).sum())


def test_a_run_leaves_a_checkpoint_that_answers(base: tuple[str, StageResult]) -> None:
    family, result = base
    model, tokenizer = load(result.checkpoint)
    end = tokenizer.special["<|endoftext|>"]
    assert model.spec.family == family
    assert (model.spec.token_ids.decoder_start, model.spec.token_ids.end) == (end, (end,))
    source = source_ids(tokenizer, "3 and 1", model.spec)
    assert source[-1] == end
    answers = generate(model, tokenizer, [source], Sampling(max_new_tokens=4, temperature=0), stop_ids=(end,))
    assert 1 <= len(answers[0].ids) <= 4
    events = [event["event"] for event in RunDirectory(Path(result.run).parent, "base").read_events()]
    assert events.count("sample") == 2 and events.count("validation") == 2
    assert result.validation_loss is not None and result.tokens == 6 * 4 * 24
    lineage = json.loads((Path(result.checkpoint) / "smelt.json").read_text())
    assert lineage["stage"] == "seq2seq" and 40 < lineage["data"]["pairs"] < 60


@pytest.mark.parametrize("stop_after", [1, 5])
def test_resume_equals_uninterrupted(
    base: tuple[str, StageResult],
    pairs: Path,
    files: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    stop_after: int,
) -> None:
    class Killed(BaseException):
        pass

    def killed(self: hooks.LogMetrics, state: TrainState, result: StepResult) -> None:
        original(self, state, result)
        if state.step == stop_after:
            raise Killed

    original = hooks.LogMetrics.__call__
    monkeypatch.setattr(hooks.LogMetrics, "__call__", killed)
    recipe = recipe_for(pairs, files, tmp_path, model={"family": base[0], **SIZES})
    with pytest.raises(Killed):
        seq2seq(recipe)
    monkeypatch.setattr(hooks.LogMetrics, "__call__", original)
    assert weights(seq2seq(recipe, resume=True)) == weights(base[1])


def test_micro_batches_give_the_same_step() -> None:
    model = build(spec_for("t5", Shape(40, 16, 2, 2, 24)), seed=1)
    found = [([5, 6, 7], [8] * size) for size in (1, 20, 9, 24)]
    rows, objective = ArrayRows(pack_pairs(found, 24, start_id=2)[0]), TokenCrossEntropy()
    gradients = []
    for cuts in ([range(rows.num_rows)], [[number] for number in range(rows.num_rows)]):
        model.zero_grad()
        for cut in cuts:
            objective(model, to_batch(rows.take(cut)))[0].backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


def test_training_goes_on_from_a_checkpoint(
    base: tuple[str, StageResult], pairs: Path, files: Path, tmp_path: Path
) -> None:
    result = seq2seq(recipe_for(pairs, files, tmp_path, tokenizer=None, checkpoint=base[1].checkpoint, steps=1))
    lineage = json.loads((Path(result.checkpoint) / "smelt.json").read_text())
    assert lineage["parents"][0]["weights_sha256"] == weights(base[1])
    assert load(result.checkpoint)[0].spec.token_ids == load(base[1].checkpoint)[0].spec.token_ids


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tokenizer": None}, "give either a tokenizer"),
        (
            {"model": {"family": "llama"}},
            r"model\.family=llama sees only earlier tokens\naccepted: an encoder-decoder \(t5, ",
        ),
        ({"max_seq_len": 2}, "no pair left of .* dropped as too long"),
        ({"on_long": "error", "max_seq_len": 8}, r"pairs\.jsonl:\d+: \d+ tokens on one side, more than max_seq_len=8"),
    ],
)
def test_bad_recipes(pairs: Path, files: Path, tmp_path: Path, changes: dict[str, object], message: str) -> None:
    with pytest.raises(Exception, match=message):
        seq2seq(recipe_for(pairs, files, tmp_path, **changes))


def test_each_stage_names_the_one_that_a_checkpoint_or_a_file_is_for(
    base: tuple[str, StageResult], pairs: Path, files: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=r"is an encoder-decoder, .*\naccepted: a decoder\ntry: use it for seq2seq"):
        sft(SftRecipe(name="s", out=str(tmp_path), checkpoint=base[1].run, data=str(pairs), max_seq_len=24))
    with pytest.raises(DataError, match=r"text\.jsonl:1: plain text, not a pair\naccepted: pairs {source, target}"):
        seq2seq(recipe_for(files / "text.jsonl", files, tmp_path, name="t"))
    shared = {"out": str(tmp_path), "data": str(files / "text.jsonl"), "max_seq_len": 24, "steps": 1, "compile": "no"}
    model = {"family": "llama", **SIZES}
    recipe = PretrainRecipe.model_validate(
        {"name": "d", "tokenizer": str(files / "tokenizer"), "model": model, **shared}
    )
    decoder = pretrain(recipe).checkpoint
    with pytest.raises(
        ConfigError, match=r"sees only earlier tokens\naccepted: an encoder-decoder \(t5, .*\ntry: use it for sft"
    ):
        seq2seq(recipe_for(pairs, files, tmp_path, name="u", tokenizer=None, checkpoint=decoder))


@pytest.mark.parametrize("base", ["t5"], indirect=True)
@pytest.mark.parametrize(
    "tune",
    [
        {"method": "lora", "lora": {"rank": 2}, "base_bits": 4, "train": ["*norm"]},
        {"method": "adalora", "adalora": {"initial_rank": 3, "target_rank": 2}},
        {"method": "ia3"},
        {"method": "bottleneck", "bottleneck": {"size": 3}},
    ],
    ids=["qlora", "adalora", "ia3", "bottleneck"],
)
def test_what_is_added_to_both_networks_is_an_adapter(
    base: tuple[str, StageResult],
    pairs: Path,
    files: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    tune: dict[str, object],
) -> None:
    monkeypatch.setattr(common, "measure_step", lambda *arguments: 1.0)
    _, result = base
    changes = dict(checkpoint=result.checkpoint, tokenizer=None, model={}, steps=2, sample_every=0, validate_every=0)
    tuned = seq2seq(recipe_for(pairs, files, tmp_path, name="tuned", tune=tune, **changes))
    assert (Path(tuned.checkpoint) / "adapter_config.json").is_file()
    unmerged, _, method, _ = load_unmerged(tuned.checkpoint)
    (plain, tokenizer), (before, _) = load_adapted(tuned.checkpoint), load_adapted(result.checkpoint)
    ids = torch.arange(20).view(2, 10)
    with torch.inference_mode():
        one, other, first = (model.eval()(ids, source=ids).logits for model in (unmerged, plain, before))
    torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)
    assert (one - first).abs().max() > 1e-5
    added = [name for name, parameter in unmerged.named_parameters() if name.endswith(("up", "factors", "values"))]
    assert {name.split(".")[0] for name in added} == {"encoder", "decoder"}
    generate(plain, tokenizer, [[5, 6]], Sampling(max_new_tokens=2))
    if method.merge is not None:
        assert merge_adapter(tuned.checkpoint, tmp_path / "whole").largest_difference < 1e-5


@pytest.mark.parametrize("base", ["t5"], indirect=True)
@pytest.mark.parametrize("method", ["prompt", "p-tuning", "prefix", "llama-adapter"])
def test_methods_that_stand_before_one_network_are_refused(
    base: tuple[str, StageResult], pairs: Path, files: Path, tmp_path: Path, method: str
) -> None:
    family, result = base
    changes = dict(checkpoint=result.checkpoint, tokenizer=None, model={}, tune={"method": method}, max_seq_len=8)
    with pytest.raises(ConfigError, match=rf"tune\.method={method}: this {family} model has an encoder\n"):
        seq2seq(recipe_for(pairs, files, tmp_path, **changes))
