"""`smelt plan`: budgets, the law of finished runs, the recipe that pretraining takes, what is refused."""

import math
from pathlib import Path

import pytest

from smelt.core.config import load_recipe
from smelt.models.build import count_parameters
from smelt.models.families import Shape, spec_for
from smelt.models.scaling_laws import LAWS, ScalingLaw
from smelt.models.sizes import forward_flops
from smelt.train.finished import read_run, read_runs
from smelt.train.measure import measured_flops_per_second
from smelt.train.stages.pretrain import PretrainRecipe

from .conftest import Smelt
from .made_runs import BATCH_ROWS, MAX_SEQ_LEN, VOCABULARY, make_run

LAW = ScalingLaw(E=1.5, A=100.0, alpha=0.3, B=400.0, beta=0.35)
STEP_TOKENS = BATCH_ROWS * MAX_SEQ_LEN


def parameters_of(dim: int) -> int:
    return count_parameters(spec_for("llama", Shape(VOCABULARY, dim, 2, 2, MAX_SEQ_LEN, tied=True)))


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Nine runs whose losses the law made."""
    folder = tmp_path / "runs"
    for dim in (32, 64, 128):
        for steps in (200, 800, 3200):
            loss = float(LAW.loss(parameters_of(dim), steps * STEP_TOKENS))
            make_run(folder / f"d{dim}-{steps}", dim=dim, steps=steps, loss=loss)
    return folder


@pytest.mark.parametrize("law", LAWS)
def test_a_budget_of_work_is_spent_on_a_model_that_exists(smelt: Smelt, law: str) -> None:
    made = smelt("plan", "--flops", "1e19", "--law", law, "--rate", "1e14", "--json").json
    assert (made["best_parameters"], made["best_tokens"]) == pytest.approx(LAWS[law].best_split(1e19))
    model = dict(made["model"])
    spec = spec_for(model.pop("family"), Shape(**model))
    assert made["parameters"] == count_parameters(spec) == pytest.approx(made["best_parameters"], rel=0.15)
    assert made["flops"] == pytest.approx(1e19, rel=1e-3)
    assert made["flops"] == 3 * forward_flops(spec, 256) * made["tokens"]
    assert made["tokens"] == made["steps"] * made["batch_tokens"] == made["steps"] * made["batch_rows"] * 256
    assert made["hours"] == pytest.approx(made["flops"] / 1e14 / 3600)
    assert made["loss"] == pytest.approx(LAWS[law].loss(made["parameters"], made["tokens"]))
    assert (made["batch_tokens"], made["learning_rate"]) == (pytest.approx(479_000, rel=0.01), 0.0013)
    assert made["loss_interval"] is None and made["law"]["name"] == law


def test_hours_and_work_at_a_rate_are_one_budget(smelt: Smelt) -> None:
    by_hours = smelt("plan", "--hours", "10", "--rate", "1e14", "--json").json
    by_work = smelt("plan", "--flops", str(10 * 3600 * 1e14), "--rate", "1e14", "--json").json
    assert by_hours == by_work and by_hours["hours"] == pytest.approx(10, rel=1e-3)


def test_a_budget_of_text_gives_the_model_that_it_is_best_for(smelt: Smelt) -> None:
    made = smelt("plan", "--tokens", "2e9", "--json").json
    assert made["tokens"] == pytest.approx(2e9, rel=1e-3) and made["hours"] is None
    work = 6 * made["best_parameters"] * 2e9
    assert LAWS["besiroglu"].best_split(work)[1] == pytest.approx(2e9)


def test_little_text_makes_the_model_larger_and_is_said(smelt: Smelt) -> None:
    plenty = smelt("plan", "--flops", "1e18", "--json").json
    little = smelt("plan", "--flops", "1e18", "--unique-tokens", "1e8", "--json").json
    assert little["best_parameters"] > 1.2 * plenty["best_parameters"]
    assert little["loss"] > plenty["loss"]
    assert any("the text is read" in note for note in little["notes"])


def test_the_table_says_what_to_doubt(smelt: Smelt) -> None:
    shown = smelt("plan", "--flops", "1e13", "--vocab-size", "512").out
    rows = {line[:15].strip(): line[15:].strip() for line in shown.splitlines()}
    assert rows["law"] == "besiroglu: 1.817 + 482 / N^0.348 + 2085 / D^0.366 nats a token"
    assert rows["model"].startswith("llama, ") and rows["model"].endswith("vocabulary 512")
    assert "note: the loss is that of the law's own text" in shown
    assert "note: the law was fitted from 7e+07 to 1.6e+10 parameters and 5e+09 to 5e+11 tokens; this is out" in shown
    assert "note: batch and learning rate follow laws measured from 1e+17 to 2e+19 FLOPs; this is outside" in shown
    assert "time" not in rows
    huge = smelt("plan", "--flops", "1e23", "--vocab-size", "512").out
    assert "note: it does not fit here" in huge and ", 1 rows at a time" in huge


def test_a_law_is_fitted_to_runs_and_predicts_the_next(smelt: Smelt, runs: Path) -> None:
    made = smelt("plan", "--flops", "3e13", "--runs", runs, "--json").json
    assert made["law"]["name"] == "runs" and made["law"]["unit"] == "nats a token"
    for letter in ("E", "alpha", "beta"):
        assert made["law"][letter] == pytest.approx(getattr(LAW, letter), rel=1e-2)
    true = float(LAW.loss(made["parameters"], made["tokens"]))
    assert made["loss"] == pytest.approx(true, rel=1e-3)
    low, high = made["loss_interval"]
    assert low <= made["loss"] <= high
    low, high = made["best_parameters_interval"]
    assert low <= made["best_parameters"] <= high
    assert made["model"]["vocab_size"] == VOCABULARY and made["model"]["max_seq_len"] == MAX_SEQ_LEN
    assert len(made["runs"]) == 9
    nearest = read_run(runs / "d128-3200")[0]
    assert made["hours"] == pytest.approx(made["flops"] / nearest.flops_per_second / 3600)
    shown = smelt("plan", "--flops", "3e13", "--runs", runs).out
    assert "in 90 %)" in shown and str(runs / "d64-800") in shown
    by_name = smelt("plan", "--flops", "3e13", "--runs", *sorted(runs.iterdir()), "--json").json
    assert by_name == made  # as the shell writes --runs runs/*


def test_a_plan_far_ahead_of_its_runs_says_so(smelt: Smelt, runs: Path) -> None:
    largest = max(read_run(path)[0].flops for path in runs.iterdir())
    notes = smelt("plan", "--flops", str(50 * largest), "--runs", runs, "--json").json["notes"]
    assert "the plan is 50 times the work of the largest run that was fitted" in notes


def test_runs_that_do_not_compare_are_named(smelt: Smelt, runs: Path) -> None:
    make_run(runs / "half", dim=32, steps=400, done=100, loss=4.0)
    make_run(runs / "other-text", dim=32, steps=400, loss=1.0, sources="b" * 64)
    make_run(runs / "other-rows", dim=32, steps=400, loss=1.0, settings=["max_seq_len=32"])
    make_run(runs / "more", dim=32, steps=400, loss=1.0, settings=["tokenizer=null", "checkpoint=runs/base"])
    make_run(runs / "blind", dim=32, steps=400, loss=1.0)
    (runs / "blind" / "events.jsonl").unlink()
    (runs / "chat").mkdir()
    (runs / "chat" / "recipe.yaml").write_text("name: chat\ncheckpoint: runs/base\ntemplate: chatml\n")
    result = smelt("plan", "--flops", "3e13", "--runs", runs, "--json")
    left_out = {Path(path).name: reason for path, reason in result.json["left_out"].items()}
    assert left_out == {
        "half": "is not finished: step 100 of 400",
        "other-text": "was validated on other text, or in rows of another length, than most",
        "other-rows": "was validated on other text, or in rows of another length, than most",
        "more": "continues runs/base, whose tokens are not counted here",
        "blind": "has no held-out loss at its last step (validate_every=0, or no held-out text)",
        "chat": "is not a pretraining run",
    }
    assert len(result.json["runs"]) == 9
    assert f"left out: {runs / 'half'} is not finished: step 100 of 400" in result.err


def test_tokenizers_that_differ_are_compared_by_the_byte(runs: Path) -> None:
    assert read_runs([runs]).unit == "nats a token"
    make_run(runs / "other", dim=32, steps=400, loss=3.0, tokenizer="u" * 64, held_out_tokens=5_000)
    group = read_runs([runs])
    assert group.unit == "bits a byte"
    found = {run.path.name: group.loss(run) for run in group.runs}
    assert found["other"] == pytest.approx(3.0 / math.log(2) * 5_000 / 30_000)
    loss = float(LAW.loss(parameters_of(32), 200 * STEP_TOKENS))
    assert found["d32-200"] == pytest.approx(loss / math.log(2) * 10_000 / 30_000)


def test_text_that_a_run_read_again_counts_for_less(tmp_path: Path) -> None:
    make_run(tmp_path / "run", dim=32, steps=2_000_000, loss=3.0)
    [point] = read_runs([tmp_path]).observations()
    assert 1.9e9 < point.tokens < 2_000_000 * STEP_TOKENS  # 2.05e9, of which 1e9 are new


def test_the_recipe_trains_the_plan(
    smelt: Smelt, text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ("--max-seq-len", "32", "--tokenizer", "bytes", "--data", text_file, "--out", "tiny.yaml")
    made = smelt("plan", "--flops", "3e9", *words, "--json").json
    assert made["recipe"] == "tiny.yaml" and made["model"]["vocab_size"] == 259
    trained = smelt("pretrain", "tiny.yaml", "compile=no", "--json").json
    assert (trained["steps"], trained["tokens"]) == (made["steps"], made["tokens"])
    assert smelt("info", "runs/tiny", "--json").json["parameters"] == made["parameters"]
    again, _ = read_run(tmp_path / "runs" / "tiny")
    assert (again.parameters, again.parameters_without_tables) == (made["parameters"], made["parameters_in_blocks"])
    assert (again.tokens, again.flops) == (made["tokens"], made["flops"])


def test_a_recipe_after_runs_is_as_theirs(smelt: Smelt, runs: Path, tmp_path: Path) -> None:
    make_run(runs / "wide", dim=256, steps=3200, loss=3.0, settings=["optimizer.name=adamw", "validation_fraction=0.1"])
    out = tmp_path / "next.yaml"
    assert smelt("plan", "--flops", "1e14", "--runs", runs, "--out", out).code == 0
    recipe = load_recipe(PretrainRecipe, out)
    assert (recipe.name, recipe.data[0].path, recipe.tokenizer) == ("next", "book.txt", "tokenizer")
    assert (recipe.optimizer.name, recipe.validation_fraction) == ("adamw", 0.1)
    assert recipe.steps is not None and (recipe.dtype, recipe.compile) == ("auto", "auto")


def test_what_is_refused(smelt: Smelt, runs: Path, tmp_path: Path) -> None:
    def refused(*words: object) -> str:
        result = smelt("plan", *words)
        assert result.code == 2, result.out
        return result.err

    one = "accepted: exactly one of --flops, --hours and --tokens"
    assert "error: no budget" in refused() and one in refused()
    both = refused("--flops", "1e17", "--tokens", "1e9")
    assert "2 budgets: --flops and --tokens" in both and one in both
    assert "--flops 0\naccepted: a number above zero" in refused("--flops", "0")
    assert "--unique-tokens -1" in refused("--flops", "1e17", "--unique-tokens", "-1")
    assert "accepted: --rate FLOP/s, --measure, or --runs" in refused("--hours", "8")
    assert "--rate and --measure" in refused("--hours", "8", "--rate", "1e12", "--measure")
    assert "--rate -5" in refused("--hours", "8", "--rate", "-5")
    assert "no law 'chincilla'. Did you mean 'chinchilla'?" in refused("--flops", "1e17", "--law", "chincilla")
    assert "one of the two" in refused("--flops", "1e17", "--tokenizer", "bytes", "--vocab-size", "300")
    assert "made of mixtures" in refused("--flops", "1e17", "--family", "mixtral")
    assert "--data TEXT --tokenizer TOKENIZER" in refused("--flops", "1e17", "--out", tmp_path / "r.yaml")
    assert "no such directory" in refused("--flops", "1e17", "--runs", tmp_path / "none")
    (tmp_path / "empty").mkdir()
    assert "0 finished runs that can be compared" in refused("--flops", "1e17", "--runs", tmp_path / "empty")
    other = refused("--flops", "1e13", "--runs", runs, "--vocab-size", "300")
    assert "vocab_size 300, but the runs have 512" in other and "--law" in other
    assert smelt("plan", "--flops", "1e17", "--runs", runs, "--law", "chinchilla", "--vocab-size", "300").code == 0
    assert "--plot p.bmp: unknown kind of picture" in refused("--flops", "1e17", "--plot", "p.bmp")


def test_the_plot(smelt: Smelt, runs: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="plots need matplotlib")
    for name, words in (("law.png", ()), ("runs.svg", ("--runs", runs))):
        out = tmp_path / name
        assert f"plot           {out}" in smelt("plan", "--flops", "3e13", *words, "--plot", out).out
        assert out.stat().st_size > 10_000
    drawn = (tmp_path / "runs.svg").read_text()
    assert drawn.count("<!-- the law, and the runs it was fitted to -->") == 1


@pytest.mark.slow
def test_the_rate_is_measured_here(smelt: Smelt) -> None:
    words = ("--vocab-size", "300", "--max-seq-len", "32", "--measure", "--json")
    made = smelt("plan", "--hours", "0.001", *words).json
    assert 1e7 < made["flops"] / made["hours"] / 3600 < 1e16
    assert made["hours"] == pytest.approx(0.001, rel=0.3)


def test_a_measurement_is_a_positive_rate() -> None:
    from smelt.optim.build import OptimizerRecipe
    from smelt.train import measure

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measure, "PROBE_SECONDS", 0.0)
        patch.setattr(measure, "PROBE_TOKENS", 64)
        spec = spec_for("llama", Shape(300, 32, 2, 2, 32, tied=True))
        import torch

        assert 1e6 < measured_flops_per_second(spec, OptimizerRecipe(), torch.float32) < 1e16
