"""One object through which everything reads and writes the database."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any

from sqlalchemy import event, make_url, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine

from prime_hub.db.documents import IndexedAsyncSession
from prime_hub.errors import Invalid, Unavailable

BUSY_SECONDS = 30
WRITERS = 0x7072696D65  # of the advisory lock on Postgres


class Database:
    """The engine and its two kinds of session.

    On both databases one writer is in at a time, so that a service may read, decide and write without another one in
    between. SQLite fails a reader that turns into a writer while another one writes, so a writer says so at its start
    (`BEGIN IMMEDIATE`, which waits); on Postgres it takes an advisory lock, which all Hubs of that database respect. The
    writers of one process queue in order on a lock of their own: SQLite's waiting is by sleeping and unfair, and on Postgres
    each that waits would keep a connection.
    """

    def __init__(self, url: str) -> None:
        self.on_sqlite = make_url(url).get_backend_name() == "sqlite"
        # An error with its parameters would take variables of sandboxes into the log. A server may have gone and come
        # back since a connection was used; a file has not.
        self.engine: AsyncEngine = create_async_engine(url, hide_parameters=True, pool_pre_ping=not self.on_sqlite)
        self._writer = self.engine.execution_options(immediate=True) if self.on_sqlite else self.engine
        self._queue = asyncio.Lock()
        event.listen(self.engine.sync_engine, "before_cursor_execute", _refuse_nul)
        if self.on_sqlite:
            _make_private(self.engine.url.database)
            event.listen(self.engine.sync_engine, "connect", _prepare_sqlite)
            event.listen(self.engine.sync_engine, "begin", _begin_sqlite)

    @asynccontextmanager
    async def read(self) -> AsyncGenerator[AsyncSession]:
        """A session for reading; what it changes is thrown away."""
        async with AsyncSession(self.engine, expire_on_commit=False) as session:
            yield session

    @asynccontextmanager
    async def write(self) -> AsyncGenerator[AsyncSession]:
        """A session for writing: committed at the end, rolled back on any exception. It keeps the search's documents."""
        async with self._queue, IndexedAsyncSession(self._writer, expire_on_commit=False) as session, session.begin():
            if not self.on_sqlite:
                await session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": WRITERS})
            yield session

    async def close(self) -> None:
        """Close every connection."""
        await self.engine.dispose()


@contextmanager
def answering(database: Database) -> Generator[None]:
    """Raises Unavailable, saying why, where a Postgres database cannot be used. An SQLite file's errors stay as they are."""
    try:
        yield
    except (DBAPIError, OSError) as error:
        if database.on_sqlite:
            raise
        where = database.engine.url.set(drivername="postgresql").render_as_string(hide_password=True)
        reason = str(error.orig if isinstance(error, DBAPIError) else error).strip().partition("\n")[0]
        reason = re.sub(r"^<class '[^']*'>: ", "", reason)
        raise Unavailable(f"The database {where} cannot be used: {reason}.") from error


def _refuse_nul(connection: Any, cursor: Any, statement: str, values: Any, context: Any, many: bool) -> None:
    """No text of Postgres holds a NUL, so none is asked for or kept on SQLite either. Raises Invalid."""
    if _has_nul(values):
        raise Invalid("A NUL character cannot be in a name or a text of this Hub; leave it out.")


def _has_nul(values: Any) -> bool:
    """Of one statement's values or those of many, by position or by name: the drivers differ."""
    if isinstance(values, str):
        return "\0" in values
    if isinstance(values, dict):
        values = values.values()
    elif not isinstance(values, (list, tuple)):
        return False
    return any(_has_nul(value) for value in values)


def _make_private(file: str | None) -> None:
    """A new database file is its owner's only, whatever the folder's mode; SQLite gives its other files the same."""
    if file and file != ":memory:":
        with suppress(OSError):  # SQLite says what is wrong, when it opens it
            os.close(os.open(file, os.O_RDWR | os.O_CREAT, 0o600))


def _prepare_sqlite(connection: Any, record: Any) -> None:
    # SQLAlchemy emits BEGIN by itself here (see _begin_sqlite); the driver's own guessing is switched off.
    connection.isolation_level = None
    cursor = connection.cursor()
    for pragma in (
        "journal_mode=WAL",
        "synchronous=NORMAL",
        "foreign_keys=ON",
        f"busy_timeout={BUSY_SECONDS * 1000}",
        "wal_autocheckpoint=200",
        "journal_size_limit=1048576",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: Any) -> None:
    immediate = connection.get_execution_options().get("immediate", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")
