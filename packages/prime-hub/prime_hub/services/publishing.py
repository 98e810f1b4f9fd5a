"""Publishing: resolve → wheel → source archive → a version that everybody may see.

Every step may be repeated, and a push that stops between two steps leaves nothing visible. What counts is the last
step: one transaction, and a unique index over finalised version numbers decides between pushes that race.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from packaging.utils import InvalidWheelFilename, canonicalize_version, parse_wheel_filename
from packaging.version import Version as Number
from sqlalchemy import delete, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from prime_hub.db.models import Account, Environment, EnvironmentTag, Version, Wheel
from prime_hub.db.session import Database
from prime_hub.db.types import new_id, now
from prime_hub.errors import BadRequest, Conflict, Forbidden, Invalid, NotFound
from prime_hub.services.archives import summarise
from prime_hub.services.blobs import BlobStore, content_key
from prime_hub.services.names import check_hash, check_project, check_version
from prime_hub.settings import Settings

VISIBILITIES = ("PUBLIC", "PRIVATE")


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

    async def resolve(
        self, account: Account, name: str, visibility: str | None, owner_slug: str | None, team: str | None
    ) -> tuple[Environment, bool]:
        """Get or make an environment of `account`; the flag says whether nobody has seen it yet.

        A visibility that is given holds from now on, also for an environment that exists. Raises Invalid, Forbidden,
        NotFound.
        """
        normalized = check_project(name)
        if visibility is not None and visibility.upper() not in VISIBILITIES:
            raise Invalid(f"Visibility '{visibility}' is not known; use PUBLIC or PRIVATE.")
        if team:
            raise NotFound(f"There is no team '{team}' on this Hub that {account.slug} belongs to.")
        if owner_slug and owner_slug.lower() != account.slug:
            raise Forbidden(f"{account.slug} may not publish under the name of {owner_slug}.")
        async with self._database.write() as session:
            query = select(Environment).where(
                Environment.owner_id == account.id, Environment.normalized_name == normalized
            )
            found = (await session.scalars(query)).first()
            if found is None:
                found = Environment(owner_id=account.id, name=name, normalized_name=normalized)
                session.add(found)
            if visibility is not None:
                found.visibility = visibility.upper()
            await session.flush()
            return found, found.latest_version_id is None

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
            environment = await self._own(session, account, environment_id)
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
            wheel.finalized_at = None
            return Slot(wheel.id, needed=True)

    async def prepare_version(self, account: Account, environment_id: str, upload: Upload) -> Slot:
        """Announce a source archive. Raises Conflict when the version exists."""
        number = check_version(upload.version)
        content_hash = check_hash(upload.content_hash, "content hash")
        sha256 = check_hash(upload.sha256, "sha256 of the source archive")
        async with self._database.write() as session:
            environment = await self._own(session, account, environment_id)
            await self._refuse_finalised(session, environment, number, content_hash)
            query = select(Version).where(
                Version.environment_id == environment.id, Version.content_hash == content_hash, Version.sha256 == sha256
            )
            version = (await session.scalars(query)).first()
            if version is None:
                version = Version(environment_id=environment.id, content_hash=content_hash, sha256=sha256, id=new_id())
                session.add(version)
            version.version, version.filename, version.details = number, upload.filename, upload.details
            version.canonical = canonicalize_version(number)
            version.wheel_id = await self._wheel_of(session, version, upload.wheel_id)
            return Slot(version.id, needed=True)

    async def receive(self, kind: str, slot: str, chunks: AsyncIterator[bytes]) -> None:
        """Take in the bytes of a wheel or an archive. Raises Invalid when they are not the announced ones."""
        async with self._database.read() as session:
            row = await self._slot(session, kind, slot)
        what = "wheel" if kind == "wheel" else "source archive"
        limit = row.size if isinstance(row, Wheel) else self._settings.max_archive_bytes
        staging = f"staging/{kind}-{slot}-{new_id()}"
        stored = await self._blobs.put(staging, chunks, limit, what)
        if stored.sha256 != row.sha256 or (isinstance(row, Wheel) and stored.size != row.size):
            await self._blobs.delete(staging)
            raise Invalid(
                f"The {what} that arrived is not the one announced (its SHA-256 differs); run the push again."
            )
        await self._blobs.move(staging, content_key(stored.sha256))
        async with self._database.write() as session:
            row = await self._slot(session, kind, slot)
            row.blob, row.size = content_key(stored.sha256), stored.size

    async def finalize_wheel(self, account: Account, environment_id: str, wheel_id: str) -> None:
        """Check what arrived. Raises BadRequest when nothing did, Invalid when the wheel is not what it says."""
        async with self._database.read() as session:
            environment = await self._own(session, account, environment_id)
            wheel = await session.get(Wheel, wheel_id)
        if wheel is None or wheel.environment_id != environment.id:
            raise NotFound(f"There is no upload {wheel_id} of a wheel; run the push again.")
        if wheel.finalized_at is not None:
            return
        if wheel.blob is None:
            raise BadRequest("The wheel has not been uploaded yet; run the push again.")
        try:
            async with self._blobs.local(wheel.blob) as path:
                await asyncio.to_thread(_check_wheel, path, wheel.filename)
        except Invalid:
            await self._forget(Wheel, wheel.id)
            raise
        async with self._database.write() as session:
            row = await session.get(Wheel, wheel.id)
            if row is not None:
                row.finalized_at = now()

    async def finalize_version(self, account: Account, environment_id: str, version_id: str) -> Version:
        """Make the version visible: the one step that counts.

        Raises Conflict when another push of this version came first, BadRequest while something is missing, Invalid
        when the archive's members do not have the announced content hash.
        """
        async with self._database.read() as session:
            environment = await self._own(session, account, environment_id)
            version = await session.get(Version, version_id)
        if version is None or version.environment_id != environment.id:
            raise NotFound(f"There is no upload {version_id} of a version; run the push again.")
        if version.finalized_at is not None:
            return version
        if version.blob is None:
            raise BadRequest(f"The source archive of version {version.version} has not been uploaded yet.")
        try:
            async with self._blobs.local(version.blob) as path:
                summary = await asyncio.to_thread(summarise, path)
            if summary.content_hash != version.content_hash:
                raise Invalid(
                    f"The source archive's members have the content hash {summary.content_hash[:12]}…, not "
                    f"{version.content_hash[:12]}… as announced; run the push again."
                )
        except Invalid:
            await self._forget(Version, version.id)
            raise
        manifest = summary.manifest or version.details.get("openenv") or {}
        try:
            async with self._database.write() as session:
                return await self._publish(session, environment.id, version.id, summary.readme, manifest)
        except IntegrityError:
            raise already_exists(version.version, version.content_hash) from None

    async def _publish(
        self, session: AsyncSession, environment_id: str, version_id: str, readme: str | None, manifest: dict[str, Any]
    ) -> Version:
        version = await session.get_one(Version, version_id)
        environment = await session.get_one(Environment, environment_id)
        wheel_id = await self._wheel_of(session, version, version.wheel_id)
        if wheel_id is None:
            raise BadRequest(f"The wheel of version {version.version} has not been uploaded yet; run the push again.")
        version.wheel_id = wheel_id
        version.readme = readme
        image, digest = manifest.get("image"), manifest.get("image_digest")
        version.image = image[:255] if isinstance(image, str) else None
        version.image_digest = digest[:80] if isinstance(digest, str) else None
        version.finalized_at = now()
        await session.flush()  # a number that is taken fails here, before the environment is touched
        numbers = select(Version).where(Version.environment_id == environment.id, Version.finalized_at.is_not(None))
        newest = max((await session.scalars(numbers)).all(), key=rank)
        environment.latest_version_id = newest.id
        environment.updated_at = now()
        environment.description = str(newest.details.get("description") or "")
        environment.tags = clean_tags(newest.details.get("tags"))
        await session.execute(delete(EnvironmentTag).where(EnvironmentTag.environment_id == environment.id))
        session.add_all(EnvironmentTag(environment_id=environment.id, tag=tag) for tag in environment.tags)
        return version

    async def _own(self, session: AsyncSession, account: Account, environment_id: str) -> Environment:
        environment = await session.get(Environment, environment_id)
        if environment is None or environment.owner_id != account.id:
            raise NotFound(f"{account.slug} has no environment with the id {environment_id}.")
        return environment

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

    async def _slot(self, session: AsyncSession, kind: str, slot: str) -> Wheel | Version:
        row = await session.get(Wheel if kind == "wheel" else Version, slot)
        if row is None:
            raise NotFound("This upload was given up; run the push again.")
        return row

    async def _forget(self, model: type[Wheel] | type[Version], row_id: str) -> None:
        """Remove an upload that was refused, and its bytes where nothing else has the same."""
        async with self._database.write() as session:
            row = await session.get(model, row_id)
            if row is None or row.finalized_at is not None:
                return
            blob = row.blob
            await session.delete(row)
            await session.flush()
            used = blob is None
            for other in (Wheel, Version):
                used = used or (await session.scalars(select(other.id).where(other.blob == blob))).first() is not None
        if blob is not None and not used:
            await self._blobs.delete(blob)


def already_exists(number: str, content_hash: str) -> Conflict:
    """The seed's sentence, with the words by which the official command knows this answer (hub.md §3.3)."""
    return Conflict(f"Version {number} already exists (content hash {content_hash[:12]}…)")


def rank(version: Version) -> tuple[bool, Number]:
    """Order of versions: a final release beats every pre-release, else by number (as installers choose)."""
    number = Number(version.version)
    return not number.is_prerelease, number


def clean_tags(tags: object) -> list[str]:
    """Tags as the catalogue keeps them: text, trimmed, each once, in order."""
    if not isinstance(tags, list):
        return []
    return list(dict.fromkeys(tag.strip()[:64] for tag in tags if isinstance(tag, str) and tag.strip()))[:64]


def check_wheel_filename(filename: str, normalized_name: str, number: str) -> None:
    """Raises Invalid when the file is not a wheel of this environment and version."""
    try:
        name, version, _, _ = parse_wheel_filename(filename)
    except InvalidWheelFilename:
        raise Invalid(f"'{filename[:200]}' is not the file name of a wheel.") from None
    if name != normalized_name:
        raise Invalid(
            f"The wheel {filename} is of the package '{name}', but the environment is named '{normalized_name}'; "
            "both take their name from [project].name in pyproject.toml."
        )
    if version != Number(number):
        raise Invalid(f"The wheel {filename} is of version {version}, but version {number} is being published.")


def _check_wheel(path: Path, filename: str) -> None:
    """Raises Invalid when the wheel does not say of itself what its file name (checked before) says."""
    from prime_core.errors import PackagingError
    from prime_core.packaging import wheel_metadata

    with tempfile.TemporaryDirectory(prefix="prime-wheel-") as folder:
        named = Path(folder) / filename
        named.symlink_to(path)
        try:
            wheel_metadata(named)
        except PackagingError as error:
            raise Invalid(f"The wheel was refused: {error}") from error
