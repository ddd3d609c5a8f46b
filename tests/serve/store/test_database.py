"""A store as a whole: how it is opened, what it refuses to open, what a transaction promises."""

import sqlite3
import stat
import threading
from pathlib import Path
from typing import Any

import pytest

from smelt.core.errors import DataError, ResourceError, UsageError
from smelt.serve.store import tables
from smelt.serve.store.chats import Chat, create_chat, list_chats
from smelt.serve.store.database import Store

from .conftest import sql


def test_what_was_written_is_there_when_it_is_opened_again(place: str) -> None:
    first = Store.open(place)
    create_chat(first, Chat("c", "ann", "One", 1.0))
    first.close()
    again = Store.open(place)
    assert list_chats(again, "ann") == [Chat("c", "ann", "One", 1.0)]
    again.close()


def test_sqlite_is_told_to_keep_what_it_acknowledges(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "a.db")
    with store.read() as connection:
        found = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        }
    assert found == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 30_000}
    assert stat.S_IMODE((tmp_path / "a.db").stat().st_mode) == 0o600
    store.close()


def test_an_error_in_a_transaction_takes_it_back_whole(store: Store) -> None:
    row = {"id": "c", "owner": "ann", "title": "", "created": 1.0}
    with pytest.raises(RuntimeError), store.write() as connection:
        connection.execute(sql.insert(tables.chats).values(**row))
        raise RuntimeError
    assert list_chats(store, "ann") == []


def test_a_reader_waits_for_no_writer(store: Store) -> None:
    create_chat(store, Chat("c", "ann", "One", 1.0))
    with store.write() as connection:
        connection.execute(sql.update(tables.chats).values(title="Two"))
        assert [chat.title for chat in list_chats(store, "ann")] == ["One"]
    assert [chat.title for chat in list_chats(store, "ann")] == ["Two"]


def test_many_may_open_a_new_one_at_once(place: str) -> None:
    ready, failed = threading.Barrier(8), []

    def begin() -> None:
        ready.wait()
        try:
            Store.open(place).close()
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=begin) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failed == []


def test_writers_at_once_lose_nothing(store: Store) -> None:
    def write(name: str) -> None:
        for number in range(20):
            create_chat(store, Chat(f"{name}-{number}", "ann", ""))

    threads = [threading.Thread(target=write, args=(f"t{number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(list_chats(store, "ann")) == 80


def test_a_newer_one_is_refused(store: Store, place: str) -> None:
    with store.write() as connection:
        connection.execute(sql.text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(DataError, match=r"is a store of a newer version of smelt \(9999\)\ntry: update smelt"):
        Store.open(place)


def test_a_database_of_another_program_is_left_alone(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "other.db") as other:
        other.execute("CREATE TABLE songs (id INTEGER)")
    other.close()
    with pytest.raises(DataError, match="has tables of another program: songs"):
        Store.open(tmp_path / "other.db")


def test_what_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("x" * 4096)
    with pytest.raises(DataError, match="file is not a database"):
        Store.open(tmp_path / "text")
    with pytest.raises(ResourceError, match="No such file or directory"):
        Store.open(tmp_path / "absent" / "a.db")


@pytest.mark.parametrize(("url", "message"), [("mysql://x/y", "a store of mysql"), ("://", "cannot be read")])
def test_urls_of_something_else(url: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        Store.open(url)
    assert "postgresql://" in str(caught.value)


def test_postgresql_needs_a_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("smelt.serve.store.database.available", lambda _: False)
    with pytest.raises(ResourceError, match=r"'psycopg', which is not installed\ntry: pip install 'psycopg"):
        Store.open("postgresql://ann:secret@host/db")


def test_an_error_shows_no_password(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("psycopg")
    with pytest.raises(ResourceError) as caught:
        Store.open("postgresql://ann:secret@127.0.0.1:1/db")
    assert "secret" not in str(caught.value) and "ann" in str(caught.value)


def test_a_full_disk_is_told(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise sql.exc.OperationalError("INSERT", {}, Exception("database or disk is full"))

    monkeypatch.setattr("smelt.serve.store.chats.insert_once", full)
    with pytest.raises(ResourceError, match="disk is full"):
        create_chat(store, Chat("c", "ann", ""))
