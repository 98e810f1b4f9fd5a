"""Changing what names of images point at: publish, rename, delete."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import defer

from prime_hub.db.models import Account, Build, Environment, ImageTag, Sandbox, Version
from prime_hub.db.session import Database
from prime_hub.errors import Conflict, Forbidden, HubError, Invalid, NotFound
from prime_hub.services.access import VISIBILITIES, known_as, may_change, may_see, not_theirs, owner_for, role_in
from prime_hub.services.blobs import BlobStore
from prime_hub.services.image_access import no_image
from prime_hub.services.images import ENDED, Images, image_for
from prime_hub.services.names import check_image_name
from prime_hub.services.pruning import free
from prime_hub.services.queue import LIVE
from prime_hub.services.references import Reference, parse_reference
from prime_hub.services.runner import Runner
from prime_hub.services.spares import Spares


@dataclass(frozen=True)
class Named:
    """Where a name stands, before or after a change; `team` is the id of the one whose it is."""

    name: str
    tag: str
    visibility: str
    team: str | None = None


@dataclass(frozen=True)
class Change:
    """One wanted change: which image, and what of it is to be otherwise. `owner` None: the `team`, else the caller.

    `new_owner` is a team, or "" for the caller.
    """

    owner: str | None
    name: str
    tag: str
    team: str | None = None
    new_owner: str | None = None
    new_name: str | None = None
    new_tag: str | None = None
    visibility: str | None = None


@dataclass(frozen=True)
class Changed:
    """What came of it: `error` when nothing did."""

    before: Named | None = None
    after: Named | None = None
    error: HubError | None = None


class _Undo(Exception):
    """A dry run is over."""


class ImageChanges:
    """The owner's changes."""

    def __init__(self, database: Database, blobs: BlobStore, runner: Runner, images: Images, spares: Spares) -> None:
        self._database = database
        self._blobs = blobs
        self._runner = runner
        self._images = images
        self._spares = spares

    async def change(self, account: Account, changes: Sequence[Change | HubError], *, dry_run: bool) -> list[Changed]:
        """Make changes one after the other, each for itself; a dry run says what would come of them."""
        results: list[Changed] = []
        with suppress(_Undo):
            async with self._database.write() as session:
                for change in changes:
                    try:
                        if isinstance(change, HubError):
                            raise change
                        results.append(await self._change(session, account, change))
                    except HubError as error:
                        results.append(Changed(error=error))
                if dry_run:
                    raise _Undo
        return results

    async def _change(self, session: AsyncSession, account: Account, change: Change) -> Changed:
        owner = await owner_for(session, account, None, change.team)
        tag = await _tag(session, account, owner, Reference(change.owner, change.name, change.tag))
        target = tag.owner if change.new_owner is None else await owner_for(session, account, None, change.new_owner)
        before = Named(tag.name, tag.tag, tag.visibility, tag.owner.team_id)
        after = Named(
            change.new_name or tag.name,
            change.new_tag or tag.tag,
            (change.visibility or tag.visibility).upper(),
            target.team_id,
        )
        if after.visibility not in VISIBILITIES:
            raise Invalid(f"Visibility '{change.visibility}' is not known; use PUBLIC or PRIVATE.")
        check_image_name(after.name, after.tag)
        if (after.name, after.tag, after.team) != (before.name, before.tag, before.team):
            there = select(ImageTag.id).where(
                ImageTag.owner_id == target.id, ImageTag.name == after.name, ImageTag.tag == after.tag
            )
            if (await session.scalars(there)).first() is not None:
                raise Conflict(
                    f"{target.slug} already has an image {after.name}:{after.tag}; delete it first, or choose another "
                    "name.",
                    code="already_exists",
                )
        tag.name, tag.tag, tag.visibility = after.name, after.tag, after.visibility
        if target.id != tag.owner_id:
            await _hand_over(session, tag, target)
        await session.flush()
        return Changed(before, after)

    async def delete(self, account: Account, reference: str, team: str | None = None) -> None:
        """Take a name away, and the image with its last one; builds of that name that came to nothing go too. A reference
        without an owner is the `team`'s, else the account's own.

        Raises NotFound, Forbidden for somebody else's, Conflict for an image that a version or a sandbox needs.
        """
        wanted = parse_reference(reference)
        async with self._database.read() as session:
            owner = await owner_for(session, account, None, team)
            try:
                tag = await _tag(session, account, owner, wanted)
                await self._check_unneeded(session, account, tag)
            except NotFound:
                tag = None
            builds = await _builds(session, account, owner, wanted)
        if tag is None and not builds:
            raise no_image(wanted.canonical(owner.slug) if team else reference)
        for build in builds:
            if build.status not in ENDED:
                await self._images.cancel_build(account, build.id)
        if tag is not None:
            await self._spares.drop(tag.image.digest)
        logs: list[str] = []
        unused: str | None = None
        async with self._database.write() as session:
            if tag is not None:
                tag = await _tag(session, account, owner, wanted)
                await self._check_unneeded(session, account, tag)
                unused = await _remove(session, tag)
            for build in await _builds(session, account, owner, wanted):
                pointing = select(func.count(ImageTag.id)).where(ImageTag.build_id == build.id)
                if not await session.scalar(pointing):
                    logs += [build.log_blob] if build.log_blob else []
                    await session.delete(build)
        for key in logs:
            await self._blobs.delete(key)
        if unused is not None:
            await free(self._database, self._runner, unused)

    async def _check_unneeded(self, session: AsyncSession, account: Account, tag: ImageTag) -> None:
        """Raises Conflict where a version names this name of its image, or needs the image of which this is the last one, as
        a sandbox may.
        """
        others = select(func.count(ImageTag.id)).where(ImageTag.image_id == tag.image_id, ImageTag.id != tag.id)
        last = not await session.scalar(others)
        shown = f"{tag.name}:{tag.tag}"
        # Anybody's version may need a public image; what was never shown to others only its owner's versions can.
        query = (
            select(Version, Environment, may_see(account))
            .join(Environment, Environment.id == Version.environment_id)
            .join(Account, Account.id == Environment.owner_id)
            .where(Version.image_digest == tag.image.digest, Version.finalized_at.is_not(None))
        )
        if tag.visibility != "PUBLIC":
            # A version of a team's runs the image of the member who pushed it.
            query = query.where((Environment.owner_id == tag.owner_id) | (Version.publisher_id == tag.owner_id))
        light = defer(Version.readme), defer(Version.details)
        query = query.options(*light).order_by(Version.created_at.desc())
        for version, environment, seen in (await session.execute(query)).unique():
            if not last and not await _named_by(session, version, environment.owner_id, tag):
                continue
            owner = environment.owner.slug
            way = "delete that version first"
            if owner != tag.owner.slug:
                way = f"'prime images unpublish {shown}' first to withdraw it from others"
            needing = f"{owner}/{environment.name}@{version.version}" if seen else "a version of others"
            raise Conflict(
                f"Image {shown} is the server of {needing} and cannot be deleted; {way}.",
                code="image_in_use",
            )
        if not last:
            return
        using = select(func.count(Sandbox.id)).where(Sandbox.image_digest == tag.image.digest, Sandbox.status.in_(LIVE))
        if count := await session.scalar(using):
            raise Conflict(
                f"Image {shown} is in use by {count} sandbox(es) and cannot be deleted; delete them first.",
                code="image_in_use",
            )


async def _named_by(session: AsyncSession, version: Version, owner_id: str, tag: ImageTag) -> bool:
    """Whether what a version of `owner_id` has as its image's name is this one."""
    try:
        named = parse_reference(version.image or "")
    except Invalid:
        return False
    if (named.name, named.tag) != (tag.name, tag.tag):
        return False
    if named.owner is None:
        return tag.owner_id in (owner_id, version.publisher_id)
    owner = select(Account.id).where(known_as(named.owner), Account.id == tag.owner_id)
    return (await session.scalars(owner)).first() is not None


async def _tag(session: AsyncSession, account: Account, owner: Account, wanted: Reference) -> ImageTag:
    """The image of that name, without an owner one of `owner`'s, for who may change it.

    Raises NotFound, and Forbidden for one of somebody else that the account may see.
    """
    query = select(ImageTag).join(Account, Account.id == ImageTag.owner_id)
    query = query.where(known_as(wanted.owner) if wanted.owner else Account.id == owner.id)
    query = query.where(ImageTag.name == wanted.name, ImageTag.tag == wanted.tag)
    tag = (await session.scalars(query)).unique().first()
    role = await role_in(session, account, tag.owner_id if tag is not None else "")
    if tag is None or (role is None and tag.visibility != "PUBLIC"):
        raise no_image(wanted.canonical(owner.slug))
    shown = f"Image {wanted.canonical(owner.slug)}"
    if role is None:
        raise Forbidden(f"{shown} belongs to {tag.owner.slug}; only they may change it.")
    if not await may_change(session, account, tag.owner_id, tag.user_id):
        raise await not_theirs(session, account, shown, tag.owner, tag.user_id)
    return tag


async def _builds(session: AsyncSession, account: Account, owner: Account, wanted: Reference) -> Sequence[Build]:
    """The builds of that name that the account may delete."""
    query = select(Build).join(Account, Account.id == Build.owner_id).where(Build.kind != "fetch")
    query = query.where(known_as(wanted.owner) if wanted.owner else Account.id == owner.id)
    query = query.where(Build.name == wanted.name, Build.tag == wanted.tag)
    found = (await session.scalars(query)).unique().all()
    return [build for build in found if await may_change(session, account, build.owner_id, build.user_id)]


async def _hand_over(session: AsyncSession, tag: ImageTag, target: Account) -> None:
    """Make a name another owner's, with the build that its log is of. What it was of keeps the image only as far as another
    name or a version of it needs it.
    """
    former, image = tag.owner_id, tag.image
    moved = await image_for(session, image, target)
    await session.execute(update(Build).where(Build.id == tag.build_id).values(owner_id=target.id, image_id=moved.id))
    tag.owner_id, tag.owner, tag.image_id, tag.image = target.id, target, moved.id, moved
    await session.flush()
    named = select(func.count(ImageTag.id)).where(ImageTag.image_id == image.id)
    needed = (
        select(func.count(Version.id))
        .join(Environment, Environment.id == Version.environment_id)
        .where(Version.image_digest == image.digest, Version.finalized_at.is_not(None))
        .where((Environment.owner_id == former) | (Version.publisher_id == former))
    )
    if not await session.scalar(named) and not await session.scalar(needed):
        await session.execute(update(Build).where(Build.image_id == image.id).values(image_id=None))
        await session.delete(image)


async def _remove(session: AsyncSession, tag: ImageTag) -> str | None:
    """Remove a name, and its image with the last; that image's digest then."""
    image = tag.image
    await session.delete(tag)
    await session.flush()
    if await session.scalar(select(func.count(ImageTag.id)).where(ImageTag.image_id == image.id)):
        return None
    await session.execute(update(Build).where(Build.image_id == image.id).values(image_id=None))
    await session.delete(image)
    return image.digest
