"""Images: asking for a build, what names point at, and who may run what."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from prime_hub.db.models import Account, Build, Environment, Image, ImageTag, Version
from prime_hub.db.session import Database
from prime_hub.db.types import new_id, now
from prime_hub.errors import BadRequest, Conflict, Forbidden, HubError, Invalid, NotFound
from prime_hub.services.blobs import BlobStore
from prime_hub.services.catalogue import may_see
from prime_hub.services.jobs import Jobs
from prime_hub.services.names import check_image_name
from prime_hub.services.publishing import VISIBILITIES
from prime_hub.services.references import Reference, parse_reference
from prime_hub.services.runner import Runner
from prime_hub.services.signals import Signals
from prime_hub.settings import Settings

BUILD = "build"
ENDED = ("COMPLETED", "FAILED", "CANCELLED")


@dataclass(frozen=True)
class BuildRequest:
    """What a client wants built. `context_digest` names the context's content, so that the same is not built twice."""

    name: str
    tag: str = "latest"
    dockerfile: str = "Dockerfile"
    context_digest: str | None = None
    no_cache: bool = False
    build_args: dict[str, str] = field(default_factory=dict)
    port: int | None = None
    visibility: str | None = None


class Images:
    """Builds, images and their names, for one Hub."""

    def __init__(
        self, settings: Settings, database: Database, blobs: BlobStore, jobs: Jobs, signals: Signals, runner: Runner
    ) -> None:
        self._settings = settings
        self._database = database
        self._blobs = blobs
        self._jobs = jobs
        self._signals = signals
        self._runner = runner

    async def request_build(self, account: Account, wanted: BuildRequest) -> tuple[Build, bool]:
        """Make a build; the flag says that an image of exactly this exists and the build is complete already."""
        check_image_name(wanted.name, wanted.tag)
        visibility = (wanted.visibility or "PRIVATE").upper()
        if visibility not in VISIBILITIES:
            raise Invalid(f"Visibility '{wanted.visibility}' is not known; use PUBLIC or PRIVATE.")
        if wanted.dockerfile.startswith("/") or ".." in wanted.dockerfile.split("/"):
            raise Invalid(f"The Dockerfile's path '{wanted.dockerfile[:200]}' must lie inside the build context.")
        recipe = _recipe(wanted)
        present = set() if wanted.no_cache or recipe is None else await self._present()
        async with self._database.write() as session:
            build = Build(
                id=new_id(),
                owner_id=account.id,
                name=wanted.name,
                tag=wanted.tag,
                visibility=visibility,
                dockerfile=wanted.dockerfile,
                build_args=wanted.build_args,
                port=wanted.port,
                no_cache=wanted.no_cache,
                recipe=recipe,
                context_digest=wanted.context_digest,
            )
            session.add(build)
            await session.flush()
            image = await self._cached(session, account, recipe, present)
            if image is not None:
                build.started_at = now()
                await point_tag(session, build, image)
        return await self.build(account, build.id), image is not None

    async def _present(self) -> set[str]:
        """The digests that the runner still has; none when it cannot say."""
        try:
            client = await self._runner.client()
            return {row["digest"] for row in (await client.call("GET", "/images"))["images"]}
        except HubError:
            return set()

    async def _cached(
        self, session: AsyncSession, account: Account, recipe: str | None, present: set[str]
    ) -> Image | None:
        if recipe is None or not present:
            return None
        query = select(Image).where(
            Image.owner_id == account.id,
            Image.recipe == recipe,
            Image.runtime == self._runner.runtime,
            Image.host == self._runner.host,
            Image.digest.in_(present),
        )
        return (await session.scalars(query.order_by(Image.created_at.desc()).limit(1))).first()

    async def receive_context(self, build_id: str, chunks: AsyncIterator[bytes]) -> None:
        """Take in the build context, a `.tar.gz`. It may be sent again until the build has started."""
        async with self._database.read() as session:
            build = await session.get(Build, build_id)
        if build is None:
            raise NotFound("There is no such build; begin it again.")
        if build.status == "COMPLETED":
            return  # the image was there already; a client that sends the context all the same is answered politely
        if build.status != "UPLOADING":
            raise Conflict("This build has started already, so its context cannot be replaced.")
        key = f"contexts/{build_id}-{new_id()}.tar.gz"
        await self._blobs.put(key, chunks, self._settings.max_context_bytes, "build context")
        async with self._database.write() as session:
            build = await session.get_one(Build, build_id)
            waiting = build.status == "UPLOADING"
            unused = build.context_blob if waiting else key
            if waiting:
                build.context_blob = key
        if unused:
            await self._blobs.delete(unused)
        if not waiting:  # begun while these bytes were on their way; it is at work on those that came before
            raise Conflict("This build has started already, so its context cannot be replaced.")

    async def start_build(self, account: Account, build_id: str) -> Build:
        """Queue the build. Repeating it is harmless."""
        build = await self.build(account, build_id)
        if build.status != "UPLOADING":
            return build
        if not account.local:
            await self._runner.client()
            self._require_isolation("build images")
        async with self._database.write() as session:
            build = await session.get_one(Build, build_id)
            if build.status != "UPLOADING":
                return build
            if build.context_blob is None:
                raise BadRequest("The build context has not been uploaded yet; run the command again.")
            build.status = "PENDING"
            self._jobs.enqueue(session, BUILD, build.id)
        self._jobs.wake()
        return build

    async def cancel_build(self, account: Account, build_id: str) -> Build:
        """Cancel the build, whatever it has come to; one that has ended stays as it is. Raises NotFound."""
        await self.build(account, build_id)
        async with self._database.write() as session:
            build = await session.get_one(Build, build_id)
            if build.status in ENDED:
                return build
            build.status, build.completed_at = "CANCELLED", now()
            build.error = "The build was cancelled."
        self._signals.send(f"build/{build_id}")
        if build.runner_build is not None:
            with suppress(HubError):
                await (await self._runner.client()).call("DELETE", f"/builds/{build.runner_build}")
        return build

    def _require_isolation(self, what: str) -> None:
        if not self._runner.isolating:
            raise Forbidden(
                f"This Hub's runtime ({self._runner.runtime}) does not isolate, so only accounts made on its own "
                f"machine may {what}."
            )

    async def build(self, account: Account, build_id: str) -> Build:
        """One of the account's builds. Raises NotFound."""
        async with self._database.read() as session:
            build = await session.get(Build, build_id)
        if build is None or build.owner_id != account.id:
            raise NotFound(f"{account.slug} has no build {build_id}.")
        return build

    async def wait_for_build(self, account: Account, build_id: str, seconds: float) -> Build:
        """The build as soon as its status has changed, or as it is after `seconds`."""
        first = await self.build(account, build_id)
        if first.status in ENDED:
            return first
        return await self._signals.until(
            f"build/{build_id}",
            seconds,
            lambda: self.build(account, build_id),
            lambda build: build.status != first.status,
        )

    async def log(self, account: Account, build_id: str, offset: int) -> tuple[str, int, bool]:
        """(the log from byte `offset`, the offset to go on with, whether that is all there will be)."""
        build = await self.build(account, build_id)
        if build.log_blob is not None:
            data = b"".join([part async for part in self._blobs.get(build.log_blob)])
            return data[offset:].decode("utf-8", "replace"), len(data), True
        if build.runner_build is None or build.status in ENDED:
            return "", offset, build.status in ENDED
        try:
            client = await self._runner.client()
            page = await client.call("GET", f"/builds/{build.runner_build}/log", params={"offset": offset})
        except HubError:
            return "", offset, False
        # Complete only once the Hub has the whole log and the outcome, which is moments after the runner's last line.
        return str(page["text"]), int(page["offset"]), False

    async def find(
        self, account: Account, search: str | None, limit: int, offset: int
    ) -> tuple[list[ImageTag | Build], int]:
        """The account's images, and the newest build of each name that has none newer: newest first."""
        matches = [ImageTag.owner_id == account.id]
        building = [Build.owner_id == account.id, Build.status != "COMPLETED"]
        if search:
            pattern = f"%{search}%"
            matches.append(or_(ImageTag.name.ilike(pattern), ImageTag.tag.ilike(pattern)))
            building.append(or_(Build.name.ilike(pattern), Build.tag.ilike(pattern)))
        newest = (
            select(Build.name, Build.tag, func.max(Build.created_at).label("at"))
            .where(Build.owner_id == account.id)
            .group_by(Build.name, Build.tag)
            .subquery()
        )
        builds = (
            select(Build)
            .join(
                newest, (Build.name == newest.c.name) & (Build.tag == newest.c.tag) & (Build.created_at == newest.c.at)
            )
            .where(*building)
        )
        async with self._database.read() as session:
            tags = (await session.scalars(select(ImageTag).where(*matches))).unique().all()
            rows: list[ImageTag | Build] = [*tags, *(await session.scalars(builds)).unique().all()]
        rows.sort(key=lambda row: row.pushed_at if isinstance(row, ImageTag) else row.created_at, reverse=True)
        return rows[offset : offset + limit], len(rows)

    async def named(self, account: Account, owner: str | None, name: str, tag: str) -> ImageTag:
        """What a name points at. Raises NotFound, also for a private image of somebody else."""
        query = select(ImageTag).join(Account, Account.id == ImageTag.owner_id)
        query = query.where(Account.slug == (owner or account.slug).lower(), ImageTag.name == name, ImageTag.tag == tag)
        async with self._database.read() as session:
            found = (await session.scalars(query)).unique().first()
        if found is None or (found.owner_id != account.id and found.visibility != "PUBLIC"):
            raise _no_image(Reference(owner, name, tag).canonical(account.slug))
        return found

    async def runnable(self, account: Account, docker_image: str, digest: str | None) -> str:
        """The digest to run for a reference. Raises NotFound, Forbidden, Invalid.

        An account may run its own images, public ones, and those of versions that it may see; other people's only where
        the runtime isolates.
        """
        reference = parse_reference(docker_image)
        digest = digest or reference.digest
        if digest is None:
            tag = await self.named(account, reference.owner, reference.name, reference.tag)
            if tag.owner_id != account.id:
                self._forbid_foreign(docker_image, tag.owner.slug)
            return tag.image.digest
        async with self._database.read() as session:
            found = (await session.scalars(select(Image).where(Image.digest == digest))).unique().all()
            if any(image.owner_id == account.id for image in found):
                return digest
            if not found or not await self._may_see_digest(session, account, digest):
                raise _no_image(docker_image)
        self._forbid_foreign(docker_image, found[0].owner.slug)
        return digest

    async def _may_see_digest(self, session: AsyncSession, account: Account, digest: str) -> bool:
        published = (
            select(Version.id)
            .join(Environment, Environment.id == Version.environment_id)
            .where(Version.image_digest == digest, Version.finalized_at.is_not(None), may_see(account))
        )
        public = (
            select(ImageTag.id)
            .join(Image, Image.id == ImageTag.image_id)
            .where(Image.digest == digest, ImageTag.visibility == "PUBLIC")
        )
        for query in (published, public):
            if (await session.scalars(query.limit(1))).first() is not None:
                return True
        return False

    def _forbid_foreign(self, docker_image: str, owner: str) -> None:
        if not self._runner.isolating:
            raise Forbidden(
                f"Image {docker_image} belongs to {owner}, and this Hub's runtime ({self._runner.runtime}) does not "
                "isolate, so it runs only your own images. Build your own of it: 'prime env pull' the environment, "
                "'vf-build' it, and 'prime env install' that folder."
            )


def _no_image(reference: str) -> NotFound:
    return NotFound(
        f"There is no image '{reference}' on this Hub; build it with 'vf-build' or 'prime images push'.",
        code="image_not_found",
    )


def _recipe(wanted: BuildRequest) -> str | None:
    if wanted.context_digest is None:
        return None
    parts: list[Any] = [wanted.context_digest, wanted.dockerfile, sorted(wanted.build_args.items()), wanted.port]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


async def point_tag(session: AsyncSession, build: Build, image: Image) -> None:
    """Complete `build` with `image` and let its name point there."""
    query = select(ImageTag).where(
        ImageTag.owner_id == build.owner_id, ImageTag.name == build.name, ImageTag.tag == build.tag
    )
    tag = (await session.scalars(query)).first()
    if tag is None:
        tag = ImageTag(owner_id=build.owner_id, name=build.name, tag=build.tag, visibility=build.visibility)
        session.add(tag)
    tag.image_id, tag.build_id, tag.pushed_at = image.id, build.id, now()
    build.image_id = image.id
    build.status, build.completed_at, build.error = "COMPLETED", now(), None
