"""Who the caller is, and the teams they belong to."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from pydantic import Field

from prime_hub.api.asked import Asked
from prime_hub.api.deps import API, AccountDep, HubDep, TokenDep, base_url, on_this_machine
from prime_hub.db.models import Account, Token
from prime_hub.errors import Forbidden
from prime_hub.services.challenges import KEY_LIMITS
from prime_hub.services.scopes import for_wire
from prime_hub.settings import Settings

router = APIRouter(prefix=f"{API}/user", tags=["users"])
LINK_PATH = "/dashboard/sign-in/link"


class Slug(Asked):
    slug: str = Field(max_length=64)


@router.get("/whoami")
async def whoami(
    account: AccountDep, token: TokenDep, hub: HubDep, teamId: Annotated[str | None, Query(max_length=64)] = None
) -> dict[str, Any]:
    """The caller's account (hub.md §2.2), and with `teamId` the team and the caller's role in it."""
    data = _account(account, token.token if token else None, hub.settings)
    if teamId:
        place = await hub.teams.place(account, teamId)
        data["team"] = {
            "teamId": place.team_id,
            "name": place.team.name,
            "slug": place.team.slug,
            "role": place.role,
        }
    return {"data": data}


def _account(account: Account, token: Token | None, settings: Settings) -> dict[str, Any]:
    limits = {
        "vm_sandbox_limit": settings.account_sandboxes,
        "sandbox_total_cpu_limit": None if settings.account_cpus is None else int(settings.account_cpus),
    }
    keyed = (token.limits if token else None) or {}
    return {
        "id": account.id,
        "email": account.email,
        "name": account.name,
        "slug": account.slug,
        "scope": for_wire(token.scopes) if token else None,
        "account_limits": {name: value for name, value in limits.items() if value is not None},
        "key_limits": {KEY_LIMITS[name]: value for name, value in keyed.items() if name in KEY_LIMITS},
    }


@router.patch("/slug")
async def rename(body: Slug, account: AccountDep, hub: HubDep) -> dict[str, Any]:
    """Another name for the caller's account; 409 when it is somebody else's (hub.md §2.3)."""
    renamed = await hub.accounts.rename(account, body.slug)
    return {"data": {"id": renamed.id, "slug": renamed.slug, "name": renamed.name}}


@router.get("/teams")
async def teams(
    account: AccountDep,
    hub: HubDep,
    offset: Annotated[int, Query(ge=0, le=1_000_000)] = 0,
    limit: Annotated[int, Query(ge=1, le=250)] = 100,
) -> dict[str, Any]:
    """The teams the caller belongs to (hub.md §2.3)."""
    rows, total = await hub.teams.of(account, offset, limit)
    data = [
        {
            "teamId": row.team_id,
            "name": row.team.name,
            "slug": row.team.slug,
            "role": row.role,
            "createdAt": row.team.created_at.isoformat(),
        }
        for row in rows
    ]
    return {"data": data, "total_count": total}


@router.post("/sign-in-link")
async def sign_in_link(request: Request, account: AccountDep, token: TokenDep, hub: HubDep) -> dict[str, Any]:
    """An address that signs one browser of this machine in, once, within a minute; for accounts made on this machine.

    Raises Forbidden from elsewhere, and for a token that may less, or lives shorter, than its account.
    """
    if not account.local or not on_this_machine(request):
        raise Forbidden("A sign-in link is only for accounts made on the Hub's own machine, and only there.")
    if token is None or token.token.scopes is not None or token.token.limits or token.token.expires_at is not None:
        raise Forbidden("A sign-in link takes an API key without scopes, limits and an end.")
    code = await hub.sessions.link(account)
    return {"data": {"url": f"{base_url(request)}{LINK_PATH}?code={code}", "code": code, "path": LINK_PATH}}
