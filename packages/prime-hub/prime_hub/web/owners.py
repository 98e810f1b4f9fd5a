"""The pages of people and teams: who they are, and what they have published."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Query, Request
from fastapi.responses import RedirectResponse, Response

from prime_hub.api.deps import HubDep, base_url
from prime_hub.web.home import card
from prime_hub.web.render import page
from prime_hub.web.visitors import VisitorDep

router = APIRouter(include_in_schema=False)
OWNERS = "/dashboard/owners"
PER_PAGE = 24


@router.get(f"{OWNERS}/{{owner}}")
async def owner_page(
    owner: str,
    request: Request,
    hub: HubDep,
    visitor: VisitorDep,
    number: Annotated[int, Query(alias="page", ge=1, le=100_000)] = 1,
) -> Response:
    """Somebody's page, with the environments of theirs that the visitor may see."""
    found = await hub.owners.profile(visitor.account, owner, PER_PAGE, (number - 1) * PER_PAGE)
    who = found.owner
    href = f"{OWNERS}/{quote(who.slug)}"
    if who.slug != owner:  # a former name, or other capitals
        return RedirectResponse(href, status_code=303)
    return page(
        request,
        "owner.html",
        who=who,
        itself=visitor.account is not None and visitor.account.id == who.id,
        role=found.role,
        members=found.members,
        rows=[card(environment, version) for environment, version in found.environments],
        total=found.total,
        number=number,
        newer=href + (f"?page={number - 1}" if number > 2 else "") if number > 1 else None,
        older=f"{href}?page={number + 1}" if number * PER_PAGE < found.total else None,
        index=f"{base_url(request)}/{who.slug}/simple/",
    )
