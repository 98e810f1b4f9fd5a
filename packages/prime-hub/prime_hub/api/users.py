"""Who the caller is."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from prime_hub.api.deps import API, AccountDep

router = APIRouter(prefix=f"{API}/user", tags=["users"])


@router.get("/whoami")
async def whoami(account: AccountDep) -> dict[str, Any]:
    """The caller's account (hub.md §2.2)."""
    return {
        "data": {
            "id": account.id,
            "email": account.email,
            "name": account.name,
            "slug": account.slug,
            "scope": None,
            "account_limits": {},
            "key_limits": {},
        }
    }


@router.get("/teams")
async def teams(account: AccountDep) -> dict[str, Any]:
    """The teams the caller belongs to: accounts of kind `team`, of which this Hub has none."""
    return {"data": [], "total_count": 0}
