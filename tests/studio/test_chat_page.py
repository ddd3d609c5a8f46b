"""The chat page in a browser: it answers, stops, branches, remembers, is fast with many messages, and runs nothing."""

import itertools
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import smelt
from smelt.serve.loop import EngineLoop
from smelt.serve.store import tables
from smelt.serve.store.database import Store, new_id, sql

from .chatting import LONG, ask, chat, chats, chatty, say, stored
from .conftest import Live, Watched, eventually, serious_faults

__all__ = ["chat", "chats", "chatty"]  # fixtures
pytestmark = pytest.mark.browser
STEP_SECONDS = 0.02
STARTING_SECONDS = 200  # of a studio, where others use the machine too
NO_MORE = {"seed": "1", "temperature": 0, "max_tokens": 12}


WATCH = """() => {
    window.changed = window.pressed = 0;
    for (const kind of ['pointerdown', 'keydown']) addEventListener(kind, () => { pressed = performance.now(); }, true);
    let before = '';
    const look = () => {
        const now = [...document.querySelectorAll('.answer')].at(-1)?.textContent ?? '';
        if (now !== before) changed = performance.now();
        before = now;
        requestAnimationFrame(look);
    };
    look();
}"""
SCROLL_SECONDS = 1.5
SCROLL = """async by => {
    const place = document.querySelector('[data-testid=scroller]'), begun = performance.now();
    let frames = 0;
    while (performance.now() - begun < SECONDS * 1000) {
        place.scrollBy(0, by);
        await new Promise(requestAnimationFrame);
        frames += 1;
    }
    return frames / SECONDS;
}""".replace("SECONDS", str(SCROLL_SECONDS))


def settle(page: Any) -> None:
    """Wait until the model is loaded and no answer is written."""
    page.wait_for_selector("[data-testid=composer]")
    until(page, "!document.querySelector('.chat-head .spinner, [data-writing]')")


def until(page: Any, condition: str) -> None:
    """Wait until something holds in a page, whose policy forbids Playwright's own way to ask again and again."""
    assert eventually(lambda: bool(page.evaluate(condition)), 30), condition


def with_settings(page: Any, **settings: Any) -> None:
    """Keep settings of the panel in the browser and load the page anew."""
    page.evaluate("kept => localStorage.setItem('smelt.chat.settings', JSON.stringify(kept))", settings)
    page.reload()
    settle(page)


def write(page: Any, text: str) -> None:
    """Send a message."""
    page.fill("[data-testid=composer]", text)
    page.keyboard.press("Enter")


def texts(page: Any) -> list[str]:
    """Return what the messages that are shown say."""
    return [one.inner_text() for one in page.query_selector_all(".bubble, .answer")]


@pytest.fixture
def slowly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let an engine take its time, so that somebody can press a button."""
    step = EngineLoop._step

    def wait(self: EngineLoop, engine: Any) -> None:
        time.sleep(STEP_SECONDS)
        step(self, engine)

    monkeypatch.setattr(EngineLoop, "_step", wait)


@pytest.mark.parametrize(("width", "theme", "language"), [(375, "dark", "zh"), (1440, "light", "en")])
def test_the_page_fits_and_is_accessible(
    chats: Live, chat: str, open_page: Callable[..., Watched], axe: str, width: int, theme: str, language: str
) -> None:
    question = say(chats, chat, "Where is the mill? " * 8)
    answer = ask(chats, chat, question).events[-1]["message"]["id"]
    place = f"/studio/chats/{chat}/messages/{answer}/thumb"
    assert chats.call("PUT", place, {"value": 1, "reason": "clear"}).status == 200
    ask(chats, chat, question)
    for path in ("/chat", f"/chat/{chat}?leaf={answer}", f"/chat/{chat}?panel=settings", "/chat?model=runs/base"):
        page: Any = open_page(chats, path, width=width, theme=theme, language=language).page
        settle(page)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert serious_faults(page, axe) == [], path


def test_a_chat_from_its_first_word_to_its_branches(chats: Live, open_page: Callable[..., Watched]) -> None:
    page: Any = open_page(chats, "/chat?model=runs/chat").page
    settle(page)
    with_settings(page, **NO_MORE)
    begun = time.monotonic()
    write(page, "Where is the mill?")
    until(page, "document.querySelector('.answer')?.innerText")
    assert time.monotonic() - begun < 2, "the first word"
    settle(page)
    name = page.url.split("/chat/")[1].split("?")[0]
    assert page.inner_text("h1") == "Where is the mill?" == page.inner_text(".entry .name")
    figures = page.inner_text("[data-testid=figures]")
    assert "12 tokens" in figures and "tokens/s" in figures and "first after" in figures
    page.click("[aria-label='Answer again']")
    page.wait_for_selector("[data-testid=versions]:has-text('2/2')")
    settle(page)
    write(page, "And the river?")
    until(page, "document.querySelectorAll('.answer').length === 2")
    settle(page)
    first = texts(page)
    page.click(".said.user [aria-label=Edit] >> nth=0")
    page.fill(".editor textarea", "Who mills?")
    page.keyboard.press("Enter")
    until(page, "document.querySelectorAll('.answer').length === 1")
    settle(page)
    assert [one["content"] for one in stored(chats, name) if one["parent"] is None] == [
        "Where is the mill?",
        "Who mills?",
    ]
    second = texts(page)
    page.reload()
    settle(page)
    page.wait_for_selector("[data-testid=versions]")
    assert texts(page) == second != first, "the newest branch is shown"
    page.click("[aria-label='The previous version']")
    until(page, "document.querySelectorAll('.answer').length === 2")
    assert texts(page) == first
    page.reload()
    until(page, "document.querySelectorAll('.answer').length === 2")
    assert texts(page) == first and "leaf=" in page.url


def test_stopping_halts_the_text_at_once_and_frees_the_engine(
    chats: Live, chat: str, open_page: Callable[..., Watched], slowly: None
) -> None:
    page: Any = open_page(chats, f"/chat/{chat}?model=runs/chat").page
    settle(page)
    with_settings(page, **LONG)
    page.evaluate(WATCH)
    for stop in (lambda: page.click("[data-testid=stop]"), lambda: page.keyboard.press("Escape")):
        write(page, "Go on")
        until(page, "document.querySelector('[data-writing] .answer')?.innerText.length > 5")
        assert len(chats.studio.pool.jobs) == 1
        stop()
        until(page, "!document.querySelector('[data-writing]')")
        assert eventually(lambda: not chats.studio.pool.jobs, 0.3), "no answer is under way"
        page.wait_for_timeout(200)
        assert page.evaluate("changed - pressed") < 300, "milliseconds until the text stood still"
        assert "stopped" in page.query_selector_all("[data-testid=figures]")[-1].inner_text()
    assert [one["details"].get("finish_reason") for one in stored(chats, chat)][1::2] == ["stopped", "stopped"]


def test_a_closed_tab_keeps_what_was_written(
    chats: Live, chat: str, open_page: Callable[..., Watched], slowly: None
) -> None:
    page: Any = open_page(chats, f"/chat/{chat}?model=runs/chat").page
    settle(page)
    with_settings(page, **LONG)
    write(page, "Go on")
    until(page, "document.querySelector('[data-writing] .answer')?.innerText.length > 5")
    page.close()
    assert eventually(lambda: not chats.studio.pool.jobs, 1) and eventually(lambda: len(stored(chats, chat)) == 2)
    assert stored(chats, chat)[1]["details"]["finish_reason"] == "stopped" and stored(chats, chat)[1]["content"]


def test_enter_that_ends_a_composition_sends_nothing(chats: Live, chat: str, open_page: Callable[..., Watched]) -> None:
    page: Any = open_page(chats, f"/chat/{chat}").page
    settle(page)
    page.focus("[data-testid=composer]")
    keys = page.context.new_cdp_session(page)
    keys.send("Input.imeSetComposition", {"text": "ni", "selectionStart": 2, "selectionEnd": 2})
    # What a browser sends for the Enter that an input method takes for itself.
    keys.send(
        "Input.dispatchKeyEvent", {"type": "rawKeyDown", "key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 229}
    )
    keys.send("Input.insertText", {"text": "你"})
    page.keyboard.press("Shift+Enter")
    page.keyboard.insert_text("好")
    assert page.input_value("[data-testid=composer]") == "你\n好" and stored(chats, chat) == []
    page.reload()
    settle(page)
    assert page.input_value("[data-testid=composer]") == "你\n好", "a draft survives a reload"


def test_chats_are_searched_renamed_and_deleted_and_messages_judged_copied_and_deleted(
    chats: Live, chat: str, open_page: Callable[..., Watched]
) -> None:
    word = new_id()[:12]
    question = say(chats, chat, f"Where is {word}?")
    answer = ask(chats, chat, question).events[-1]["message"]
    page: Any = open_page(chats, f"/chat/{chat}").page
    settle(page)
    page.fill("[data-testid=search]", word.upper())
    until(page, "document.querySelectorAll('[data-testid=chat-entry]').length === 1")
    page.hover("[data-testid=chat-entry]")
    page.click("[data-testid=chat-entry] [aria-label=Rename]")
    page.fill("[data-testid=rename]", "Rivers")
    page.keyboard.press("Enter")
    page.wait_for_selector("[data-testid=chat-entry] .name:has-text('Rivers')")
    page.click("[aria-label='Bad answer']")
    page.fill("[data-testid=reason]", "It is not.")
    page.keyboard.press("Enter")
    page.wait_for_selector(".reason .badge")
    assert stored(chats, chat)[1]["thumb"] == {"value": -1, "reason": "It is not."}
    page.click(".said.assistant [aria-label=Copy]")
    assert eventually(lambda: page.evaluate("navigator.clipboard.readText()") == answer["content"])
    page.click("[data-testid=to-panel]")
    with page.expect_download() as saved:
        page.click("text=Markdown")
    assert "# Rivers" in Path(saved.value.path()).read_text(encoding="utf-8")
    page.fill("[data-testid=system]", "Be short.")
    page.click("[data-testid=save-system]")
    page.wait_for_selector(".chat-panel .badge")
    assert chats.get(f"/studio/chats/{chat}").json["system"] == "Be short."
    page.click(".said.assistant [aria-label=Delete]")
    page.click("[data-testid=confirm]")
    page.wait_for_selector("[data-testid=answer-it]")
    assert [one["id"] for one in stored(chats, chat)] == [question]
    page.hover("[data-testid=chat-entry]")
    page.click("[data-testid=chat-entry] [aria-label=Delete]")
    page.click("[data-testid=confirm]")
    page.wait_for_url("**/chat*")
    assert chats.get(f"/studio/chats/{chat}").status == 404


def test_five_thousand_messages_scroll_smoothly(chats: Live, chat: str, open_page: Callable[..., Watched]) -> None:
    words = "The **mill** stands by the `river`.\n\n- one\n- two\n"
    rows = [
        {
            "id": f"{chat[:24]}-{place}",
            "chat": chat,
            "parent": f"{chat[:24]}-{place - 1}" if place else None,
            "role": ("user", "assistant")[place % 2],
            "content": f"{place}: {words * (1 + place % 4)}",
            "model": None,
            "details": {},
            "created": float(place),
        }
        for place in range(5000)
    ]
    with chats.studio.store.write() as connection:
        connection.execute(sql.insert(tables.messages), rows)
    page: Any = open_page(chats, f"/chat/{chat}").page
    page.wait_for_selector("text=4999:")
    browser = page.context.new_cdp_session(page)
    browser.send("Performance.enable", {"timeDomain": "threadTicks"})

    def worked() -> float:
        """Return how many seconds of a core the page has used for itself."""
        return next(
            m["value"] for m in browser.send("Performance.getMetrics")["metrics"] if m["name"] == "TaskDuration"
        )

    before, frames = worked(), page.evaluate(SCROLL, -120)
    cost = (worked() - before) / (frames * SCROLL_SECONDS)
    print(f"{frames:.0f} frames a second, {cost * 1000:.1f} ms of a core each")
    assert cost < 1 / 60
    assert frames >= 30 or os.getloadavg()[0] > (os.cpu_count() or 1), "others may leave it too little to paint with"
    page.evaluate("document.querySelector('[data-testid=scroller]').scrollTo(0, 0)")
    page.wait_for_selector("text=0: The")
    assert len(page.query_selector_all("[data-testid=message]")) < 200
    page.click("[data-testid=to-end]")
    page.wait_for_selector("text=4999:")


def hostile() -> Iterator[str]:
    """Yield 250 and more texts that run a script or fetch something where a page takes them for HTML."""
    runs = ["alert(1)", "fetch('//evil.example/')", "window.hit=1"]
    tags = ["img src=x {on}", "svg {on}", "body {on}", "details open {on}", "video src=x {on}", "input autofocus {on}"]
    events = ["onerror", "onload", "ontoggle", "onfocus", "onanimationstart"]
    for tag, name, run in itertools.product(tags, events, runs):
        handler = f'{name}="{run}"'
        yield f"<{tag.format(on=handler)}>"
    wrappers = [
        "<script>{}</script>",
        "<iframe srcdoc='<script>{}</script>'>",
        '<a href="javascript:{}">x</a>',
        "[x](javascript:{})",
    ]
    wrappers += [
        "<object data='javascript:{}'>",
        "<math><mtext><script>{}</script>",
        "```\n</code><script>{}</script>\n```",
    ]
    wrappers += [
        "</textarea><script>{}</script>",
        "</title><script>{}</script>",
        "<style>@import '//evil.example/{}'</style>",
    ]
    wrappers += [
        "<noscript><p title='</noscript><img src=x onerror={}>'>",
        "<form action='javascript:{}'><button>x</button></form>",
    ]
    cases = [str, str.upper, lambda text: text.replace("<", "&lt;"), lambda text: text.replace("a", "&#97;")]
    for wrapper, run, case in itertools.product(wrappers, runs, cases):
        yield case(wrapper.format(run))
    yield from (
        "![x](http://evil.example/a.png)",
        "<link rel=stylesheet href=//evil.example/>",
        "<base href=//evil.example/>",
    )
    fetching = [
        "<img src=//evil.example/{}.png>",
        "![x][r]\n\n[r]: //evil.example/{}",
        "<meta http-equiv=refresh content='0;url=//evil.example/{}'>",
    ]
    for form, place in itertools.product(fetching, range(10)):
        yield form.format(place)


def test_nothing_that_anybody_wrote_runs_or_is_fetched(
    chats: Live, chat: str, open_page: Callable[..., Watched]
) -> None:
    payloads = list(dict.fromkeys(hostile()))
    assert len(payloads) >= 250
    title = " ".join(payloads)[:200]
    assert chats.call("PATCH", f"/studio/chats/{chat}", {"title": title}).status == 200
    say(chats, chat, "\n".join(payloads), role="system")
    rows, votes = [], []
    for place, payload in enumerate(payloads):
        row = {"chat": chat, "model": None, "details": {}, "created": float(place)}
        made = [f"{chat[:20]}-{place}-{role}" for role in "ua"]
        call = {"id": payload, "type": "function", "function": {"name": payload, "arguments": payload}}
        details = {"tool_calls": [call], "tokens": 1, "finish_reason": payload}
        before = f"{chat[:20]}-{place - 1}-a" if place else None
        rows.append({**row, "id": made[0], "parent": before, "role": "user", "content": payload})
        said = f"{payload}\n\n<think>{payload}</think>\n\n<tool_call>{payload}</tool_call>"
        rows.append(
            {
                **row,
                "id": made[1],
                "parent": made[0],
                "role": "assistant",
                "content": said,
                "model": payload,
                "details": details,
            }
        )
        votes.append({"message": made[1], "voter": "local", "value": -1, "reason": payload, "created": 1.0})
    with chats.studio.store.write() as connection:
        connection.execute(sql.insert(tables.messages), rows)
        connection.execute(sql.insert(tables.message_votes), votes)
    watched = open_page(chats, f"/chat/{chat}?panel=settings")
    page: Any = watched.page
    page.on("dialog", lambda dialog: watched.errors.append(f"dialog: {dialog.message}"))
    page.wait_for_selector("[data-testid=reason]")
    page.fill("[data-testid=search]", "<script>")
    seen: set[str] = set()
    height = page.evaluate("document.querySelector('[data-testid=scroller]').scrollHeight")
    for top in range(0, height * 3, 1500):
        end = page.evaluate(
            "top => { const place = document.querySelector('[data-testid=scroller]'); place.scrollTo(0, top);"
            "return new Promise(done => setTimeout(() => done(top > place.scrollHeight), 40)) }",
            top,
        )
        seen.update(page.evaluate("[...document.querySelectorAll('.bubble')].map(one => one.textContent)"))
        if end:
            break
    assert seen == set(payloads), "all of them were on the page, as they were written"
    assert page.evaluate("window.hit") is None
    alien = "script, iframe, object, embed, style, link, base, meta, img, video, form[action], [href^='javascript:' i]"
    assert page.query_selector_all(f"main :is({alien})") == []
    handlers = (
        "[...document.querySelectorAll('main *')].flatMap(e => e.getAttributeNames()).filter(n => n.startsWith('on'))"
    )
    assert page.evaluate(handlers) == []


def test_a_killed_server_leaves_a_banner_and_trying_again_works(
    chatty: Path, tmp_path: Path, open_page: Callable[..., Watched]
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    store = tmp_path / "killed.db"
    code = (
        "import sys, time; from smelt.serve.loop import EngineLoop; step = EngineLoop._step\n"
        "EngineLoop._step = lambda *given: (time.sleep(0.02), step(*given))\n"
        "from smelt.cli.main import run; sys.argv[0] = 'smelt'; run()"
    )
    command = [sys.executable, "-c", code, "studio", str(chatty), "--port", str(port), "--store", str(store)]
    environment = {**os.environ, "PYTHONPATH": str(Path(smelt.__file__).parents[1])}

    def start() -> "subprocess.Popen[bytes]":
        process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
        assert eventually(lambda: answers(f"http://127.0.0.1:{port}/studio/session"), STARTING_SECONDS)
        return process

    process = start()
    try:
        live: Any = type("At", (), {"url": f"http://127.0.0.1:{port}"})
        page: Any = open_page(live, "/chat?model=runs/chat").page
        settle(page)
        with_settings(page, **LONG)
        write(page, "Go on")
        until(page, "document.querySelector('[data-writing] .answer')?.innerText.length > 5")
        process.send_signal(signal.SIGKILL)
        process.wait()
        page.wait_for_selector("[data-testid=retry]")
        assert "broke off" in page.inner_text(".notice")
        page.click("[data-testid=retry]")
        page.wait_for_selector(".notice:has-text('does not answer')")
        process = start()
        page.click("[data-testid=retry]")
        page.wait_for_selector("[data-testid=figures]", timeout=60_000)
        kept = Store.open(store)
        with kept.read() as connection:
            found = connection.execute(sql.select(tables.messages.c.role).order_by(tables.messages.c.created)).scalars()
            assert list(found) == ["user", "assistant"], "neither lost nor doubled"
        kept.close()
    finally:
        process.kill()
        process.wait()


def answers(url: str) -> bool:
    """Tell whether a server is there; it is not asked too often, for it needs the time itself."""
    time.sleep(0.2)
    try:
        with urllib.request.urlopen(url, timeout=1) as response:
            return bool(response.status == 200)
    except OSError:
        return False
