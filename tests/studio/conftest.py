"""A live studio on loopback over a folder with two tiny models, and a browser that watches what it loads."""

import asyncio
import http.client
import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("fastapi")

import smelt
from smelt.models.build import build
from smelt.models.families import Shape, spec_for
from smelt.serve.keys import Keys, hash_of
from smelt.serve.run import Server, listen, make_config
from smelt.serve.store.database import Store
from smelt.studio.app import make_studio
from smelt.studio.context import Studio
from smelt.studio.pool import Pool
from smelt.studio.workspace import Workspace
from smelt.tokenizers.bpe_train import train_bpe

CONTEXT = 256
COMPILING_SECONDS = 200  # of an engine's first step on a machine that has never made one
STATIC = Path(smelt.__file__).parent / "studio" / "static"


@dataclass
class Live:
    """A running studio."""

    studio: Studio
    server: Server
    thread: threading.Thread
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def call(self, method: str, path: str, body: Any = None, **headers: str) -> "Reply":
        """Send one request; a body that is not bytes is sent as JSON."""
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=COMPILING_SECONDS)
        try:
            given = {"Content-Type": "application/json"} if body is not None else {}
            sent = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, data, {**given, **sent})
            response = connection.getresponse()
            return Reply(response.status, dict(response.getheaders()), response.read())
        finally:
            connection.close()

    def get(self, path: str, **headers: str) -> "Reply":
        return self.call("GET", path, **headers)

    def post(self, path: str, **body: Any) -> "Reply":
        return self.call("POST", path, body)


@dataclass(frozen=True)
class Reply:
    """A response; header names in small letters."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def events(self) -> list[Any]:
        """Return the objects of a stream, its end left out."""
        lines = self.body.decode().split("\n\n")
        return [json.loads(line[6:]) for line in lines if line.startswith("data: {")]


@dataclass
class Watched:
    """A page in a browser, and what it did that it should not have."""

    page: Any
    asked: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


def eventually(condition: Callable[[], bool], seconds: float = 10) -> bool:
    """Wait until something holds."""
    until = time.monotonic() + seconds
    while not condition() and time.monotonic() < until:
        time.sleep(0.005)
    return condition()


def tiny_model(seed: int) -> Any:
    """Return a model whose weights are large enough that each prompt has another answer."""
    shape = Shape(vocab_size=259, dim=24, num_layers=2, num_heads=4, num_kv_heads=2, max_seq_len=CONTEXT)
    decoder = build(spec_for("llama", shape), seed=seed)
    with torch.no_grad():
        for parameter in decoder.parameters():
            parameter *= 8 if parameter.ndim == 2 else 1
    return decoder.eval()


@pytest.fixture(scope="session")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the models runs/tiny and runs/other."""
    root = tmp_path_factory.mktemp("studio")
    tokenizer = train_bpe(["a"], vocab_size=259)
    for name, seed in (("tiny", 1), ("other", 2)):
        smelt.save(tiny_model(seed), tokenizer, root / "runs" / name)
    return root


@pytest.fixture(scope="session")
def start() -> Iterator[Callable[..., Live]]:
    """Return what starts a studio over a folder; all are stopped at the end."""
    running: list[Live] = []

    def begin(root: Path, *, key: str = "", store: Path | None = None, models: int = 4) -> Live:
        keys = Keys([hash_of(key)]) if key else None
        opened = Store.open(store or root / "studio.db")
        workspace = Workspace.at(root)
        pool = Pool(workspace, keys, opened, models)
        studio = Studio(workspace, pool, opened, keys)
        server = Server(make_config(make_studio(studio), capacity=64), pool, drain_seconds=1)
        listening = listen("127.0.0.1", 0)
        thread = threading.Thread(target=lambda: asyncio.run(server.serve([listening])), daemon=True)
        thread.start()
        running.append(Live(studio, server, thread, listening.getsockname()[1]))
        assert eventually(lambda: server.started)
        return running[-1]

    yield begin
    for live in running:
        live.server.should_exit = True
        live.thread.join(10)
        live.studio.store.close()


@pytest.fixture(scope="session")
def live(start: Callable[..., Live], workspace: Path) -> Live:
    """A studio that many tests share."""
    return start(workspace)


@pytest.fixture
def open_page(browser: Any) -> Iterator[Callable[..., Watched]]:
    """Return what opens an address in a context of its own; at the end no page may have misbehaved."""
    opened: list[tuple[Any, Watched, str]] = []

    def begin(
        live: Live, path: str, *, width: int = 1280, height: int = 800, theme: str = "light", language: str = "en"
    ) -> Watched:
        context = browser.new_context(viewport={"width": width, "height": height})
        context.grant_permissions(["clipboard-read", "clipboard-write"])
        kept = f"localStorage['smelt.theme'] ??= '\"{theme}\"'; localStorage['smelt.language'] ??= '\"{language}\"';"
        watch = "addEventListener('securitypolicyviolation', e => console.error('policy: ' + e.violatedDirective));"
        context.add_init_script(kept + watch)
        found = Watched(context.new_page())
        found.page.on("request", lambda request: found.asked.append(request.url))
        found.page.on("pageerror", lambda error: found.errors.append(str(error)))
        found.page.on("console", lambda note: note.text.startswith("policy: ") and found.errors.append(note.text))
        found.page.goto(live.url + path)
        opened.append((context, found, live.url))
        return found

    yield begin
    for context, found, url in opened:
        context.close()
        assert found.errors == []
        assert all(asked.startswith((url, "data:", "blob:")) for asked in found.asked), "a request left the origin"


def serious_faults(page: Any, axe: str) -> list[str]:
    """Return what axe-core finds on a page that is serious or worse."""
    page.evaluate(axe)
    found = page.evaluate("axe.run()")["violations"]
    bad = [one for one in found if one["impact"] in ("serious", "critical")]
    return [f"{one['id']}: {node['html'][:200]}" for one in bad for node in one["nodes"]]


@pytest.fixture(scope="session")
def axe() -> str:
    """Return the script of axe-core, or skip where web/ has not been installed."""
    path = Path(__file__).parents[2] / "web" / "node_modules" / "axe-core" / "axe.min.js"
    if not path.is_file():
        pytest.skip("axe-core is not installed: make web")
    return path.read_text(encoding="utf-8")
