"""Responses that a later one can go on from: the items of each, and which one it followed.

A response belongs to whoever asked for it; for another it is not there.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from smelt.core.extras import need
from smelt.serve.store import tables
from smelt.serve.store.database import NotFound, Store, insert_once

if TYPE_CHECKING:
    import sqlalchemy as sql
else:
    sql = need("sqlalchemy", extra="serve")

Item = dict[str, Any]


def keep_response(store: Store, owner: str, name: str, previous: str | None, items: Sequence[Item]) -> None:
    """Keep what a response was asked and what it answered; the same again is one."""
    row = {"id": name, "owner": owner, "previous": previous, "items": list(items), "created": time.time()}
    with store.write() as connection:
        insert_once(connection, tables.responses, row)


def items_up_to(store: Store, owner: str, name: str) -> list[Item]:
    """Return the items of a response and of all those before it, in order; raises NotFound."""
    columns = tables.responses.c
    found: list[list[Item]] = []
    following: str | None = name
    with store.read() as connection:
        while following is not None:
            mine = columns.id == following, columns.owner == owner
            row = connection.execute(sql.select(columns["items"], columns.previous).where(*mine)).first()
            if row is None:
                raise NotFound(f"there is no response {following}")
            items, following = row
            found.append(items)
    return [item for items in reversed(found) for item in items]
