"""Models: what is known of them, where they come from, and what may be done with them and by whom."""

import io
import json
import os
import shutil
import tarfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

import smelt
from smelt.core.errors import UsageError
from smelt.core.storage import atomic_directory, seal, sha256_file, verify_directory, write_pointer
from smelt.peft.load import Base, publish_adapter, weights_hashes
from smelt.peft.methods import METHODS
from smelt.serve.keys import Keys, hash_of
from smelt.serve.store.keys import create_key, valid_keys
from smelt.studio.checkpoints import card_of
from smelt.studio.deleting import check_deletable
from smelt.studio.lineage import Lineage
from smelt.studio.workspace import Workspace
from smelt.tokenizers.bpe_train import train_bpe

from .conftest import COMPILING_SECONDS, Live, Watched, eventually, serious_faults, tiny_model

STEP = "checkpoints/step-0000002"
PARAMETERS = sum(parameter.numel() for parameter in tiny_model(1).parameters())


def write_run(root: Path, name: str, seed: int, parent: str | None, data: str) -> Path:
    """Write a finished run as training leaves it, made of the newest checkpoint of another one."""
    run = root / "runs" / name
    (run / "checkpoints").mkdir(parents=True)
    parents = []
    if parent is not None:
        directory = root / "runs" / parent / STEP
        parents = [{"path": f"runs/{parent}/{STEP}", "weights_sha256": weights_hashes(directory)[0]}]
    lineage: dict[str, Any] = {
        "stage": "sft" if parent else "pretrain",
        "step": 2,
        "tokens": 64,
        "parents": parents,
        "data": {"sources": {Path(data).name: sha256_file(root / data)}},
        "metrics": {"validation_loss": 1.5},
        "recipe": {"data": data, "checkpoint": parents[0]["path"] if parents else None, "tokenizer": "my/words"},
    }
    smelt.save(tiny_model(seed), train_bpe(["a"], vocab_size=259), run / STEP, lineage=lineage)
    write_pointer(run / "checkpoints" / "latest", Path(STEP).name)
    (run / "recipe.yaml").write_text(f"data: {data}\ncheckpoint: {lineage['recipe']['checkpoint'] or ''}\n")
    (run / "metrics.jsonl").write_text('{"step": 2, "loss": 1.5}\n')
    (run / "report.md").write_text("# done\n")
    return run


def write_adapter(base: Path, out: Path) -> None:
    """Write a LoRA adapter with random numbers."""
    method = METHODS["lora"]
    model, tokenizer = smelt.load(base)
    settings = method.settings()
    method.attach(model, settings, 0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter += 0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(4))
    hashes = tuple(weights_hashes(base))
    with atomic_directory(out) as folder:
        publish_adapter(method, settings, model, tokenizer, folder, Base(str(base), hashes), None, {"stage": "sft"})


@pytest.fixture(scope="session")
def grown(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data -> base -> tuned -> an adapter on it, and a model that nobody knows anything of."""
    root = tmp_path_factory.mktemp("grown")
    (root / "data").mkdir()
    (root / "data" / "words.txt").write_text("a few words\n")
    (root / "data" / "talk.jsonl").write_text('{"messages": []}\n')
    write_run(root, "base", 1, None, "data/words.txt")
    tuned = write_run(root, "tuned", 2, "base", "data/talk.jsonl")
    write_adapter(tuned / STEP, root / "runs" / "polite")
    smelt.save(tiny_model(3), train_bpe(["a"], vocab_size=259), root / "runs" / "alone")
    return root


@pytest.fixture
def copied(grown: Path, tmp_path: Path) -> Path:
    """The same folder, for a test that changes it; an adapter names its base by a path, so that is written anew."""
    root = tmp_path / "studio"
    shutil.copytree(grown, root)
    config = root / "runs" / "polite" / "adapter_config.json"
    config.write_text(config.read_text().replace(str(grown), str(root)))
    seal(config.parent)
    for run in ("base", "tuned"):
        os.utime(root / "runs" / run / "report.md")
    return root


@pytest.fixture(scope="session")
def garden(start: Callable[..., Live], grown: Path) -> Live:
    """A studio over it that tests share which change nothing."""
    return start(grown)


def edges_of(root: Path, served: tuple[str, ...] = ()) -> set[tuple[str, str, bool]]:
    """Return the edges of a folder's graph by labels."""
    graph = Lineage.of(Workspace.at(root)).graph(served)
    labels = {node["id"]: f"{node['kind']} {node['label']}" for node in graph["nodes"]}
    return {(labels[edge["from"]], labels[edge["to"]], edge["exact"]) for edge in graph["edges"]}


def needs(live: Live, name: str) -> list[tuple[str, str]]:
    """Return what keeps a model from being deleted."""
    return [(one["kind"], one["name"]) for one in live.get(f"/studio/models/one?name={name}").json["needed_by"]]


def test_the_graph_goes_from_data_and_tokenizer_over_the_base_to_what_was_made_of_it(grown: Path) -> None:
    assert edges_of(grown, ("runs/tuned@int8",)) == {
        ("data words.txt", "model base", True),
        ("tokenizer words", "model base", True),
        ("model base", "model tuned", True),
        ("data talk.jsonl", "model tuned", True),
        ("model tuned", "model polite", True),
        ("tokenizer words", "model alone", True),
        ("model tuned", "served tuned@int8", True),
    }


def test_a_parent_is_found_by_its_weights_where_it_moved_and_told_as_gone_where_it_is_not(copied: Path) -> None:
    runs = copied / "runs"
    (runs / "base").rename(runs / "renamed")
    assert ("model renamed", "model tuned", True) in edges_of(copied)
    shutil.rmtree(runs / "renamed")
    assert ("gone step-0000002", "model tuned", False) in edges_of(copied)
    write_run(copied, "base", 9, None, "data/words.txt")
    assert ("model base", "model tuned", False) in edges_of(copied), "the run stands for a step that it deleted"


def test_models_that_name_each_other_as_parents_are_drawn_all_the_same(copied: Path) -> None:
    for own, other in (("alone", "other"), ("other", "alone")):
        folder = copied / "runs" / own
        smelt.save(
            tiny_model(5), train_bpe(["a"], vocab_size=259), folder, lineage={"parents": [{"path": f"runs/{other}"}]}
        )
    found = edges_of(copied)
    assert ("model alone", "model other", True) in found and ("model other", "model alone", True) in found


def test_a_list_says_what_the_files_say_and_a_damaged_model_hides_no_other(copied: Path) -> None:
    cards = Lineage.of(Workspace.at(copied)).cards
    base = cards["runs/base"].shown()
    file = copied / "runs" / "base" / STEP / "model.safetensors"
    assert (base["family"], base["stage"], base["parameters"]) == ("llama", "pretrain", PARAMETERS)
    assert (base["dtype"], base["sha256"]) == ("float32", sha256_file(file)) and 32 <= base["bits"] < 36
    assert base["metrics"] == {"validation_loss": 1.5} and base["sealed"] and base["run"]
    assert base["bytes"] == sum(path.stat().st_size for path in file.parent.rglob("*"))
    assert cards["runs/polite"].shown()["adapter"] and cards["runs/polite"].family == "LORA"
    file.write_bytes(b"\x08")
    shown = {name: card.shown() for name, card in Lineage.of(Workspace.at(copied)).cards.items()}
    assert "model.safetensors is not a readable safetensors file" in shown["runs/base"]["fault"]
    assert shown["runs/base"]["parameters"] is None and not shown["runs/tuned"]["fault"]


@pytest.mark.parametrize(
    "lineage",
    [
        {"parents": 5, "data": [], "recipe": "x", "metrics": [1], "tokenizer_sha256": [], "base_weights_sha256": 1},
        {"parents": [1, {"path": 2}, {"path": "a\0b"}], "data": {"sources": [1]}, "recipe": {"data": [1, {"path": 3}]}},
        {"stage": {}, "step": {}, "metrics": {"a": {"b": {"c": {"d": {"e": 1}}}}}, "merge": 1, "tokens": []},
    ],
)
def test_a_lineage_that_anybody_wrote_takes_nothing_down(
    start: Callable[..., Live], copied: Path, lineage: dict[str, Any]
) -> None:
    folder = copied / "bare"
    shutil.copytree(copied / "runs" / "alone", folder, ignore=shutil.ignore_patterns("manifest*"))
    (folder / "smelt.json").write_text(json.dumps(lineage))
    live = start(copied)
    for path in ("models", "models/one?name=bare", "api"):
        found = live.get(f"/studio/{path}")
        assert found.status == 200, found.body


def test_data_is_linked_to_and_told_from_what_it_was(start: Callable[..., Live], copied: Path) -> None:
    live = start(copied)
    nodes = live.get("/studio/models").json["graph"]["nodes"]
    node = next(node for node in nodes if node["label"] == "talk.jsonl")
    found = live.get(f"/studio/models/data?id={node['id']}").json
    assert found["models"] == ["runs/tuned"]
    assert [(file["name"], file["same"]) for file in found["files"]] == [("data/talk.jsonl", None)]

    def same() -> bool | None:
        return live.post("/studio/models/data", name=node["id"]).json["files"][0]["same"]  # type: ignore[no-any-return]

    assert same() is True
    (copied / "data" / "talk.jsonl").write_text("{}\n")
    assert same() is False
    (copied / "data" / "talk.jsonl").unlink()
    assert same() is None
    assert live.get("/studio/models/data?id=data:none").status == 400


def test_a_model_tells_its_files_steps_and_recipe(garden: Live) -> None:
    found = garden.get("/studio/models/one?name=runs/tuned").json
    weights = next(file for file in found["files"] if file["name"] == "model.safetensors")
    assert weights["sha256"] == found["sha256"]
    assert [(step["step"], step["newest"]) for step in found["steps"]] == [(2, True)]
    assert found["recipe"]["data"] == "data/talk.jsonl" and found["tokens"] == 64 and found["may_change"]
    assert garden.get("/studio/models/one?name=runs/polite").json["base"] == "runs/tuned"
    for name in ("runs", "data/words.txt", "runs/none", "../../etc", ""):
        assert garden.get(f"/studio/models/one?name={name}").status == 400


def test_every_byte_is_checked_when_asked(start: Callable[..., Live], copied: Path) -> None:
    live = start(copied)
    found = live.post("/studio/models/verify", name="runs/alone").json
    assert found["sealed"] and not found["fault"]
    config = copied / "runs" / "alone" / "config.json"
    config.write_text(config.read_text() + " ")
    assert "'config.json' has" in live.post("/studio/models/verify", name="runs/alone").json["fault"]
    shutil.copytree(
        copied / "runs" / "base" / STEP, copied / "bare", ignore=shutil.ignore_patterns("smelt*", "manifest*")
    )
    bare = live.post("/studio/models/verify", name="bare").json
    assert not bare["sealed"] and not bare["fault"] and all(file["sha256"] for file in bare["files"])


def test_an_export_is_a_whole_sealed_checkpoint_without_the_state_of_the_training(
    start: Callable[..., Live], copied: Path, tmp_path: Path
) -> None:
    step = copied / "runs" / "tuned" / STEP
    with atomic_directory(step) as folder:
        shutil.copytree(step, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("manifest.json"))
        (folder / "train").mkdir()
        (folder / "train" / "state.json").write_text("{}")
    sent = start(copied).get("/studio/models/export?name=runs/tuned")
    assert sent.status == 200 and "filename*=UTF-8''tuned.tar" in sent.headers["content-disposition"]
    assert len(sent.body) == int(sent.headers["content-length"])
    with tarfile.open(fileobj=io.BytesIO(sent.body)) as tar:
        tar.extractall(tmp_path / "out", filter="data")
    verify_directory(tmp_path / "out" / "tuned")
    assert not (tmp_path / "out" / "tuned" / "train").exists()
    one, other = smelt.load(tmp_path / "out" / "tuned")[0], smelt.load(step)[0]
    assert all(torch.equal(mine, its) for mine, its in zip(one.parameters(), other.parameters(), strict=True))


def test_a_model_is_served_until_it_is_let_go(start: Callable[..., Live], grown: Path, tmp_path: Path) -> None:
    live = start(grown, store=tmp_path / "serve.db")
    assert live.post("/studio/models/serve", name="runs/alone").json["name"] == "runs/alone"
    assert eventually(lambda: live.studio.pool.members["runs/alone"].engine.state == "ready", COMPILING_SECONDS)
    assert live.studio.pool.members["runs/alone"].kept
    [loaded] = live.get("/studio/models/one?name=runs/alone").json["loaded"]
    assert (loaded["as"], loaded["state"], loaded["kept"]) == ("runs/alone", "ready", True)
    assert needs(live, "runs/alone") == [("loaded", "runs/alone")]
    assert live.call("DELETE", "/studio/models", {"name": "runs/alone", "typed": "runs/alone"}).status == 409
    assert live.post("/studio/models/unserve", name="runs/alone").status == 200
    assert "runs/alone" not in live.studio.pool.members and needs(live, "runs/alone") == []
    assert live.post("/studio/models/serve", name="runs/alone", weights="int3").status == 400
    assert (grown / "runs" / "alone").is_dir()


def test_what_something_depends_on_is_not_deleted_and_says_by_what(start: Callable[..., Live], copied: Path) -> None:
    live = start(copied)
    assert needs(live, "runs/base") == [("child", "runs/tuned")]
    assert needs(live, "runs/tuned") == [("adapter", "runs/polite")]
    refused = live.call("DELETE", "/studio/models", {"name": "runs/base", "typed": "runs/base"})
    assert refused.status == 409
    assert refused.json["error"]["message"] == "runs/base is needed by runs/tuned (child)"
    for run in ("base", "alone"):
        assert (copied / "runs" / run).is_dir()
    for name in ("runs/polite", "runs/tuned", "runs/base"):  # from the leaves down
        assert live.call("DELETE", "/studio/models", {"name": name, "typed": name}).json == {"deleted": name}
    assert sorted(path.name for path in (copied / "runs").iterdir()) == ["alone"]
    assert (copied / "data" / "words.txt").is_file()


def test_a_model_that_a_training_reads_or_writes_is_not_deleted(start: Callable[..., Live], copied: Path) -> None:
    live = start(copied)
    run = copied / "runs" / "now"
    run.mkdir()
    (run / "recipe.yaml").write_text("checkpoint: runs/alone\ndata: [{path: data/words.txt}]\n")
    (run / "metrics.jsonl").write_text("")
    assert needs(live, "runs/alone") == [("training", "runs/now")]
    for file in ("metrics.jsonl", "recipe.yaml"):
        os.utime(run / file, (0, 0))
    assert needs(live, "runs/alone") == [], "it has not written for long, so it was killed"
    (copied / "runs" / "tuned" / "report.md").unlink()
    os.utime(copied / "runs" / "tuned" / "metrics.jsonl", (time.time(), time.time()))
    assert ("training", "runs/tuned") in needs(live, "runs/tuned")


def test_a_name_has_to_be_typed_and_nothing_goes_outside_of_the_folder(copied: Path, tmp_path: Path) -> None:
    shutil.copytree(copied / "runs" / "alone", tmp_path / "elsewhere" / "kept")
    workspace = Workspace.at(copied, [tmp_path / "elsewhere"])
    kept = workspace.find(str(tmp_path / "elsewhere" / "kept"))
    assert kept in workspace.checkpoints()
    for path, typed, said in (
        (kept, str(kept), "is not in the studio's own folder"),
        (copied, ".", "is not in the studio's own folder"),
        (copied / "runs" / "alone", "runs/alon", "'runs/alon' is not the name of the model"),
    ):
        with pytest.raises(UsageError, match=said):
            check_deletable(workspace, path, typed)


def test_an_adapter_is_merged_into_its_base_by_a_process_of_its_own(start: Callable[..., Live], copied: Path) -> None:
    live = start(copied)
    asked = {"id": "m1", "name": "runs/polite", "out": "whole"}
    assert live.post("/studio/models/merges", **asked).json["state"] == "running"
    assert live.post("/studio/models/merges", **asked).status == 200, "asked twice is asked once"
    assert needs(live, "runs/polite") == [("merge", "runs/whole")]

    def merges() -> list[dict[str, Any]]:
        time.sleep(0.2)
        return live.get("/studio/models/merges").json["merges"]  # type: ignore[no-any-return]

    assert eventually(lambda: merges()[0]["state"] != "running", COMPILING_SECONDS)
    [merge] = merges()
    assert merge["state"] == "done", merge["error"]
    assert merge["out"] == "runs/whole" and merge["result"]["largest_logit_difference"] < 1e-3
    verify_directory(copied / "runs" / "whole")
    assert {("model tuned", "model whole", True), ("model polite", "model whole", True)} <= edges_of(copied)


def test_a_merge_that_cannot_be_is_refused_before_it_begins(start: Callable[..., Live], copied: Path) -> None:
    live = start(copied)
    for name, out, said in (
        ("runs/alone", "new", "runs/alone is no adapter"),
        ("runs/polite", "../new", "out: '../new'"),
        ("runs/polite", "alone", "runs/alone is there"),
    ):
        refused = live.post("/studio/models/merges", id="m", name=name, out=out)
        assert refused.status == 400 and said in refused.json["error"]["message"]
    outside = copied.parent / "outside"
    shutil.copytree(copied / "runs" / "tuned" / STEP, outside)
    config = copied / "runs" / "polite" / "adapter_config.json"
    values = json.loads(config.read_text())
    config.write_text(json.dumps({**values, "base_model_name_or_path": str(outside)}))
    for path, more in (("merges", {"id": "m", "out": "new"}), ("serve", {})):
        refused = live.post(f"/studio/models/{path}", name="runs/polite", **more)
        assert refused.status == 400 and "outside of the studio's folders" in refused.json["error"]["message"]


def test_a_key_that_does_not_open_admin_looks_and_changes_nothing(
    start: Callable[..., Live], grown: Path, tmp_path: Path
) -> None:
    live = start(grown, key="first", store=tmp_path / "keys.db")
    live.studio.keys = Keys([hash_of("first")], partial(valid_keys, live.studio.store))
    sent = {"Authorization": f"Bearer {create_key(live.studio.store, 'ann')}"}
    found = live.get("/studio/models/one?name=runs/alone", **sent)
    assert found.status == 200 and found.json["may_change"] is False
    for method, path, body in (
        ("POST", "serve", {"name": "runs/alone"}),
        ("POST", "unserve", {"name": "runs/alone"}),
        ("POST", "merges", {"id": "m", "name": "runs/polite", "out": "new"}),
        ("DELETE", "", {"name": "runs/polite", "typed": "runs/polite"}),
    ):
        refused = live.call(method, f"/studio/models/{path}".rstrip("/"), body, **sent)
        assert refused.status == 403 and refused.json["error"]["message"] == "this key does not open admin"
    assert live.get("/studio/models/one?name=runs/alone", Authorization="Bearer first").json["may_change"] is True
    assert card_of(grown / "runs" / "polite").weights is not None


@pytest.mark.browser
def test_every_node_leads_to_its_model_its_run_and_its_data_by_the_keyboard_alone(
    garden: Live, open_page: Callable[..., Watched]
) -> None:
    page: Any = open_page(garden, "/models", width=1440).page
    page.wait_for_selector("[data-testid='node-runs/tuned']")
    assert page.locator(".lineage-node").count() == 7
    page.locator("[data-testid='node-runs/tuned']").focus()
    page.keyboard.press("Enter")
    page.wait_for_url("**/models/runs%2Ftuned")
    page.click("a:has-text('Its run')")
    assert page.url.endswith("/runs/runs%2Ftuned")
    page.go_back()
    page.locator(".lineage-node.data").first.wait_for()
    page.locator(".lineage-node.data", has_text="talk.jsonl").focus()
    page.keyboard.press("Enter")
    page.wait_for_selector("[data-testid=data-panel] a:has-text('talk.jsonl')")
    assert page.get_attribute("[data-testid=data-panel] table a", "href") == "/data/data%2Ftalk.jsonl"
    page.click("text=Is it still the same?")
    page.wait_for_selector("[data-testid=data-panel] .badge.good")
    page.reload()
    page.wait_for_selector("[data-testid=data-panel]")


@pytest.mark.browser
def test_deleting_names_what_needs_the_model_and_asks_for_its_name(
    start: Callable[..., Live], copied: Path, open_page: Callable[..., Watched]
) -> None:
    live = start(copied)
    page: Any = open_page(live, "/models/runs%2Fbase").page
    page.click("button:has-text('Delete')")
    assert "runs/tuned" in page.text_content("[data-testid=needed]")
    page.goto(live.url + "/models/runs%2Falone")
    page.click("button:has-text('Delete')")
    go = page.locator("button:has-text('Delete for good')")
    assert go.is_disabled()
    page.fill("dialog input", "runs/alone")
    go.click()
    page.wait_for_url("**/models")
    assert not (copied / "runs" / "alone").exists()
    with page.expect_download() as saved:
        page.goto(live.url + "/models/runs%2Ftuned")
        page.click("[data-testid=export]")
    assert saved.value.suggested_filename == "tuned.tar"


@pytest.mark.browser
@pytest.mark.parametrize("width", [375, 1440])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_pages_fit_and_are_accessible(
    garden: Live, open_page: Callable[..., Watched], axe: str, width: int, theme: str
) -> None:
    language = "en" if theme == "light" else "zh"
    page: Any = open_page(garden, "/models", width=width, theme=theme, language=language).page
    for path, sign in (
        ("/models", ".lineage-node"),
        ("/models?view=list", "table"),
        ("/models/runs%2Fpolite", "[data-testid=serving]"),
    ):
        page.goto(garden.url + path)
        page.wait_for_selector(sign)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert serious_faults(page, axe) == []
