"""Walk through the studio as its user does, on a model of one's own: every page does what it promises, with figures.

    python benchmarks/studio_walk.py FOLDER            FOLDER/runs/demo is what `make demo` makes
    python benchmarks/studio_walk.py NEW-FOLDER        first one click on Home makes a model there (8 minutes)

Each deed is one of the pages' acceptances, done in headless Chromium against `smelt studio` in a process of its own. A
line says what was seen; a deed that fails says why and the walk goes on, with an exit status of 1 in the end. Pictures
go to --out. What needs several models, faults or hostile texts is in tests/studio.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import sqlalchemy as sql
from studio_pages import studio

from smelt.serve.store import tables
from smelt.serve.store.database import Store, new_id

ROADS = ("runs/demo", "runs/first")
"""Where `make demo` and the button on Home leave what they make."""
PATIENCE_SECONDS = 120  # of a page; the first answer of all compiles kernels
FIRST_MODEL_SECONDS = 1800
QUESTION = "Where is the mill?"
MANY_MESSAGES = 5000
TRIES = 8
LAST_TEXT = "([...document.querySelectorAll('.answer')].at(-1)?.innerText ?? '')"
IDLE = "!document.querySelector('.chat-head .spinner, [data-writing]')"
WAIT = """
    const text = () => document.querySelector("[data-writing] .answer")?.innerText ?? "";
    const until = performance.now() + 20000;
    while (text().length < 20 && performance.now() < until) await new Promise(requestAnimationFrame);
"""
LEAVE = f"async () => {{ {WAIT} setTimeout(() => location.assign('about:blank')); return location.pathname; }}"
STOP = f"""async () => {{
    {WAIT}
    document.querySelector('[data-testid=stop]').click();
    const pressed = performance.now();
    let changed = pressed, before = '';
    while (performance.now() - pressed < 1000) {{
        const now = [...document.querySelectorAll('.answer')].at(-1).textContent;
        if (now !== before) changed = performance.now();
        before = now;
        await new Promise(requestAnimationFrame);
    }}
    return changed - pressed;
}}"""
SCROLL = """async () => {
    const place = document.querySelector('[data-testid=scroller]'), begun = performance.now();
    let frames = 0;
    while (performance.now() - begun < 3000) {
        place.scrollBy(0, -120);
        await new Promise(requestAnimationFrame);
        frames += 1;
    }
    return frames / 3;
}"""
SWITCH = """async (press) => {
    const begin = performance.now();
    document.querySelector(press).click();
    while (!(THERE)) await new Promise(requestAnimationFrame);
    return performance.now() - begin;
}"""


@dataclass
class Walk:
    """A browser, the studio's address and folder, and where pictures go."""

    browser: Any
    url: str
    folder: Path
    out: Path

    @property
    def road(self) -> str:
        """Return the folder of the models that are walked with."""
        return next(road for road in ROADS if (self.folder / road / "chat").is_dir())

    @property
    def chat(self) -> str:
        """Return the name of the model that answers."""
        return f"{self.road}/chat"

    @property
    def base(self) -> str:
        """Return the name of the model that goes on with a text."""
        return f"{self.road}/base"

    @contextmanager
    def page(self, path: str) -> Iterator[Any]:
        """Open an address in a context of its own; in the end it may not have misbehaved."""
        context = self.browser.new_context(viewport={"width": 1440, "height": 900})
        context.set_default_timeout(1000 * PATIENCE_SECONDS)
        context.grant_permissions(["clipboard-read", "clipboard-write"])
        page, wrong = context.new_page(), list[str]()
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("request", lambda asked: asked.url.startswith((self.url, "data:", "blob:")) or wrong.append(asked.url))
        page.goto(self.url + path)
        yield page
        page.screenshot(path=self.out / f"{path.strip('/').partition('?')[0].replace('/', '-') or 'home'}.png")
        context.close()
        assert not wrong, wrong

    def get(self, path: str) -> Any:
        """Return what the server answers."""
        with urllib.request.urlopen(self.url + path) as answer:
            return json.load(answer)

    def post(self, path: str, **body: Any) -> Any:
        """Send JSON and return what the server answers."""
        given = {"Content-Type": "application/json"}
        asked = urllib.request.Request(self.url + path, json.dumps(body).encode(), given)
        with urllib.request.urlopen(asked) as answer:
            return json.load(answer)

    def answering(self) -> int:
        """Return how many answers are written, as Home shows it."""
        return int(self.get("/studio/home")["machine"]["answering"])


def until(page: Any, condition: str, seconds: float = PATIENCE_SECONDS) -> None:
    """Wait until something holds in a page, whose policy forbids Playwright's own way."""
    end = time.monotonic() + seconds
    while not page.evaluate(condition):
        assert time.monotonic() < end, f"after {seconds} s not yet: {condition}"
        page.wait_for_timeout(50)


def say(page: Any, text: str) -> float:
    """Send a message; return the seconds until its answer begins."""
    before = page.evaluate("document.querySelectorAll('.answer').length")
    page.fill("[data-testid=composer]", text)
    page.keyboard.press("Enter")
    begun = time.monotonic()
    until(page, f"document.querySelectorAll('.answer').length > {before} && {LAST_TEXT}")
    return time.monotonic() - begun


def first_model(walk: Walk) -> str:
    """One click on Home of an empty folder, training that is watched, a reply."""
    with walk.page("/") as page:
        page.wait_for_selector("[data-testid=first-start]")
        begun = time.monotonic()
        page.click("[data-testid=first-start]")
        page.wait_for_selector("[data-testid=first-progress] canvas", timeout=1000 * FIRST_MODEL_SECONDS)
        page.screenshot(path=walk.out / "first-progress.png")
        page.wait_for_selector("[data-testid=first-ready]", timeout=1000 * FIRST_MODEL_SECONDS)
        ready = time.monotonic() - begun
        page.screenshot(path=walk.out / "first-ready.png")
        page.click("[data-testid=first-ready] a.primary")
        until(page, IDLE)
        say(page, QUESTION)
        until(page, IDLE)
        return f"trained in {ready:.0f} s, reply after {time.monotonic() - begun:.0f} s: {page.evaluate(LAST_TEXT)!r}"


def chat_answers(walk: Walk) -> str:
    """First token, another answer with arrows, an edited question, both branches after a reload."""
    with walk.page(f"/chat?model={walk.chat}") as page:
        until(page, IDLE)
        say(page, QUESTION)
        until(page, IDLE)
        first = say(page, "And who lives there?")
        until(page, IDLE)
        page.click("[aria-label='Answer again'] >> nth=-1")
        page.wait_for_selector("[data-testid=versions]:has-text('2/2')")
        until(page, IDLE)
        page.click(".said.user [aria-label=Edit] >> nth=0")
        page.fill(".editor textarea", "Who is the baker?")
        page.keyboard.press("Enter")
        until(page, f"document.querySelectorAll('.answer').length === 1 && {IDLE}")
        page.reload()
        page.click("[aria-label='The previous version']")
        until(page, "document.querySelectorAll('.answer').length === 2")
        assert first < 2, f"the first token after {first:.2f} s"
        figures = page.inner_text("[data-testid=figures] >> nth=-1")
        return f"first token after {first:.2f} s; {' '.join(figures.split())}"


def chat_stops(walk: Walk) -> str:
    """Stop halts the text and frees the engine; a closed tab keeps what was written."""
    with walk.page(f"/chat?model={walk.base}") as page:
        kept = json.dumps({"temperature": 2, "top_p": 1, "max_tokens": 400})  # nonsense, which is long
        page.evaluate("kept => localStorage.setItem('smelt.chat.settings', kept)", kept)
        page.reload()
        until(page, IDLE)
        page.fill("[data-testid=composer]", "Once there was a town.")
        page.keyboard.press("Enter")
        late = page.evaluate(STOP)
        assert late < 300 and not walk.answering(), f"the text went on for {late:.0f} ms"
        until(page, IDLE)
        for _ in range(TRIES):  # a small model may have ended its answer before the tab is closed
            page.goto(f"{walk.url}/chat?model={walk.base}")
            until(page, IDLE)
            page.fill("[data-testid=composer]", "Once there was a town.")
            page.keyboard.press("Enter")
            chat = page.evaluate(LEAVE).removeprefix("/chat/")
            time.sleep(0.5)
            last = walk.get(f"/studio/chats/{chat}")["messages"][-1]
            if last["details"]["finish_reason"] != "stop":
                break
        assert last["details"]["finish_reason"] == "stopped" and last["content"] and not walk.answering(), last
        kept = len(last["content"])
        return f"the text stood still {late:.0f} ms after the press; a closed tab kept {kept} characters"


def chat_scrolls(walk: Walk) -> str:
    """A chat of thousands of messages."""
    store, chat = Store.open(walk.folder / "studio.db"), new_id()
    walk.post("/studio/chats", id=chat, title="Many")
    rows, parent = list[dict[str, Any]](), None
    for place in range(MANY_MESSAGES):
        text = f"{place}: " + "The **mill** stands by the `river`.\n\n- one\n- two\n" * (1 + place % 4)
        row = {"id": new_id(), "chat": chat, "parent": parent, "role": ("user", "assistant")[place % 2]}
        rows.append({**row, "content": text, "model": None, "details": {}, "created": float(place)})
        parent = row["id"]
    with store.write() as connection:
        connection.execute(sql.insert(tables.messages), rows)
    store.close()
    with walk.page(f"/chat/{chat}") as page:
        page.wait_for_selector(f"text={MANY_MESSAGES - 1}:")
        page.wait_for_timeout(1000)
        frames = page.evaluate(SCROLL)
        assert frames >= 30, f"{frames:.0f} frames a second"
        return f"{MANY_MESSAGES} messages: {frames:.0f} frames a second"


def arena(walk: Walk) -> str:
    """A blind round of two checkpoints and a quantization, one vote of a double click, an export that is read."""
    names = [walk.chat, f"{walk.chat}@int8", walk.base]
    before = walk.get("/studio/arena/leaderboard")["counts"]["votes"]
    with walk.page(f"/arena?models={','.join(names)}") as page:
        page.wait_for_selector("text=Who answers")
        page.fill("textarea", QUESTION)
        page.click("[data-testid=start-round]")
        page.wait_for_url("**/arena/*")
        asked = list[Any]()
        page.on("framenavigated", lambda frame: asked.clear())
        page.on("requestfinished", lambda one: asked.append(one))
        page.reload()
        page.wait_for_selector("button:has-text('A is best'):enabled")
        heard = [one.response().text() for one in asked if "/studio/" in one.url]
        said = [*heard, page.content()]
        assert heard and not any(name in text for text in said for name in names), "a name before the vote"
        page.dblclick("button:has-text('B is best')")
        page.wait_for_selector("[data-testid=result]")
        page.click("text=See the leaderboard")
        page.wait_for_selector("[data-testid=side-bias]")
        with page.expect_download() as download:
            page.click("text=Download preferences.jsonl")
        rows = Path(shutil.copy(download.value.path(), walk.out / "preferences.jsonl"))
    votes = walk.get("/studio/arena/leaderboard")["counts"]["votes"] - before
    assert votes == 1, f"{votes} votes of one double click"
    words = [sys.executable, "-c", "from smelt.cli.main import run; run()", "data", "inspect", str(rows)]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return f"one vote, {len(rows.read_text().splitlines())} preference rows that `smelt data inspect` reads"


def token_lens(walk: Walk) -> str:
    """Bars equal the API's log-probabilities; sliders ask for nothing; a branch is written."""
    text = "The mill stands by the"
    with walk.page(f"/tokens?model={walk.base}&text={quote(text)}&at=3") as page:
        page.wait_for_selector("[data-testid=bars]")
        read = "all => all.map(one => [one.dataset.id, +one.dataset.share])"
        bars = dict(page.eval_on_selector_all("[data-share]", read))
        found = walk.post("/studio/lens/tokens", model=walk.base, text=text)["ids"]
        body = {"model": walk.base, "prompt": text, "max_tokens": 1, "echo": True, "logprobs": 0}
        said = walk.post("/v1/completions", **body)["choices"][0]["logprobs"]["token_logprobs"]
        far = abs(bars.get(str(found[3]), math.exp(said[3])) - math.exp(said[3]))
        assert far < 1e-3, f"{far:.1e} apart"
        asked = list[str]()
        page.on("request", lambda request: asked.append(request.url))
        page.get_by_label("Temperature").fill("0.5")
        page.wait_for_selector("text=With these settings")
        assert not asked, asked
        page.locator("[data-id]").first.click()
        page.wait_for_selector(".token.fork")
        return f"a bar and the API are {far:.1e} apart; a slider asked for nothing"


def model_lens(walk: Walk) -> str:
    """Attention rows sum to 1; another layer or head is there at once."""
    text = QUESTION
    found = walk.post("/studio/lens/attention", model=walk.chat, text=text, layer=0)
    with walk.page(f"/model/attention?model={walk.chat}&text={quote(text)}") as page:
        page.wait_for_selector("[data-testid=head] svg")
        assert page.inner_text("[data-testid=sum]") == "100.0%"
        place = "document.querySelector('[data-testid=attention]')"
        moves = {
            "layer": ("button[aria-label='Next layer']", f"{place}.dataset.layer === '1'"),
            "head": ("[data-testid=head-2]", f"{place}.querySelector('h2').textContent === 'Head 2'"),
        }
        taken = {kind: page.evaluate(SWITCH.replace("THERE", there), press) for kind, (press, there) in moves.items()}
        assert max(taken.values()) < 200, taken
        size, (layer, head) = len(found["ids"]), taken.values()
        return f"{size} tokens: another layer after {layer:.0f} ms, another head after {head:.0f}"


def train(walk: Walk) -> str:
    """A form, a dry run, a training of its own process that pauses and goes on, points as in its file."""
    name = f"walk-{int(time.time())}"
    values = {
        "name": name,
        "data": f"{walk.road}/data/heldout/pretrain.jsonl",
        "tokenizer": f"{walk.road}/tokenizer",
        "steps": "40",
        "max_seq_len": "64",
    }
    with walk.page("/train/new?verb=pretrain") as page:
        for field, value in values.items():
            page.locator(f"[data-testid='field-{field}'] input").first.fill(value)
        page.click("[data-testid=cost] button")
        page.wait_for_selector("[data-testid=cost] .badge")
        cost = " ".join(page.inner_text("[data-testid=cost]").split())
        page.click("[data-testid=start]")
        page.wait_for_selector("[data-testid=state]")
        page.wait_for_selector("[data-testid=state][data-state=finished]")
    rows = (walk.folder / "runs" / name / "metrics.jsonl").read_text().splitlines()
    drawn = walk.get(f"/studio/runs/curves?runs={quote(f'runs/{name}', safe='')}")["runs"][0]["curves"][0]
    assert drawn["y"] == [json.loads(row)["loss"] for row in rows], "points are not those of the file"
    return f"{len(rows)} steps, as many points; dry run: {cost[:160]}"


def runs(walk: Walk) -> str:
    """A run's curve is its file's."""
    rows = [json.loads(line) for line in (walk.folder / walk.base / "metrics.jsonl").read_text().splitlines()]
    drawn = walk.get(f"/studio/runs/curves?runs={quote(walk.base, safe='')}&points=20000")["runs"][0]["curves"][0]
    assert drawn["y"] == [row["loss"] for row in rows] and drawn["x"] == [row["step"] for row in rows]
    with walk.page(f"/runs/{quote(walk.base, safe='')}") as page:
        page.wait_for_selector("[data-testid=plot][data-lines]")
    return f"{len(rows)} points, each as in metrics.jsonl"


def data(walk: Walk) -> str:
    """Rows as tokens with the loss mask; an edit is a new version."""
    files = [row["name"] for row in walk.get("/studio/datasets")["files"]]
    name = next(one for one in files if "instruct" in one or "chat" in one)
    before = (walk.folder / name).read_bytes()
    with walk.page(f"/data/{quote(name, safe='')}?view=tokens&model={quote(walk.chat, safe='')}") as page:
        page.wait_for_selector("[data-testid=tokens] .data-token.learned")
        seen = page.inner_text(".data-legend .number")
        page.click("text=Edit")
        page.locator("label:has-text('content') textarea").first.fill("Who?")
        page.click("text=Save as a new version")
        page.wait_for_selector("h1:has-text('.v')")
    assert (walk.folder / name).read_bytes() == before, "the source changed"
    return f"{name}: its first row has {seen}; an edit made a version"


def models(walk: Walk) -> str:
    """The graph; a base that is needed is not deleted."""
    with walk.page("/models") as page:
        page.wait_for_selector(f"[data-testid='node-{walk.chat}']")
        nodes = page.locator(".lineage-node").count()
    with walk.page(f"/models/{quote(walk.base, safe='')}") as page:
        page.click("button:has-text('Delete')")
        needed = page.text_content("[data-testid=needed]")
        assert walk.chat in needed, needed
    return f"{nodes} nodes; {walk.base} is needed by {walk.chat}"


def api(walk: Walk) -> str:
    """The copied snippet works in a shell."""
    with walk.page(f"/api?model={walk.chat}") as page:
        page.wait_for_selector("[data-testid=snippet]")
        page.click("button[aria-label=Copy]")
        copied = page.evaluate("navigator.clipboard.readText()")
    done = subprocess.run(["bash", "-c", copied], capture_output=True, text=True)
    answer = json.loads(done.stdout)["choices"][0]["message"]["content"]
    return f"curl answers {answer!r}"


DEEDS: tuple[Callable[[Walk], str], ...] = (
    chat_answers, chat_stops, chat_scrolls, arena, token_lens, model_lens, train, runs, data, models, api,
)  # fmt: skip


def done(deed: Callable[[Walk], str], walk: Walk) -> bool:
    """Do one deed, print what was seen, and tell whether it held."""
    try:
        seen, held = deed(walk), True
    except Exception as error:  # a deed that fails must not hide the next ones
        seen, held = f"{type(error).__name__}: {str(error).splitlines()[0]}", False
    print(f"| {deed.__name__.replace('_', ' ')} | {'holds' if held else 'FAILS'} | {seen} |", flush=True)
    return held


def main() -> None:
    """Walk and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path, default=Path("runs/studio-walk"))
    parser.add_argument("--only", nargs="*", default=[deed.__name__ for deed in DEEDS])
    words = parser.parse_args()
    from playwright.sync_api import sync_playwright

    words.out.mkdir(parents=True, exist_ok=True)
    words.folder.mkdir(parents=True, exist_ok=True)
    first = not any(words.folder.iterdir())
    deeds = [*([first_model] if first else []), *(deed for deed in DEEDS if deed.__name__ in words.only)]
    print("| deed | | seen |\n|---|---|---|")
    with studio(words.folder, []) as address, sync_playwright() as driver:
        chromium = shutil.which("chromium") or shutil.which("google-chrome")
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        walk = Walk(browser, address, words.folder.resolve(), words.out)
        held = [done(deed, walk) for deed in deeds]
        browser.close()
    sys.exit(0 if all(held) else 1)


if __name__ == "__main__":
    main()
