"""The pages of people and teams: who they are, and what they have published."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Query, Request
from fastapi.responses import RedirectResponse, Response

from prime_hub.api.deps import HubDep, base_url
from prime_hub.web.home import PlaceDep, listed
from prime_hub.web.render import page
from prime_hub.web.visitors import VisitorDep

router = APIRouter(include_in_schema=False)
OWNERS = "/dashboard/owners"
DONE = {"deleted": "The environment is deleted, with all that belonged to it."}


@router.get(f"{OWNERS}/{{owner}}")
async def owner_page(
    owner: str,
    request: Request,
    hub: HubDep,
    visitor: VisitorDep,
    place: PlaceDep,
    done: Annotated[str, Query(max_length=20)] = "",
) -> Response:
    """Somebody's page, with the environments of theirs that the visitor may see."""
    found = await hub.owners.profile(visitor.account, owner)
    who = found.owner
    href = f"{OWNERS}/{quote(who.slug)}"
    if who.slug != owner:  # a former name, or other capitals
        return RedirectResponse(href, status_code=303)
    values = await listed(hub, visitor, replace(place, owner=who.slug, path=href))
    return page(
        request,
        "owner.html",
        422 if values["too_long"] else 200,
        who=who,
        itself=visitor.account is not None and visitor.account.id == who.id,
        role=found.role,
        members=found.members,
        published=found.total,
        index=f"{base_url(request)}/{who.slug}/simple/",
        done=DONE.get(done) if found.role else None,
        **values,
    )
