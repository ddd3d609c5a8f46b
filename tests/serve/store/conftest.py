"""An empty store: a file of SQLite, or with `--store-url` a database of PostgreSQL, which is emptied first."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("sqlalchemy")

import sqlalchemy as sql

from smelt.serve.store.database import Store, connect


@pytest.fixture
def place(tmp_path: Path, request: Any) -> str:
    """Where an empty store is."""
    url = request.config.getoption("--store-url")
    if not url:
        return str(tmp_path / "store.db")
    engine, _ = connect(url)
    with engine.begin() as connection:
        connection.execute(sql.text("DROP SCHEMA public CASCADE"))
        connection.execute(sql.text("CREATE SCHEMA public"))
    engine.dispose()
    return str(url)


@pytest.fixture
def store(place: str) -> Iterator[Store]:
    opened = Store.open(place)
    yield opened
    opened.close()
