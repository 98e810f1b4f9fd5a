"""Teams: who is in them (hub.md §2.3), and our own routes that change them. `{team}` is an id or a name."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Response
from pydantic import Field

from prime_hub.api.asked import Asked
from prime_hub.api.deps import API, AccountDep, HubDep
from prime_hub.db.models import Member

router = APIRouter(prefix=f"{API}/teams", tags=["teams"])


class NewTeam(Asked):
    slug: str = Field(max_length=64)
    name: str = Field("", max_length=200)


class TeamChange(Asked):
    slug: str | None = Field(None, max_length=64)
    name: str | None = Field(None, max_length=200)


class NewMember(Asked):
    user: str = Field(max_length=64)
    role: str = Field("member", max_length=16)


class Role(Asked):
    role: str = Field(max_length=16)


def _team(place: Member) -> dict[str, Any]:
    return {
        "teamId": place.team_id,
        "name": place.team.name,
        "slug": place.team.slug,
        "role": place.role,
        "createdAt": place.team.created_at.isoformat(),
    }


def _member(member: Member) -> dict[str, Any]:
    return {
        "userId": member.account_id,
        "userName": member.account.slug,
        "name": member.account.name,
        "userEmail": member.account.email,
        "role": member.role,
        "joinedAt": member.joined_at.isoformat(),
    }


@router.post("", status_code=201)
async def create(body: NewTeam, account: AccountDep, hub: HubDep) -> dict[str, Any]:
    """A new team, which the caller owns."""
    return {"data": _team(await hub.teams.create(account, body.slug, body.name))}


@router.get("/{team}")
async def get(team: str, account: AccountDep, hub: HubDep) -> dict[str, Any]:
    """One of the caller's teams."""
    return {"data": _team(await hub.teams.place(account, team))}


@router.patch("/{team}")
async def change(team: str, body: TeamChange, account: AccountDep, hub: HubDep) -> dict[str, Any]:
    """Another slug (owners) or name (admins)."""
    return {"data": _team(await hub.teams.change(account, team, body.slug, body.name))}


@router.delete("/{team}", status_code=204, response_class=Response)
async def delete(team: str, account: AccountDep, hub: HubDep) -> Response:
    """End a team that has nothing (owners)."""
    await hub.teams.delete(account, team)
    return Response(status_code=204)


@router.get("/{team}/members")
async def members(team: str, account: AccountDep, hub: HubDep) -> dict[str, Any]:
    """Everybody in one of the caller's teams (hub.md §2.3)."""
    rows = await hub.teams.members(account, team)
    return {"data": [_member(row) for row in rows], "total_count": len(rows)}


@router.post("/{team}/members", status_code=201)
async def add(team: str, body: NewMember, account: AccountDep, hub: HubDep) -> dict[str, Any]:
    """Add somebody by their name: members by admins, admins and owners by owners."""
    return {"data": _member(await hub.teams.add(account, team, body.user, body.role))}


@router.patch("/{team}/members/{user}")
async def set_role(team: str, user: str, body: Role, account: AccountDep, hub: HubDep) -> dict[str, Any]:
    """Another role for a member (owners)."""
    return {"data": _member(await hub.teams.set_role(account, team, user, body.role))}


@router.delete("/{team}/members/{user}", status_code=204, response_class=Response)
async def remove(team: str, user: str, account: AccountDep, hub: HubDep) -> Response:
    """Remove a member, or leave: oneself is removed by anybody's own word."""
    await hub.teams.remove(account, team, user)
    return Response(status_code=204)
