"""The API page: keys, usage as the answers tell it, a log without prompts, and snippets that work as they stand."""

import json
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from smelt.serve.keys import Keys, hash_of
from smelt.serve.store.keys import create_key, valid_keys
from smelt.studio.usage import LOG_ENTRIES, MAX_SUMS, Usage

from .conftest import COMPILING_SECONDS, Live, Watched, eventually, serious_faults

SECRET = "a sentence that nobody else may read"


def ask(live: Live, *, stream: bool = False, **headers: str) -> Any:
    """Ask a model something; return the usage that it tells."""
    body = {"model": "runs/tiny", "messages": [{"role": "user", "content": SECRET}], "max_tokens": 4, "stream": stream}
    if stream:
        body["stream_options"] = {"include_usage": True}
    answer = live.call("POST", "/v1/chat/completions", body, **headers)
    assert answer.status == 200, answer.body
    return answer.events[-1]["usage"] if stream else answer.json["usage"]


@pytest.fixture
def locked(start: Callable[..., Live], workspace: Path, tmp_path: Path) -> Live:
    """A studio with a key of a file, "first", and those of its store."""
    live = start(workspace, key="first", store=tmp_path / "keys.db")
    live.studio.keys = live.studio.pool.keys = Keys([hash_of("first")], partial(valid_keys, live.studio.store))
    return live


def test_usage_is_what_the_answers_say_and_the_log_holds_no_word_of_them(
    start: Callable[..., Live], workspace: Path, tmp_path: Path
) -> None:
    live = start(workspace, store=tmp_path / "usage.db")
    told = [ask(live), ask(live, stream=True)]
    assert live.post("/v1/chat/completions", model="runs/none", messages=[]).status == 400
    assert live.get("/v1/models").status == 200
    assert eventually(lambda: all(entry.status for entry in live.studio.usage.log))
    found = live.get("/studio/api/usage")
    sums = {one["model"]: one for one in found.json["sums"]}
    mine = sums["runs/tiny"]
    assert (mine["owner"], mine["requests"], mine["failed"]) == ("local", 2, 0)
    assert mine["prompt_tokens"] == sum(one["prompt_tokens"] for one in told)
    assert mine["generated_tokens"] == sum(one["completion_tokens"] for one in told)
    assert (sums[""]["requests"], sums[""]["failed"]) == (2, 1)
    assert [(one["route"], one["status"]) for one in found.json["log"]] == [
        ("/v1/models", 200),
        ("/v1/chat/completions", 400),
        ("/v1/chat/completions", 200),
        ("/v1/chat/completions", 200),
    ]
    assert SECRET not in found.body.decode()
    assert [engine["name"] for engine in found.json["engines"]] == ["runs/tiny"]


def test_texts_that_become_vectors_are_counted_too(start: Callable[..., Live], workspace: Path, tmp_path: Path) -> None:
    live = start(workspace, store=tmp_path / "vectors.db")
    told = live.post("/v1/embeddings", model="runs/tiny", input=["one", "two"]).json["usage"]
    assert live.get("/studio/api/usage").json["sums"][0]["prompt_tokens"] == told["prompt_tokens"] > 0


def test_log_and_sums_are_bounded() -> None:
    usage = Usage()
    for number in range(2 * MAX_SUMS):
        entry = usage.begin("POST", "/v1/" + "x" * 1000)
        entry.owner, entry.status = f"key {number}", 200
        usage.end(entry)
    assert len(usage.log) == LOG_ENTRIES and len(usage.sums) == MAX_SUMS + 1
    assert usage.sums["", ""].requests == MAX_SUMS and len(usage.log[0].route) < 200


def test_a_key_is_shown_once_and_refused_from_the_moment_it_is_revoked(locked: Live) -> None:
    admin = {"Authorization": "Bearer first"}
    made = locked.call("POST", "/studio/api/keys", {"name": "ann", "scopes": ["models"]}, **admin)
    assert made.status == 201 and made.json["key"].startswith("sk-")
    key = {"Authorization": f"Bearer {made.json['key']}"}
    assert locked.get("/v1/models", **key).status == 200
    listed = locked.get("/studio/api/keys", **admin)
    assert [(one["name"], one["scopes"], one["revoked"]) for one in listed.json["keys"]] == [("ann", ["models"], None)]
    assert made.json["key"] not in listed.body.decode() and hash_of(made.json["key"]) not in listed.body.decode()
    assert locked.call("DELETE", "/studio/api/keys/ann", {}, **admin).status == 200
    assert locked.get("/v1/models", **key).status == 401
    for name, scopes, status in (
        ("ann", ["models"], 409),
        ("a b", ["models"], 400),
        ("bob", ["model"], 400),
        ("bob", [], 400),
    ):
        assert locked.call("POST", "/studio/api/keys", {"name": name, "scopes": scopes}, **admin).status == status
    assert locked.call("DELETE", "/studio/api/keys/none", {}, **admin).status == 404


def test_whoever_does_not_administer_sees_their_own_usage_and_no_key(locked: Live) -> None:
    headers = {name: {"Authorization": f"Bearer {create_key(locked.studio.store, name)}"} for name in ("ann", "bob")}
    for name in headers:
        ask(locked, **headers[name])
    assert locked.get("/v1/models").status == 401
    mine = locked.get("/studio/api/usage", **headers["ann"]).json
    assert {one["owner"] for one in (*mine["sums"], *mine["log"])} == {"ann"} and not mine["all"]
    everybody = locked.get("/studio/api/usage", Authorization="Bearer first").json
    assert {one["owner"] for one in everybody["sums"]} == {"ann", "bob", ""}
    for method, path in (("GET", "keys"), ("POST", "keys"), ("DELETE", "keys/bob")):
        refused = locked.call(method, f"/studio/api/{path}", {"name": "x", "scopes": ["admin"]}, **headers["ann"])
        assert refused.status == 403
    assert locked.get("/studio/api", **headers["ann"]).json["admin"] is False


CHANGES = (
    *("train/start", "train/resume", "train/pause", "train/stop"),
    *("first", "first/stop", "datasets/versions"),
)


@pytest.mark.parametrize("path", CHANGES)
def test_a_key_that_may_only_ask_changes_nothing_for_others(locked: Live, path: str) -> None:
    given = {"Authorization": f"Bearer {create_key(locked.studio.store, path.replace('/', '-'))}"}
    refused = locked.call("POST", f"/studio/{path}", {}, **given)
    assert refused.status == 403 and refused.json["error"]["code"] == "missing_scope"


def test_the_first_key_locks_nobody_out_of_the_page_that_made_it(
    start: Callable[..., Live], workspace: Path, tmp_path: Path
) -> None:
    live = start(workspace, store=tmp_path / "open.db")
    before = live.get("/studio/api").json
    assert before["open"] and before["admin"] and not before["locked_next"]
    assert live.post("/studio/api/keys", name="me", scopes=before["scopes"]).status == 201
    after = live.get("/studio/api").json
    assert after["open"] and after["locked_next"] and live.get("/v1/models").status == 200


@pytest.mark.browser
def test_the_snippets_work_as_they_are_copied(live: Live, open_page: Callable[..., Watched], tmp_path: Path) -> None:
    page: Any = open_page(live, "/api?model=runs/tiny").page
    page.wait_for_selector("[data-testid=snippet]")

    def copied() -> str:
        page.click("button[aria-label=Copy]")
        return str(page.evaluate("navigator.clipboard.readText()"))

    words: Any = {"capture_output": True, "text": True, "timeout": COMPILING_SECONDS, "cwd": tmp_path}
    done = subprocess.run(["bash", "-c", copied()], **words)
    found = json.loads(done.stdout)
    assert found["model"] == "runs/tiny" and "choices" in found, done
    page.click("[role=tab]:has-text('openai-python')")
    assert "openai-python" in page.text_content("[role=tab][aria-selected=true]") and "tool=openai" in page.url
    pytest.importorskip("openai")
    done = subprocess.run([sys.executable, "-c", copied()], **words)
    assert done.returncode == 0, done.stderr
    page.click("[role=tab]:has-text('LangChain')")
    compile(copied(), "snippet", "exec")


@pytest.mark.browser
def test_a_key_is_made_and_revoked_on_the_page_and_a_request_appears_as_it_comes(
    start: Callable[..., Live], workspace: Path, tmp_path: Path, open_page: Callable[..., Watched]
) -> None:
    live = start(workspace, store=tmp_path / "page.db")
    page: Any = open_page(live, "/api").page
    page.click("button:has-text('New key')")
    page.fill("dialog input[autocomplete=off]", "ann")
    page.click("button:has-text('Make the key')")
    key = page.text_content("[data-testid=new-key]")
    assert key.startswith("sk-")
    page.click("button:has-text('I have it')")
    page.wait_for_selector("[data-testid=key-ann] .badge.good")
    page.wait_for_selector("text=From its next start on this studio asks for one")
    assert key not in page.content()
    page.click("[data-testid=key-ann] button")
    page.click("dialog button:has-text('Revoke')")
    page.wait_for_selector("[data-testid=key-ann] .badge:has-text('revoked')")
    live.get("/v1/models")
    page.wait_for_selector("[data-testid=log] :text('/v1/models')")


@pytest.mark.browser
@pytest.mark.parametrize("width", [375, 1440])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_page_fits_and_is_accessible(
    live: Live, open_page: Callable[..., Watched], axe: str, width: int, theme: str
) -> None:
    live.get("/v1/models")
    language = "en" if theme == "light" else "zh"
    page: Any = open_page(live, "/api", width=width, theme=theme, language=language).page
    page.wait_for_selector("[data-testid=log] table")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert serious_faults(page, axe) == []
    page.click("[data-testid=keys] header button")
    page.wait_for_selector("dialog")
    assert serious_faults(page, axe) == []
