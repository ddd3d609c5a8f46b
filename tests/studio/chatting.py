"""A studio over a model that chats and one that does not, and short ways to talk with it."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from smelt.core.storage import seal
from smelt.serve.store.database import new_id

from .conftest import Live, Reply, eventually

# What the tiny models say is no language, so the template is the plainest there is.
TEMPLATE = "{% for m in messages %}{{ m['role'][0] }}:{{ m['content'] }}\n{% endfor %}a:"
LONG = {"temperature": 0, "max_tokens": 200}


@pytest.fixture(scope="module")
def chatty(workspace: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a model that has a template of its own and one that has none."""
    root = tmp_path_factory.mktemp("chats")
    for name, source in (("chat", "tiny"), ("base", "other")):
        shutil.copytree(workspace / "runs" / source, root / "runs" / name)
    (root / "runs" / "chat" / "chat_template.jinja").write_text(TEMPLATE)
    (root / "runs" / "chat" / "manifest.json").unlink()
    seal(root / "runs" / "chat")  # the template too
    return root


@pytest.fixture(scope="module")
def chats(start: Callable[..., Live], chatty: Path) -> Live:
    """Return a studio over that folder, its models loaded."""
    live = start(chatty)
    for name, chat in (("runs/chat", True), ("runs/base", False)):
        ready = live.post("/studio/chats/ready", model=name)
        assert ready.status == 200 and ready.json == {"chat": chat, "max_seq_len": 256}, ready.body
    return live


@pytest.fixture
def chat(chats: Live) -> Iterator[str]:
    """Return a new chat's id."""
    made = new_id()
    assert chats.post("/studio/chats", id=made, title="Mills").status == 201
    yield made
    assert eventually(lambda: not chats.studio.pool.jobs), "no answer is left under way"


def say(live: Live, chat: str, text: str, parent: str | None = None, role: str = "user", **more: Any) -> str:
    """Write a message and return its id."""
    made = new_id()
    said = live.post(f"/studio/chats/{chat}/messages", id=made, parent=parent, role=role, content=text, **more)
    assert said.status == 201, said.body
    return made


def ask(live: Live, chat: str, parent: str, model: str = "runs/chat", **more: Any) -> Reply:
    """Ask for an answer."""
    body = {"id": new_id(), "parent": parent, "model": model, "max_tokens": 6, **more}
    return live.post(f"/studio/chats/{chat}/answers", **body)


def stored(live: Live, chat: str) -> list[Any]:
    """Return the messages that the server keeps."""
    return list(live.get(f"/studio/chats/{chat}").json["messages"])
