"""Clearing away what nobody will finish: pushes and builds that were begun and left, and the bytes only they had."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import delete, select, update

from prime_hub.db.models import Build, Version, Wheel
from prime_hub.db.session import Database
from prime_hub.db.types import now
from prime_hub.services.blobs import BlobStore
from prime_hub.services.rounds import Rounds

GIVEN_UP_AFTER = timedelta(days=1)
EVERY_SECONDS = 3600.0


class Cleaning:
    """Runs at the start and every hour. Nothing that is published, or younger than a day, is touched."""

    def __init__(self, database: Database, blobs: BlobStore) -> None:
        self._database = database
        self._blobs = blobs
        self._rounds = Rounds("cleaning", self.once, EVERY_SECONDS, at_once=True)

    def start(self) -> None:
        """Begin, in the background."""
        self._rounds.start()

    async def stop(self) -> None:
        """End it."""
        await self._rounds.stop()

    async def once(self) -> None:
        """One round: first the rows, then the blobs that no row refers to."""
        before = now() - GIVEN_UP_AFTER
        async with self._database.write() as session:
            unfinished = (Version.finalized_at.is_(None)) & (Version.created_at < before)
            await session.execute(delete(Version).where(unfinished))
            wanted = select(Version.wheel_id).where(Version.wheel_id.is_not(None))
            await session.execute(delete(Wheel).where(Wheel.created_at < before, Wheel.id.not_in(wanted)))
            waiting = (Build.status == "UPLOADING") & (Build.created_at < before)
            ended = {"status": "CANCELLED", "error": "The build context never arrived.", "completed_at": now()}
            await session.execute(update(Build).where(waiting).values(**ended, context_blob=None))
        for key in await self._blobs.older_than(before):
            if not await self._used(key):
                await self._blobs.delete(key)

    async def _used(self, key: str) -> bool:
        queries = [select(model.id).where(model.blob == key) for model in (Version, Wheel)]
        queries += [select(Build.id).where((Build.context_blob == key) | (Build.log_blob == key))]
        async with self._database.read() as session:
            for query in queries:
                if (await session.scalars(query.limit(1))).first() is not None:
                    return True
        return False
