"""Teams: accounts that several people share. Who may do what in one is said in `access.py`.

Members are added without being asked, and leave when they like. A team has an owner at every moment.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence

from sqlalchemy import ColumnElement, delete, func, or_, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from prime_hub.db.models import Account, Build, Environment, Evaluation, ImageTag, Member, Sandbox, Secret
from prime_hub.db.session import Database
from prime_hub.errors import Conflict, Forbidden, Invalid, NotFound
from prime_hub.services.access import MANAGE, ROLES, RULE, called, no_team, reaches
from prime_hub.services.accounts import add_account, checked_about, checked_name, rename_account
from prime_hub.services.queue import LIVE

MOST_TEAMS = 50
"""That one account rules."""
MOST_MEMBERS = 500


class Teams:
    """All teams. A team is named by its id or its name (slug)."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def of(self, account: Account, offset: int = 0, limit: int = 100) -> tuple[list[Member], int]:
        """The account's places in teams, by the teams' names, and how many there are."""
        mine = select(Member).join(Account, Account.id == Member.team_id).where(Member.account_id == account.id)
        async with self._database.read() as session:
            total = await session.scalar(select(func.count()).select_from(mine.subquery())) or 0
            rows = await session.scalars(mine.order_by(Account.slug).offset(offset).limit(limit))
            return list(rows.unique()), total

    async def place(self, account: Account, team: str) -> Member:
        """The account's place in a team. Raises NotFound, the same for a team that is not there and one of others."""
        async with self._database.read() as session:
            return await _place(session, account, team)

    async def members(self, account: Account, team: str) -> list[Member]:
        """Everybody in a team, owners first; for members of it. Raises NotFound."""
        async with self._database.read() as session:
            place = await _place(session, account, team)
            rows = (await session.scalars(select(Member).where(Member.team_id == place.team_id))).unique().all()
        return sorted(rows, key=lambda row: (-ROLES.index(row.role), row.account.slug))

    async def create(self, account: Account, slug: str, name: str = "") -> Member:
        """A new team, which the account rules. Raises Invalid, Conflict."""
        async with self._database.write() as session:
            rules = select(func.count()).where(Member.account_id == account.id, Member.role == RULE)
            if (await session.scalar(rules) or 0) >= MOST_TEAMS:
                raise Conflict(f"{account.slug} owns {MOST_TEAMS} teams, which is as many as may be.")
            # The official command takes only ids of this form (hub.md §1.3).
            team = await add_account(session, slug, id=f"c{secrets.token_hex(12)}", kind="team", name=name)
            session.add(Member(team_id=team.id, account_id=account.id, role=RULE))
            await session.flush()
            return await _place(session, account, team.id)

    async def change(
        self,
        account: Account,
        team: str,
        slug: str | None = None,
        name: str | None = None,
        about: str | None = None,
    ) -> Member:
        """Another name for a team, which takes an owner; or what is told about it. Raises NotFound, Forbidden, Conflict."""
        async with self._database.write() as session:
            place = await _place(session, account, team)
            _require(place, RULE if slug else MANAGE)
            if slug:
                await rename_account(session, place.team_id, slug)
            row = await session.get_one(Account, place.team_id)
            if name is not None:
                row.name = checked_name(name) or row.slug
            if about is not None:
                row.about = checked_about(about)
            return place

    async def add(self, account: Account, team: str, who: str, role: str = "member") -> Member:
        """Somebody more, by their name. Admins add members; owners add anybody.

        Raises NotFound, Forbidden, Conflict for one who is in it, Invalid for a role that there is not.
        """
        _check_role(role)
        async with self._database.write() as session:
            place = await _place(session, account, team)
            _require(place, MANAGE if role == "member" else RULE)
            query = select(Account).where(or_(called(who), Account.id == who), Account.kind == "user")
            found = (await session.scalars(query)).first()
            if found is None:
                raise NotFound(f"There is no account named '{who[:80]}' on this Hub.", code="account_not_found")
            if await session.get(Member, (place.team_id, found.id)) is not None:
                raise Conflict(f"{found.slug} is in {place.team.slug} already.")
            if await _count(session, Member.team_id == place.team_id) >= MOST_MEMBERS:
                raise Conflict(f"{place.team.slug} has {MOST_MEMBERS} members, which is as many as may be.")
            session.add(Member(team_id=place.team_id, account_id=found.id, role=role))
            await session.flush()
            return await _place(session, found, place.team_id)

    async def set_role(self, account: Account, team: str, who: str, role: str) -> Member:
        """Another role for a member, by an owner. Raises NotFound, Forbidden, Invalid, Conflict for the last owner's."""
        _check_role(role)
        async with self._database.write() as session:
            place = await _place(session, account, team)
            _require(place, RULE)
            member = await _member(session, place, who)
            if member.role == RULE and role != RULE:
                await _require_another_owner(session, place)
            member.role = role
            return member

    async def remove(self, account: Account, team: str, who: str) -> None:
        """One less: oneself always, members by an admin, anybody by an owner. Raises NotFound, Forbidden, Conflict."""
        async with self._database.write() as session:
            place = await _place(session, account, team)
            member = place if who in (account.slug, account.id) else await _member(session, place, who)
            if member.account_id != account.id:
                _require(place, MANAGE if member.role == "member" else RULE)
            if member.role == RULE:
                await _require_another_owner(session, place)
            await session.delete(member)

    async def delete(self, account: Account, team: str) -> None:
        """End a team that has nothing, by an owner. Its name is given again only when nothing was ever published in it.

        Raises NotFound, Forbidden, Conflict for one that has something.
        """
        async with self._database.write() as session:
            place = await _place(session, account, team)
            _require(place, RULE)
            row = place.team
            for what, conditions in (
                ("environments", (Environment.owner_id == row.id, Environment.latest_version_id.is_not(None))),
                ("evaluations", (Evaluation.owner_id == row.id,)),
                ("images", (ImageTag.owner_id == row.id,)),
                ("secrets", (Secret.owner_id == row.id,)),
                ("sandboxes that run", (Sandbox.owner_id == row.id, Sandbox.status.in_(LIVE))),
                ("builds under way", (Build.owner_id == row.id, Build.status.in_(("PENDING", "BUILDING")))),
            ):
                if await _count(session, *conditions):
                    raise Conflict(f"{row.slug} still has {what}; delete them, or hand them over, first.")
            members = delete(Member).where(Member.team_id == row.id)
            await session.execute(members.execution_options(synchronize_session=False))
            try:
                async with session.begin_nested():
                    await session.delete(row)
            except IntegrityError:  # something still tells of it: numbers it used, names it had, builds
                await session.refresh(row)
                row.kind = "closed"


async def _place(session: AsyncSession, account: Account, team: str) -> Member:
    query = (
        select(Member)
        .join(Account, Account.id == Member.team_id)
        .where(Member.account_id == account.id, or_(Account.id == team, called(team)))
    )
    found = (await session.scalars(query)).unique().first()
    if found is None:
        raise no_team(account, team)
    return found


async def _member(session: AsyncSession, place: Member, who: str) -> Member:
    query = (
        select(Member)
        .join(Account, Account.id == Member.account_id)
        .where(Member.team_id == place.team_id, or_(called(who), Account.id == who))
    )
    found = (await session.scalars(query)).unique().first()
    if found is None:
        raise NotFound(f"{place.team.slug} has no member named '{who[:80]}'.", code="member_not_found")
    return found


def _require(place: Member, least: str) -> None:
    if not reaches(place.role, least):
        raise Forbidden(
            f"{place.account.slug} is {'an' if place.role == 'admin' else 'a'} {place.role} of {place.team.slug}; this "
            f"takes {'an owner' if least == RULE else 'an admin or owner'}."
        )


async def _require_another_owner(session: AsyncSession, place: Member) -> None:
    if await _count(session, Member.team_id == place.team_id, Member.role == RULE) < 2:
        raise Conflict(f"{place.team.slug} needs an owner; make somebody else one first, or delete the team.")


async def _count(session: AsyncSession, *conditions: ColumnElement[bool]) -> int:
    return await session.scalar(select(func.count()).where(*conditions)) or 0


def _check_role(role: str) -> None:
    if role not in ROLES:
        raise Invalid(f"'{role[:40]}' is no role; use one of {', '.join(ROLES)}.")


def roles_for(role: str) -> Sequence[str]:
    """The roles that somebody of this role may give."""
    return ROLES if role == RULE else ("member",) if reaches(role, MANAGE) else ()
