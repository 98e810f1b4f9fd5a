"""Reading what has been published. Who may see what is told by `access.may_see`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from packaging.utils import canonicalize_name
from sqlalchemy import ColumnElement, TextClause, false, func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import defer

from prime_hub.db.models import Account, Environment, Member, Star, Version
from prime_hub.db.session import Database
from prime_hub.errors import Invalid, NotFound
from prime_hub.services import searching
from prime_hub.services.access import called, may_see, no_environment
from prime_hub.services.names import canonical
from prime_hub.services.passages import Passage, passages
from prime_hub.services.suggesting import suggestion

SORTS = {
    "name": Environment.normalized_name,
    "created_at": Environment.created_at,
    "updated_at": Environment.updated_at,
    "stars": Environment.stars,
}
RELEVANCE = "relevance"
RECOMMENDED = {
    "Domain": ("math", "coding", "reasoning", "tool-use", "web", "games"),
    "Use case": ("train", "eval", "benchmark"),
    "Difficulty": ("easy", "medium", "hard"),
    "Format": ("single-turn", "multi-turn", "tool-env"),
}
"""The tags that authors are asked to use."""
Facets = list[tuple[str, list[tuple[str, int]]]]
"""Groups of tags, each tag with how many have it."""


@dataclass(frozen=True)
class Search:
    """What to list. `limit` and `offset` count environments."""

    limit: int = 20
    offset: int = 0
    search: str = ""
    owner: str | None = None
    visibility: str | None = None
    tags: Sequence[str] = field(default_factory=tuple)
    sort_by: str | None = None
    """None: by relevance where there are words, else what was published last first."""
    descending: bool = True
    mine_only: bool = False
    starred_only: bool = False


@dataclass(frozen=True)
class Listing:
    """One page of a list: environments with their newest versions' numbers, how many there are in all, and the tags they have.

    `passages`: by an environment's id where in its README it has the words that it has nowhere else. `instead`: of a
    search that finds nothing, the words of one that finds something.
    """

    rows: list[tuple[Environment, str]]
    total: int
    facets: Facets
    passages: dict[str, Passage] = field(default_factory=dict)
    instead: str | None = None


class Catalogue:
    """The read side of environments."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find(self, account: Account | None, wanted: Search) -> tuple[list[tuple[Environment, str]], int]:
        """One page of environments with their newest version's number, and how many there are in all.

        The search's index answers (`services/searching.py`), also where nothing is searched for, since it counts faster;
        only stars are asked of the tables.
        """
        _check(wanted)
        async with self._database.read() as session:
            found = await self._look(session, account, wanted)
            return await self._page(session, account, wanted, found)

    async def facets(self, account: Account | None, wanted: Search) -> Facets:
        """The recommended tags, by what they are about, with how many of what is wanted have each besides."""
        async with self._database.read() as session:
            return await self._facets(session, await self._look(session, account, wanted))

    async def listing(self, account: Account | None, wanted: Search) -> Listing:
        """What a page shows, with one look into the index; and, where there is nothing, what may have been meant."""
        _check(wanted)
        async with self._database.read() as session:
            found = await self._look(session, account, wanted)
            rows, total = await self._page(session, account, wanted, found)
            facets = await self._facets(session, found)
            if found is None:
                return Listing(rows, total, facets)
            where = await passages(session, found.question, [environment for environment, _ in rows])
            instead = None if total else await suggestion(session, found.question)
            return Listing(rows, total, facets, where, instead)

    async def _look(self, session: AsyncSession, account: Account | None, wanted: Search) -> searching.Found | None:
        question = await self._question(session, account, wanted)
        return None if question is None else await searching.look(session, question)

    async def _page(
        self, session: AsyncSession, account: Account | None, wanted: Search, found: searching.Found | None
    ) -> tuple[list[tuple[Environment, str]], int]:
        if found is None or not found.total:
            return [], 0
        question = found.question
        if wanted.starred_only:
            return await self._starred(session, account, wanted, question)
        sort_by = wanted.sort_by or (RELEVANCE if question.words else "updated_at")
        if sort_by in (RELEVANCE, "updated_at"):
            order = {"ranked": sort_by == RELEVANCE, "descending": wanted.descending}
            ids = await searching.find(session, found, wanted.limit, wanted.offset, **order)
        else:
            column = SORTS[sort_by].key
            ids = await searching.in_order(
                session, question, wanted.limit, wanted.offset, column, descending=wanted.descending
            )
        rows = {row[0].id: row for row in await self._rows(session, account, Environment.id.in_(ids))}
        return [rows[one] for one in ids if one in rows], found.total

    async def _facets(self, session: AsyncSession, found: searching.Found | None) -> Facets:
        every = [tag for tags in RECOMMENDED.values() for tag in tags]
        counts = {} if found is None else await searching.facets(session, found, every)
        return [(group, [(tag, counts[tag]) for tag in tags if counts.get(tag)]) for group, tags in RECOMMENDED.items()]

    async def _question(self, session: AsyncSession, account: Account | None, wanted: Search) -> searching.Asked | None:
        sees: list[str] = []
        if account is not None:
            sees = [account.id, *await session.scalars(select(Member.team_id).where(Member.account_id == account.id))]
        owners = None
        if wanted.owner:
            owners = list(await session.scalars(select(Account.id).where(called(wanted.owner))))
        if wanted.mine_only:
            owners = sees if owners is None else [one for one in owners if one in sees]
        return searching.asked(wanted.search, wanted.tags, sees=sees, owners=owners, visibility=wanted.visibility)

    async def _starred(
        self, session: AsyncSession, account: Account | None, wanted: Search, question: searching.Asked
    ) -> tuple[list[tuple[Environment, str]], int]:
        """What `account` has starred; these are few."""
        if account is None:
            return [], 0
        stars = select(Star.account_id).where(Star.environment_id == Environment.id, Star.account_id == account.id)
        where = (may_see(account), stars.exists(), searching.among(session, question))
        column = SORTS[wanted.sort_by if wanted.sort_by in SORTS else "updated_at"]
        order = (column.desc() if wanted.descending else column.asc(), Environment.id)
        rows = await self._rows(session, account, *where, order=order, limit=wanted.limit, offset=wanted.offset)
        return rows, (await session.scalar(select(func.count(Environment.id)).where(*where))) or 0

    async def _rows(
        self,
        session: AsyncSession,
        account: Account | None,
        *conditions: ColumnElement[bool] | TextClause,
        order: Sequence[Any] = (),
        limit: int | None = None,
        offset: int = 0,
    ) -> list[tuple[Environment, str]]:
        query = (
            select(Environment, Version.version)
            .join(Account, Account.id == Environment.owner_id)
            .join(Version, Version.id == Environment.latest_version_id)
            .where(may_see(account), *conditions)
            .order_by(*order)
            .limit(limit)
            .offset(offset)
        )
        return [(row[0], row[1]) for row in (await session.execute(query)).unique()]

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


def _check(wanted: Search) -> None:
    if wanted.sort_by is not None and wanted.sort_by not in (RELEVANCE, *SORTS):
        raise Invalid(f"This Hub cannot sort by '{wanted.sort_by}'; use {', '.join((*SORTS, RELEVANCE))}.")
