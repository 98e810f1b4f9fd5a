"""Who may see and change what. The rules are written once, here.

A user has what is theirs and what is their teams'. In a team every member publishes; admins and the owner also manage what
the team has (visibility, yanking, secrets, deleting), and its members; only the owner makes admins and ends the team.
A sandbox or an image that a member made for the team is used by all of it, and changed or ended by that member as well.
"""

from __future__ import annotations

from packaging.utils import canonicalize_name
from sqlalchemy import ColumnElement, ScalarSelect, and_, or_, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute

from prime_hub.db.models import Account, Environment, FormerSlug, Member
from prime_hub.errors import Forbidden, NotFound
from prime_hub.services.names import TEAM_ID

ROLES = ("member", "admin", "owner")
VISIBILITIES = ("PUBLIC", "PRIVATE")
PUBLISH, MANAGE, RULE = "member", "admin", "owner"
"""The least role for: publishing; managing; ruling (making admins, ending the team)."""


def called(slug: str) -> ColumnElement[bool]:
    """Whether an account has this name, or had it: a former name is nobody else's, so old addresses go on."""
    word = slug.lower()
    return or_(Account.slug == word, Account.id.in_(select(FormerSlug.account_id).where(FormerSlug.slug == word)))


def known_as(owner: str) -> ColumnElement[bool]:
    """The same for the owner in an image's reference, which may also be a team's id, as the official command writes it."""
    team = owner.lower().removeprefix("team-")
    return or_(called(owner), Account.id == team) if TEAM_ID.fullmatch(team) else called(owner)


def teams_of(account: Account) -> ScalarSelect[str]:
    """The ids of the account's teams, for `in_`."""
    return select(Member.team_id).where(Member.account_id == account.id).scalar_subquery()


def belongs_to(column: InstrumentedAttribute[str], account: Account) -> ColumnElement[bool]:
    """Whether the owner that `column` names is the account or one of its teams."""
    return or_(column == account.id, column.in_(teams_of(account)))


def may_see(account: Account | None) -> ColumnElement[bool]:
    """Which environments `account` (None: anybody) may know of. One that has no finalised version is not there yet."""
    allowed: ColumnElement[bool] = Environment.visibility == "PUBLIC"
    if account is not None:
        allowed = or_(allowed, belongs_to(Environment.owner_id, account))
    return and_(Environment.latest_version_id.is_not(None), allowed)


async def role_in(session: AsyncSession, account: Account, owner_id: str) -> str | None:
    """The account's role with an owner: `owner` of itself, its role in a team, None for a stranger."""
    if account.id == owner_id:
        return "owner"
    return await session.scalar(select(Member.role).where(Member.team_id == owner_id, Member.account_id == account.id))


async def may_change(session: AsyncSession, account: Account, owner_id: str, user_id: str) -> bool:
    """Whether a sandbox or an image of an owner, which a user made, is the account's to change or to end."""
    role = await role_in(session, account, owner_id)
    return role is not None and (user_id == account.id or reaches(role, MANAGE))


async def not_theirs(session: AsyncSession, account: Account, what: str, owner: Account, user_id: str) -> Forbidden:
    """The refusal where `may_change` says no, to a member of the team."""
    user = await session.get(Account, user_id)
    who = user.slug if user is not None else "somebody else"
    return Forbidden(
        f"{what} is {who}'s in {owner.slug}; only they and the team's admins and owners may change or delete it, and "
        f"{account.slug} is none of these."
    )


def reaches(role: str | None, least: str) -> bool:
    """Whether a role is `least` or above it."""
    return role is not None and ROLES.index(role) >= ROLES.index(least)


async def owner_for(session: AsyncSession, account: Account, slug: str | None, team: str | None) -> Account:
    """Under whose name `account` publishes: `slug` (its own, or a team's), `team` (slug or id), or its own.

    Raises NotFound for a team that is not there or not the account's, Forbidden for another user's name.
    """
    if team:
        query = (
            select(Account)
            .join(Member, Member.team_id == Account.id)
            .where(Member.account_id == account.id, or_(Account.id == team, called(team)))
        )
        found = (await session.scalars(query)).first()
        if found is None:
            raise no_team(account, team)
        return found
    if slug is None or slug.lower() == account.slug:
        return account
    mine = and_(Member.team_id == Account.id, Member.account_id == account.id)
    query = select(Account).outerjoin(Member, mine)
    query = query.where(called(slug), or_(Account.id == account.id, Member.team_id.is_not(None)))
    found = (await session.scalars(query)).first()
    if found is None:
        raise Forbidden(f"{account.slug} may not publish under the name of {slug}.", code="not_your_name")
    return found


def no_team(account: Account, team: str) -> NotFound:
    """The refusal for a team that is not there, or not the account's."""
    return NotFound(
        f"There is no team '{team[:80]}' on this Hub that {account.slug} belongs to.", code="team_not_found"
    )


def no_environment(owner: str, name: str) -> NotFound:
    """The refusal for an environment that is not there, or that nobody told them of."""
    return NotFound(f"There is no environment '{owner}/{name}' on this Hub.", code="environment_not_found")


async def environment_for(session: AsyncSession, account: Account, environment_id: str, least: str) -> Environment:
    """The environment, for somebody whose role with its owner is `least` or more.

    Raises Forbidden where the role is less, and NotFound, the same for one that is not there and a stranger's private one.
    """
    environment = await session.get(Environment, environment_id)
    missing = f"{account.slug} has no environment with the id {environment_id[:80]}."
    return await _allowed(session, account, environment, least, missing)


async def environment_named(session: AsyncSession, account: Account, owner: str, name: str, least: str) -> Environment:
    """The same by its address. An owner finds it also when it has no version (any more)."""
    query = (
        select(Environment)
        .join(Account, Account.id == Environment.owner_id)
        .where(called(owner), Environment.normalized_name == str(canonicalize_name(name)))
    )
    found = (await session.scalars(query)).unique().first()
    return await _allowed(session, account, found, least, f"There is no environment '{owner}/{name}' on this Hub.")


async def _allowed(
    session: AsyncSession, account: Account, environment: Environment | None, least: str, missing: str
) -> Environment:
    # Asked for in any case, so that an answer about what is not there takes as long as one about what is hidden.
    role = await role_in(session, account, environment.owner_id if environment is not None else "")
    if environment is not None and reaches(role, least):
        return environment
    if environment is None or (role is None and not _shown(environment)):
        raise NotFound(missing, code="environment_not_found")
    owner = environment.owner.slug
    if role is None:
        raise Forbidden(f"The environment {owner}/{environment.name} is not {account.slug}'s to change.")
    raise Forbidden(
        f"{account.slug} is a {role} of {owner}; this takes the role {least}"
        + (" or owner." if least == "admin" else ".")
    )


def _shown(environment: Environment) -> bool:
    return environment.visibility == "PUBLIC" and environment.latest_version_id is not None
