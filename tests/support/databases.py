"""The database of a Hub under test: its own SQLite file, or, with PRIME_TEST_POSTGRES, a Postgres database of its own."""

from __future__ import annotations

import asyncio
import functools
import hashlib
import os
import tempfile
import threading
from collections.abc import Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:  # most tests need none of it
    from sqlalchemy.ext.asyncio import AsyncEngine

Answer = TypeVar("Answer")


def on_postgres() -> bool:
    """Whether Hubs under test have Postgres databases."""
    return bool(os.environ.get("PRIME_TEST_POSTGRES"))


def _name(data_dir: Path) -> str:
    return f"hub_{hashlib.sha256(str(data_dir).encode()).hexdigest()[:24]}"


def url(data_dir: Path) -> str:
    """The SQLAlchemy address of the database of the Hub with this data folder."""
    from sqlalchemy import make_url

    if not on_postgres():
        return f"sqlite+aiosqlite:///{data_dir / 'hub.sqlite3'}"
    return (
        make_url(os.environ["PRIME_TEST_POSTGRES"]).set(database=_name(data_dir)).render_as_string(hide_password=False)
    )


def make(data_dir: Path) -> dict[str, str]:
    """Make the empty database; the environment variables by which a Hub finds it.

    A file is a copy of one that was brought to the newest schema once, since a Hub takes the better part of its start for
    that.
    """
    if not on_postgres():
        file = data_dir / "hub.sqlite3"
        if not data_dir.exists() or not any(data_dir.iterdir()):
            data_dir.mkdir(parents=True, exist_ok=True)
            file.touch(0o600)
            file.write_bytes(_newest_schema())
        return {}
    there = run(_admin(f"SELECT 1 FROM pg_database WHERE datname = '{_name(data_dir)}'"))
    if not there:
        run(_admin(f"CREATE DATABASE {_name(data_dir)}"))
    return {"PRIME_HUB_DATABASE_URL": url(data_dir)}


@functools.cache
def _newest_schema() -> bytes:
    from prime_hub.db.migrate import migrate
    from prime_hub.db.session import Database

    async def go(folder: Path) -> bytes:
        database = Database(url(folder))
        try:
            await migrate(database.engine, folder)
        finally:
            await database.close()
        return (folder / "hub.sqlite3").read_bytes()

    with tempfile.TemporaryDirectory() as folder:
        return run(go(Path(folder)))


def drop(data_dir: Path) -> None:
    """Remove a Postgres database; a file goes with its folder."""
    if on_postgres():
        run(_admin(f"DROP DATABASE IF EXISTS {_name(data_dir)} WITH (FORCE)"))


def sql(data_dir: Path, statement: str, **values: Any) -> list[Any]:
    """Run one statement (`:name` for values) and commit; its rows, or the number of rows it changed as the only item."""
    from sqlalchemy import text
    from sqlalchemy.ext.asyncio import create_async_engine

    async def go() -> list[Any]:
        engine = create_async_engine(url(data_dir), connect_args={} if on_postgres() else {"timeout": 30})
        try:
            async with engine.begin() as connection:
                done = await connection.execute(text(statement), values)
                return [tuple(row) for row in done] if done.returns_rows else [done.rowcount]
        finally:
            await engine.dispose()

    return run(go())


def add_user(data_dir: Path, name: str) -> str:
    """Make an account of somebody who is trusted on this machine; its token."""
    from prime_hub.db.session import Database
    from prime_hub.services.accounts import Accounts
    from prime_hub.services.tokens import Tokens
    from prime_hub.settings import Settings

    async def go() -> str:
        database = Database(url(data_dir))
        try:
            account = await Accounts(Settings(data_dir), database).create(name, local=True)
            token, _ = await Tokens(database).create(account, "first token")
            return token
        finally:
            await database.close()

    return run(go())


def everything(data_dir: Path) -> str:
    """All that the database holds, as text."""
    from sqlalchemy.ext.asyncio import create_async_engine

    async def go() -> str:
        engine = create_async_engine(url(data_dir))
        try:
            return await _dumped(engine)
        finally:
            await engine.dispose()

    return run(go())


async def _dumped(engine: AsyncEngine) -> str:
    from sqlalchemy import inspect, text

    lines = []
    async with engine.connect() as connection:
        for table in await connection.run_sync(lambda it: inspect(it).get_table_names()):
            rows = await connection.execute(text(f'SELECT * FROM "{table}"'))
            lines += [f"{table}: {row}" for row in rows]
    return "\n".join(lines)


async def _admin(statement: str) -> list[Any]:
    from sqlalchemy import text
    from sqlalchemy.ext.asyncio import create_async_engine

    engine = create_async_engine(os.environ["PRIME_TEST_POSTGRES"], isolation_level="AUTOCOMMIT")
    try:
        async with engine.connect() as connection:
            done = await connection.execute(text(statement))
            return list(done) if done.returns_rows else []
    finally:
        await engine.dispose()


def run(work: Coroutine[Any, Any, Answer]) -> Answer:
    """A coroutine's answer, also for a test that is one itself."""
    answers: list[Answer] = []
    errors: list[BaseException] = []

    def go() -> None:
        try:
            answers.append(asyncio.run(work))
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=go)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return answers[0]
