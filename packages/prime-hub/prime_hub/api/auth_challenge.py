"""`prime login`: a program asks for a key, a person approves it in a browser (hub.md §2.1)."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, ConfigDict, Field

from prime_hub.api.asked import Asked
from prime_hub.api.deps import API, HubDep, frontend_url
from prime_hub.services.challenges import LIFE

router = APIRouter(prefix=f"{API}/auth_challenge", tags=["login"])
PAGE = "/dashboard/tokens/challenge"
Limit = Annotated[int | None, Field(None, ge=0, le=1_000_000)]


class Limits(BaseModel):
    """What the key shall be held to, by the names of the official command."""

    model_config = ConfigDict(extra="forbid")

    maxConcurrentSandboxes: Limit
    maxSandboxCreationsPerHour: Limit
    maxSandboxCpuCores: Limit
    maxSandboxGpuCount: Limit
    maxConcurrentTunnels: Limit
    maxTunnelCreationsPerHour: Limit
    maxTunnelTtlHours: Limit


class NewChallenge(Asked):
    encryptionPublicKey: str = Field(max_length=8192)
    limits: Limits | None = None


@router.post("/generate")
async def generate(body: NewChallenge, request: Request, hub: HubDep) -> dict[str, Any]:
    """A code for the person, and the token with which the program asks for the answer."""
    limits = body.limits.model_dump(exclude_none=True) if body.limits else None
    agent = request.headers.get("user-agent", "")
    address = request.client.host if request.client else ""
    code, status_token = await hub.challenges.create(body.encryptionPublicKey, limits, agent, address)
    return {
        "challenge": code,
        "status_auth_token": status_token,
        "url": f"{frontend_url(request)}{PAGE}?code={code}",
        "expires_in": int(LIFE.total_seconds()),
    }


@router.get("/status")
async def status(request: Request, hub: HubDep, challenge: Annotated[str, Query(max_length=64)]) -> dict[str, Any]:
    """`result`: the key, encrypted, once; `pending` until there is an answer; 404 when it is over."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    result = await hub.challenges.fetch(challenge, token.strip() if scheme.lower() == "bearer" else "")
    return {"status": "pending"} if result is None else {"status": "approved", "result": result}
