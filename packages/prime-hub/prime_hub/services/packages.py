"""The environments of an owner as packages: what a package index says of them."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name
from sqlalchemy import select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import defer

from prime_hub.db.models import Account, CoreMetadata, Environment, Version, Wheel
from prime_hub.db.session import Database
from prime_hub.errors import NotFound
from prime_hub.services.access import called, may_see, role_in
from prime_hub.services.blobs import BlobStore

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PackageFile:
    """A wheel as an index shows it. `yanked` is the reason, empty when none was given; None: not yanked."""

    filename: str
    version: str
    sha256: str
    size: int
    uploaded: datetime
    requires_python: str | None
    yanked: str | None
    metadata_sha256: str | None


class Packages:
    """Published wheels, and what they say of themselves. Who may see what is told by `access.may_see`."""

    def __init__(self, database: Database, blobs: BlobStore) -> None:
        self._database = database
        self._blobs = blobs

    async def projects(self, account: Account | None, owner: str) -> list[str]:
        """The normalised names of the owner's environments that `account` may see.

        Raises NotFound for no such owner, and, to whoever does not belong to it, for one that shows them nothing.
        """
        query = (
            select(Environment.normalized_name)
            .join(Account, Account.id == Environment.owner_id)
            .where(called(owner), may_see(account))
            .order_by(Environment.normalized_name)
        )
        async with self._database.read() as session:
            there = await session.scalar(select(Account.id).where(called(owner), Account.kind != "closed"))
            role = await role_in(session, account, there or "") if account is not None else None
            names = list((await session.scalars(query)).all())
        if there is None or not (names or role):
            raise NotFound(f"There is no account '{owner}' on this Hub that shows you anything.")
        return names

    async def files(self, account: Account | None, owner: str, project: str) -> list[PackageFile]:
        """The wheels of one environment, oldest first; none for one that is not there or that `account` may not see."""
        query = (
            _published(select(Version, Wheel), account, owner)
            .where(Environment.normalized_name == str(canonicalize_name(project)))
            .options(defer(Version.readme))
            .order_by(Version.finalized_at)
        )
        async with self._database.read() as session:
            rows = (await session.execute(query)).unique().all()
        hashes = await self._metadata_hashes([wheel for _, wheel in rows])
        return [_file(version, wheel, hashes.get(wheel.sha256)) for version, wheel in rows]

    async def wheel(self, account: Account | None, owner: str, filename: str) -> tuple[Wheel, str]:
        """The published wheel with this file name, and the id of its version. Raises NotFound."""
        query = _published(select(Wheel, Version.id), account, owner).where(Wheel.filename == filename)
        async with self._database.read() as session:
            found = (await session.execute(query.limit(1))).unique().first()
        if found is None:
            raise NotFound(f"There is no file '{filename}' of {owner} on this Hub.")
        return found[0], found[1]

    async def metadata(self, account: Account | None, owner: str, filename: str) -> tuple[bytes, str]:
        """METADATA of that wheel, byte for byte, and its SHA-256 in hex. Raises NotFound."""
        wheel, _ = await self.wheel(account, owner, filename)
        await self._metadata_hashes([wheel])
        async with self._database.read() as session:
            query = select(CoreMetadata.content, CoreMetadata.sha256)
            found = (await session.execute(query.where(CoreMetadata.wheel_sha256 == wheel.sha256))).first()
        if found is None:
            raise NotFound(f"The metadata of {filename} cannot be had from this Hub; fetch the file itself.")
        return found[0], found[1]

    async def core(self, wheel: Wheel) -> str:
        """METADATA of a wheel that the asker may see, as text; empty where it cannot be had."""
        await self._metadata_hashes([wheel])
        async with self._database.read() as session:
            query = select(CoreMetadata.content).where(CoreMetadata.wheel_sha256 == wheel.sha256)
            content = (await session.scalars(query)).first()
        return (content or b"").decode("utf-8", "replace")

    async def _metadata_hashes(self, wheels: list[Wheel]) -> dict[str, str]:
        """The SHA-256 of their METADATA by that of the wheel; what is not kept (a wheel that an earlier
        Hub took in) is read from the wheel, and kept.
        """
        wanted = {wheel.sha256: wheel for wheel in wheels}
        query = select(CoreMetadata.wheel_sha256, CoreMetadata.sha256).where(CoreMetadata.wheel_sha256.in_(wanted))
        async with self._database.read() as session:
            known = {row[0]: row[1] for row in (await session.execute(query)).all()}
        for sha256, wheel in wanted.items():
            if sha256 not in known and (kept := await self._keep(wheel)) is not None:
                known[sha256] = kept
        return known

    async def _keep(self, wheel: Wheel) -> str | None:
        from prime_core.errors import PackagingError
        from prime_core.packaging import core_metadata

        try:
            async with self._blobs.local(wheel.blob or "") as path:
                content = await asyncio.to_thread(core_metadata, Path(path))
        except (FileNotFoundError, PackagingError):
            return None  # the index then leaves it out, and installers read the wheel
        try:
            async with self._database.write() as session:
                return await keep_metadata(session, wheel.sha256, content)
        except DBAPIError as error:  # a disk that is full still serves what it has
            log.warning("the metadata of %s could not be kept: %s", wheel.filename, error.orig)
            return None


async def keep_metadata(session: AsyncSession, wheel_sha256: str, content: bytes) -> str:
    """Keep a wheel's METADATA, in a write transaction; its SHA-256 in hex."""
    sha256 = hashlib.sha256(content).hexdigest()
    if await session.get(CoreMetadata, wheel_sha256) is None:
        session.add(CoreMetadata(wheel_sha256=wheel_sha256, sha256=sha256, content=content))
    return sha256


def _published(query: Any, account: Account | None, owner: str) -> Any:
    """`query` for the owner's finalised versions and their wheels that `account` may see."""
    return (
        query.select_from(Version)
        .join(Wheel, Wheel.id == Version.wheel_id)
        .join(Environment, Environment.id == Version.environment_id)
        .join(Account, Account.id == Environment.owner_id)
        .where(called(owner), Version.finalized_at.is_not(None), may_see(account))
    )


def _file(version: Version, wheel: Wheel, metadata_sha256: str | None) -> PackageFile:
    return PackageFile(
        filename=wheel.filename,
        version=version.version,
        sha256=wheel.sha256,
        size=wheel.size,
        uploaded=version.finalized_at or version.created_at,
        requires_python=_specifier(version.details.get("python_requires")),
        yanked=None if version.yanked_at is None else version.yanked_reason or "",
        metadata_sha256=metadata_sha256,
    )


def _specifier(text: object) -> str | None:
    """A requirement on Python that installers can read."""
    try:
        return str(text) if text and SpecifierSet(str(text)) else None
    except InvalidSpecifier:
        return None
