"""The stylesheet and script of all pages, the first steps, and the short addresses that lead to pages."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import RedirectResponse, Response

from prime_hub.api.deps import HubDep, frontend_url, on_this_machine
from prime_hub.web.render import page, static
from prime_hub.web.visitors import VisitorDep

router = APIRouter(include_in_schema=False)
static_router = APIRouter(include_in_schema=False)
"""What every page loads."""

START = "/dashboard/start"
ENVIRONMENTS = "/dashboard/environments"


@static_router.get("/static/hub.css")
async def css() -> Response:
    """Our one stylesheet."""
    return _kept("hub.css", "text/css")


@static_router.get("/static/hub.js")
async def script() -> Response:
    """Our one script, which no page needs."""
    return _kept("hub.js", "text/javascript")


def _kept(name: str, media_type: str) -> Response:
    # Its address carries a hash, so it may be kept for good.
    headers = {"Cache-Control": "public, max-age=31536000, immutable"}
    return Response(static(name)[0], media_type=media_type, headers=headers)


@router.get(START)
async def start_page(
    request: Request, hub: HubDep, visitor: VisitorDep, new: Annotated[str, Query(max_length=8)] = ""
) -> Response:
    """The first steps; what somebody sees who has just made an account."""
    signed_in = visitor.session is not None
    return page(
        request,
        "start.html",
        base=frontend_url(request),
        here=on_this_machine(request),
        welcome=bool(new) and signed_in,
        sign_up=hub.signing_in.open and not signed_in,
    )


@router.get("/dashboard")
@router.get(ENVIRONMENTS)
async def dashboard() -> Response:
    """Where people end up who shorten an address."""
    return RedirectResponse("/")
