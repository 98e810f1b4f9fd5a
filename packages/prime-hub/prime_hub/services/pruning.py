"""Forgetting what ended long ago: sandboxes, builds, jobs, and images that nothing refers to any more."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta

from sqlalchemy import delete, select

from prime_hub.db.models import Build, Exposure, Image, ImageTag, Job, Sandbox, Version
from prime_hub.db.session import Database
from prime_hub.db.types import now
from prime_hub.errors import HubError, NotFound
from prime_hub.services.blobs import BlobStore
from prime_hub.services.images import ENDED
from prime_hub.services.queue import LIVE
from prime_hub.services.rounds import Rounds
from prime_hub.services.runner import Runner
from prime_hub.services.spares import Spares
from prime_hub.settings import Settings

EVERY_SECONDS = 3600.0
AT_ONCE = 500

log = logging.getLogger("prime_hub.pruning")


class Pruning:
    """Runs at the start and every hour. What lives, has a name, or belongs to a published version is not touched."""

    def __init__(
        self, settings: Settings, database: Database, blobs: BlobStore, runner: Runner, spares: Spares
    ) -> None:
        self._settings = settings
        self._database = database
        self._blobs = blobs
        self._runner = runner
        self._spares = spares
        self._rounds = Rounds("pruning", self.once, EVERY_SECONDS, at_once=True)

    def start(self) -> None:
        """Begin, in the background."""
        self._rounds.start()

    async def stop(self) -> None:
        """End it."""
        await self._rounds.stop()

    async def once(self) -> None:
        """One round."""
        before = now() - timedelta(seconds=self._settings.keep_ended_seconds)
        while await self._sandboxes(before) == AT_ONCE:
            pass
        while await self._builds(before) == AT_ONCE:
            pass
        async with self._database.write() as session:
            await session.execute(delete(Job).where(Job.state.in_(("done", "failed")), Job.finished_at < before))
        await self._images(before)

    async def _sandboxes(self, before: datetime) -> int:
        ended = (Sandbox.status.not_in(LIVE), Sandbox.terminated_at < before)
        async with self._database.write() as session:
            old = (await session.scalars(select(Sandbox.id).where(*ended).limit(AT_ONCE))).all()
            await session.execute(delete(Exposure).where(Exposure.sandbox_id.in_(old)))
            await session.execute(delete(Sandbox).where(Sandbox.id.in_(old)))
        return len(old)

    async def _builds(self, before: datetime) -> int:
        named = select(ImageTag.build_id).where(ImageTag.build_id.is_not(None))
        old = select(Build.id, Build.log_blob).where(Build.status.in_(ENDED), Build.completed_at < before)
        async with self._database.write() as session:
            found = (await session.execute(old.where(Build.id.not_in(named)).limit(AT_ONCE))).tuples().all()
            await session.execute(delete(Build).where(Build.id.in_([build_id for build_id, _ in found])))
        for _, log_blob in found:
            if log_blob is not None:
                await self._blobs.delete(log_blob)
        return len(found)

    async def _images(self, before: datetime) -> None:
        """Images that a name, a build, a version or a sandbox once had, and now nothing has."""
        unused = select(Image).where(
            Image.created_at < before,
            Image.id.not_in(select(ImageTag.image_id)),
            Image.id.not_in(select(Build.image_id).where(Build.image_id.is_not(None))),
            Image.digest.not_in(select(Version.image_digest).where(Version.image_digest.is_not(None))),
            Image.digest.not_in(select(Sandbox.image_digest).where(Sandbox.status.in_(LIVE))),
        )
        async with self._database.write() as session:
            old = [image for image in (await session.scalars(unused)).unique() if not self._spares.uses(image.digest)]
            for image in old:
                await session.delete(image)
        for image in old:
            await free(self._database, self._runner, image.digest)


async def free(database: Database, runner: Runner, digest: str) -> None:
    """Have the runner remove an image that no account has any more. One that it keeps costs nothing but room."""
    async with database.read() as session:
        if (await session.scalars(select(Image.id).where(Image.digest == digest).limit(1))).first() is not None:
            return  # somebody else has it, or it was built again in this very moment
    try:
        client = await runner.client(wait=5)
        await client.call("DELETE", f"/images/{digest}", timeout=120)
    except NotFound:
        return
    except HubError as error:
        log.warning("image %s could not be removed: %s", digest, error)
