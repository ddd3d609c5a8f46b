"""A database that keeps what it has acknowledged: how it is opened, brought up to date, read and written.

SQLite writes ahead and flushes each transaction to the disk before it answers (`synchronous=FULL`), so neither a kill
nor a power cut takes back what a caller was told. A writer takes the write lock as it begins: two that read first would
both be refused it later. An older database is migrated when it is opened, in one transaction and one process at a
time; one of a newer version is refused, for its rows could mean what this version cannot know.

Ref: SQLite, "Write-Ahead Logging", and PRAGMA synchronous.
"""

from __future__ import annotations

import sqlite3
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smelt.core.errors import DataError, ResourceError, SmeltError, UsageError
from smelt.core.extras import available, need

if TYPE_CHECKING:
    import sqlalchemy as sql
    from alembic import command
    from alembic.config import Config
    from alembic.runtime.migration import MigrationContext
    from alembic.script import ScriptDirectory
    from sqlalchemy.dialects import postgresql, sqlite
else:
    sql = need("sqlalchemy", extra="serve")
    postgresql = need("sqlalchemy.dialects.postgresql", extra="serve")
    sqlite = need("sqlalchemy.dialects.sqlite", extra="serve")
    command = need("alembic.command", extra="serve")
    Config = need("alembic.config", extra="serve").Config
    MigrationContext = need("alembic.runtime.migration", extra="serve").MigrationContext
    ScriptDirectory = need("alembic.script", extra="serve").ScriptDirectory

BUSY_SECONDS = 30
BUSY_WAIT_SECONDS = 0.01
MIGRATION_LOCK = 0x736D656C74  # any number that nobody else locks in a database of PostgreSQL
PRAGMAS = ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON")


class NotFound(SmeltError):
    """No such row, or not one of this owner: the two look alike from outside."""


class Conflict(SmeltError):
    """A row of this name is there and says something else."""


class Store:
    """A database that is up to date.

    Args:
        engine: SQLAlchemy's.
        name: what errors call it.
    """

    def __init__(self, engine: sql.Engine, name: str) -> None:
        self.engine, self.name = engine, name

    @classmethod
    def open(cls, place: str | Path) -> Store:
        """Open the database in a file of SQLite, which is made where there is none, or at a URL of PostgreSQL.

        Raises:
            UsageError: a URL of something else.
            DataError: no database, one of a newer version, or one with the tables of another program.
            ResourceError: it cannot be reached or written; no driver for PostgreSQL.
        """
        engine, name = connect(str(place)) if "://" in str(place) else open_file(Path(place))
        store = cls(engine, name)
        with store.write() as connection:
            if engine.dialect.name == "postgresql":
                connection.execute(sql.text("SELECT pg_advisory_xact_lock(:number)"), {"number": MIGRATION_LOCK})
            migrate(connection, name)
        return store

    @contextmanager
    def write(self) -> Iterator[sql.Connection]:
        """Open a transaction that writes; it is on the disk at the end of the block, or not at all after an error."""
        with self._told(), self.engine.connect().execution_options(writes=True) as connection, connection.begin():
            yield connection

    @contextmanager
    def read(self) -> Iterator[sql.Connection]:
        """Open a transaction that sees one state of the database and waits for no writer."""
        with self._told(), self.engine.begin() as connection:
            yield connection

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Turn the database's errors into ours."""
        try:
            yield
        except sql.exc.OperationalError as error:
            raise ResourceError(f"{self.name}: {error.orig}") from error
        except sql.exc.DBAPIError as error:
            raise DataError(f"{self.name}: {error.orig}") from error


def open_file(path: Path) -> tuple[sql.Engine, str]:
    """Return the engine of a file of SQLite; a new one is for its owner's eyes alone."""
    try:
        path.touch(mode=0o600)
    except OSError as error:
        raise ResourceError(f"{path}: {error.strerror}") from error
    url = sql.URL.create("sqlite", database=str(path))
    # Left to itself, Python's sqlite3 begins a transaction too late: at the first write, after the reads.
    engine = sql.create_engine(url, connect_args={"timeout": BUSY_SECONDS, "isolation_level": None})

    @sql.event.listens_for(engine, "connect")
    def prepare(connection: Any, _: Any) -> None:
        for pragma in PRAGMAS:
            set_pragma(connection, pragma)

    @sql.event.listens_for(engine, "begin")
    def begin(connection: sql.Connection) -> None:
        writes = connection.get_execution_options().get("writes")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine, str(path)


def set_pragma(connection: Any, pragma: str) -> None:
    """Set how a connection works; SQLite itself does not wait while another one changes the journal's mode."""
    until = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.execute(f"PRAGMA {pragma}")
            return
        except sqlite3.OperationalError:
            if time.monotonic() > until:
                raise
            time.sleep(BUSY_WAIT_SECONDS)


def connect(place: str) -> tuple[sql.Engine, str]:
    """Return the engine of a URL of PostgreSQL."""
    try:
        url = sql.make_url(place)
    except sql.exc.ArgumentError:
        raise UsageError("the store's URL cannot be read", accepted="postgresql://USER:PASSWORD@HOST/NAME") from None
    if url.get_backend_name() != "postgresql":
        raise UsageError(
            f"a store of {url.get_backend_name()}", accepted="a path, for SQLite, or postgresql://USER@HOST/NAME"
        )
    if not available("psycopg"):
        raise ResourceError(
            "a store of PostgreSQL needs the package 'psycopg', which is not installed",
            fix="pip install 'psycopg[binary]'",
        )
    engine = sql.create_engine(url.set(drivername="postgresql+psycopg"), pool_pre_ping=True)
    return engine, url.render_as_string(hide_password=True)


def scripts(connection: sql.Connection) -> Config:
    """Return alembic's settings: where the migrations are and what they run on."""
    config = Config()
    config.set_main_option("script_location", str(files("smelt.serve.store") / "migrations").replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


def migrate(connection: sql.Connection, name: str) -> None:
    """Bring a database up to this version."""
    config = scripts(connection)
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    found = set(MigrationContext.configure(connection).get_current_heads())
    if found - known:
        raise DataError(
            f"{name} is a store of a newer version of smelt ({', '.join(sorted(found - known))})", fix="update smelt"
        )
    if not found and (tables := sql.inspect(connection).get_table_names()):
        raise DataError(f"{name} has tables of another program: {tables[0]}", accepted="a store of smelt, or none yet")
    command.upgrade(config, "head")


def insert_once(connection: sql.Connection, table: sql.Table, row: Mapping[str, Any]) -> None:
    """Insert a row that is not there; raises Conflict where one of its key differs in anything but its time."""
    connection.execute(insert(connection, table).values(**row).on_conflict_do_nothing())
    own = [column == row[column.name] for column in table.primary_key]
    found = connection.execute(sql.select(table).where(*own)).mappings().first()
    differing = [name for name in row if name != "created" and (found is None or found[name] != row[name])]
    if differing:
        key = ", ".join(str(row[column.name]) for column in table.primary_key)
        raise Conflict(f"{table.name}: {key} is there with another {differing[0]}")


def insert_or_replace(connection: sql.Connection, table: sql.Table, row: Mapping[str, Any]) -> None:
    """Insert a row, in place of one of its key."""
    found = list(table.primary_key)
    connection.execute(insert(connection, table).values(**row).on_conflict_do_update(index_elements=found, set_=row))


def insert(connection: sql.Connection, table: sql.Table) -> sqlite.Insert | postgresql.Insert:
    """Return an insertion that can say what to do about a row that is there."""
    return postgresql.insert(table) if connection.dialect.name == "postgresql" else sqlite.insert(table)


def new_id() -> str:
    """Return a name for a row; whoever makes it can try to write the row again."""
    return uuid.uuid4().hex
