"""Which rows need which bytes, and removing bytes that none needs.

Rows share bytes: what is pushed twice, and what is forked, is stored once. So bytes get their place, and are removed, in a
write transaction, of which there is one at a time (`db/session.py`), together with the look at who needs them.
"""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import delete, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from prime_hub.db.models import Build, CoreMetadata, EvaluationPack, Meta, Version, Wheel
from prime_hub.db.session import Database
from prime_hub.db.types import now
from prime_hub.services.blobs import BlobStore

HELD = "backup_until/"
"""How the rows begin that hold bytes back from being removed, each until the moment it has."""


async def _held(session: AsyncSession) -> bool:
    """Whether a backup is being made: what its rows name is to be there until it comes to it."""
    holding = select(Meta.key).where(Meta.key.startswith(HELD), Meta.value > now().isoformat())
    return (await session.scalars(holding.limit(1))).first() is not None


async def needed(session: AsyncSession, key: str) -> bool:
    """Whether any row needs these bytes."""
    queries = (
        select(Version.id).where(Version.blob == key),
        select(Wheel.id).where(Wheel.blob == key),
        select(EvaluationPack.id).where(EvaluationPack.blob == key),
        select(Build.id).where(or_(Build.context_blob == key, Build.log_blob == key)),
    )
    for query in queries:
        if (await session.scalars(query.limit(1))).first() is not None:
            return True
    return False


async def sweep(database: Database, blobs: BlobStore, keys: Iterable[str | None]) -> None:
    """Remove those that no row needs. After the transaction that removed the rows, which must be certain by then; what a
    crash leaves in between is found by `Cleaning`.
    """
    for key in sorted({key for key in keys if key}):
        async with database.write() as session:
            if not await needed(session, key) and not await _held(session):
                await session.execute(delete(CoreMetadata).where(CoreMetadata.wheel_sha256 == key.rpartition("/")[2]))
                await blobs.delete(key)
