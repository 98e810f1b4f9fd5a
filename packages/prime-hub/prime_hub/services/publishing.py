"""Publishing: resolve → wheel → source archive → a version that everybody may see.

Every step may be repeated, and a push that stops between two steps leaves nothing visible. What counts is the last
step: one transaction, and a unique index over finalised version numbers decides between pushes that race.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from packaging.utils import InvalidWheelFilename, canonicalize_version, parse_wheel_filename
from packaging.version import Version as Number
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from prime_core.entries import shown
from prime_hub.db.models import Account, Environment, UsedNumber, Version, Wheel
from prime_hub.db.session import Database
from prime_hub.db.types import new_id, now
from prime_hub.errors import BadRequest, Conflict, Invalid, NotFound
from prime_hub.services.access import MANAGE, PUBLISH, VISIBILITIES, environment_for, owner_for
from prime_hub.services.archives import summarise
from prime_hub.services.arrivals import Arrivals
from prime_hub.services.blob_use import sweep
from prime_hub.services.blobs import BlobStore
from prime_hub.services.names import check_hash, check_project, check_version
from prime_hub.services.packages import keep_metadata
from prime_hub.settings import Settings

OF_WHEEL = ("requires_dist", "python_requires")
"""What installers act upon, and so is taken from the wheel itself."""
WHEEL_FILENAME = re.compile(
    r"[A-Za-z0-9][A-Za-z0-9_.]*-[A-Za-z0-9_.!+]+(-[0-9][A-Za-z0-9_.]*)?(-[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)*){3}\.whl"
)
ARCHIVE_FILENAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+!-]*\.tar\.gz")


@dataclass(frozen=True)
class Upload:
    """What a client says of the file it is about to send. `size` in bytes, None where the client does not tell."""

    content_hash: str
    filename: str
    sha256: str
    version: str | None
    size: int | None = None
    details: dict[str, Any] = field(default_factory=dict)
    wheel_id: str | None = None


@dataclass(frozen=True)
class Slot:
    """Where a file goes. `needed` is false when the Hub has it already."""

    id: str
    needed: bool


class Publishing:
    """The write side of environments."""

    def __init__(self, settings: Settings, database: Database, blobs: BlobStore) -> None:
        self._settings = settings
        self._database = database
        self._blobs = blobs
        self._arrivals = Arrivals(settings, database, blobs)
        self.receive = self._arrivals.receive

    async def resolve(
        self, account: Account, name: str, visibility: str | None, owner_slug: str | None, team: str | None
    ) -> tuple[Environment, bool]:
        """Get or make an environment of `account`, or of one of its teams; the flag says whether nobody has seen it yet.

        A visibility that is given holds from now on, also for an environment that exists. Raises Invalid, Forbidden,
        NotFound.
        """
        normalized = check_project(name)
        check_visibility(visibility)
        async with self._database.write() as session:
            owner = await owner_for(session, account, owner_slug, team)
            query = select(Environment).where(
                Environment.owner_id == owner.id, Environment.normalized_name == normalized
            )
            found = (await session.scalars(query)).first()
            if found is None:
                found = Environment(owner_id=owner.id, owner=owner, name=name, normalized_name=normalized)
                session.add(found)
            if visibility is not None and found.visibility != visibility.upper():
                # What others see already is opened and closed by those who manage it.
                if found.latest_version_id is not None:
                    await environment_for(session, account, found.id, MANAGE)
                found.visibility = visibility.upper()
            if found.latest_version_id is None:
                found.updated_at = now()  # somebody is at it: not abandoned
            await session.flush()
            return found, found.latest_version_id is None

    async def check(
        self,
        account: Account,
        name: str,
        version: str | None,
        visibility: str | None,
        owner_slug: str | None,
        team: str | None,
    ) -> tuple[Account, str | None]:
        """Whether this push could go on, before anything is built for it: whose environment it would be, and the newest
        release that was ever published there, None where there was none. Changes nothing.

        Raises what `resolve` and `prepare_wheel` would: Invalid, Forbidden, NotFound, Conflict for a number that is used.
        """
        normalized, number = check_project(name), check_version(version) if version is not None else None
        check_visibility(visibility)
        async with self._database.read() as session:
            owner = await owner_for(session, account, owner_slug, team)
            query = select(Environment).where(
                Environment.owner_id == owner.id, Environment.normalized_name == normalized
            )
            found = (await session.scalars(query)).first()
            changes = found is not None and visibility is not None and found.visibility != visibility.upper()
            if found is not None and changes and found.latest_version_id is not None:
                await environment_for(session, account, found.id, MANAGE)
            if number is not None:
                await _refuse_used(session, owner.id, normalized, number)
            newest = await _newest_release(session, owner.id, normalized)
        return owner, newest

    async def prepare_wheel(self, account: Account, environment_id: str, upload: Upload) -> Slot:
        """Announce a wheel. Raises Conflict when the version exists, Invalid when name or version do not fit."""
        number = check_version(upload.version)
        content_hash = check_hash(upload.content_hash, "content hash")
        sha256 = check_hash(upload.sha256, "sha256 of the wheel")
        if upload.size is None or upload.size <= 0:
            raise Invalid("The size of the wheel in bytes is missing.")
        if upload.size > self._settings.max_wheel_bytes:
            raise Invalid(f"The wheel is larger than the {self._settings.max_wheel_bytes} bytes this Hub accepts.")
        async with self._database.write() as session:
            environment = await environment_for(session, account, environment_id, PUBLISH)
            check_wheel_filename(upload.filename, environment.normalized_name, number)
            await self._refuse_finalised(session, environment, number, content_hash)
            query = select(Wheel).where(
                Wheel.environment_id == environment.id, Wheel.content_hash == content_hash, Wheel.sha256 == sha256
            )
            wheel = (await session.scalars(query)).first()
            if wheel is None:
                wheel = Wheel(environment_id=environment.id, content_hash=content_hash, sha256=sha256, id=new_id())
                session.add(wheel)
            elif wheel.finalized_at is not None and wheel.filename == upload.filename:
                return Slot(wheel.id, needed=False)
            wheel.filename, wheel.size, wheel.version = upload.filename, upload.size, number
            wheel.details = upload.details
            wheel.finalized_at, wheel.created_at = None, now()
            return Slot(wheel.id, needed=True)

    async def prepare_version(self, account: Account, environment_id: str, upload: Upload) -> Slot:
        """Announce a source archive. Raises Conflict when the version exists."""
        number = check_version(upload.version)
        content_hash = check_hash(upload.content_hash, "content hash")
        sha256 = check_hash(upload.sha256, "sha256 of the source archive")
        async with self._database.write() as session:
            environment = await environment_for(session, account, environment_id, PUBLISH)
            _check_archive(upload, self._settings.max_archive_bytes)
            await self._refuse_finalised(session, environment, number, content_hash)
            query = select(Version).where(
                Version.environment_id == environment.id, Version.content_hash == content_hash, Version.sha256 == sha256
            )
            version = (await session.scalars(query)).first()
            if version is None:
                version = Version(environment_id=environment.id, content_hash=content_hash, sha256=sha256, id=new_id())
                session.add(version)
            version.version, version.filename, version.details = number, upload.filename, upload.details
            version.canonical, version.created_at = canonicalize_version(number), now()
            version.wheel_id = await self._wheel_of(session, version, upload.wheel_id)
            if upload.wheel_id is not None and version.wheel_id is None:
                raise Invalid(
                    f"There is no wheel {upload.wheel_id[:80]} of this content and number; push the wheel first."
                )
            return Slot(version.id, needed=True)

    async def finalize_wheel(self, account: Account, environment_id: str, wheel_id: str) -> None:
        """Check what arrived. Raises BadRequest when nothing did, Invalid when the wheel is not what it says."""
        async with self._database.read() as session:
            environment = await environment_for(session, account, environment_id, PUBLISH)
            wheel = await session.get(Wheel, wheel_id)
        if wheel is None or wheel.environment_id != environment.id:
            raise NotFound(f"There is no upload {wheel_id} of a wheel; run the push again.")
        if wheel.finalized_at is not None:
            return
        missing = BadRequest("The wheel has not been uploaded yet; run the push again.")
        wheel.blob = await self._arrivals.collect("wheel", wheel)
        if wheel.blob is None:
            raise missing
        try:
            async with self._blobs.local(wheel.blob) as path:
                told, metadata = await asyncio.to_thread(_check_wheel, path, wheel.filename)
        except FileNotFoundError:
            raise missing from None
        except Invalid:
            await self._forget(Wheel, wheel.id)
            raise
        async with self._database.write() as session:
            row = await session.get(Wheel, wheel.id)
            if row is None:
                raise NotFound(f"There is no upload {wheel_id} of a wheel; run the push again.")
            if (row.filename, row.version, row.sha256, row.blob) != (
                wheel.filename,
                wheel.version,
                wheel.sha256,
                wheel.blob,
            ):
                raise BadRequest("The wheel was sent once more while it was checked; run the push again.")
            row.finalized_at = now()
            row.details = {**row.details, **told}
            await keep_metadata(session, row.sha256, metadata)

    async def finalize_version(self, account: Account, environment_id: str, version_id: str) -> Version:
        """Make the version visible: the one step that counts.

        Raises Conflict when another push of this version came first, BadRequest while something is missing, Invalid
        when the archive's members do not have the announced content hash.
        """
        async with self._database.read() as session:
            environment = await environment_for(session, account, environment_id, PUBLISH)
            version = await session.get(Version, version_id)
        if version is None or version.environment_id != environment.id:
            raise _no_upload(version_id)
        if version.finalized_at is not None:
            return version
        missing = BadRequest(f"The source archive of version {version.version} has not been uploaded yet.")
        version.blob = await self._arrivals.collect("archive", version)
        if version.blob is None:
            raise missing
        try:
            async with self._blobs.local(version.blob) as path:
                summary = await asyncio.to_thread(summarise, path)
            if summary.content_hash != version.content_hash:
                raise Invalid(
                    f"The source archive's members have the content hash {summary.content_hash[:12]}…, not "
                    f"{version.content_hash[:12]}… as announced; run the push again."
                )
        except FileNotFoundError:
            raise missing from None
        except Invalid:
            await self._forget(Version, version.id)
            raise
        manifest = summary.manifest or version.details.get("openenv") or {}
        try:
            async with self._database.write() as session:
                return await self._publish(session, account, environment.id, version.id, summary.readme, manifest)
        except IntegrityError:
            async with self._database.read() as session:  # which one it is that exists
                await self._refuse_finalised(session, environment, version.version, version.content_hash)
            raise already_exists(version.version, version.content_hash) from None

    async def _publish(
        self,
        session: AsyncSession,
        account: Account,
        environment_id: str,
        version_id: str,
        readme: str | None,
        manifest: dict[str, Any],
    ) -> Version:
        environment = await environment_for(session, account, environment_id, PUBLISH)
        version = await session.get(Version, version_id)
        if version is None:
            raise _no_upload(version_id)
        if version.finalized_at is not None:
            return version
        wheel_id = await self._wheel_of(session, version, version.wheel_id)
        if wheel_id is None:
            raise BadRequest(f"The wheel of version {version.version} has not been uploaded yet; run the push again.")
        version.wheel_id = wheel_id
        wheel = await session.get_one(Wheel, wheel_id)
        version.details = {**version.details, **{key: wheel.details[key] for key in OF_WHEEL if key in wheel.details}}
        version.readme = readme
        version.image = _reference(manifest.get("image"), 255)
        version.image_digest = _reference(manifest.get("image_digest"), 80)
        version.publisher_id = account.id
        version.finalized_at = environment.updated_at = now()
        session.add(used_number(environment, version))
        await session.flush()  # a number that is taken fails here, before the environment is touched
        await point_at_newest(session, environment)
        return version

    async def _refuse_finalised(
        self, session: AsyncSession, environment: Environment, number: str, content_hash: str
    ) -> None:
        query = select(Version).where(
            Version.environment_id == environment.id,
            Version.finalized_at.is_not(None),
            (Version.canonical == canonicalize_version(number)) | (Version.content_hash == content_hash),
        )
        found = (await session.scalars(query)).first()
        if found is not None:
            raise already_exists(found.version, found.content_hash)
        await _refuse_used(session, environment.owner_id, environment.normalized_name, number)

    async def _wheel_of(self, session: AsyncSession, version: Version, wheel_id: str | None) -> str | None:
        query = select(Wheel.id, Wheel.version).where(
            Wheel.environment_id == version.environment_id,
            Wheel.content_hash == version.content_hash,
            Wheel.finalized_at.is_not(None),
        )
        if wheel_id is not None:
            query = query.where(Wheel.id == wheel_id)
        found = (await session.execute(query.order_by(Wheel.finalized_at.desc()))).all()
        return next((row[0] for row in found if canonicalize_version(row[1]) == version.canonical), None)

    async def _forget(self, model: type[Wheel] | type[Version], row_id: str) -> None:
        """Remove an upload that was refused, and its bytes where nothing else has the same."""
        async with self._database.write() as session:
            row = await session.get(model, row_id)
            if row is None or row.finalized_at is not None:
                return
            blob = row.blob
            await session.delete(row)
        await sweep(self._database, self._blobs, [blob])


async def _refuse_used(session: AsyncSession, owner_id: str, normalized_name: str, number: str) -> None:
    """Raises Conflict for a number that was published once under this address, whether it is still there or not."""
    canonical = canonicalize_version(number)
    used = await session.get(UsedNumber, (owner_id, normalized_name, canonical))
    if used is None:
        return
    living = select(Version.id).join(Environment, Environment.id == Version.environment_id)
    living = living.where(Environment.owner_id == owner_id, Environment.normalized_name == normalized_name)
    living = living.where(Version.canonical == canonical, Version.finalized_at.is_not(None))
    gone = (await session.scalars(living.limit(1))).first() is None
    raise already_exists(number, used.content_hash, deleted=gone)


def _reference(value: object, length: int) -> str | None:
    """What a build record names, where it is text that a person can read."""
    return value[:length] if isinstance(value, str) and value.isprintable() else None


async def _newest_release(session: AsyncSession, owner_id: str, normalized_name: str) -> str | None:
    """The highest number that was published under this address and is no candidate."""
    query = select(UsedNumber.canonical).where(
        UsedNumber.owner_id == owner_id, UsedNumber.normalized_name == normalized_name
    )
    released = [number for number in map(Number, await session.scalars(query)) if not number.is_prerelease]
    return str(max(released)) if released else None


def _no_upload(version_id: str) -> NotFound:
    return NotFound(f"There is no upload {version_id[:80]} of a version; run the push again.")


def check_visibility(visibility: str | None) -> None:
    """Raises Invalid for a visibility that there is not."""
    if visibility is not None and visibility.upper() not in VISIBILITIES:
        raise Invalid(f"Visibility '{visibility[:40]}' is not known; use PUBLIC or PRIVATE.")


async def point_at_newest(session: AsyncSession, environment: Environment) -> None:
    """Make the environment say what its newest version says: after one was published, yanked or deleted.

    `updated_at` stays, which is when something was published last.
    """
    await session.flush()
    numbers = select(Version).where(Version.environment_id == environment.id, Version.finalized_at.is_not(None))
    newest = max((await session.scalars(numbers)).all(), key=rank, default=None)
    environment.latest_version_id = None if newest is None else newest.id
    if newest is None:
        environment.updated_at = now()  # nobody sees it from now on, and `Cleaning` waits a day
    details = {} if newest is None else newest.details
    environment.description = str(details.get("description") or "").replace("\0", "\ufffd")
    environment.tags = clean_tags(details.get("tags"))


def used_number(environment: Environment, version: Version) -> UsedNumber:
    """The record that a number of this environment was published, which outlives both."""
    return UsedNumber(
        owner_id=environment.owner_id,
        normalized_name=environment.normalized_name,
        canonical=version.canonical,
        content_hash=version.content_hash,
    )


def already_exists(number: str, content_hash: str, deleted: bool = False) -> Conflict:
    """The seed's sentence, with the words by which the official command knows this answer (hub.md §3.3)."""
    what = "; it is there no more, and a number is never used twice" if deleted else ""
    return Conflict(f"Version {number} already exists (content hash {content_hash[:12]}…){what}")


def rank(version: Version) -> tuple[bool, bool, Number]:
    """Order of versions: one that is not yanked first, a final release before every pre-release, else by number (as
    installers choose).
    """
    number = Number(version.version)
    return version.yanked_at is None, not number.is_prerelease, number


def clean_tags(tags: object) -> list[str]:
    """Tags as the catalogue keeps them: text, trimmed, each once, in order."""
    if not isinstance(tags, list):
        return []
    words = (tag.replace("\0", "") for tag in tags if isinstance(tag, str))
    return list(dict.fromkeys(tag.strip()[:64] for tag in words if tag.strip()))[:64]


def _check_archive(upload: Upload, most: int) -> None:
    """Raises Invalid for a file that is no source archive, or larger than `most` bytes."""
    if not ARCHIVE_FILENAME.fullmatch(upload.filename):
        raise Invalid(
            f"'{shown(upload.filename)}' is not the file name of a source archive (NAME-VERSION-HASH.tar.gz)."
        )
    if upload.size is not None and not 0 < upload.size <= most:
        raise Invalid(f"The source archive is larger than the {most} bytes this Hub accepts, or has none.")


def check_wheel_filename(filename: str, normalized_name: str, number: str) -> None:
    """Raises Invalid when the file is not a wheel of this environment and version."""
    try:
        if not WHEEL_FILENAME.fullmatch(filename):
            raise InvalidWheelFilename(filename)
        name, version, _, _ = parse_wheel_filename(filename)
    except InvalidWheelFilename:
        raise Invalid(
            f"'{shown(filename)}' is not the file name of a wheel (NAME-VERSION-PYTHON-ABI-PLATFORM.whl)."
        ) from None
    if name != normalized_name:
        raise Invalid(
            f"The wheel {filename} is of the package '{name}', but the environment is named '{normalized_name}'; "
            "both take their name from [project].name in pyproject.toml."
        )
    if version != Number(number):
        raise Invalid(f"The wheel {filename} is of version {version}, but version {number} is being published.")


def _check_wheel(path: Path, filename: str) -> tuple[dict[str, Any], bytes]:
    """What the wheel says of itself (`OF_WHEEL`), which counts whatever its sender says of it; and its METADATA.

    Raises Invalid when it is not what its file name (checked before) says, or not fit to be installed.
    """
    from prime_core.errors import PackagingError
    from prime_core.wheel_contents import check_wheel

    try:
        found, metadata = check_wheel(path, filename)
    except PackagingError as error:
        raise Invalid(f"The wheel was refused: {error}") from error
    return {"requires_dist": found["requires_dist"], "python_requires": found["requires_python"]}, metadata
