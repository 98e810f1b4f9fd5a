"""One object through which everything reads and writes the database."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from typing import Any

from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine

BUSY_SECONDS = 30


class Database:
    """The engine and its two kinds of session.

    SQLite lets one writer in at a time and fails a reader that turns into a writer while another one writes. So a
    writer says so at its start (`BEGIN IMMEDIATE`, which waits), and the writers of one process queue in order on a
    lock, because SQLite's own waiting is by sleeping and unfair.
    """

    def __init__(self, url: str) -> None:
        # An error with its parameters would take variables of sandboxes into the log.
        self.engine: AsyncEngine = create_async_engine(url, hide_parameters=True)
        self._sqlite = self.engine.dialect.name == "sqlite"
        self._writer = self.engine.execution_options(immediate=True) if self._sqlite else self.engine
        self._queue = asyncio.Lock()
        if self._sqlite:
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
        """A session for writing: committed at the end, rolled back on any exception."""
        if not self._sqlite:
            async with AsyncSession(self._writer, expire_on_commit=False) as session, session.begin():
                yield session
            return
        async with self._queue, AsyncSession(self._writer, expire_on_commit=False) as session, session.begin():
            yield session

    async def close(self) -> None:
        """Close every connection."""
        await self.engine.dispose()


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
