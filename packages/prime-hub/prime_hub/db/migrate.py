"""Bring a database to the newest schema. Alembic is imported only when there is something to do."""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, inspect, text
from sqlalchemy.ext.asyncio import AsyncEngine

from prime_hub.db.session import WRITERS

MIGRATIONS = Path(__file__).parent / "migrations"


class SchemaTooNew(Exception):
    """The database has been changed by a newer Hub; the message is one sentence."""


def head() -> str:
    """The newest revision: the number that the last file in `migrations/versions` starts with."""
    return max(file.name.split("_", 1)[0] for file in (MIGRATIONS / "versions").glob("[0-9]*_*.py"))


async def migrate(engine: AsyncEngine, data_dir: Path) -> bool:
    """Upgrade to the newest revision, under a lock that other processes on this data folder respect.

    Returns whether anything had to be done. Raises SchemaTooNew.
    """
    if await _revision(engine) == head():
        return False
    async with _locked(data_dir / "migrate.lock"):
        current = await _revision(engine)
        if current == head():
            return False
        if current is not None and current > head():
            raise SchemaTooNew(
                f"The database in {data_dir} is of a newer version (schema {current}, this program knows {head()}); "
                "upgrade prime-hub, or use another data folder."
            )
        async with engine.execution_options(immediate=True).begin() as connection:
            if engine.dialect.name != "sqlite":  # Hubs with other data folders may be at it, too
                await connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": WRITERS})
            await connection.run_sync(_upgrade)
        if engine.dialect.name == "sqlite":
            async with engine.connect() as connection:
                raw = await connection.get_raw_connection()
                await asyncio.shield(_checkpoint(raw.driver_connection))
    return True


async def _checkpoint(connection: Any) -> None:
    cursor = await connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    await cursor.close()


async def _revision(engine: AsyncEngine) -> str | None:
    def read(connection: Connection) -> str | None:
        if not inspect(connection).has_table("alembic_version"):
            return None
        return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()

    async with engine.connect() as connection:
        return await connection.run_sync(read)


def _upgrade(connection: Connection) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


@asynccontextmanager
async def _locked(path: Path) -> AsyncGenerator[None]:
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        await asyncio.to_thread(fcntl.flock, file, fcntl.LOCK_EX)
        yield
    finally:
        os.close(file)
