"""The caller's API tokens."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Response
from pydantic import Field

from prime_hub.api.asked import Asked
from prime_hub.api.deps import API, AccountDep, HubDep, TokenDep
from prime_hub.db.models import Token
from prime_hub.errors import Unauthorized

router = APIRouter(prefix=f"{API}/tokens", tags=["tokens"])


class NewToken(Asked):
    name: str = Field(min_length=1, max_length=100)
    scopes: dict[str, str] | None = Field(None, max_length=10)
    days: int | None = None


def _token(row: Token, current: Token | None = None) -> dict[str, Any]:
    """A token as its owner may see it: never its secret part."""
    return {
        "id": row.id,
        "name": row.name,
        "hint": row.hint,
        "scopes": row.scopes,
        "limits": row.limits,
        "createdAt": row.created_at.isoformat(),
        "expiresAt": None if row.expires_at is None else row.expires_at.isoformat(),
        "lastUsedAt": None if row.last_used_at is None else row.last_used_at.isoformat(),
        "current": current is not None and row.id == current.id,
    }


@router.get("")
async def all_tokens(account: AccountDep, token: TokenDep, hub: HubDep) -> dict[str, Any]:
    """The caller's tokens that hold, newest first."""
    rows = await hub.tokens.all(account)
    return {"data": [_token(row, token.token if token else None) for row in rows], "total_count": len(rows)}


@router.post("", status_code=201)
async def create(body: NewToken, account: AccountDep, token: TokenDep, hub: HubDep) -> dict[str, Any]:
    """A new token, told only in this answer (`token`)."""
    secret, row = await hub.tokens.create(account, body.name, body.scopes, body.days, by=token.token if token else None)
    return {"data": {**_token(row), "token": secret}}


@router.delete("/current", status_code=204, response_class=Response)
async def revoke_current(account: AccountDep, token: TokenDep, hub: HubDep) -> Response:
    """End the token by which one asks."""
    if token is None:
        raise Unauthorized("Not authenticated. Run 'prime login' first.")
    await hub.tokens.revoke(account, token.token.id)
    return Response(status_code=204)


@router.delete("/{token_id}", status_code=204, response_class=Response)
async def revoke(token_id: str, account: AccountDep, hub: HubDep) -> Response:
    """End a token."""
    await hub.tokens.revoke(account, token_id)
    return Response(status_code=204)
