"""Open every page of the studio in headless Chromium: how soon it is there, how much it loads, how it looks.

    python benchmarks/studio_pages.py FOLDER --out shots            FOLDER/runs/demo is what `make demo` makes
    python benchmarks/studio_pages.py FOLDER --only "/chat*" --data ../shared/data

For each page a line: seconds from the address to a page that answers (the median of --repeats, each in a new browser
context, so that nothing is cached), kB of scripts as they travel compressed, axe-core's serious findings, requests that
left the origin, reports of the content security policy, errors of scripts, and whether a window of 375 or 1440 pixels
has to be scrolled sideways. Screenshots of both widths in both themes and languages go to --out: look at them.
"""

from __future__ import annotations

import argparse
import gzip
import re
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

PAGES = ("/", "/chat", "/arena", "/tokens", "/model", "/train", "/runs", "/data", "/models", "/api")
AXE = Path(__file__).parents[1] / "web/node_modules/axe-core/axe.min.js"
LOOKS = [(theme, language) for theme in ("light", "dark") for language in ("en", "zh")]
READY = "main h1, main .page"
WATCH = """
window.faults = [];
addEventListener('securitypolicyviolation', event => window.faults.push('policy: ' + event.violatedDirective));
"""


@contextmanager
def studio(folder: Path, data: list[Path]) -> Iterator[str]:
    """Start a studio on a free port; yield its address."""
    more = [word for path in data for word in ("--data", str(path))]
    words = [sys.executable, "-c", "from smelt.cli.main import run; run()", "studio", str(folder), "--port", "0", *more]
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as server:
        try:
            assert server.stderr is not None
            for line in server.stderr:
                if found := re.search(r"http://\S+", line):
                    break
            else:
                sys.exit("the studio did not start")
            # Its log has to go somewhere, or it would wait for a reader.
            drain = subprocess.Popen(["cat"], stdin=server.stderr, stdout=subprocess.DEVNULL)
            yield found.group()
            drain.kill()
        finally:
            server.terminate()


def opened(browser: Any, url: str, width: int, look: tuple[str, str]) -> tuple[Any, float, list[str], list[str]]:
    """Open an address; return the page, the seconds until it answers, what it asked for, and its errors."""
    theme, language = look
    context = browser.new_context(viewport={"width": width, "height": 900 if width > 400 else 760})
    kept = f"localStorage['smelt.theme'] = '\"{theme}\"'; localStorage['smelt.language'] = '\"{language}\"';"
    context.add_init_script(kept + WATCH)
    page, asked, errors = context.new_page(), list[str](), list[str]()
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    started = time.perf_counter()
    page.goto(url)
    page.wait_for_selector(READY)
    page.evaluate("new Promise(done => requestIdleCallback(done))")
    return page, time.perf_counter() - started, asked, errors


def script_bytes(asked: list[str]) -> int:
    """Return the bytes of the scripts among what was asked for, compressed."""
    static = Path(__file__).parents[1] / "smelt/studio/static/assets"
    names = {url.rpartition("/")[2] for url in asked if url.endswith(".js")}
    return sum(len(gzip.compress((static / name).read_bytes())) for name in names)


def row_of(browser: Any, address: str, path: str, out: Path, repeats: int) -> list[str]:
    """Measure and picture one page; return its row of the table."""
    seconds, sizes, errors, left, faults, wide = list[float](), 0, list[str](), 0, list[str](), list[int]()
    for _ in range(repeats):
        page, taken, asked, _ = opened(browser, address + path, 1440, LOOKS[0])
        seconds.append(taken)
        page.context.close()
    serious = 0
    for width in (1440, 375):
        for look in LOOKS:
            page, _, asked, found = opened(browser, address + path, width, look)
            page.wait_for_timeout(1500)
            name = re.sub(r"\W+", "-", path).strip("-") or "home"
            page.screenshot(path=out / f"{name}-{width}-{'-'.join(look)}.png", full_page=width > 400)
            if page.evaluate("document.documentElement.scrollWidth") > width:
                wide.append(width)
            page.evaluate(AXE.read_text(encoding="utf-8"))
            violations = page.evaluate("axe.run()")["violations"]
            serious += sum(one["impact"] in ("serious", "critical") for one in violations)
            faults += page.evaluate("window.faults")
            errors += found
            left += sum(not url.startswith((address, "data:", "blob:")) for url in asked)
            sizes = max(sizes, script_bytes(asked))
            page.context.close()
    figures = (f"{statistics.median(seconds):.2f}", f"{sizes / 1000:.0f}", serious, left, len(faults), len(errors))
    return [path, *map(str, figures), ", ".join(map(str, sorted(set(wide)))) or "no"]


def main() -> None:
    """Print the table of all pages."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--data", type=Path, nargs="*", default=[])
    parser.add_argument("--out", type=Path, default=Path("runs/studio-pages"))
    parser.add_argument("--only", default="*", help="a shell pattern of pages")
    parser.add_argument("--more", nargs="*", default=[], help="further addresses, such as /runs/runs%%2Fdemo%%2Fbase")
    parser.add_argument("--repeats", type=int, default=3)
    words = parser.parse_args()
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    words.out.mkdir(parents=True, exist_ok=True)
    heads = ("page", "seconds", "scripts kB", "axe serious", "left the origin", "policy", "errors", "scrolls sideways")
    print(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
    with studio(words.folder, words.data) as address, sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for path in (path for path in (*PAGES, *words.more) if fnmatch(path, words.only)):
            print(f"| {' | '.join(row_of(browser, address, path, words.out, words.repeats))} |", flush=True)
        browser.close()


if __name__ == "__main__":
    main()
