"""How long the studio's page of runs takes to paint 200 runs of 10,000 steps in a browser.

Makes a folder of such runs once (0.4 GB), starts `smelt studio` over it, and opens /runs with all of them in one chart
in headless chromium. Three looks: first after a start of the studio, whose files it has never read; again, with a new
browser; and from another page of the studio, a click on Runs. Each prints when the first curves were painted and
when all were, in milliseconds since the navigation began.

    python benchmarks/studio_runs.py --folder /tmp/many-runs
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
from playwright.sync_api import sync_playwright

from smelt.core.config import load_recipe, to_yaml
from smelt.train.stages.pretrain import PretrainRecipe

ADDRESS = "/runs?runs=*"
NOTE = """
window.seen = {};
setInterval(() => {
  const plot = document.querySelector("[data-testid=plot]");
  const lines = Number(plot?.dataset.lines ?? 0);
  if (lines && !seen.first) seen.first = performance.now();
  if (lines >= WANTED && !seen.all) requestAnimationFrame(() => (seen.all ??= performance.now()));
}, 4);
"""


def make(folder: Path, runs: int, steps: int) -> None:
    """Write runs that differ in rate and luck, where they are not there."""
    for number in range(runs):
        run = folder / "runs" / f"sweep-{number:03d}"
        if (run / "metrics.jsonl").is_file():
            continue
        run.mkdir(parents=True, exist_ok=True)
        rate = 0.001 * (1 + number / 40)
        words = (f"name={run.name}", "data=book.txt", "tokenizer=tokenizer", f"steps={steps}")
        recipe = load_recipe(PretrainRecipe, None, (*words, f"optimizer.learning_rate={rate}"))
        (run / "recipe.yaml").write_text(to_yaml(recipe), encoding="utf-8")
        noise = np.random.default_rng(number).normal(0, 0.08, (2, steps)).astype(np.float32)
        with open(run / "metrics.jsonl", "w", encoding="utf-8") as handle:
            for step in range(1, steps + 1):
                fall = 3 + number / 400 + 5 * math.exp(-step / (600 + 4 * number))
                line = {
                    "step": step, "tokens": step * 4096, "loss": float(np.float32(fall) + noise[0, step - 1]),
                    "gradient_norm": float(1 + noise[1, step - 1]), "learning_rate": rate * (1 - step / steps),
                    "seconds": round(step * 0.9132, 4), "tokens_per_second": 4485.3, "memory_bytes": 1202724864,
                }  # fmt: skip
                handle.write(json.dumps(line) + "\n")
        event = {"event": "validation", "time": 1795407053.2, "step": steps, "loss": fall, "best_step": steps}
        (run / "events.jsonl").write_text(json.dumps(event) + "\n", encoding="utf-8")


def start(folder: Path, port: int) -> subprocess.Popen[bytes]:
    """Start a studio over a folder and wait until it answers."""
    command = [
        sys.executable,
        "-c",
        "from smelt.cli.main import run; run()",
        "studio",
        str(folder),
        "--port",
        str(port),
    ]
    server = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    while True:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/studio/session").close()
            time.sleep(5)  # what it loads beside is loaded
            return server
        except OSError:
            if server.poll() is not None:
                raise SystemExit("the studio did not start") from None
            time.sleep(0.1)


def look(browser: Any, url: str, runs: int, *, through: str = "") -> dict[str, float]:
    """Open the page in a new browser, or click to it from another page, and return when it was painted."""
    page = browser.new_context(viewport={"width": 1440, "height": 900}).new_page()
    page.add_init_script(NOTE.replace("WANTED", str(2 * runs)))  # a curve and a dot of its validation each
    page.goto(url + (through or ADDRESS))
    began = 0.0
    if through:
        page.wait_for_timeout(1500)
        began = page.evaluate(
            "address => { const now = performance.now(); history.pushState(null, '', address);"
            "dispatchEvent(new Event('smelt-navigated')); return now }",
            ADDRESS,
        )
    while not page.evaluate("seen.all"):  # the pages' policy forbids wait_for_function, which evaluates a text
        page.wait_for_timeout(50)
    seen = page.evaluate("seen")
    page.context.close()
    return {name: round(when - began) for name, when in seen.items()}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--port", type=int, default=8489)
    parser.add_argument("--chromium", default="/usr/bin/chromium")
    given = parser.parse_args()
    make(given.folder, given.runs, given.steps)
    url = f"http://127.0.0.1:{given.port}"
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=given.chromium, args=["--no-sandbox"])
        browser.new_page().goto("about:blank")
        server = start(given.folder.resolve(), given.port)
        try:
            found = {
                "runs": given.runs,
                "steps": given.steps,
                "load": os.getloadavg()[0],
                "first_look_ms": look(browser, url, given.runs),
                "again_ms": look(browser, url, given.runs),
                "once_more_ms": look(browser, url, given.runs),
                "from_home_ms": look(browser, url, given.runs, through="/"),
            }
        finally:
            server.terminate()
            server.wait()
            browser.close()
    print(json.dumps(found))


if __name__ == "__main__":
    main()
