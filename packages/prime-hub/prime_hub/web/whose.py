"""Whose things a page is about: the visitor's own, or those of a team of theirs, and by which words they are told."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlencode

from prime_hub.db.models import Account, Member
from prime_hub.errors import NotFound
from prime_hub.hub import Hub
from prime_hub.services.access import MANAGE, reaches
from prime_hub.web.visitors import SignedIn

MOST_TEAMS = 1000
PER_PAGE = 25


@dataclass(frozen=True)
class Whose:
    """The chosen owner, the visitor's role with it, and what else could be chosen."""

    owner: Account
    role: str
    teams: list[Account]

    @property
    def team(self) -> str | None:
        """The team's name; None for the visitor's own things."""
        return self.owner.slug if self.owner.team_id else None

    @property
    def manages(self) -> bool:
        """Whether the visitor manages what the owner has."""
        return reaches(self.role, MANAGE)

    def link(self, path: str, **query: object) -> str:
        """The address of a page about this owner's things."""
        return _address(path, self.team, query)

    def choices(self, path: str, **query: object) -> list[dict[str, object]]:
        """The owners to choose from, each with the address of its page; none where there is no team."""
        slugs = [None, *(team.slug for team in self.teams)] if self.teams else []
        return [
            {"words": slug or "Yours", "href": _address(path, slug, query), "here": slug == self.team} for slug in slugs
        ]


def _address(path: str, team: str | None, query: dict[str, object]) -> str:
    words = urlencode({name: value for name, value in {"team": team, **query}.items() if value})
    return f"{path}?{words}" if words else path


async def whose(hub: Hub, me: SignedIn, team: str) -> Whose:
    """The visitor's own things, or those of the team of that name or id. Raises NotFound, as for a team of others."""
    places, _ = await hub.teams.of(me.account, limit=MOST_TEAMS)
    teams = [place.team for place in places]
    if not team:
        return Whose(me.account, "owner", teams)
    place = await hub.teams.place(me.account, team)
    return Whose(place.team, place.role, teams)


async def place_with(hub: Hub, me: SignedIn, owner: Account) -> Member | None:
    """The visitor's place in the team that owns something; None for their own and a stranger's."""
    try:
        return await hub.teams.place(me.account, owner.id)
    except NotFound:
        return None


async def may_change(hub: Hub, me: SignedIn, owner: Account, user_id: str) -> bool:
    """Whether an image, a build or a sandbox of that owner, made by that user, is the visitor's to change or to end."""
    if owner.id == me.account.id:
        return True
    place = await place_with(hub, me, owner)
    return place is not None and (user_id == me.account.id or reaches(place.role, MANAGE))


async def makers(hub: Hub, me: SignedIn, owner: Account) -> dict[str, str]:
    """The names of a team's members by their ids, for telling who made what; of one's own things nobody needs to be told."""
    if not owner.team_id or await place_with(hub, me, owner) is None:
        return {}
    return {row.account_id: row.account.slug for row in await hub.teams.members(me.account, owner.id)}
