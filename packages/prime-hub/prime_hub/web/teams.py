"""Teams: one's own, who is in them, and what may be changed there."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Query, Request
from fastapi.responses import RedirectResponse, Response

from prime_hub.api.deps import HubDep
from prime_hub.errors import HubError, Invalid
from prime_hub.hub import Hub
from prime_hub.services.access import MANAGE, RULE, reaches
from prime_hub.services.teams import roles_for
from prime_hub.web.forms import Form, FormDep, given
from prime_hub.web.render import page
from prime_hub.web.visitors import SignedIn, SignedInDep

router = APIRouter(include_in_schema=False)
TEAMS = "/dashboard/teams"
DONE = {
    "added": "They are in the team now.",
    "role": "The role is changed.",
    "removed": "They are out of the team.",
    "saved": "The team is saved.",
    "left": "You have left the team.",
    "deleted": "The team is deleted.",
}
Done = Annotated[str, Query(max_length=20)]


@router.get(TEAMS)
async def teams_page(request: Request, hub: HubDep, me: SignedInDep, done: Done = "") -> Response:
    """One's own teams, and a form for another one."""
    return await _teams(request, hub, me, done=DONE.get(done))


async def _teams(
    request: Request,
    hub: Hub,
    me: SignedIn,
    *,
    done: str | None = None,
    error: HubError | None = None,
    again: Form | None = None,
) -> Response:
    rows, _ = await hub.teams.of(me.account, limit=1000)
    return page(
        request,
        "teams.html",
        200 if error is None else error.status,
        rows=[
            {"slug": row.team.slug, "name": row.team.name, "role": row.role, "joined": row.joined_at} for row in rows
        ],
        again=given(again),
        done=done,
        problem=error.detail if error else None,
    )


@router.post(TEAMS)
async def make_team(request: Request, hub: HubDep, me: SignedInDep, form: FormDep) -> Response:
    """A new team."""
    try:
        place = await hub.teams.create(me.account, form.text("slug"), form.text("name"))
    except HubError as error:
        return await _teams(request, hub, me, error=error, again=form)
    return _back(place.team.slug)


def _back(team: str, done: str | None = None) -> Response:
    return RedirectResponse(f"{TEAMS}/{quote(team)}" + (f"?done={done}" if done else ""), status_code=303)


@router.get(f"{TEAMS}/{{team}}")
async def team_page(team: str, request: Request, hub: HubDep, me: SignedInDep, done: Done = "") -> Response:
    """Who is in a team, and what the visitor may change there."""
    return await _team(request, hub, me, team, done=DONE.get(done))


async def _team(
    request: Request,
    hub: Hub,
    me: SignedIn,
    team: str,
    *,
    done: str | None = None,
    error: HubError | None = None,
    member: Form | None = None,
    settings: Form | None = None,
) -> Response:
    """`member`, `settings`: the form of that kind that was refused, so that it need not be filled in once more."""
    place = await hub.teams.place(me.account, team)
    rules = reaches(place.role, RULE)
    members = [
        {
            "id": row.account_id,
            "slug": row.account.slug,
            "name": row.account.name,
            "role": row.role,
            "joined": row.joined_at,
            "me": row.account_id == me.account.id,
            "removable": row.account_id != me.account.id
            and (rules or (reaches(place.role, MANAGE) and row.role == "member")),
        }
        for row in await hub.teams.members(me.account, team)
    ]
    return page(
        request,
        "team.html",
        200 if error is None else error.status,
        team=place.team,
        role=place.role,
        members=members,
        rules=rules,
        manages=reaches(place.role, MANAGE),
        roles=roles_for(place.role),
        member=given(member),
        settings=given(settings or {"name": place.team.name, "slug": place.team.slug, "about": place.team.about}),
        done=done,
        problem=error.detail if error else None,
    )


@router.post(f"{TEAMS}/{{team}}/members")
async def add_member(team: str, request: Request, hub: HubDep, me: SignedInDep, form: FormDep) -> Response:
    """Somebody more."""
    try:
        await hub.teams.add(me.account, team, form.text("user"), form.text("role") or "member")
    except HubError as error:
        return await _team(request, hub, me, team, error=error, member=form)
    return _back(team, "added")


@router.post(f"{TEAMS}/{{team}}/role")
async def change_role(team: str, request: Request, hub: HubDep, me: SignedInDep, form: FormDep) -> Response:
    """Another role for a member."""
    try:
        await hub.teams.set_role(me.account, team, form.text("user"), form.text("role"))
    except HubError as error:
        return await _team(request, hub, me, team, error=error)
    return _back(team, "role")


@router.post(f"{TEAMS}/{{team}}/remove")
async def remove_member(team: str, request: Request, hub: HubDep, me: SignedInDep, form: FormDep) -> Response:
    """One less; oneself, to leave."""
    who = form.text("user")
    try:
        await hub.teams.remove(me.account, team, who)
    except HubError as error:
        return await _team(request, hub, me, team, error=error)
    if who in (me.account.id, me.account.slug):
        return RedirectResponse(f"{TEAMS}?done=left", status_code=303)
    return _back(team, "removed")


@router.post(f"{TEAMS}/{{team}}/settings")
async def change_team(team: str, request: Request, hub: HubDep, me: SignedInDep, form: FormDep) -> Response:
    """What a team is called, and what is told about it."""
    try:
        place = await hub.teams.change(
            me.account, team, form.text("slug") or None, form.text("name"), form.text("about")
        )
    except HubError as error:
        return await _team(request, hub, me, team, error=error, settings=form)
    return _back(place.team.slug, "saved")


@router.post(f"{TEAMS}/{{team}}/delete")
async def delete_team(team: str, request: Request, hub: HubDep, me: SignedInDep, form: FormDep) -> Response:
    """End a team, after its name was typed."""
    try:
        place = await hub.teams.place(me.account, team)
        if form.text("confirm") != place.team.slug:
            raise Invalid(f"Type the team's name, {place.team.slug}, to delete it.")
        await hub.teams.delete(me.account, place.team_id)
    except HubError as error:
        return await _team(request, hub, me, team, error=error)
    return RedirectResponse(f"{TEAMS}?done=deleted", status_code=303)
