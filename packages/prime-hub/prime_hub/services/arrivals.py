"""The bytes of wheels and source archives as they come in: through the Hub, or by the client's own way to the store."""

from __future__ import annotations

from collections.abc import AsyncIterator

from sqlalchemy.ext.asyncio import AsyncSession

from prime_hub.db.models import Version, Wheel
from prime_hub.db.session import Database
from prime_hub.db.types import new_id
from prime_hub.errors import Invalid, NotFound
from prime_hub.services.blobs import BlobStore, Stored, content_key
from prime_hub.settings import Settings


class Arrivals:
    """Takes in what was announced, and nothing else. The kinds are `wheel` and `archive`."""

    def __init__(self, settings: Settings, database: Database, blobs: BlobStore) -> None:
        self._settings = settings
        self._database = database
        self._blobs = blobs

    async def receive(self, kind: str, slot: str, chunks: AsyncIterator[bytes]) -> None:
        """Take in the bytes of a wheel or an archive. Raises Invalid when they are not the announced ones."""
        async with self._database.read() as session:
            row = await _slot(session, kind, slot)
        what, limit = self._bounds(row)
        staging = f"staging/{kind}-{slot}-{new_id()}"
        await self._place(kind, row, staging, await self._blobs.put(staging, chunks, limit, what))

    async def collect(self, kind: str, row: Wheel | Version) -> str | None:
        """Take in what the client has sent to the store itself, in place of what it sent before; the blob's key, None where
        nothing came. May be repeated. Raises as `receive`.
        """
        what, limit = self._bounds(row)
        staging = f"staging/{kind}-{row.id}-{new_id()}"
        if not await self._blobs.take(kind, row.id, staging, limit, what):
            return row.blob
        try:
            key = await self._place(kind, row, staging, await self._blobs.measured(staging))
        except Invalid:
            await self._blobs.forget(kind, row.id)
            raise
        await self._blobs.forget(kind, row.id)
        return key

    def _bounds(self, row: Wheel | Version) -> tuple[str, int]:
        """What it is called, and how many bytes it may have."""
        if isinstance(row, Wheel):
            return "wheel", row.size
        return "source archive", self._settings.max_archive_bytes

    async def _place(self, kind: str, row: Wheel | Version, staging: str, stored: Stored) -> str:
        """Give what came its final place, where it is what was announced; its key."""
        what, slot = self._bounds(row)[0], row.id
        if stored.sha256 != row.sha256 or (isinstance(row, Wheel) and stored.size != row.size):
            await self._blobs.delete(staging)
            raise Invalid(
                f"The {what} that arrived is not the one announced (its SHA-256 differs); run the push again."
            )
        key = content_key(stored.sha256)
        try:
            async with self._database.write() as session:
                row = await _slot(session, kind, slot)
                await self._blobs.move(staging, key)
                row.blob, row.size = key, stored.size
        except BaseException:
            await self._blobs.delete(staging)
            raise
        return key


async def _slot(session: AsyncSession, kind: str, slot: str) -> Wheel | Version:
    row = await session.get(Wheel if kind == "wheel" else Version, slot)
    if row is None:
        raise NotFound("This upload was given up; run the push again.")
    return row
