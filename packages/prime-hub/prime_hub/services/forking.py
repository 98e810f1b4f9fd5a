"""Forks: somebody's own copy of a version that they may see. The bytes are shared, the environment is their own."""

from __future__ import annotations

from typing import Any

from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from prime_hub.db.models import Account, Environment, UsedNumber, Version, Wheel
from prime_hub.db.session import Database
from prime_hub.db.types import new_id, now
from prime_hub.errors import Conflict
from prime_hub.services.access import may_see, no_environment, owner_for
from prime_hub.services.catalogue import Catalogue
from prime_hub.services.publishing import already_exists, point_at_newest, used_number


class Forking:
    """Makes forks, and tells where they come from."""

    def __init__(self, database: Database, catalogue: Catalogue) -> None:
        self._database = database
        self._catalogue = catalogue

    async def fork(
        self, account: Account, owner: str, name: str, wanted: str = "latest", team: str | None = None
    ) -> tuple[Environment, Version]:
        """Copy a version into the account, or into a team of its, under the same name.

        A fork has neither the secrets nor the variables of its source. One of a private environment is private. Raises
        NotFound for what the account may not see, Conflict where it has an environment of that name.
        """
        source = await self._catalogue.environment(account, owner, name)
        version = await self._catalogue.version(source, wanted)
        try:
            async with self._database.write() as session:
                target = await owner_for(session, account, None, team)
                await _require_free(session, source, target)
                # Once more: what has just been closed or deleted is not forked.
                query = select(Version, Environment).join(Environment, Environment.id == Version.environment_id)
                query = query.where(Version.id == version.id, may_see(account))
                row = (await session.execute(query)).unique().first()
                if row is None or row[0].wheel is None:
                    raise no_environment(owner, name)
                return await _copied(session, account, row[1], row[0], target)
        except IntegrityError:  # another fork, or a push, in this very moment
            raise _taken(account.slug if team is None else team, source.name) from None

    async def source_of(self, account: Account | None, environment: Environment) -> dict[str, Any] | None:
        """What an environment was forked from, for those who may know of that: owner, name and version, as they were then."""
        told = environment.forked_from
        if not told:
            return None
        async with self._database.read() as session:
            there = await session.scalar(
                select(func.count(Environment.id)).where(Environment.id == told["environment_id"])
            )
            seen = await session.scalar(
                select(Environment.id).where(Environment.id == told["environment_id"], may_see(account))
            )
        shown = told.get("public", False) if not there else seen is not None
        return {key: told[key] for key in ("owner", "name", "version")} if shown else None


async def _require_free(session: AsyncSession, source: Environment, target: Account) -> None:
    there = select(Environment).where(
        Environment.owner_id == target.id, Environment.normalized_name == source.normalized_name
    )
    if (await session.scalars(there)).unique().first() is not None:
        raise _taken(target.slug, source.name)


async def _copied(
    session: AsyncSession, account: Account, source: Environment, version: Version, target: Account
) -> tuple[Environment, Version]:
    used = await session.get(UsedNumber, (target.id, source.normalized_name, version.canonical))
    if used is not None:
        raise already_exists(version.version, used.content_hash, deleted=True)
    assert version.wheel is not None
    environment = Environment(
        id=new_id(),
        owner_id=target.id,
        owner=target,
        name=source.name,
        normalized_name=source.normalized_name,
        visibility=source.visibility,
        forked_from={
            "owner": source.owner.slug,
            "name": source.name,
            "version": version.version,
            "environment_id": source.id,
            "public": source.visibility == "PUBLIC",
        },
    )
    session.add(environment)
    await session.flush()
    moment = now()
    old = version.wheel
    wheel = Wheel(
        id=new_id(),
        environment_id=environment.id,
        **{name: getattr(old, name) for name in ("content_hash", "filename", "sha256", "size", "version", "details")},
        blob=old.blob,
        finalized_at=moment,
    )
    session.add(wheel)
    await session.flush()
    shared = ("version", "canonical", "content_hash", "filename", "sha256", "size", "blob", "details", "readme")
    copy = Version(
        id=new_id(),
        environment_id=environment.id,
        wheel_id=wheel.id,
        **{name: getattr(version, name) for name in (*shared, "image", "image_digest")},
        # Not the source's: a fork opens no image to anybody that the source does not open to them.
        publisher_id=account.id,
        finalized_at=moment,
    )
    session.add(copy)
    session.add(used_number(environment, copy))
    environment.updated_at = moment
    await point_at_newest(session, environment)
    return environment, copy


def _taken(owner: str, name: str) -> Conflict:
    return Conflict(f"{owner} already has an environment '{name}', so it cannot be forked to there.")
