"""A live server on loopback over a tiny model, with an engine that can be made slow, stopped or broken."""

import asyncio
import http.client
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("fastapi")

from smelt.infer import Engine, EngineSettings, Sampling, Update
from smelt.infer.adapters import Adapters
from smelt.infer.constrain import Grammars
from smelt.infer.requests import Request
from smelt.models.build import build
from smelt.models.families import Shape, spec_for
from smelt.serve.prepare import Served
from smelt.serve.run import Server, listen, make_server
from smelt.serve.tool_forms import literal
from smelt.tokenizers.base import END_OF_TEXT
from smelt.tokenizers.bpe_train import train_bpe
from smelt.tokenizers.chat import ChatTemplate
from smelt.tokenizers.chat_templates import TEMPLATES

CONTEXT, CONTEXT_WITH_TOOLS = 160, 2048
COMPILING_SECONDS = 200  # of the first step on a machine that has never made one
NAME = "tiny"
SPACES = {str(id_): -50 for id_ in (197, 198, 201, 220)}  # in whose place a tiny model would write nothing else
ENGINE = EngineSettings(max_running=4, max_waiting=4, cache_tokens=2048)


class Watched(Engine):
    """An engine that takes its time, fails, or writes a given text when a test says so."""

    seconds = 0.0  # of a step
    fault: Exception | None = None
    says: str | None = None
    spaces = True  # whether it may write any, where a request cannot say so

    def submit(self, prompt: Sequence[int], sampling: Sampling, **options: Any) -> Request:
        if Watched.says is not None:
            grammars = Grammars(self.tokenizer, self.vocab_size, self.stop_ids)
            options["constraint"] = grammars.compile(f"start: {literal(Watched.says, self.tokenizer.special)}")
        if not Watched.spaces:
            sampling = replace(sampling, logit_bias=tuple((int(id_), bias) for id_, bias in SPACES.items()))
        return super().submit(prompt, sampling, **options)

    def step(self) -> list[Update]:
        time.sleep(Watched.seconds)
        fault, Watched.fault = Watched.fault, None
        if fault is not None:
            raise fault
        return super().step()


@dataclass
class Live:
    """A running server."""

    server: Server
    url: str
    thread: threading.Thread
    engines: list[Engine] = field(default_factory=list)

    @property
    def engine(self) -> Engine:
        return self.engines[-1]

    def idle(self) -> bool:
        """Tell whether nothing is under way, on either side."""
        engine = self.engine
        return not (self.server.engine.jobs or engine.has_work or engine.num_running or engine.num_waiting)

    def call(self, method: str, path: str, body: Any = None, **headers: str) -> "Reply":
        """Send one request; a body that is not bytes is sent as JSON."""
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=COMPILING_SECONDS)
        try:
            sent = {name.replace("_", "-"): value for name, value in headers.items()}
            given = {"Content-Type": "application/json"} if body is not None else {}
            connection.request(method, path, data, {**given, **sent})
            response = connection.getresponse()
            return Reply(response.status, dict(response.getheaders()), response.read())
        finally:
            connection.close()

    def post(self, path: str, **body: Any) -> "Reply":
        return self.call("POST", path, body)

    def get(self, path: str, **headers: str) -> "Reply":
        return self.call("GET", path, **headers)

    def open(self, path: str, body: Any) -> socket.socket:
        """Send a request and leave the connection open, the answer unread."""
        data = json.dumps(body).encode()
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(data)}\r\n"
        head += "Content-Type: application/json\r\n"
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=30)
        connection.sendall(head.encode() + b"\r\n" + data)
        return connection

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])


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
    def error(self) -> dict[str, Any]:
        """Return the error, which has OpenAI's four fields and no other."""
        assert set(self.json) == {"error"} and set(self.json["error"]) == {"message", "type", "param", "code"}
        return self.json["error"]


def eventually(condition: Callable[[], bool], seconds: float = 10) -> bool:
    """Wait until something holds."""
    until = time.monotonic() + seconds
    while not condition() and time.monotonic() < until:
        time.sleep(0.005)
    return condition()


@pytest.fixture(scope="session")
def tokenizer() -> Any:
    return train_bpe(["a"], vocab_size=259)


@pytest.fixture(scope="session")
def model() -> Any:
    return tiny_model(259, CONTEXT)


def tiny_model(vocab_size: int, max_seq_len: int) -> Any:
    shape = Shape(vocab_size=vocab_size, dim=24, num_layers=2, num_heads=4, num_kv_heads=2, max_seq_len=max_seq_len)
    decoder = build(spec_for("llama", shape), seed=1)
    with torch.no_grad():
        for parameter in decoder.parameters():
            parameter *= 8 if parameter.ndim == 2 else 1  # else every prompt has the same dull answer
    return decoder.eval()


@pytest.fixture(scope="session")
def start(model: Any, tokenizer: Any) -> Iterator[Callable[..., Live]]:
    """Return what starts a server; all are stopped at the end."""
    running: list[Live] = []

    def begin(
        *,
        wait: bool = True,
        before: Callable[[], None] = lambda: None,
        model: Any = model,
        tokenizer: Any = tokenizer,
        jinja: str | None = None,
        adapter_root: Path | None = None,
        **settings: Any,
    ) -> Live:
        engines: list[Engine] = []
        adapters = Adapters(model)
        template = ChatTemplate(tokenizer, jinja)
        stops = template.stop_ids

        def new_engine(settings: EngineSettings) -> Engine:
            engines.append(Watched(model, tokenizer, stop_ids=stops, settings=settings, adapters=adapters))
            return engines[-1]

        def load() -> Served:
            before()
            sizes = tokenizer.vocab_size, model.spec.max_seq_len
            rest = stops, new_engine, adapters, adapter_root, model.spec.dim
            return Served(NAME, 1_700_000_000, tokenizer, template, *sizes, *rest)

        server = make_server(load, settings=ENGINE, **settings)
        listening = listen("127.0.0.1", 0)
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        thread = threading.Thread(target=lambda: asyncio.run(server.serve([listening])), daemon=True)
        thread.start()
        running.append(Live(server, url, thread, engines))
        assert eventually(lambda: server.started)
        assert not wait or eventually(lambda: server.engine.state == "ready", COMPILING_SECONDS)
        return running[-1]

    yield begin
    for live in running:
        live.server.should_exit = True
        live.thread.join(10)


def start_with_tools(start: Callable[..., Live], name: str, **settings: Any) -> Live:
    """Start a server whose chat template has a place for tools."""
    special = tuple(dict.fromkeys((END_OF_TEXT, *TEMPLATES[name].marks)))
    size = 256 + len(special)
    tokenizer = train_bpe([], vocab_size=size, special=special)
    model = tiny_model(size, CONTEXT_WITH_TOOLS)
    return start(model=model, tokenizer=tokenizer, jinja=TEMPLATES[name].jinja, **settings)


@pytest.fixture(scope="session")
def shared_live(start: Callable[..., Live]) -> Live:
    return start()


@pytest.fixture
def live(shared_live: Live) -> Iterator[Live]:
    """A server that many tests share; each leaves it idle and quick."""
    yield shared_live
    Watched.seconds, Watched.fault, Watched.says = 0.0, None, None
    assert eventually(shared_live.idle)
