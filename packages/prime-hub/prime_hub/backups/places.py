"""A database and a store that are read or filled while no Hub has to run."""

from __future__ import annotations

import sys
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta

from sqlalchemy import delete, inspect, text
from sqlalchemy.ext.asyncio import AsyncConnection

from prime_hub.backups import rows
from prime_hub.db.migrate import SchemaTooNew, head, migrate
from prime_hub.db.models import Meta
from prime_hub.db.session import Database, answering
from prime_hub.db.types import now
from prime_hub.errors import Conflict
from prime_hub.hub import open_blobs
from prime_hub.services.blob_use import HELD
from prime_hub.services.blobs import BlobStore
from prime_hub.settings import Settings

PASSING = ("staging/", "uploads/", "probe")
"""What nobody refers to yet."""
SHORT_LIVED = ("contexts/", "logs/")
"""What may go while it is copied: a build has ended, a log was pruned."""
LONGEST = timedelta(days=1)
SAY_SECONDS = 2.0


class Place:
    """Where a Hub keeps what it has."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.database = Database(settings.database)
        self.blobs: BlobStore = open_blobs(settings)

    @property
    def name(self) -> str:
        """For people; never with a password."""
        where = self.database.engine.url.render_as_string(hide_password=True)
        kept = self.settings.blobs_url or str(self.settings.blobs_dir)
        return f"{where if self.settings.database_url else self.settings.database_file} and {kept}"

    async def keys(self) -> dict[str, int]:
        """The blobs that are there to stay, and their sizes."""
        return {key: size async for key, size, _ in self.blobs.entries() if not key.startswith(PASSING)}

    @asynccontextmanager
    async def snapshot(self) -> AsyncGenerator[AsyncConnection]:
        """The rows as they are at one moment, while others go on writing. Raises Conflict for another schema."""
        engine = self.database.engine
        if not self.database.on_sqlite:
            engine = engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        async with engine.connect() as connection, connection.begin():
            found = None
            if await connection.run_sync(lambda it: inspect(it).has_table("alembic_version")):
                found = await connection.scalar(text("SELECT version_num FROM alembic_version"))
            if found != head():
                raise Conflict(
                    f"The database of {self.name} has the schema {found or 'of no Hub'}, and this program knows {head()}; start "
                    "the Hub once with this program, which brings it there."
                )
            yield connection

    @asynccontextmanager
    async def holding_blobs(self) -> AsyncGenerator[None]:
        """No Hub removes shared bytes meanwhile; what is left over then goes with the hourly cleaning."""
        mark = f"{HELD}{now().timestamp():.6f}"
        async with self.database.write() as session:
            await session.execute(delete(Meta).where(Meta.key.startswith(HELD), Meta.value < now().isoformat()))
            session.add(Meta(key=mark, value=(now() + LONGEST).isoformat()))
        try:
            yield
        finally:
            async with self.database.write() as session:
                await session.execute(delete(Meta).where(Meta.key == mark))

    async def prepare_empty(self) -> None:
        """The newest schema, and nobody in it. Raises Conflict, Unavailable."""
        try:
            with answering(self.database):
                await migrate(self.database.engine, self.settings.data_dir)
                async with self.database.engine.connect() as connection:
                    there = await rows.counts(connection)
        except SchemaTooNew as error:
            raise Conflict(str(error)) from error
        if there["accounts"]:
            raise Conflict(
                f"The Hub in {self.name} is not empty ({there['accounts']} accounts, {there['environments']} environments); "
                "nothing was changed. Name an empty one."
            )
        await self.blobs.check()

    async def put(self, key: str, size: int, sha256: str | None, source: BlobStore) -> None:
        """Copy a blob and see that it is what its name or hash says. Raises Conflict; nothing is left then."""
        stored = await self.blobs.put(key, source.get(key), size, "blob")
        named = key.rpartition("/")[2] if key.startswith("sha256/") else sha256
        if stored.size != size or (named is not None and stored.sha256 != named):
            await self.blobs.delete(key)
            raise Conflict(
                f"The blob {key} is not what it was stored as: its bytes have changed in {source.address or source.root}."
            )

    async def aclose(self) -> None:
        """Let go of the database."""
        await self.database.close()


class Progress:
    """A line on standard error now and then."""

    def __init__(self, verb: str, count: int, size: int) -> None:
        self._verb, self._count, self._size = verb, count, size
        self._done = self._bytes = 0
        self._said = time.monotonic()

    def step(self, size: int) -> None:
        """One blob more."""
        self._done, self._bytes = self._done + 1, self._bytes + size
        if time.monotonic() - self._said >= SAY_SECONDS:
            self._said = time.monotonic()
            say(
                f"{self._verb} {self._done} of {self._count} files, {megabytes(self._bytes)} of {megabytes(self._size)}"
            )


def say(text: str) -> None:
    """For who waits at the terminal."""
    print(text, file=sys.stderr, flush=True)


def megabytes(size: int) -> str:
    """A size for people."""
    return f"{size / 1_000_000:,.1f} MB"
