"""`smelt serve` as a process: it serves what it was given, drains at SIGTERM, and refuses what cannot work."""

import json
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from .conftest import Smelt

pytest.importorskip("fastapi")


@pytest.fixture(scope="module")
def process(checkpoint: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    words = [sys.executable, "-m", "smelt.cli.main", "serve", str(checkpoint), "--port", "0", "--name", "mine"]
    with subprocess.Popen([*words, "--cache-tokens", "960"], stderr=subprocess.PIPE, text=True) as running:
        assert running.stderr is not None
        url = ""
        for line in running.stderr:
            url = match[0] if (match := re.search(r"http://127.0.0.1:\d+", line)) else url
            if line.startswith("ready: mine"):
                break
        yield running, url
        running.kill()


def call(url: str, **body: Any) -> Any:
    headers = {"Content-Type": "application/json"}
    request = Request(url, json.dumps(body).encode() if body else None, headers)
    with urlopen(request, timeout=30) as response:
        return json.load(response)


def test_it_answers_as_generate_does_and_ends_well(
    process: tuple[subprocess.Popen[str], str], checkpoint: Path, smelt: Smelt
) -> None:
    running, url = process
    assert call(f"{url}/ready") == {"status": "ready"}
    for chat, path in ((["--chat"], "chat/completions"), ([], "completions")):
        alone = smelt(
            "generate", checkpoint, "--prompt", "hi", *chat, "--temperature", 0, "--max-new-tokens", 9, "--json"
        )
        asked = {"messages": [{"role": "user", "content": "hi"}]} if chat else {"prompt": "hi"}
        (choice,) = call(f"{url}/v1/{path}", model="mine", temperature=0, max_tokens=9, **asked)["choices"]
        assert (choice["message"]["content"] if chat else choice["text"]) == alone.json["text"]
    running.send_signal(signal.SIGTERM)
    assert running.wait(20) == 0
    assert running.stderr is not None and "Traceback" not in running.stderr.read()


def test_what_cannot_be_served(smelt: Smelt, checkpoint: Path, tmp_path: Path) -> None:
    result = smelt("serve", checkpoint, "--host", "0.0.0.0")
    assert result.code == 2 and "--host 0.0.0.0 lets other machines in" in result.err
    result = smelt("serve", checkpoint, "--keys", tmp_path / "absent")
    assert result.code == 1 and "No such file" in result.err
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = smelt("serve", checkpoint, "--port", port)
    assert result.code == 1 and f"127.0.0.1:{port}: Address already in use" in result.err
    result = smelt("serve", tmp_path / "absent", "--port", 0)
    assert result.code == 1 and "no such directory" in result.err


def test_a_store_s_keys_open_it_until_they_are_revoked(smelt: Smelt, checkpoint: Path, tmp_path: Path) -> None:
    place = tmp_path / "smelt.db"
    key = smelt("keys", "create", "ann", "--store", place).out.strip()
    words = [sys.executable, "-m", "smelt.cli.main", "serve", str(checkpoint), "--port", "0", "--name", "mine"]
    with subprocess.Popen([*words, "--store", str(place)], stderr=subprocess.PIPE, text=True) as running:
        assert running.stderr is not None
        url = ""
        for line in running.stderr:
            url = match[0] if (match := re.search(r"http://127.0.0.1:\d+", line)) else url
            if line.startswith("ready: mine"):
                break

        def respond(**body: Any) -> Any:
            asked = json.dumps({"model": "mine", "input": "hi", "max_output_tokens": 3, **body}).encode()
            headers = {"Content-Type": "application/json", "Authorization": f"Bearer {key}"}
            with urlopen(Request(f"{url}/v1/responses", asked, headers), timeout=30) as response:
                return json.load(response)

        first = respond()
        assert respond(previous_response_id=first["id"])["usage"]["input_tokens"] > first["usage"]["input_tokens"]
        smelt("keys", "revoke", "ann", "--store", place)
        with pytest.raises(HTTPError, match="401"):
            respond()
        running.send_signal(signal.SIGTERM)
        assert running.wait(20) == 0 and "Traceback" not in running.stderr.read()
    assert [path.name for path in tmp_path.iterdir()] == ["smelt.db"], "a closed store is one file"
