"""Keys in the store: shown once, kept as a hash, closed for good."""

import hashlib
from pathlib import Path

import pytest

from smelt.core.errors import UsageError
from smelt.serve.keys import USUAL_SCOPES
from smelt.serve.store.database import Conflict, NotFound, Store
from smelt.serve.store.keys import create_key, list_keys, revoke_key, valid_keys


def test_what_is_kept_is_a_hash(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "a.db")
    key = create_key(store, "ann")
    (kept,) = valid_keys(store)
    assert kept.hash == hashlib.sha256(key.encode()).hexdigest() and kept.owner == "ann" and kept.scopes == USUAL_SCOPES
    assert key.startswith("sk-") and len(key) > 40
    store.close()
    assert key.encode() not in b"".join(path.read_bytes() for path in tmp_path.iterdir())


def test_a_revoked_key_opens_nothing_and_keeps_its_name(store: Store) -> None:
    create_key(store, "ann", ["metrics"])
    create_key(store, "bob")
    revoke_key(store, "ann")
    revoke_key(store, "ann")
    assert [key.owner for key in valid_keys(store)] == ["bob"]
    ann, bob = list_keys(store)
    assert ann.scopes == ("metrics",) and ann.revoked is not None and ann.revoked >= ann.created
    assert bob.revoked is None
    with pytest.raises(Conflict, match=r"there is a key ann, and a name is given once"):
        create_key(store, "ann")


def test_what_cannot_be(store: Store) -> None:
    for name in ("", "-x", "a b", "x" * 64, "\u00e4"):
        with pytest.raises(UsageError, match="a key named"):
            create_key(store, name)
    with pytest.raises(UsageError, match=r"no scope 'model'. Did you mean 'models'\?"):
        create_key(store, "ann", ["model"])  # type: ignore[list-item]
    create_key(store, "ann")
    with pytest.raises(NotFound, match=r"there is no key 'anne'. Did you mean 'ann'\?"):
        revoke_key(store, "anne")
