"""The stylesheet of all pages, and the short addresses that lead to them."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import RedirectResponse, Response

from prime_hub.web.render import stylesheet

router = APIRouter(include_in_schema=False)

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
