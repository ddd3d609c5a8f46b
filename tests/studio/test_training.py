"""The Train page: forms, processes that outlive the studio, a run that is watched; and the page in a browser."""

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil
import pytest

pytest.importorskip("fastapi")

from smelt.core.config import load_recipe, to_yaml, validate
from smelt.core.errors import UsageError
from smelt.serve.errors import ApiError
from smelt.studio import recipe_forms, training
from smelt.studio.processes import LOG, NOTE, Started, ask, is_alive, read_note, state_of, tail
from smelt.studio.training import Trainer, Wanted
from smelt.studio.watching import Watcher, last_step, since
from smelt.studio.workspace import Workspace
from smelt.train.stages.pretrain import PretrainRecipe

from .conftest import Live, Watched, eventually, serious_faults

STEPS = 40
TINY = {
    "data": "text.txt",
    "tokenizer": "bytes",
    "model.dim": 16,
    "model.num_layers": 1,
    "model.num_heads": 2,
    "max_seq_len": 32,
    "batch_rows": 2,
    "dtype": "float32",
    "compile": "no",
}


@pytest.fixture
def space(tmp_path: Path) -> Workspace:
    """Return a folder with a text and nothing else."""
    (tmp_path / "text.txt").write_text("The cat sat on the mat. The dog lay on the log.\n" * 400)
    return Workspace.at(tmp_path)


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    """Return a process that does nothing, in place of a training."""
    # Where the tests run in the background, their children ignore Ctrl-C unless told otherwise; a training listens.
    child = subprocess.Popen(["env", "--default-signal=INT", "sleep", "60"])
    yield child
    child.kill()
    child.wait()


def note(folder: Path, pid: int, *, began: float | None = None, verb: str = "pretrain", id: str = "a") -> Started:
    """Write down that something was started in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    made = Started(id, (verb, "recipe.yaml"), pid, psutil.Process(pid).create_time() if began is None else began, 5.0)
    (folder / NOTE).write_text(json.dumps(asdict(made)))
    return made


def write_run(folder: Path, steps: int = STEPS) -> Path:
    """Write the files of a run that went to its end."""
    folder.mkdir(parents=True, exist_ok=True)
    recipe = validate(
        PretrainRecipe, {"name": folder.name, "data": "text.txt", "tokenizer": "bytes", "steps": steps}, source="x"
    )
    (folder / "recipe.yaml").write_text(to_yaml(recipe))
    (folder / "metrics.jsonl").write_text("".join(metrics_line(step) for step in range(1, steps + 1)))
    events = [{"event": "validation", "step": step, "loss": 3 - step / 100} for step in (20, 40)]
    events.append({"event": "sample", "step": 40, "prompt": "The", "text": "<b>cat</b>"})
    (folder / "events.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    return folder


def metrics_line(step: int) -> str:
    values = {"step": step, "tokens": 64 * step, "loss": 4 - step / 50, "gradient_norm": 1.0, "learning_rate": 1e-3}
    return json.dumps({**values, "seconds": 0.1 * step, "tokens_per_second": 640.0, "memory_bytes": 10**8}) + "\n"


# Forms


@pytest.mark.parametrize("verb", recipe_forms.STAGES)
def test_every_field_of_a_stage_is_in_its_form_with_range_and_help(verb: str) -> None:
    form = recipe_forms.form(verb)
    fields = {field["key"]: field for field in form["fields"]}
    assert {"name", "data", "steps", "optimizer.learning_rate", "tune.lora.rank"} <= set(fields) and "out" not in fields
    assert fields["steps"] == {
        "key": "steps",
        "group": "",
        "basic": True,
        "help": "Number of optimizer steps. Give one of steps, epochs and minutes.",
        "required": False,
        "default": None,
        "type": "integer",
        "gt": 0,
    }
    assert fields["optimizer.schedule"]["choices"] == ["cosine", "wsd", "constant"]
    assert fields["tune.base_bits"] | {"help": ""} == fields["tune.base_bits"] | {
        "type": "choice",
        "choices": [4],
        "help": "",
    }
    assert fields["name"]["required"] and fields["data"]["type"] in ("sources", "data")
    assert form["fields"][0]["key"] == "name" and form["groups"]["optimizer"].startswith("How the weights move")
    assert all(field["help"] or field["key"] == "tune.p_tuning" for field in form["fields"])


def test_all_that_is_wrong_with_a_form_is_told_by_its_field(space: Workspace) -> None:
    given = {**TINY, "name": "../x", "data": "../other.txt", "steps": "many", "optimizer.learning_rate": -1, "color": 1}
    told = recipe_forms.check(space, "pretrain", given).problems
    assert set(told) == {"name", "data", "steps", "optimizer.learning_rate", "color"}
    assert told["steps"].startswith("steps='many': input should be a valid integer")
    assert "outside of the studio's folders" in told["data"] and "letters, digits" in told["name"]
    several = recipe_forms.check(space, "pretrain", {**TINY, "name": "x", "steps": 1, "epochs": 1}).problems
    assert "give one of steps, epochs and minutes" in several[""]
    assert recipe_forms.check(space, "pretrain", {**TINY, "name": "x", "out": "/tmp"}).problems.keys() == {"out"}
    yaml = recipe_forms.check(space, "pretrain", {**TINY, "name": "x", "tune.rates": "{a: [}"}).problems
    assert "not readable as YAML" in yaml["tune.rates"]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("data", "/etc/passwd"),
        ("data", "../*.txt"),
        ("data", [{"path": "/etc/passwd", "weight": 1}]),
        ("validation", "/etc/passwd"),
        ("remember", "/etc/passwd"),
        ("tokenizer", "/etc"),
        ("checkpoint", "/etc"),
        ("objective.teacher", "/etc"),
    ],
)
def test_no_path_of_a_recipe_leads_out_of_the_workspace(space: Workspace, key: str, value: Any) -> None:
    (space.root.parent / "outside.txt").write_text("x")
    found = recipe_forms.check(space, "pretrain", {**TINY, "name": "x", key: value})
    assert "outside of the studio's folders" in found.problems[key], found.problems
    (space.root.parent / "outside.txt").unlink()


def test_the_command_says_the_same_as_the_recipe(space: Workspace) -> None:
    given = {**TINY, "name": "no", "sample_prompts": ["Once: a", "it's"], "tune.rates": "{a*: 0.5}", "data": "text.txt"}
    values = recipe_forms.check(space, "pretrain", given).values
    path = space.root / "recipe.yaml"
    path.write_text(recipe_forms.to_recipe(values))
    command = subprocess.run(
        ["sh", "-c", recipe_forms.to_command("pretrain", values).replace("smelt pretrain", "printf '%s\\n'", 1)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert load_recipe(PretrainRecipe, None, command.stdout.splitlines()) == load_recipe(PretrainRecipe, path)


def test_a_form_begins_with_a_recipe_or_with_what_a_run_was(space: Workspace) -> None:
    folder = space.root / "recipes"
    folder.mkdir()
    (folder / "masked.yaml").write_text(
        "name: m\ndata: text.txt\ntokenizer: bytes\nobjective: masked\nmodel: {dim: 32}\n"
    )
    (folder / "other.yaml").write_text("colour: red\n")
    run = write_run(space.runs / "old")
    assert [one["name"] for one in recipe_forms.starting_points(space)] == [
        "recipes/masked.yaml",
        "recipes/other.yaml",
        "runs/old/recipe.yaml",
    ]
    found = recipe_forms.begin_with(space, "recipes/masked.yaml")
    assert found == {
        "verb": "pretrain",
        "values": {"name": "m", "data": "text.txt", "tokenizer": "bytes", "objective.name": "masked", "model.dim": 32},
    }
    old = recipe_forms.begin_with(space, space.name(run / "recipe.yaml"))["values"]
    assert old == {"name": "old", "data": "text.txt", "tokenizer": "bytes", "steps": STEPS}
    with pytest.raises(UsageError, match="recipe of no training"):
        recipe_forms.begin_with(space, "recipes/other.yaml")


# Processes


def test_a_process_is_known_by_its_number_and_its_beginning(tmp_path: Path, sleeper: subprocess.Popen[bytes]) -> None:
    assert is_alive(note(tmp_path, sleeper.pid))
    assert not is_alive(note(tmp_path, sleeper.pid, began=1000.0)), "another process with the number of an old one"
    assert read_note(tmp_path / "none") is None
    sleeper.kill()
    assert eventually(lambda: not is_alive(note(tmp_path, sleeper.pid))), (
        "a process that nobody waited for has ended too"
    )


@pytest.mark.parametrize(
    ("log", "asked", "state"),
    [
        ('{"steps": 9, "stopped": ""}', "", "finished"),
        ('{"steps": 9, "stopped": "early stop"}', "pause", "finished"),
        ('{"steps": 3, "stopped": "interrupted"}\ninterrupted after step 3', "", "paused"),
        ('{"steps": 3, "stopped": "interrupted"}', "pause", "paused"),
        ('{"steps": 3, "stopped": "interrupted"}', "stop", "stopped"),
        ('{"steps": 3, "stopped": "interrupted"}', "", "paused"),
        ("interrupted", "pause", "paused"),
        ("error: no memory", "", "died"),
        ('{"steps": 9, "stopped": ""}\n$ smelt pretrain x --resume', "", "died"),
        ("{half", "", "died"),
    ],
)
def test_how_a_process_ended_is_read_off_its_log(tmp_path: Path, log: str, asked: Any, state: str) -> None:
    (tmp_path / LOG).write_text(log + "\n")
    assert state_of(tmp_path, Started("a", ("sft",), 2**22, 1.0, 1.0, asked)) == state


def test_only_one_interrupt_is_sent_and_only_to_what_runs(tmp_path: Path, sleeper: subprocess.Popen[bytes]) -> None:
    started = note(tmp_path, sleeper.pid)
    assert state_of(tmp_path, started) == "running"
    assert ask(tmp_path, "pause").asked == "pause"
    assert sleeper.wait(10) == -2
    assert state_of(tmp_path, ask_again(tmp_path)) == "paused"
    with pytest.raises(UsageError, match="is not running"):
        ask(tmp_path, "pause")


def ask_again(folder: Path) -> Started:
    found = read_note(folder)
    assert found is not None
    return found


def test_a_note_outside_of_the_runs_interrupts_nobody(space: Workspace, sleeper: subprocess.Popen[bytes]) -> None:
    note(space.root / "data", sleeper.pid)
    trainer = Trainer(space)
    with pytest.raises(UsageError, match="is no run"):
        ask(trainer.folder("data"), "pause")
    assert sleeper.poll() is None


def test_a_second_training_asks_first(space: Workspace, sleeper: subprocess.Popen[bytes], monkeypatch: Any) -> None:
    began: list[Path] = []
    monkeypatch.setattr(
        training, "start", lambda folder, words, **more: began.append(note(folder, os.getpid(), began=1.0))
    )
    note(space.runs / "one", sleeper.pid)
    trainer, values = Trainer(space), {**TINY, "name": "two", "steps": 3}
    with pytest.raises(ApiError, match="runs/one is being trained") as refused:
        trainer.start(Wanted(verb="pretrain", values=values, id="b"))
    assert refused.value.status == 409 and refused.value.code == "training_runs" and not (space.runs / "two").exists()
    assert trainer.start(Wanted(verb="pretrain", values=values, id="a", alongside=True)) == "runs/two"
    assert trainer.start(Wanted(verb="pretrain", values=values, id="a")) == "runs/two", "told twice, started once"
    assert len(began) == 1
    with pytest.raises(ApiError, match="there is a run two already"):
        trainer.start(Wanted(verb="pretrain", values=values, id="c", alongside=True))
    assert [(row["run"], row["state"]) for row in trainer.listed()] == [("runs/one", "running"), ("runs/two", "died")]


# Watching


def test_a_run_is_read_on_where_it_grew_and_anew_where_it_was_cut(tmp_path: Path) -> None:
    run, watcher = write_run(tmp_path / "run"), Watcher()
    first = watcher.watch(run)
    assert first["whole"] and first["metrics"]["step"] == list(range(1, STEPS + 1))
    assert first["metrics"]["loss"][-1] == 4 - STEPS / 50 and first["steps"] == STEPS and first["state"] == "elsewhere"
    assert first["validation"] == {"step": [20, 40], "loss": [2.8, 2.6]} and first["samples"][0]["text"] == "<b>cat</b>"
    with open(run / "metrics.jsonl", "a") as handle:
        handle.write(metrics_line(41) + metrics_line(42)[:20])
    later = watcher.watch(run, after=STEPS, file=first["file"])
    assert not later["whole"] and later["metrics"]["step"] == [41], "half a line is no step yet"
    other = run / "cut"
    other.write_text("".join(metrics_line(step) for step in range(1, 11)))
    other.replace(run / "metrics.jsonl")
    cut = watcher.watch(run, after=41, file=first["file"])
    assert cut["whole"] and cut["metrics"]["step"] == list(range(1, 11))


def test_of_very_many_steps_evenly_spread_ones_are_sent_with_the_last(monkeypatch: Any) -> None:
    monkeypatch.setattr("smelt.studio.watching.MOST_POINTS", 10)
    found = since({"step": [float(step) for step in range(1, 96)]}, 0)["step"]
    assert len(found) == 10 and found[-1] == 95 and {b - a for a, b in pairwise(found)} == {10}


def test_what_is_no_number_is_null_and_the_end_of_a_log_is_whole_lines(tmp_path: Path) -> None:
    assert since({"step": [1.0], "loss": [float("nan")]}, 0) == {"step": [1.0], "loss": [None]}
    (tmp_path / LOG).write_text("".join(f"line {number}\n" for number in range(5000)))
    assert tail(tmp_path, 35) == "line 4997\nline 4998\nline 4999\n"
    assert last_step(tmp_path / "none") == {}


# Routes


@pytest.fixture(scope="module")
def open_space(start: Callable[..., Live], tmp_path_factory: pytest.TempPathFactory) -> Live:
    """A studio over a folder with a text, a recipe and three trainings."""
    root = tmp_path_factory.mktemp("train")
    (root / "text.txt").write_text("The cat sat on the mat.\n" * 400)
    (root / "recipes").mkdir()
    (root / "recipes" / "cats.yaml").write_text("name: cats\ndata: text.txt\ntokenizer: bytes\nsteps: 5\n")
    for name, log in (
        ("done", '{"stopped": ""}'),
        ("fell", "error: step 41: loss nan, gradient norm nan; the weights were not changed"),
    ):
        note(write_run(root / "runs" / name), os.getpid(), began=1.0)
        (root / "runs" / name / LOG).write_text(f"$ smelt pretrain x\n{log}\n")
    return start(root)


def test_the_page_is_told_what_there_is(open_space: Live) -> None:
    listed = open_space.get("/studio/train").json["trainings"]
    assert {row["run"]: row["state"] for row in listed} == {"runs/done": "finished", "runs/fell": "died"}
    assert listed[0]["step"] == listed[0]["steps"] == STEPS
    form = open_space.get("/studio/train/form?verb=pretrain").json
    assert form["choices"] == {"checkpoint": [], "data": ["text.txt"], "tokenizer": ["bytes"]}
    assert (
        open_space.get("/studio/train/form?verb=pretrian")
        .json["error"]["message"]
        .startswith("no training 'pretrian'. Did")
    )
    assert open_space.get("/studio/train/begin?from=recipes/cats.yaml").json["values"]["steps"] == 5
    fell = open_space.get("/studio/train/watch?run=runs/fell").json
    assert fell["state"] == "died" and fell["alerts"] == [
        {"kind": "not finite", "step": 41, "value": None, "limit": None}
    ]
    assert open_space.get("/studio/train/watch?run=../..").status == 400


def test_a_form_is_checked_and_what_is_wrong_is_not_started(open_space: Live) -> None:
    good = open_space.post("/studio/train/check", verb="pretrain", values={**TINY, "name": "x", "steps": 3}).json
    assert good["problems"] == {} and "model:\n  dim: 16" in good["recipe"]
    assert good["command"].startswith("smelt pretrain data=text.txt tokenizer=bytes model.dim=16")
    bad = open_space.post("/studio/train/start", verb="pretrain", values={**TINY, "name": "done"}, id="x")
    assert bad.status == 400 and bad.json["error"]["param"] == "name"
    assert open_space.post("/studio/train/pause", run="runs/done").status == 400
    assert open_space.post("/studio/train/start", verb="pretrain", values={}).json["error"]["param"] == "id"


@pytest.mark.browser
@pytest.mark.parametrize("width", [375, 1440])
def test_the_form_and_the_list_fit_and_are_accessible(
    open_space: Live, open_page: Callable[..., Watched], axe: str, width: int
) -> None:
    theme = "dark" if width == 375 else "light"
    for path, shown in (("/train", "[data-testid=trainings]"), ("/train/new", "[data-testid=start]")):
        page: Any = open_page(open_space, path, width=width, theme=theme).page
        page.wait_for_selector(shown)
        page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert serious_faults(page, axe) == []


@pytest.mark.browser
def test_a_form_says_what_is_wrong_beside_its_field_and_survives_a_reload(
    open_space: Live, open_page: Callable[..., Watched]
) -> None:
    page: Any = open_page(open_space, "/train/new?from=recipes%2Fcats.yaml").page
    page.wait_for_selector("[data-testid=preview]:has-text('steps: 5')")
    name = page.locator("[data-testid='field-name'] input")
    name.fill("done")
    page.wait_for_selector("[data-testid='field-name'] [role=alert]:has-text('there is a run done already')")
    page.locator("[data-testid='field-steps'] input").fill("-3")
    page.wait_for_selector("[data-testid='field-steps'] [role=alert]:has-text('greater than 0')")
    page.reload()
    page.wait_for_selector("[data-testid=preview]:has-text('steps: -3')")
    assert page.locator("[data-testid='field-name'] input").input_value() == "done"
    page.click("role=tab[name=Command]")
    page.wait_for_selector("[data-testid=preview]:has-text('smelt pretrain name=done')")
    page.click("[data-testid=start]")
    page.wait_for_selector("text=Something in the form is not right")


@pytest.mark.browser
@pytest.mark.parametrize("width", [375, 1440])
def test_a_run_that_fell_shows_its_curves_its_alert_and_the_end_of_its_log(
    open_space: Live, open_page: Callable[..., Watched], axe: str, width: int
) -> None:
    page: Any = open_page(open_space, "/train/runs%2Ffell", width=width, theme="dark").page
    page.wait_for_selector("[data-testid=state][data-state=died]")
    page.wait_for_selector(".small-charts .uplot >> nth=3")
    page.wait_for_selector("text=Step 41: the loss is no number.")
    assert page.locator(".samples").inner_text().endswith("The<b>cat</b>")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert serious_faults(page, axe) == []


def pretrain(space: Workspace, name: str, steps: int) -> str:
    """Start a tiny training, as the page does."""
    values = {**TINY, "name": name, "steps": steps, "validation_split": "tail", "validate_every": 0, "save_every": 0}
    return Trainer(space).start(Wanted(verb="pretrain", values=values, id=name))


def state(space: Workspace, run: str) -> str:
    """Return how a training is doing, to a studio that has just been started."""
    folder = Trainer(Workspace.at(space.root)).folder(run)
    found = read_note(folder)
    assert found is not None
    return state_of(folder, found)


def has_ended(space: Workspace, run: str) -> bool:
    """Tell whether a training does nothing any more."""
    return state(space, run) not in ("running", "pausing", "stopping")


def wait_for(condition: Callable[[], bool]) -> bool:
    """Wait without taking a core from what is waited for."""
    until = time.monotonic() + 300
    while not condition() and time.monotonic() < until:
        time.sleep(0.1)
    return condition()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_pause_and_resume_give_the_very_weights_of_no_pause(space: Workspace) -> None:
    steps = 400
    run = pretrain(space, "paused", steps)
    folder = space.find(run)
    assert wait_for(lambda: last_step(folder / "metrics.jsonl").get("step", 0) > 5 or has_ended(space, run))
    assert state(space, run) == "running", tail(folder)
    ask(folder, "pause")
    assert wait_for(lambda: has_ended(space, run)) and state(space, run) == "paused", tail(folder)
    at = last_step(folder / "metrics.jsonl")["step"]
    assert 5 < at < steps
    Trainer(Workspace.at(space.root)).resume(run, alongside=False)
    assert wait_for(lambda: has_ended(space, run)) and state(space, run) == "finished", tail(folder)
    other = space.find(pretrain(space, "whole", steps))
    assert wait_for(lambda: has_ended(space, "runs/whole")), tail(other)
    final = f"checkpoints/step-{steps:07}/model.safetensors"
    assert (folder / final).read_bytes() == (other / final).read_bytes()
    watched = Watcher().watch(folder)
    assert watched["metrics"]["step"] == list(range(1, steps + 1))
    assert "--resume" in watched["command"]
