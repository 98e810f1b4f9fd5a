"""Reading what has been published. Who may see what is told by `access.may_see`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from packaging.utils import canonicalize_name
from sqlalchemy import ColumnElement, false, func, or_, select
from sqlalchemy.orm import defer

from prime_hub.db.models import Account, Environment, EnvironmentTag, Star, Version
from prime_hub.db.session import Database
from prime_hub.errors import Invalid, NotFound
from prime_hub.services.access import belongs_to, called, may_see, no_environment
from prime_hub.services.names import canonical

SORTS = {
    "name": Environment.normalized_name,
    "created_at": Environment.created_at,
    "updated_at": Environment.updated_at,
    "stars": Environment.stars,
}


@dataclass(frozen=True)
class Search:
    """What to list. `limit` and `offset` count environments."""

    limit: int = 20
    offset: int = 0
    search: str | None = None
    owner: str | None = None
    visibility: str | None = None
    tags: Sequence[str] = field(default_factory=tuple)
    sort_by: str = "updated_at"
    descending: bool = True
    mine_only: bool = False
    starred_only: bool = False


class Catalogue:
    """The read side of environments."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find(self, account: Account | None, wanted: Search) -> tuple[list[tuple[Environment, str]], int]:
        """One page of environments with their newest version's number, and how many there are in all."""
        if wanted.sort_by not in SORTS:
            raise Invalid(f"This Hub cannot sort by '{wanted.sort_by}'; use {', '.join(SORTS)}.")
        conditions: list[ColumnElement[bool]] = [may_see(account)]
        if wanted.mine_only:
            conditions.append(belongs_to(Environment.owner_id, account) if account else false())
        if wanted.starred_only:
            conditions.append(_starred_by(account) if account else false())
        if wanted.owner:
            conditions.append(called(wanted.owner))
        if wanted.visibility:
            conditions.append(Environment.visibility == wanted.visibility.upper())
        for tag in wanted.tags:
            conditions.append(_has_tag(func.lower(EnvironmentTag.tag) == tag.lower()))
        for word in (wanted.search or "").split():
            pattern = f"%{_escape(word)}%"
            conditions.append(
                or_(
                    Environment.name.ilike(pattern, escape="\\"),
                    Environment.description.ilike(pattern, escape="\\"),
                    Account.slug.ilike(pattern, escape="\\"),
                    _has_tag(EnvironmentTag.tag.ilike(pattern, escape="\\")),
                )
            )
        column = SORTS[wanted.sort_by]
        query = (
            select(Environment, Version.version)
            .join(Account, Account.id == Environment.owner_id)
            .join(Version, Version.id == Environment.latest_version_id)
            .where(*conditions)
            .order_by(column.desc() if wanted.descending else column.asc(), Environment.id)
        )
        total = select(func.count(Environment.id)).join(Account, Account.id == Environment.owner_id).where(*conditions)
        async with self._database.read() as session:
            rows = (await session.execute(query.limit(wanted.limit).offset(wanted.offset))).unique().all()
            return [(row[0], row[1]) for row in rows], (await session.scalar(total)) or 0

    async def environment(self, account: Account | None, owner: str, name: str) -> Environment:
        """The environment. Raises NotFound, the same for one that is not there and one that `account` may not see."""
        found = await self._seen(account, called(owner), Environment.normalized_name == str(canonicalize_name(name)))
        if found is None:
            raise no_environment(owner, name)
        return found

    async def by_id(self, account: Account | None, environment_id: str) -> Environment:
        """The environment of that id. Raises NotFound, the same for one that is not there and one that `account` may not see."""
        found = await self._seen(account, Environment.id == environment_id)
        if found is None:
            raise NotFound(f"There is no environment with the id {environment_id[:80]} on this Hub.")
        return found

    async def _seen(self, account: Account | None, *conditions: ColumnElement[bool]) -> Environment | None:
        query = select(Environment).join(Account, Account.id == Environment.owner_id)
        async with self._database.read() as session:
            return (await session.scalars(query.where(*conditions, may_see(account)))).unique().first()

    async def versions(self, environment: Environment) -> list[Version]:
        """Every finalised version, newest first, without README and metadata."""
        query = (
            select(Version)
            .where(Version.environment_id == environment.id, Version.finalized_at.is_not(None))
            .options(defer(Version.readme), defer(Version.details))
            .order_by(Version.finalized_at.desc())
        )
        async with self._database.read() as session:
            return list((await session.scalars(query)).unique().all())

    async def version(self, environment: Environment, wanted: str) -> Version:
        """`latest`, a version number, or at least eight characters of a content hash. Raises NotFound."""
        query = select(Version).where(Version.environment_id == environment.id, Version.finalized_at.is_not(None))
        if wanted == "latest":
            query = query.where(Version.id == environment.latest_version_id)
        else:
            number = canonical(wanted)
            match: ColumnElement[bool] = false() if number is None else Version.canonical == number
            if len(wanted) >= 8 and all(letter in "0123456789abcdef" for letter in wanted.lower()):
                match = or_(match, Version.content_hash.startswith(wanted.lower()))
            query = query.where(match)
        async with self._database.read() as session:
            found = (await session.scalars(query.limit(1))).unique().first()
        if found is None:
            raise NotFound(
                f"There is no version '{wanted}' of {environment.owner.slug}/{environment.name} on this Hub.",
                code="version_not_found",
            )
        return found


def _starred_by(account: Account) -> ColumnElement[bool]:
    return select(Star.account_id).where(Star.environment_id == Environment.id, Star.account_id == account.id).exists()


def _has_tag(condition: ColumnElement[bool]) -> ColumnElement[bool]:
    return select(EnvironmentTag.tag).where(EnvironmentTag.environment_id == Environment.id, condition).exists()


def _escape(word: str) -> str:
    return word.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
