"""Images: asking for a build, what names point at, and who may run what."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import func, literal, select
from sqlalchemy.ext.asyncio import AsyncSession

from prime_hub.db.models import Account, Build, Image, ImageTag
from prime_hub.db.session import Database
from prime_hub.db.types import new_id, now
from prime_hub.errors import BadRequest, Conflict, Forbidden, HubError, Invalid, NotFound
from prime_hub.services.access import VISIBILITIES, may_change, not_theirs, owner_for, role_in
from prime_hub.services.blobs import BlobStore
from prime_hub.services.fair import Turns
from prime_hub.services.image_access import ImageAccess
from prime_hub.services.jobs import Jobs
from prime_hub.services.names import check_image_name
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
    team: str | None = None
    """The team, by id or name, whose it shall be; None: the account's own."""


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
        self._turns = Turns()
        self.access = ImageAccess(settings, database, runner)
        self.named = self.access.named
        self.runnable = self.access.runnable

    async def request_build(self, account: Account, wanted: BuildRequest) -> tuple[Build, bool]:
        """Make a build; the flag says that an image of exactly this exists and the build is complete already.

        Raises Invalid, NotFound for a team, Forbidden for another visibility of what is another member's.
        """
        check_image_name(wanted.name, wanted.tag)
        visibility = _visibility(wanted.visibility)
        if wanted.dockerfile.startswith("/") or ".." in wanted.dockerfile.split("/"):
            raise Invalid(f"The Dockerfile's path '{wanted.dockerfile[:200]}' must lie inside the build context.")
        recipe = _recipe(wanted)
        present = set() if wanted.no_cache or recipe is None else await self._present()
        async with self._database.write() as session:
            owner = await owner_for(session, account, None, wanted.team)
            if wanted.visibility is not None:
                await _require_showing(session, account, owner, wanted.name, wanted.tag, visibility)
            build = Build(
                id=new_id(),
                owner_id=owner.id,
                user_id=account.id,
                name=wanted.name,
                tag=wanted.tag,
                visibility=visibility,
                sets_visibility=wanted.visibility is not None,
                dockerfile=wanted.dockerfile,
                build_args=wanted.build_args,
                port=wanted.port,
                no_cache=wanted.no_cache,
                recipe=recipe,
                context_digest=wanted.context_digest,
            )
            session.add(build)
            await session.flush()
            image = await self._cached(session, account, owner, recipe, present)
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
        self, session: AsyncSession, account: Account, owner: Account, recipe: str | None, present: set[str]
    ) -> Image | None:
        """What the account itself built of just this, for that owner or for another one. Nobody else's: what the files
        are that it was built of is only what its builder says.
        """
        if recipe is None or not present:
            return None
        query = select(Image).where(
            Image.user_id == account.id,
            Image.recipe == recipe,
            Image.kind == self._runner.images_kind,
            Image.host == self._runner.host,
            Image.digest.in_(present),
        )
        found = (await session.scalars(query.order_by(Image.created_at.desc()))).unique().all()
        image = min(found, key=lambda image: image.owner_id != owner.id, default=None)
        return None if image is None else await image_for(session, image, owner)

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
        if not await self._use_context(build_id, key):  # at work on those that came before
            raise Conflict("This build has started already, so its context cannot be replaced.")

    async def _collect_context(self, build_id: str) -> None:
        """Take in the context that the client has sent to the store itself."""
        key = f"contexts/{build_id}-{new_id()}.tar.gz"
        if await self._blobs.take("context", build_id, key, self._settings.max_context_bytes, "build context"):
            await self._use_context(build_id, key)
            await self._blobs.forget("context", build_id)

    async def _use_context(self, build_id: str, key: str) -> bool:
        """Whether the build still waited for it; what is not used is removed."""
        async with self._database.write() as session:
            build = await session.get_one(Build, build_id)
            waiting = build.status == "UPLOADING"
            unused = build.context_blob if waiting else key
            if waiting:
                build.context_blob = key
        if unused:
            await self._blobs.delete(unused)
        return waiting

    async def start_build(self, account: Account, build_id: str) -> Build:
        """Queue the build. Repeating it is harmless. Raises Forbidden for another member's: it would run by their trust."""
        build = await self.build(account, build_id)
        if build.user_id != account.id:
            raise Forbidden(f"Build {build_id} was begun by another member of {build.owner.slug}; only they start it.")
        if build.status != "UPLOADING":
            return build
        if not account.local:
            await self._runner.client()
            self.access.require_isolated_builds(account)
        await self._collect_context(build_id)
        async with self._database.write() as session:
            build = await session.get_one(Build, build_id)
            if build.status != "UPLOADING":
                return build
            if build.context_blob is None:
                raise BadRequest("The build context has not been uploaded yet; run the command again.")
            build.status = "PENDING"
            await session.flush()
            await self.admit(session)
        self._jobs.wake()
        return build

    async def admit(self, session: AsyncSession) -> int:
        """Give builds their turn, in the caller's write transaction; how many. Call `wake` once that is committed."""
        waiting = select(Build).where(Build.status == "PENDING", Build.admitted_at.is_(None))
        builds = (await session.scalars(waiting.order_by(Build.created_at, Build.id))).unique().all()
        if not builds:
            return 0
        going = select(Build.owner_id, func.count(Build.id)).where(
            Build.status.in_(("PENDING", "BUILDING")), Build.admitted_at.is_not(None)
        )
        counts = dict((await session.execute(going.group_by(Build.owner_id))).tuples().all())
        most = self._settings.account_builds

        def fits(build: Build) -> bool:
            mine = counts.get(build.owner_id, 0)
            if most and mine >= most:
                return False
            counts[build.owner_id] = mine + 1
            return True

        taken = self._turns.take(builds, fits, self._settings.builds_at_once - sum(counts.values()))
        for build in taken:
            build.admitted_at = now()
            self._jobs.enqueue(session, BUILD, build.id)
        return len(taken)

    async def turn(self) -> None:
        """There may be room for other builds."""
        async with self._database.write() as session:
            admitted = await self.admit(session)
        if admitted:
            self._jobs.wake()

    async def resolve(
        self, account: Account, owner: Account, docker_image: str, digest: str | None
    ) -> tuple[str | None, Build | None]:
        """(the digest to run for a reference, None), or (None, the build that fetches it), in a sandbox of `owner`, the
        account itself or a team of its. Raises as `runnable`.
        """
        team = owner if owner.id != account.id else None
        try:
            return await self.runnable(account, docker_image, digest, team), None
        except NotFound:
            if digest is not None or not await self.access.fetchable(account, docker_image):
                raise
        source = docker_image.strip()
        mine = select(Build).where(Build.owner_id == owner.id, Build.kind == "fetch", Build.source == source)
        present = await self._present()
        async with self._database.write() as session:
            for build in (await session.scalars(mine.order_by(Build.created_at.desc()).limit(8))).unique():
                if build.status not in ENDED:
                    return None, build
                if build.image is not None and build.image.digest in present:
                    return build.image.digest, None
            reference = parse_reference(source)
            build = _fetching(account, owner, source, reference.name, reference.tag, "fetch", "PRIVATE")
            session.add(build)
            await session.flush()
            await self.admit(session)
        self._jobs.wake()
        return None, build

    async def request_copy(
        self, account: Account, source: str, wanted: BuildRequest | None, visibility: str | None, team: str | None
    ) -> Build:
        """Fetch an image from a registry under a name of the account's or the team's, its own where none is given.

        Raises Invalid where the runtime takes none from registries, Forbidden for a registry that is not open.
        """
        await self._runner.client()
        self.access.require_fetching(account, source)
        reference = parse_reference(source)
        name, tag = (wanted.name, wanted.tag) if wanted else (reference.name, reference.tag)
        check_image_name(name, tag)
        async with self._database.write() as session:
            owner = await owner_for(session, account, None, team)
            if visibility is not None:
                await _require_showing(session, account, owner, name, tag, _visibility(visibility))
            build = _fetching(account, owner, source, name, tag, "copy", _visibility(visibility))
            build.sets_visibility = visibility is not None
            session.add(build)
            await session.flush()
            await self.admit(session)
        self._jobs.wake()
        return await self.build(account, build.id)

    async def cancel_build(self, account: Account, build_id: str) -> Build:
        """Cancel the build, whatever it has come to; one that has ended stays as it is. Raises NotFound, and Forbidden for
        another member's of a team that the account does not manage.
        """
        await self.build(account, build_id)
        async with self._database.write() as session:
            build = await session.get_one(Build, build_id)
            if not await may_change(session, account, build.owner_id, build.user_id):
                raise await not_theirs(session, account, f"Build {build_id}", build.owner, build.user_id)
            if build.status in ENDED:
                return build
            build.status, build.completed_at = "CANCELLED", now()
            build.error = "The build was cancelled."
            unused = build.context_blob if build.admitted_at is None else None
            if unused is not None:  # nobody else will come to it
                build.context_blob = None
        self._signals.send(f"build/{build_id}")
        if unused is not None:
            await self._blobs.delete(unused)
        if build.runner_build is not None:
            with suppress(HubError):
                await (await self._runner.client()).call("DELETE", f"/builds/{build.runner_build}")
        return build

    async def build(self, account: Account, build_id: str) -> Build:
        """One of the builds of the account and its teams. Raises NotFound."""
        async with self._database.read() as session:
            build = await session.get(Build, build_id)
            role = await role_in(session, account, build.owner_id if build is not None else "")
        if build is None or role is None:
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

    async def owner(self, account: Account, team: str | None) -> Account:
        """The team, by id or name; the account itself without one. Raises NotFound."""
        async with self._database.read() as session:
            return await owner_for(session, account, None, team)

    async def find(
        self, account: Account, team: str | None, search: str | None, limit: int, offset: int
    ) -> tuple[list[ImageTag | Build], int]:
        """The images of the account, or of a team of its, and the newest build of each name that has none newer: newest
        first. Raises NotFound for a team.
        """
        account = await self.owner(account, team)
        matches = [ImageTag.owner_id == account.id]
        building = [Build.owner_id == account.id, Build.status != "COMPLETED", Build.kind != "fetch"]
        if search:
            owner = Reference(account.slug, "", "").canonical(account.slug).removesuffix(":")
            for conditions, model in ((matches, ImageTag), (building, Build)):
                reference = literal(owner) + model.name + literal(":") + model.tag
                conditions.append(reference.icontains(search, autoescape=True))
        newest = (
            select(Build.name, Build.tag, func.max(Build.created_at).label("at"))
            .where(Build.owner_id == account.id, Build.kind != "fetch")
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


def _visibility(given: str | None) -> str:
    visibility = (given or "PRIVATE").upper()
    if visibility not in VISIBILITIES:
        raise Invalid(f"Visibility '{given}' is not known; use PUBLIC or PRIVATE.")
    return visibility


async def _require_showing(
    session: AsyncSession, account: Account, owner: Account, name: str, tag: str, visibility: str
) -> None:
    """Raises Forbidden where a push would open or close to others what is another member's."""
    there = select(ImageTag).where(ImageTag.owner_id == owner.id, ImageTag.name == name, ImageTag.tag == tag)
    row = (await session.scalars(there)).unique().first()
    if row is None or row.visibility == visibility or await may_change(session, account, owner.id, row.user_id):
        return
    raise await not_theirs(session, account, f"Image {name}:{tag}", owner, row.user_id)


async def image_for(session: AsyncSession, image: Image, owner: Account) -> Image:
    """The same image as one of `owner`'s, which it is made into where it is not yet."""
    same = select(Image).where(Image.owner_id == owner.id, Image.digest == image.digest)
    same = same.where(Image.kind == image.kind, Image.host == image.host)
    found = (await session.scalars(same)).unique().first()
    if found is None:
        columns = ("user_id", "digest", "recipe", "kind", "host", "size", "config", "created_at")
        found = Image(owner_id=owner.id, **{name: getattr(image, name) for name in columns})
        session.add(found)
        await session.flush()
    return found


def _fetching(account: Account, owner: Account, source: str, name: str, tag: str, kind: str, visibility: str) -> Build:
    return Build(
        id=new_id(),
        owner_id=owner.id,
        user_id=account.id,
        name=name,
        tag=tag,
        kind=kind,
        source=source,
        visibility=visibility,
        status="PENDING",
        created_at=now(),
    )


def _recipe(wanted: BuildRequest) -> str | None:
    if wanted.context_digest is None:
        return None
    parts: list[Any] = [wanted.context_digest, wanted.dockerfile, sorted(wanted.build_args.items()), wanted.port]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


async def point_tag(session: AsyncSession, build: Build, image: Image) -> None:
    """Complete `build` with `image` and let its name point there; what was fetched for a sandbox gets none.

    The build fails where who began it has left the team.
    """
    build.image_id = image.id
    build.status, build.completed_at = "COMPLETED", now()
    if build.kind == "fetch":
        return
    query = select(ImageTag).where(
        ImageTag.owner_id == build.owner_id, ImageTag.name == build.name, ImageTag.tag == build.tag
    )
    tag = (await session.scalars(query)).first()
    user = await session.get(Account, build.user_id)
    if user is None or await role_in(session, user, build.owner_id) is None:
        build.status, build.error = "FAILED", "Who began this build has left the team meanwhile; the image got no name."
        return
    if tag is None:
        tag = ImageTag(owner_id=build.owner_id, name=build.name, tag=build.tag, visibility=build.visibility)
        tag.user_id = build.user_id
        session.add(tag)
    elif build.sets_visibility and await may_change(session, user, build.owner_id, tag.user_id):
        tag.visibility = build.visibility
    tag.image_id, tag.build_id, tag.pushed_at = image.id, build.id, now()
