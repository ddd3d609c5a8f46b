"""What every suite knows: where the server is, its model's name, a key, and what the model must answer.

`run.py` starts the server and says so in the environment. The suites run beside one client and pytest, without smelt.
"""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest


@dataclass(frozen=True)
class Address:
    """A running server."""

    url: str
    model: str
    key: str

    @property
    def v1(self) -> str:
        return f"{self.url}/v1"

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])


@pytest.fixture(scope="session")
def address() -> Address:
    return Address(os.environ["SMELT_URL"], os.environ["SMELT_MODEL"], os.environ["SMELT_KEY"])


@pytest.fixture(scope="session")
def expected() -> Any:
    """What the model says when it is asked without a server; `tiny_model.py` writes it."""
    return json.loads(Path(os.environ["SMELT_EXPECTED"]).read_text(encoding="utf-8"))


def run_example(name: str, address: Address, *more: str) -> str:
    """Run an example against the server, in this environment, and return what it prints."""
    path = Path(__file__).resolve().parents[2] / "examples" / name
    words = [sys.executable, path, address.v1, address.key, *more]
    return subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True, timeout=120).stdout
