"""Run real clients against a live `smelt serve`, each client in an environment of its own.

    make clients                                              # all suites
    .venv/bin/python tests/clients/run.py openai-3 raw        # some of them
    .venv/bin/python tests/clients/run.py schema --cases 10000

The environments are made in .venv-clients/ from the lists of exact versions in `environments/`, by uv, which takes
seconds where pip takes minutes; a second call installs nothing. To renew a list, give the packages of its first line to
`uv pip compile --no-annotate --no-header`.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from tiny_model import make_expected, make_model

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
VENVS = ROOT / ".venv-clients"
UV = "uv==0.13.9"
KEY = "a-key-of-the-suites"
NAME = "tiny"
START_SECONDS = 200  # the first step on a machine that has never compiled one
DEFAULT_CASES = 100
# What each suite runs, and in which environment.
SUITES = {
    "openai-3": ("suite_openai.py", "openai-3"),
    "openai-2": ("suite_openai.py", "openai-2"),
    "langchain": ("suite_langchain.py", "langchain"),
    "llama-index": ("suite_llama_index.py", "llama-index"),
    "lm-eval": ("suite_lm_eval.py", "lm-eval"),
    "open-webui": ("suite_open_webui.py", "plain"),
    "benchmarks": ("suite_benchmarks.py", "plain"),
    "raw": ("suite_raw.py", "plain"),
    "schema": ("suite_schema.py", "schemathesis"),
}


@dataclass(frozen=True)
class Outcome:
    """How a suite ended."""

    name: str
    passed: bool
    seconds: float
    output: str

    @property
    def line(self) -> str:
        """Return one line: the suite, how it went, pytest's last words and what was skipped."""
        words = self.output.strip().splitlines()[-1:] or ["no output"]
        reasons = sorted(set(re.findall(r"^SKIPPED .*?: (.+)$", self.output, re.MULTILINE)))
        skipped = f"; skipped: {' | '.join(reasons)}" if reasons else ""
        return f"{self.name:12} {'ok' if self.passed else 'FAILED':6} {words[0].strip('= ')}{skipped}"


def make_environment(name: str) -> Path:
    """Return the Python of an environment, made now unless it has what its list says."""
    wanted, python = HERE / "environments" / f"{name}.txt", VENVS / name / "bin" / "python"
    stamp, digest = VENVS / name / "installed", hashlib.sha256(wanted.read_bytes()).hexdigest()
    if stamp.is_file() and stamp.read_text() == digest:
        return python
    uv = VENVS / "uv" / "bin" / "uv"
    if not uv.is_file():
        subprocess.run([sys.executable, "-m", "venv", VENVS / "uv"], check=True)
        subprocess.run([uv.with_name("python"), "-m", "pip", "install", "--quiet", UV], check=True)
    subprocess.run([uv, "venv", "--quiet", "--clear", "--python", sys.executable, VENVS / name], check=True)
    subprocess.run([uv, "pip", "install", "--quiet", "--no-deps", "--python", python, "-r", wanted], check=True)
    stamp.write_text(digest)
    return python


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Run the server over a new model and yield its address; at the end it must drain and exit with 0."""
    make_model(folder / NAME)
    make_expected(folder / NAME, folder / "expected.json")
    keys, log = folder / "keys.txt", folder / "log.txt"
    keys.write_text(hashlib.sha256(KEY.encode()).hexdigest() + "\n")
    # Few may run and few may wait, so that a suite can fill the queue; the cache holds all of them at full length.
    bounds = ["--max-running", "8", "--max-waiting", "8", "--cache-tokens", "20480"]
    words = [sys.executable, "-m", "smelt.cli.main", "serve", str(folder / NAME), "--port", "0", "--keys", str(keys)]
    with log.open("w") as stderr:
        process = subprocess.Popen([*words, *bounds], stderr=stderr, cwd=ROOT)
    try:
        yield wait_until_ready(process, log)
        process.send_signal(signal.SIGTERM)
        if process.wait(60) != 0:
            raise SystemExit(f"the server ended with {process.returncode}\n{log.read_text()[-4000:]}")
        if "Traceback" in log.read_text():
            raise SystemExit(f"the server's log holds a fault\n{faults(log.read_text())}")
    finally:
        process.kill()
        process.wait()


def wait_until_ready(process: subprocess.Popen[bytes], log: Path) -> str:
    """Return the address of a server once it takes requests."""
    until = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < until:
        match = re.search(r"http://127\.0\.0\.1:\d+", log.read_text())
        if match is not None:
            try:
                urlopen(f"{match[0]}/ready", timeout=5).close()
                return match[0]
            except URLError:  # it loads
                pass
        time.sleep(0.1)
    raise SystemExit(f"the server did not start\n{log.read_text()[-4000:]}")


def faults(log: str) -> str:
    """Return the first lines of a log around its first traceback."""
    return log[max(0, log.find("Traceback") - 300) :][:4000]


def run_suite(name: str, python: Path, settings: Mapping[str, str]) -> Outcome:
    """Run one suite to its end."""
    words = [python, "-m", "pytest", "-c", HERE / "pytest.ini", "-rs", "--tb=short", HERE / SUITES[name][0]]
    started = time.monotonic()
    done = subprocess.run(
        words, cwd=HERE, env={**os.environ, **settings}, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    return Outcome(name, done.returncode == 0, time.monotonic() - started, done.stdout)


def main(names: Sequence[str], cases: int) -> int:
    """Run suites and print a line each; return how many failed."""
    pythons = {name: make_environment(SUITES[name][1]) for name in names}
    failed = 0
    with tempfile.TemporaryDirectory() as temporary, served(Path(temporary)) as url:
        settings = {
            "SMELT_URL": url,
            "SMELT_MODEL": NAME,
            "SMELT_KEY": KEY,
            "SMELT_EXPECTED": str(Path(temporary) / "expected.json"),
            "SMELT_CASES": str(cases),
        }
        for name in names:
            outcome = run_suite(name, pythons[name], settings)
            failed += not outcome.passed
            print(outcome.line if outcome.passed else f"{outcome.output}\n{outcome.line}", flush=True)
    return failed


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("suites", nargs="*", metavar="SUITE", help=f"which, of {', '.join(SUITES)}; by default all")
    parser.add_argument("--cases", type=int, default=DEFAULT_CASES, help="of schemathesis, about")
    arguments = parser.parse_args()
    if unknown := sorted(set(arguments.suites) - set(SUITES)):
        parser.error(f"no suite {', '.join(unknown)}; there are {', '.join(SUITES)}")
    sys.exit(1 if main(arguments.suites or list(SUITES), arguments.cases) else 0)
