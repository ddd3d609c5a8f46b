"""Data: rows page by page, tokens as training has them, reports, and versions that leave the source as it is."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from smelt.data.records import ChatRow, Message
from smelt.data.rendering import render
from smelt.tokenizers.chat import ChatTemplate
from smelt.tokenizers.formats import load_tokenizer

from .conftest import Live, Watched, serious_faults

HOSTILE = "<img src=x onerror=alert(1)>&amp;#%2e?.jsonl"
CHATS = "chats.jsonl"


def chat(number: int) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": f"Say {number}."}, {"role": "assistant", "content": f"{number}!"}]}


@pytest.fixture(scope="module")
def folder(workspace: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with one model and some files."""
    root = tmp_path_factory.mktemp("data")
    shutil.copytree(workspace / "runs" / "tiny", root / "runs" / "tiny")
    rows = [json.dumps(chat(number)) for number in range(60)]
    rows[7:7] = ['{"messages": [{"role": "bot", "content": "x"}]}', rows[0], rows[0]]
    (root / CHATS).write_text("\n".join(rows) + "\n")
    texts = ["<script>alert(1)</script>", "nul \x00 and \u202e back", "y" * 100_000, "mail ann@example.org"]
    lines = [json.dumps({"text": text}).encode() for text in texts]
    (root / HOSTILE).write_bytes(b"\n".join([*lines, b'{"text": "caf\xe9"}', b'{"text": "\\ud83d"}', b"{broken"]))
    (root / "sub").mkdir()
    (root / "sub" / "line\nend.txt").write_text("no address can hold this name, so it is not listed")
    (root / "sub" / "bad\udcff.txt").write_text("nor this one")
    (root / "sub" / "book.txt").write_text("One day. " * 400)
    (root / "sub" / "empty.csv").write_text("")
    return root


@pytest.fixture(scope="module")
def studio(start: Callable[..., Live], folder: Path) -> Live:
    return start(folder)


def ask(live: Live, what: str, name: str, **more: Any) -> Any:
    words = "".join(f"&{key}={quote(str(value), safe='')}" for key, value in more.items())
    return live.get(f"/studio/datasets/{what}?name={quote(name, safe='')}{words}")


def test_files_are_listed_by_folder_and_their_formats_told(studio: Live) -> None:
    found = studio.get("/studio/datasets").json
    assert {(file["folder"], file["name"]) for file in found["files"]} >= {("", CHATS), ("sub", "sub/book.txt")}
    assert len(found["files"]) == 4
    assert found["models"] == ["runs/tiny", "bytes"]
    assert studio.get("/studio/datasets/formats?folder=").json == {CHATS: "messages", HOSTILE: "text"}
    assert studio.get("/studio/datasets/formats?folder=sub").json == {"sub/book.txt": "text", "sub/empty.csv": ""}
    about = ask(studio, "about", CHATS).json
    assert (about["format"], about["sampled"], about["fits"], about["rows"]) == ("messages", 63, 62, 63)
    assert "sub/empty.csv: empty (0 bytes)" in ask(studio, "about", "sub/empty.csv").json["fault"]
    assert ask(studio, "about", "../etc/passwd").status == 400 and ask(studio, "rows", "sub").status == 400
    assert "outside of the studio's folders" in ask(studio, "rows", "/etc/passwd").json["error"]["message"]


def test_rows_come_in_pages_and_a_bad_one_has_its_number_and_reason(studio: Live) -> None:
    page = ask(studio, "rows", CHATS, start=7, count=3).json
    assert [row["row"] for row in page["rows"]] == [7, 8, 9] and page["total"] == 63
    assert [row["state"] for row in page["rows"]] == ["good", "bad", "good"]
    assert "role 'bot' unknown; did you mean 'assistant'?" in page["rows"][1]["fault"]
    assert page["rows"][0]["text"] == "Say 6. · 6!"
    row = ask(studio, "row", CHATS, row=1).json
    assert row["typed"]["messages"][1] | {"content": "0!"} == row["typed"]["messages"][1]
    assert {"path": ["messages", 1, "content"], "label": "messages[1].content", "text": "0!"} in row["texts"]
    assert json.loads(row["raw"]) == chat(0)
    assert ask(studio, "row", CHATS, row=64).status == 404
    for wrong in ("0", "-1", "x", "1" * 20, "²"):
        assert ask(studio, "rows", CHATS, start=wrong).status == 400


def test_a_hostile_file_is_text_and_nothing_else(studio: Live) -> None:
    rows = ask(studio, "rows", HOSTILE).json["rows"]
    assert [row["state"] for row in rows] == ["good"] * 4 + ["bad"] * 3
    assert rows[0]["text"] == "<script>alert(1)</script>"
    assert "\x00" not in rows[1]["text"] and "\u202e" not in rows[1]["text"] and len(rows[2]["text"]) < 300
    for number in range(1, 8):
        assert ask(studio, "row", HOSTILE, row=number).status == 200
    assert r"caf\xe9" in ask(studio, "row", HOSTILE, row=5).json["raw"]
    assert ask(studio, "tokens", HOSTILE, row=3, model="bytes").json["total"] == 100_000
    assert len(ask(studio, "tokens", HOSTILE, row=3, model="bytes").json["ids"]) == 4096
    assert ask(studio, "tokens", HOSTILE, row=7, model="bytes").status == 400
    for part in ("summary", "lengths", "duplicates", "content"):
        assert ask(studio, "report", HOSTILE, part=part).status == 200, part


def test_tokens_and_mask_are_those_of_training(studio: Live, folder: Path) -> None:
    template = ChatTemplate(load_tokenizer(folder / "runs" / "tiny"))
    row = ChatRow((Message("user", "Say 3."), Message("assistant", "3!")), "")
    ids, mask = render(row, template)
    shown = ask(studio, "tokens", CHATS, row=4, model="runs/tiny").json
    assert shown["ids"] == ids and shown["mask"] == mask and shown["template"] == template.name
    learned = "".join(text for text, on in zip(shown["texts"], shown["mask"], strict=True) if on)
    assert learned == "3!<|im_end|>" and shown["learned"] == sum(mask)
    text = ask(studio, "tokens", "sub/book.txt", row=1, model="bytes").json
    assert text["mask"] == [1] * 3600 and text["texts"][:3] == ["O", "n", "e"]
    assert "Did you mean" in ask(studio, "tokens", CHATS, row=4, model="runs/tiney").json["error"]["message"]


def test_reports_say_what_they_saw(studio: Live) -> None:
    summary = ask(studio, "report", CHATS, part="summary").json
    assert (summary["num_ok"], summary["num_bad"], summary["all"]) == (62, 1, True)
    assert summary["roles"] == {"user": 62, "assistant": 62} and summary["bad"][0]["row"] == 8
    lengths = ask(studio, "report", CHATS, part="lengths", model="runs/tiny").json
    of_row = ask(studio, "tokens", CHATS, row=1, model="runs/tiny").json["total"]
    assert lengths["percentiles"]["10 %"] == of_row and sum(lengths["bars"]) == 62 and lengths["seen"] == 63
    same = ask(studio, "report", CHATS, part="duplicates").json
    assert same["exact"] == 2 and same["same"][0]["rows"] == [1, 9, 10] and same["all"]
    content = ask(studio, "report", HOSTILE, part="content").json
    assert content["kinds"] == {"e-mail": 1} and content["hits"][0]["row"] == 4 and content["scripts"] == {"Latin": 4}
    assert sum(content["languages"].values()) == 4 or content["languages"] is None
    wrong = ask(studio, "report", CHATS, part="taste")
    assert wrong.status == 400 and "accepted: lengths, summary" in wrong.json["error"]["message"]


def test_an_edit_makes_a_version_and_the_source_keeps_bytes_and_time(studio: Live, folder: Path) -> None:
    source = folder / CHATS
    before, about = source.read_bytes(), source.stat()
    stamp = ask(studio, "about", CHATS).json["stamp"]
    edit = {"row": 1, "path": ["messages", 1, "content"], "text": "nought"}
    body = {"id": "a" * 32, "name": CHATS, "stamp": stamp, "edits": [edit, {"row": 8, "path": [], "text": None}]}
    first, again = (studio.post("/studio/datasets/versions", **body) for _ in range(2))
    assert first.status == again.status == 201 and first.json == again.json
    assert first.json == {"name": "chats.v2.jsonl", "rows": 62, "left_out": {"removed by hand": 1}}
    assert source.read_bytes() == before and source.stat().st_mtime_ns == about.st_mtime_ns
    made = (folder / "chats.v2.jsonl").read_text().splitlines()
    assert json.loads(made[0])["messages"][1]["content"] == "nought" and len(made) == 62
    version = ask(studio, "about", "chats.v2.jsonl").json["version"]
    assert version["source"] == CHATS and version["source_sha256"] == hashlib.sha256(before).hexdigest()
    assert "chats.v2.yaml" not in [file["name"] for file in studio.get("/studio/datasets").json["files"]]
    stale = studio.post("/studio/datasets/versions", **{**body, "id": "b" * 32, "stamp": "1-1"})
    assert stale.status == 409 and "has changed since it was opened" in stale.json["error"]["message"]
    for wrong in ({"id": "../x"}, {"edits": [{"row": 0}]}, {"filters": {"taste": True}}):
        refused = studio.post("/studio/datasets/versions", **{**body, "id": "c" * 32, **wrong})
        assert refused.status == 400, refused.body
    assert not (folder / "chats.v3.jsonl").exists()


def test_a_source_outside_of_the_folder_gets_its_version_in_data(start: Callable[..., Live], tmp_path: Path) -> None:
    inside, outside = tmp_path / "in", tmp_path / "out"
    inside.mkdir()
    outside.mkdir()
    (outside / "a.jsonl").write_text('{"text": "a"}\n{"text": "a"}\n')
    live = start(inside)
    live.studio.workspace = type(live.studio.workspace).at(inside, [outside])
    name = str(outside / "a.jsonl")
    from smelt.studio.datasets import VersionGiven, new_version, stamp

    given = VersionGiven(id="a" * 32, name=name, stamp=stamp(outside / "a.jsonl"), filters={"duplicates": True})
    made = new_version(live.studio.workspace, given)
    assert made == {"name": "data/a.v2.jsonl", "rows": 1, "left_out": {"duplicates": 1}}
    assert [path.name for path in outside.iterdir()] == ["a.jsonl"]


def test_filters_are_counted_before_they_are_applied(studio: Live) -> None:
    tried = studio.post("/studio/datasets/filter", name=CHATS, filters={"duplicates": True, "max_characters": 9})
    assert tried.json["before"] == 63 and tried.json["left_out"] == {"bad": 1, "duplicates": 2, "max_characters": 50}
    assert tried.json["after"] == 10 and tried.json["all"]
    wrong = studio.post("/studio/datasets/filter", name=CHATS, filters={"min_characters": -1})
    assert wrong.status == 400 and wrong.json["error"]["message"].startswith("filters.min_characters:")


@pytest.mark.browser
def test_rows_are_walked_by_keys_edited_and_saved(
    studio: Live, folder: Path, open_page: Callable[..., Watched]
) -> None:
    before = (folder / CHATS).read_bytes()
    page: Any = open_page(studio, f"/data/{CHATS}").page
    page.wait_for_selector("[data-testid=row] >> text=Row 1")
    page.keyboard.press("j")
    page.wait_for_selector("[data-testid=row] >> text=Row 2")
    for _ in range(24):
        page.keyboard.press("j")
    page.wait_for_selector("[data-testid=row] >> text=Row 26")  # on the next page
    assert "row=26" in page.url and "from=26" in page.url
    page.keyboard.press("k")
    page.wait_for_selector("[data-testid=row] >> text=Row 1")  # the page before begins at its first row
    page.click("text=Tokens")
    page.wait_for_selector(".data-token.learned:has-text('0')")
    page.click("text=Edit")
    page.fill("label:has-text('messages[1].content') textarea", "<b>zero</b>")
    page.reload()
    assert page.input_value("label:has-text('messages[1].content') textarea") == "<b>zero</b>"
    page.click("text=Save as a new version")
    page.wait_for_selector("h1:has-text('.v')")
    page.wait_for_selector("text=Made from chats.jsonl. Edits: 1; rows: 63 before, 63 now.")
    page.wait_for_selector("text=<b>zero</b>")
    assert (folder / CHATS).read_bytes() == before


@pytest.mark.browser
@pytest.mark.parametrize(("width", "theme"), [(375, "dark"), (1440, "light"), (375, "light"), (1440, "dark")])
def test_every_view_fits_and_is_accessible(
    studio: Live, open_page: Callable[..., Watched], axe: str, width: int, theme: str
) -> None:
    page: Any = open_page(studio, "/data", width=width, theme=theme, language="zh" if theme == "dark" else "en").page
    file = "/data/" + quote(HOSTILE, safe="")
    views = {
        "/data": ".data-files .badge",
        f"/data/{CHATS}?row=8": "[data-testid=row] .notice",
        f"/data/{CHATS}?row=4&view=tokens&model=runs%2Ftiny": "[data-testid=tokens]",
        f"{file}?row=2&view=edit": "[data-testid=row] textarea",
        f"{file}?row=3&view=raw": "[data-testid=row] pre",
        f"{file}?tab=overview": "[data-testid=summary]",
        f"/data/{CHATS}?tab=lengths": "[data-testid=columns]",
        f"/data/{CHATS}?tab=duplicates": "[data-testid=duplicates] li",
        f"{file}?tab=content": "[data-testid=content] mark",
        f"/data/{CHATS}?tab=filters": "form",
        "/data/none.jsonl": "[role=alert]",
    }
    for path, there in views.items():
        page.goto(studio.url + path)
        page.wait_for_selector(there)
        assert page.evaluate("document.documentElement.scrollWidth") <= width, path
        assert serious_faults(page, axe) == [], path


@pytest.mark.browser
def test_filters_are_tried_and_make_a_version(studio: Live, open_page: Callable[..., Watched]) -> None:
    page: Any = open_page(studio, f"/data/{CHATS}?tab=filters").page
    page.click("button:has-text('Count')")
    page.wait_for_selector("[data-testid=filtered]:has-text('60 of 63 rows stay')")
    page.click("button:has-text('Save as a new version')")
    page.wait_for_selector("text=Edits: 0; rows: 63 before, 60 now.")
