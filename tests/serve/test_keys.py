"""Keys of a file and of a store before a live server: who comes in, with what scope, and from when to when."""

import hashlib
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from smelt.core.errors import DataError, ResourceError
from smelt.serve.keys import Keys, read_hashes
from smelt.serve.store.database import Store
from smelt.serve.store.keys import create_key, revoke_key, valid_keys

from .conftest import Live, Reply

HASHES = [hashlib.sha256(key.encode()).hexdigest() for key in ("sk-one", "sk-two")]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store.open(tmp_path_factory.mktemp("store") / "a.db")


@pytest.fixture(scope="module")
def locked(start: Callable[..., Live], store: Store) -> Live:
    return start(keys=Keys(HASHES[:1], partial(valid_keys, store)), store=store)


def ask(live: Live, key: str, path: str = "/v1/models") -> Reply:
    return live.get(path, Authorization=f"Bearer {key}")


def test_a_key_opens_from_its_making_to_its_end(locked: Live, store: Store) -> None:
    key = create_key(store, "ann")
    assert ask(locked, key).status == ask(locked, "sk-one").status == 200
    assert ask(locked, key + "x").status == ask(locked, "sk-two").status == 401
    revoke_key(store, "ann")
    reply = ask(locked, key)
    assert reply.status == 401 and reply.error["code"] == "invalid_api_key"
    assert ask(locked, "sk-one").status == 200, "the file's keys stay"


def test_a_key_opens_what_its_scopes_name(locked: Live, store: Store) -> None:
    key, other = create_key(store, "prometheus", ["metrics"]), create_key(store, "bob", ["models"])
    assert ask(locked, key, "/metrics").status == ask(locked, other).status == 200
    for reply in (ask(locked, key), ask(locked, other, "/metrics")):
        assert reply.status == 403 and reply.error["type"] == "permission_error"
        assert reply.error["code"] == "missing_scope" and "does not open m" in reply.error["message"]


def test_a_store_that_cannot_be_read_lets_nobody_in(
    locked: Live, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def broken() -> None:
        raise ResourceError("a.db: disk I/O error")

    with monkeypatch.context() as patch:
        patch.setattr("smelt.serve.store.keys.tables", None)  # a fault of ours
        reply = ask(locked, "sk-one")
        assert reply.status == 500 and b"NoneType" not in reply.body
    with monkeypatch.context() as patch:
        patch.setattr("smelt.serve.store.database.Store.read", lambda _: broken())
        reply = ask(locked, "sk-one")
    assert reply.status == 503 and reply.error["code"] == "store_unavailable" and reply.headers["retry-after"]
    assert b"disk" not in reply.body and "a.db: disk I/O error" in capfd.readouterr().err
    assert ask(locked, "sk-one").status == 200


def test_files_of_keys(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text(f"# ours\n{HASHES[0].upper()}  -\n\n{HASHES[1]} ann # since May\n")
    assert read_hashes(path) == HASHES
    for text, message in ((f"{HASHES[0]}\nsk-plain\n", "keys:2: no SHA-256 hash"), ("# none\n", "holds no key")):
        path.write_text(text)
        with pytest.raises(DataError, match=message):
            read_hashes(path)
    path.unlink()
    with pytest.raises(DataError, match="No such file"):
        read_hashes(path)
