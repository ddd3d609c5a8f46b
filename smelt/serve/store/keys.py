"""Keys in the store: made, listed, revoked; what is kept of a key is its hash.

A revoked key stays in the list, so its name is never another's, and opens nothing from then on.
"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from smelt.core.errors import UsageError, nearest
from smelt.core.extras import need
from smelt.serve.keys import SCOPES, USUAL_SCOPES, Key, Scope, hash_of
from smelt.serve.store import tables
from smelt.serve.store.database import Conflict, NotFound, Store, insert_once

if TYPE_CHECKING:
    import sqlalchemy as sql
else:
    sql = need("sqlalchemy", extra="serve")

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")  # 64 characters would look like a hash
KEY_BYTES = 32


@dataclass(frozen=True)
class Listed:
    """A key as a list shows it; times are in seconds since 1970."""

    name: str
    scopes: tuple[Scope, ...]
    created: float
    revoked: float | None


def create_key(store: Store, name: str, scopes: Sequence[Scope] = USUAL_SCOPES) -> str:
    """Make a key and return it; nobody can read it again.

    Raises UsageError for a name or a scope that cannot be, Conflict for a name that is taken.
    """
    if not NAME.fullmatch(name):
        raise UsageError(f"a key named {name!r}", accepted="up to 63 letters, digits, '.', '_' and '-'")
    if wrong := [scope for scope in scopes if scope not in SCOPES]:
        raise UsageError(f"no scope {wrong[0]!r}.{nearest(wrong[0], SCOPES)}", accepted=", ".join(SCOPES))
    key = f"sk-{secrets.token_urlsafe(KEY_BYTES)}"
    row = {"name": name, "hash": hash_of(key), "scopes": list(scopes), "created": time.time(), "revoked": None}
    try:
        with store.write() as connection:
            insert_once(connection, tables.keys, row)
    except Conflict:
        raise Conflict(f"there is a key {name}, and a name is given once", fix="another name") from None
    return key


def list_keys(store: Store) -> list[Listed]:
    """Return all keys, the oldest first, those revoked too."""
    columns = tables.keys.c
    asked = sql.select(columns.name, columns.scopes, columns.created, columns.revoked).order_by(columns.created)
    with store.read() as connection:
        found = connection.execute(asked).mappings()
        return [Listed(**{**row, "scopes": tuple(row["scopes"])}) for row in found]


def revoke_key(store: Store, name: str) -> None:
    """Let a key open nothing any more; one that is revoked already stays so. Raises NotFound."""
    columns = tables.keys.c
    with store.write() as connection:
        known = connection.execute(sql.select(columns.name)).scalars().all()
        if name not in known:
            raise NotFound(f"there is no key {name!r}.{nearest(name, known)}")
        mine = columns.name == name, columns.revoked.is_(None)
        connection.execute(sql.update(tables.keys).where(*mine).values(revoked=time.time()))


def valid_keys(store: Store) -> list[Key]:
    """Return the keys that open something."""
    columns = tables.keys.c
    asked = sql.select(columns.hash, columns.name, columns.scopes).where(columns.revoked.is_(None))
    with store.read() as connection:
        return [Key(row.hash, row.name, tuple(row.scopes)) for row in connection.execute(asked)]
