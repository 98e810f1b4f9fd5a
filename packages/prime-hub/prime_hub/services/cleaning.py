"""Clearing away what nobody will finish: pushes and builds that were begun and left, and the bytes only they had; and joining
what the search's index has fallen into.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import ScalarSelect, delete, select, update

from prime_hub.db.models import (
    Build,
    CoreMetadata,
    Environment,
    Secret,
    SecretLink,
    Star,
    UsedNumber,
    Variable,
    Version,
    Wheel,
)
from prime_hub.db.session import Database
from prime_hub.db.types import now
from prime_hub.services.blob_use import needed, sweep
from prime_hub.services.blobs import BlobStore
from prime_hub.services.rounds import Rounds
from prime_hub.services.searching import join

GIVEN_UP_AFTER = timedelta(days=1)
EVERY_SECONDS = 3600.0
JOINED_PAGES = 2_000
"""Of the search's index in one round: a moment's work."""


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
            await session.execute(delete(CoreMetadata).where(CoreMetadata.wheel_sha256.not_in(select(Wheel.sha256))))
            waiting = (Build.status == "UPLOADING") & (Build.created_at < before)
            ended = {"status": "CANCELLED", "error": "The build context never arrived.", "completed_at": now()}
            await session.execute(update(Build).where(waiting).values(**ended, context_blob=None))
            await session.execute(delete(Environment).where(Environment.id.in_(_never_published(before))))
        self._blobs.remove_copies(before)
        unused = []
        for key in await self._blobs.older_than(before):
            async with self._database.read() as session:
                if not await needed(session, key):
                    unused.append(key)
        await sweep(self._database, self._blobs, unused)
        await join(self._database, JOINED_PAGES)


def _never_published(before: datetime) -> ScalarSelect[str]:
    """Environments that were named by a push which came to nothing. A private one stays: it remembers that it is private."""
    used = select(UsedNumber.canonical).where(
        UsedNumber.owner_id == Environment.owner_id, UsedNumber.normalized_name == Environment.normalized_name
    )
    empty = [
        select(model.environment_id).where(model.environment_id == Environment.id)
        for model in (Version, Wheel, Secret, SecretLink, Variable, Star)
    ]
    found = select(Environment.id).where(
        Environment.latest_version_id.is_(None),
        Environment.visibility == "PUBLIC",
        Environment.updated_at < before,
        ~used.exists(),
        *(~query.exists() for query in empty),
    )
    return found.scalar_subquery()
