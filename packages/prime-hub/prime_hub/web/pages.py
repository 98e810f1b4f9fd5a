"""The pages: home with the list of environments, our stylesheet."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request
from fastapi.responses import RedirectResponse, Response

from prime_hub.api.deps import HubDep, base_url
from prime_hub.db.models import Environment
from prime_hub.services.catalogue import Search
from prime_hub.web.render import page, stylesheet
from prime_hub.web.visitors import VisitorDep

router = APIRouter(include_in_schema=False)

PER_PAGE = 24
ENVIRONMENTS = "/dashboard/environments"


@router.get("/static/hub.css")
async def css() -> Response:
    """Our one stylesheet; its address carries a hash, so it may be kept for good."""
    return Response(
        stylesheet()[0], media_type="text/css", headers={"Cache-Control": "public, max-age=31536000, immutable"}
    )


@router.get("/dashboard")
@router.get(ENVIRONMENTS)
async def dashboard() -> Response:
    """Where people end up who shorten an address."""
    return RedirectResponse("/")


@router.get("/")
async def home(
    request: Request,
    hub: HubDep,
    visitor: VisitorDep,
    q: Annotated[str, Query(max_length=200)] = "",
    tag: Annotated[str, Query(max_length=64)] = "",
    owner: Annotated[str, Query(max_length=64)] = "",
    number: Annotated[int, Query(alias="page", ge=1, le=100_000)] = 1,
) -> Response:
    """The catalogue, newest first, with a search."""
    wanted = Search(
        PER_PAGE, (number - 1) * PER_PAGE, q or None, owner or None, tags=(tag,) if tag else (), sort_by="updated_at"
    )
    rows, total = await hub.catalogue.find(visitor.account, wanted)
    return page(
        request,
        "home.html",
        rows=[_card(environment, version) for environment, version in rows],
        total=total,
        search=q,
        tag=tag,
        owner=owner,
        number=number,
        earlier=_link(q, tag, owner, number - 1) if number > 1 else None,
        later=_link(q, tag, owner, number + 1) if number * PER_PAGE < total else None,
        base=base_url(request),
    )


def _link(q: str, tag: str, owner: str, number: int) -> str:
    values = {"q": q, "tag": tag, "owner": owner, "page": number if number > 1 else ""}
    return "/?" + urlencode({name: value for name, value in values.items() if value})


def _card(environment: Environment, version: str) -> dict[str, Any]:
    owner = environment.owner.slug
    return {
        "owner": owner,
        "name": environment.name,
        "href": f"{ENVIRONMENTS}/{owner}/{environment.normalized_name}",
        "description": environment.description,
        "version": version,
        "tags": environment.tags[:6],
        "private": environment.visibility == "PRIVATE",
        "updated": environment.updated_at,
    }
