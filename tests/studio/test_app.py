"""The studio's frame: what is served where, who may ask, and that nobody reads outside of the folders."""

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from smelt.core.errors import UsageError
from smelt.studio.workspace import Workspace

from .conftest import STATIC, Live, Watched, serious_faults


def test_every_address_of_a_page_is_the_page_and_a_file_is_kept_for_ever(live: Live) -> None:
    page = live.get("/")
    assert page.status == 200 and b'<div id="root">' in page.body
    assert live.get("/chat/some-chat?x=1").body == page.body
    script = next((STATIC / "assets").glob("index-*.js")).name
    asset = live.get(f"/assets/{script}")
    assert asset.headers["content-type"].startswith("text/javascript") and "immutable" in asset.headers["cache-control"]
    assert live.get("/assets/none.js").status == 404 and live.get("/studio/none").status == 404
    assert live.get("/assets/../app.py").status == 404


def test_no_built_page_holds_a_script_or_style_of_its_own_or_loads_from_elsewhere() -> None:
    page = (STATIC / "index.html").read_text(encoding="utf-8")
    assert "http" not in page and " style=" not in page and "<style" not in page
    assert page.count("<script") == page.count('<script type="module" crossorigin src="/assets/')


def test_all_scripts_together_are_small() -> None:
    sizes = [len(gzip.compress(file.read_bytes())) for file in (STATIC / "assets").glob("*.js")]
    assert 50_000 < sum(sizes) <= 350_000


def test_a_request_of_another_origin_is_refused(live: Live) -> None:
    refused = live.call("POST", "/studio/session", {"key": "x"}, Origin="http://evil.example")
    assert refused.status == 403
    assert live.call("POST", "/studio/session", b"key=x", Content_Type="text/plain").status == 415


def test_models_answer_at_v1_by_their_name_and_are_loaded_when_asked(live: Live) -> None:
    body = {"model": "runs/tiny", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 3}
    answer = live.post("/v1/chat/completions", **body)
    assert answer.status == 200, answer.body
    assert answer.json["model"] == "runs/tiny" and answer.json["usage"]["completion_tokens"] <= 3
    assert "runs/tiny" in [model["id"] for model in live.get("/v1/models").json["data"]]
    wrong = live.post("/v1/chat/completions", **{**body, "model": "runs/tini"})
    assert wrong.status == 400 and "Did you mean 'tiny'?" in wrong.json["error"]["message"]
    outside = live.post("/v1/chat/completions", **{**body, "model": "../../etc"})
    assert outside.status == 400 and "outside of the studio's folders" in outside.json["error"]["message"]


def test_a_studio_with_keys_opens_for_a_cookie_that_scripts_cannot_read(
    start: Callable[..., Live], workspace: Path
) -> None:
    live = start(workspace, key="open sesame", store=workspace / "locked.db")
    assert live.get("/studio/home").status == 401 and live.get("/v1/models").status == 401
    assert live.post("/studio/session", key="wrong").status == 401
    cookie = live.post("/studio/session", key="open sesame").headers["set-cookie"]
    assert "HttpOnly" in cookie and "SameSite=strict" in cookie
    assert live.get("/studio/home", Cookie=cookie.split(";")[0]).status == 200


def test_what_smelt_writes_for_itself_is_no_data(tmp_path: Path) -> None:
    for name in ("first/quickstart.json", "first/wrong_answers.json", "first/studio.json", "books/metrics.jsonl"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("{}")
    for name in ("shards/shards.json", "shards/manifest.json", "rows/rows.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("[]")
    assert [path.name for path in Workspace.at(tmp_path).data_files()] == ["rows.json"]


def test_a_workspace_finds_nothing_behind_links_or_outside(tmp_path: Path) -> None:
    inside, outside = tmp_path / "in", tmp_path / "out"
    inside.mkdir()
    outside.mkdir()
    (outside / "secret.txt").write_text("x")
    (inside / "link").symlink_to(outside)
    (inside / "own.txt").write_text("x")
    space = Workspace.at(inside)
    assert [space.name(path) for path in space.data_files()] == ["own.txt"]
    for name in ("link/secret.txt", "../out/secret.txt", str(outside / "secret.txt")):
        with pytest.raises(UsageError, match="outside of the studio's folders"):
            space.find(name)
    with pytest.raises(UsageError, match=r"Did you mean 'own\.txt'"):
        space.find("own.tx")
    with pytest.raises(UsageError, match="no such directory"):
        Workspace.at(tmp_path / "none")


@pytest.mark.browser
@pytest.mark.parametrize("width", [375, 1440])
def test_home_fits_is_accessible_and_switches_language_and_theme(
    live: Live, open_page: Callable[..., Watched], axe: str, width: int
) -> None:
    page: Any = open_page(live, "/", width=width).page
    page.wait_for_selector(".home")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert serious_faults(page, axe) == []
    if width < 860:
        page.click("button[aria-expanded]")
    page.click("text=中文")
    page.wait_for_selector("h1:has-text('你自己的语言模型')")
    before = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.click("button[aria-label=深色主题]")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != before
    page.reload()
    page.wait_for_selector("h1:has-text('你自己的语言模型')")
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    assert serious_faults(page, axe) == []
