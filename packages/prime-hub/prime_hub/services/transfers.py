"""Giving an environment to a team, or back: another owner for the same environment."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import delete, func, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from prime_hub.db.models import Account, Environment, Secret, SecretLink, UsedNumber, Version
from prime_hub.db.session import Database
from prime_hub.errors import Conflict
from prime_hub.services.access import MANAGE, environment_named, owner_for


@dataclass(frozen=True)
class Transferred:
    """What was moved: the environment, whose it was, and how many links to account-wide secrets were cut."""

    environment: Environment
    former_owner: str
    links_cut: int


class Transfers:
    """Moves environments between an account and its teams."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def transfer(self, account: Account, owner: str, name: str, to: str) -> Transferred:
        """Make `to`, the account itself or a team of its, the owner.

        Versions, stars, variables and the environment's own secrets go along; links to secrets of the former owner's
        account are cut, since they are theirs. Used numbers go along and also stay, so that nobody can publish another
        0.1.0 under either address. Raises NotFound, Forbidden, and Conflict for a name or a number that is taken there.
        """
        try:
            async with self._database.write() as session:
                found = await environment_named(session, account, owner, name, MANAGE)
                former = found.owner.slug
                target = await owner_for(session, account, to, None)
                if target.id == found.owner_id:
                    raise Conflict(f"{former}/{found.name} is {former}'s already.")
                await _require_free(session, found, target)
                await _take_numbers_along(session, found, target)
                linked = SecretLink.environment_id == found.id
                cut = await session.scalar(select(func.count(SecretLink.secret_id)).where(linked)) or 0
                await session.execute(delete(SecretLink).where(linked))
                await session.execute(
                    update(Secret).where(Secret.environment_id == found.id).values(owner_id=target.id)
                )
                found.owner_id, found.owner = target.id, target
                await session.flush()
        except IntegrityError:
            raise _taken(to, name) from None
        return Transferred(found, former, cut)


async def _require_free(session: AsyncSession, environment: Environment, target: Account) -> None:
    there = select(Environment.id).where(
        Environment.owner_id == target.id, Environment.normalized_name == environment.normalized_name
    )
    if (await session.scalars(there)).first() is not None:
        raise _taken(target.slug, environment.name)


async def _take_numbers_along(session: AsyncSession, environment: Environment, target: Account) -> None:
    """Raises Conflict where a number of a living version was somebody else's content under the new address."""
    name = environment.normalized_name

    async def used(owner_id: str) -> dict[str, UsedNumber]:
        query = select(UsedNumber).where(UsedNumber.owner_id == owner_id, UsedNumber.normalized_name == name)
        return {row.canonical: row for row in await session.scalars(query)}

    mine, theirs = await used(environment.owner_id), await used(target.id)
    living = select(Version.canonical, Version.version, Version.content_hash).where(
        Version.environment_id == environment.id, Version.finalized_at.is_not(None)
    )
    for canonical, number, content_hash in (await session.execute(living)).tuples():
        if canonical in theirs and theirs[canonical].content_hash != content_hash:
            raise Conflict(
                f"{target.slug}/{environment.name} had another version {number} once, and a number is never used twice; "
                f"delete that version here, or publish under another name."
            )
    for canonical, row in mine.items():
        if canonical not in theirs:
            session.add(
                UsedNumber(
                    owner_id=target.id,
                    normalized_name=name,
                    canonical=canonical,
                    content_hash=row.content_hash,
                    used_at=row.used_at,
                )
            )


def _taken(owner: str, name: str) -> Conflict:
    return Conflict(f"{owner} already has an environment '{name}'; delete that first, or publish under another name.")
