"""The chat page: its files, and a real browser that asks, stops, and asks no other origin for anything."""

import time
from collections.abc import Iterator
from typing import Any

import pytest

from .conftest import Live, Watched, eventually


@pytest.mark.parametrize(("path", "kind"), [("/", "html"), ("/chat.css", "css"), ("/chat.js", "javascript")])
def test_its_files_are_three_and_ask_nothing_of_others(live: Live, path: str, kind: str) -> None:
    reply = live.get(path)
    text = reply.body.decode()
    assert reply.status == 200 and reply.headers["content-type"] == f"text/{kind}; charset=utf-8"
    assert "//" not in text.replace("// ", "") and "innerHTML" not in text and "<style" not in text
    assert " style=" not in text and " on" + "click=" not in text
    assert live.get(f"/..{path}").status == 404 and live.get("/web/").status == 404


@pytest.fixture
def page(live: Live, browser: Any) -> Iterator[Any]:
    opened = browser.new_page(viewport={"width": 375, "height": 700})
    opened.asked = []
    opened.on("request", lambda request: opened.asked.append(request.url))
    opened.goto(live.url)
    opened.wait_for_selector("#model:not(:empty)")
    yield opened
    opened.close()


@pytest.mark.browser
def test_a_message_is_answered_stopped_and_asked_again(live: Live, page: Any) -> None:
    Watched.seconds = 0.05
    page.click("summary")
    page.fill("#temperature", "0")  # this model's answer is then a long one
    page.fill("#text", "Hi")
    page.press("#text", "Enter")
    started = time.monotonic()
    page.wait_for_selector(".assistant:not(:empty)")
    assert time.monotonic() - started < 2
    assert page.inner_text("#send") == "Stop" and page.inner_text(".user") == "Hi"
    page.click("#send")
    page.wait_for_selector(".note")
    assert eventually(live.idle) and page.inner_text("#send") == "Send"
    assert "smelt_running 0.0" in live.get("/metrics").body.decode()
    Watched.seconds = 0
    page.fill("#limit", "3")
    page.fill("#text", "<img src=x onerror=alert(1)>")
    page.press("#text", "Enter")
    page.wait_for_selector(".user:nth-of-type(n+3)")
    assert eventually(lambda: page.inner_text("#send") == "Send")
    assert page.locator("#log img").count() == 0, "what is written is text"
    assert page.evaluate("document.documentElement.scrollWidth") <= 375
    page.click("#renew")
    assert page.locator(".turn").count() == 0
    assert all(url.startswith((live.url, "data:")) for url in page.asked)
