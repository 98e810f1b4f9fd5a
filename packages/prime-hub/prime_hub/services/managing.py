"""Changing what is published: visibility, yanked versions, deleting. For those who manage an environment (`access.MANAGE`).

A deleted version is gone for everybody, its number is not: `used_numbers` keeps it from ever being given again.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import defer

from prime_hub.db.models import (
    Account,
    Environment,
    Secret,
    SecretLink,
    Star,
    Variable,
    Version,
    Wheel,
)
from prime_hub.db.session import Database
from prime_hub.db.types import now
from prime_hub.errors import Conflict, Invalid, NotFound
from prime_hub.services.access import MANAGE, environment_for, environment_named, reaches, role_in
from prime_hub.services.blob_use import sweep
from prime_hub.services.blobs import BlobStore
from prime_hub.services.names import canonical
from prime_hub.services.publishing import check_visibility, point_at_newest

SHORTEST_HASH = 8
REASON_CHARACTERS = 500


class Managing:
    """The changes that an environment's managers make."""

    def __init__(self, database: Database, blobs: BlobStore) -> None:
        self._database = database
        self._blobs = blobs

    async def may_manage(self, account: Account, owner: str, name: str) -> Environment:
        """The environment, for somebody who may change all of it. Raises NotFound, Forbidden."""
        async with self._database.read() as session:
            return await environment_named(session, account, owner, name, MANAGE)

    async def manages(self, account: Account | None, environment: Environment) -> bool:
        """Whether the account may change all of it."""
        if account is None:
            return False
        async with self._database.read() as session:
            return reaches(await role_in(session, account, environment.owner_id), MANAGE)

    async def set_visibility(self, account: Account, owner: str, name: str, visibility: str) -> Environment:
        """Open or close an environment; it holds for its files, its index and its versions' image at once."""
        check_visibility(visibility)
        async with self._database.write() as session:
            found = await environment_named(session, account, owner, name, MANAGE)
            found.visibility = visibility.upper()
            return found

    async def yank(
        self, account: Account, owner: str, name: str, wanted: str, reason: str = ""
    ) -> tuple[Environment, Version]:
        """Take a version out of what installers choose by themselves; who asks for exactly it still gets it.

        Repeated, it changes the reason.
        """
        reason = " ".join(reason.split())
        if len(reason) > REASON_CHARACTERS or not reason.isprintable():
            raise Invalid(f"A reason is one line of at most {REASON_CHARACTERS} characters.")
        async with self._database.write() as session:
            environment = await environment_named(session, account, owner, name, MANAGE)
            version = await one_version(session, environment, wanted)
            version.yanked_at, version.yanked_reason = version.yanked_at or now(), reason or None
            await point_at_newest(session, environment)
            return environment, version

    async def unyank(self, account: Account, owner: str, name: str, wanted: str) -> tuple[Environment, Version]:
        """Take a yank back; idempotent."""
        async with self._database.write() as session:
            environment = await environment_named(session, account, owner, name, MANAGE)
            version = await one_version(session, environment, wanted)
            version.yanked_at = version.yanked_reason = None
            await point_at_newest(session, environment)
            return environment, version

    async def delete_version(self, account: Account, owner: str, name: str, wanted: str) -> tuple[Environment, Version]:
        """Delete one version, with the bytes that nothing else needs.

        `wanted` is its number or at least eight characters of its content hash. Raises NotFound, Conflict where a hash
        begins several, Invalid for `latest`: what is deleted is named.
        """
        async with self._database.write() as session:
            environment = await environment_named(session, account, owner, name, MANAGE)
            version = await one_version(session, environment, wanted)
            keys = await _remove(session, [version])
            await point_at_newest(session, environment)
        await sweep(self._database, self._blobs, keys)
        return environment, version

    async def delete(self, account: Account, owner: str, name: str) -> Environment:
        """Delete an environment with all that belongs to it: versions, secrets, variables, stars, files."""
        async with self._database.read() as session:
            found = await environment_named(session, account, owner, name, MANAGE)
        return await self.delete_by_id(account, found.id)

    async def delete_by_id(self, account: Account, environment_id: str) -> Environment:
        """The same by its id."""
        async with self._database.write() as session:
            environment = await environment_for(session, account, environment_id, MANAGE)
            mine = Version.environment_id == environment.id
            light = select(Version).where(mine).options(defer(Version.readme), defer(Version.details))
            keys = await _remove(session, (await session.scalars(light)).unique().all())
            wheels = Wheel.environment_id == environment.id
            keys += (await session.scalars(select(Wheel.blob).where(wheels))).all()
            await session.execute(delete(Wheel).where(wheels))
            for model in (Star, SecretLink, Variable, Secret):
                await session.execute(delete(model).where(model.environment_id == environment.id))
            await session.delete(environment)
        await sweep(self._database, self._blobs, keys)
        return environment


async def one_version(session: AsyncSession, environment: Environment, wanted: str) -> Version:
    """The published version that is meant by a number, or by the start of a content hash. Raises NotFound, Conflict,
    Invalid.
    """
    shown = f"{environment.owner.slug}/{environment.name}"
    if wanted == "latest":
        raise Invalid(f"Say which version of {shown} is meant, by its number; 'latest' is another one tomorrow.")
    published = select(Version).where(Version.environment_id == environment.id, Version.finalized_at.is_not(None))
    number = canonical(wanted)
    found: Sequence[Version] = []
    if number is not None:
        found = (await session.scalars(published.where(Version.canonical == number))).unique().all()
    hexadecimal = all(letter in "0123456789abcdef" for letter in wanted.lower())
    if not found and hexadecimal and len(wanted) >= SHORTEST_HASH:
        by_hash = published.where(Version.content_hash.startswith(wanted.lower()))
        found = (await session.scalars(by_hash)).unique().all()
    if not found:
        raise NotFound(f"There is no version '{wanted[:80]}' of {shown} on this Hub.", code="version_not_found")
    if len(found) > 1:
        numbers = ", ".join(sorted(version.version for version in found))
        raise Conflict(f"'{wanted}' begins the content hashes of {numbers}; write more of it, or the number.")
    return found[0]


async def _remove(session: AsyncSession, versions: Sequence[Version]) -> list[str | None]:
    """Remove versions, and wheels that only they had; the keys of bytes that may be unused then."""
    keys: list[str | None] = [version.blob for version in versions]
    wheels = {version.wheel.id: version.wheel for version in versions if version.wheel is not None}
    for version in versions:
        await session.delete(version)
    await session.flush()
    for wheel in wheels.values():
        if (await session.scalars(select(Version.id).where(Version.wheel_id == wheel.id).limit(1))).first() is None:
            keys.append(wheel.blob)
            await session.delete(wheel)
    await session.flush()
    return keys
