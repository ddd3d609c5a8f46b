"""Every migration goes up and down, and the last one arrives at the tables that the code knows."""

from typing import Any

import pytest

from smelt.serve.store import tables
from smelt.serve.store.database import Store, command, scripts

from .conftest import sql

autogenerate = pytest.importorskip("alembic.autogenerate")
migration = pytest.importorskip("alembic.runtime.migration")
script = pytest.importorskip("alembic.script")
REVISIONS = [
    found.revision
    for found in script.ScriptDirectory.from_config(scripts(None)).walk_revisions()  # type: ignore[arg-type]
][::-1]


def shape(connection: Any) -> Any:
    """Return the tables with their columns, keys and indexes, without alembic's own."""
    seen = sql.inspect(connection)
    return {
        name: (
            [(column["name"], str(column["type"]), column["nullable"]) for column in seen.get_columns(name)],
            seen.get_pk_constraint(name)["constrained_columns"],
            sorted(
                (key["constrained_columns"], key["referred_table"], key["options"])
                for key in seen.get_foreign_keys(name)
            ),
            sorted(sorted(key["column_names"]) for key in seen.get_unique_constraints(name)),
            sorted((index["name"], index["column_names"]) for index in seen.get_indexes(name)),
        )
        for name in seen.get_table_names()
        if name != "alembic_version"
    }


def test_there_are_some_and_they_stand_in_one_line() -> None:
    assert sorted(REVISIONS) == REVISIONS and REVISIONS


@pytest.mark.parametrize("revision", REVISIONS)
def test_each_goes_down_and_up_again(store: Store, revision: str) -> None:
    with store.write() as connection:
        settings = scripts(connection)
        command.downgrade(settings, revision)
        there = shape(connection)
        command.downgrade(settings, "-1")
        assert shape(connection) != there
        command.upgrade(settings, "+1")
        assert shape(connection) == there


def test_all_the_way_down_nothing_is_left(store: Store) -> None:
    with store.write() as connection:
        command.downgrade(scripts(connection), "base")
        assert shape(connection) == {}


def test_they_arrive_at_the_tables_of_the_code(store: Store) -> None:
    with store.write() as connection:
        assert autogenerate.compare_metadata(migration.MigrationContext.configure(connection), tables.metadata) == []
        migrated = shape(connection)
        command.downgrade(scripts(connection), "base")
        tables.metadata.create_all(connection)
        assert shape(connection) == migrated


def test_a_migration_that_fails_leaves_the_old_tables(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def half(settings: Any, _: str) -> None:
        connection = settings.attributes["connection"]
        connection.execute(sql.text("CREATE TABLE half (id INTEGER)"))
        raise RuntimeError

    with monkeypatch.context() as patch, pytest.raises(RuntimeError):
        patch.setattr("smelt.serve.store.database.command.upgrade", half)
        Store.open(place)
    store = Store.open(place)  # a table named half would be another program's
    store.close()
