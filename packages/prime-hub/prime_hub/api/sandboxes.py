"""Sandboxes, the control plane (sandboxes.md §2.1). Every answer is an object, never an empty one."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Annotated, Any

from fastapi import APIRouter, Body, Query, Request
from pydantic import Field

from prime_hub.api.asked import Asked
from prime_hub.api.deps import API, AccountDep, HubDep, TokenDep
from prime_hub.api.images import MAX_WAIT
from prime_hub.api.sandbox_batches import HOLD_SECONDS
from prime_hub.api.sandbox_body import CreateBody
from prime_hub.api.sandbox_shape import gateway, official, shape
from prime_hub.db.models import Account, Sandbox
from prime_hub.disconnects import while_connected
from prime_hub.errors import Forbidden, HubError, Invalid
from prime_hub.hub import Hub
from prime_hub.services.scopes import allows
from prime_hub.services.starting import LOG_BYTES
from prime_hub.services.tokens import Caller

router = APIRouter(prefix=f"{API}/sandbox", tags=["sandboxes"])

# Most servers are up by then, and a client that polls saves its first pause; an id is never kept back for longer.
CREATE_HOLD_SECONDS = 1.0
# One may take seconds to end; a client's patience must not depend on how many it names.
ENDED_AT_ONCE = 16


class LeaseBody(Asked):
    """How long the lease holds from now."""

    lease_seconds: Annotated[float, Field(gt=0, le=86400)]


class ManyBody(Asked):
    """Several sandboxes: by id; else those of the caller, or of `user_id`, or of `all_users` of the team, with the labels."""

    sandbox_ids: Annotated[list[str] | None, Field(max_length=1000)] = None
    labels: list[str] | None = None
    team_id: Annotated[str | None, Field(max_length=64)] = None
    user_id: Annotated[str | None, Field(max_length=64)] = None
    all_users: bool = False


@router.post("")
async def create(
    body: CreateBody, request: Request, account: AccountDep, token: TokenDep, hub: HubDep
) -> dict[str, Any]:
    """Ask for a sandbox; repeated with the same `idempotency_key`, the same sandbox."""
    wanted = body.request()
    if not _publishes(token):
        wanted = replace(wanted, of_environment=None)
    if not wanted.egress.everywhere:
        await hub.sandbox_io.require_egress()
    row = await hub.sandboxes.create(account, wanted, token.token if token else None)
    row = await hub.sandboxes.get(account, row.id, CREATE_HOLD_SECONDS)
    _require_entry(hub, account, token, row)
    return {**shape(row, official(request)), "gatewayAuth": gateway(request, hub, account, row)}


@router.get("")
async def list_sandboxes(
    request: Request,
    account: AccountDep,
    hub: HubDep,
    page: Annotated[int, Query(ge=1, le=1_000_000)] = 1,
    per_page: Annotated[int, Query(ge=1, le=100)] = 50,
    status: str | None = None,
    labels: Annotated[list[str] | None, Query(max_length=32)] = None,
    is_active: bool | None = None,
    team_id: Annotated[str | None, Query(max_length=64)] = None,
    user_id: Annotated[str | None, Query(max_length=64)] = None,
) -> dict[str, Any]:
    """The sandboxes of the caller, or of a team of theirs, newest first."""
    rows, total = await hub.sandboxes.find(
        account,
        team=team_id,
        user=user_id,
        status=status,
        labels=labels or (),
        active=is_active,
        limit=per_page,
        offset=(page - 1) * per_page,
    )
    return {
        "sandboxes": [shape(row, official(request)) for row in rows],
        "total": total,
        "page": page,
        "perPage": per_page,
        "hasNext": page * per_page < total,
    }


@router.delete("")
async def delete_many(account: AccountDep, hub: HubDep, body: Annotated[ManyBody, Body()]) -> dict[str, Any]:
    """End several sandboxes of the caller and their teams."""
    if body.sandbox_ids:
        wanted = body.sandbox_ids
    elif body.sandbox_ids is None and (body.labels or body.all_users or body.user_id):
        wanted = await hub.sandboxes.endable(
            account, labels=body.labels or (), team=body.team_id, user=body.user_id, all_users=body.all_users
        )
    else:
        raise Invalid("Name the sandboxes to delete with sandbox_ids, labels, user_id or all_users.")
    wanted = list(dict.fromkeys(wanted))
    places = asyncio.Semaphore(ENDED_AT_ONCE)

    async def end(sandbox_id: str) -> str | None:
        async with places:
            try:
                await hub.sandboxes.delete(account, sandbox_id)
            except HubError as error:
                return error.detail
        return None

    outcomes = list(zip(wanted, await asyncio.gather(*map(end, wanted)), strict=True))
    succeeded = [sandbox_id for sandbox_id, problem in outcomes if problem is None]
    failed = [{"sandbox_id": sandbox_id, "error": problem} for sandbox_id, problem in outcomes if problem is not None]
    return {
        "succeeded": succeeded,
        "failed": failed,
        "message": f"Deleted {len(succeeded)} of {len(wanted)} sandboxes.",
    }


@router.get("/capacity")
async def capacity(account: AccountDep, hub: HubDep) -> dict[str, Any]:
    """What the machine of the sandboxes has: processors, memory, and how many sandboxes run there."""
    return await hub.sandbox_io.capacity()


@router.get("/{sandbox_id}")
async def get(
    sandbox_id: str,
    request: Request,
    account: AccountDep,
    hub: HubDep,
    wait: Annotated[float | None, Query(ge=0, le=MAX_WAIT)] = None,
) -> dict[str, Any]:
    """One sandbox; with `wait`, held until it has started or failed. The official client asks again and again while it
    starts, after pauses that grow, so for it the answer is held too.
    """
    agent = official(request)
    hold = wait if wait is not None else HOLD_SECONDS if agent is not None else 0.0
    return shape(await hub.sandboxes.get(account, sandbox_id, hold), agent)


@router.delete("/{sandbox_id}")
async def delete(sandbox_id: str, account: AccountDep, hub: HubDep) -> dict[str, Any]:
    """End it; nothing of it runs any more when this answers."""
    await hub.sandboxes.delete(account, sandbox_id)
    return {"id": sandbox_id, "status": "TERMINATED"}


@router.post("/{sandbox_id}/auth")
async def authorise(
    sandbox_id: str, request: Request, account: AccountDep, token: TokenDep, hub: HubDep
) -> dict[str, Any]:
    """Where and with which token its inside is reached."""
    row = await hub.sandboxes.row(account, sandbox_id)
    _require_entry(hub, account, token, row)
    return gateway(request, hub, account, row)


def _publishes(token: Caller | None) -> bool:
    """Whether by this token one could publish, and so may be shown an environment's secrets (`services/given.py`)."""
    return token is None or allows(token.token.scopes, "environments", "write")


def _require_entry(hub: Hub, account: Account, token: Caller | None, row: Sandbox) -> None:
    """Raises Forbidden for a token that may not see the secrets inside, and for a member of its team who may not run
    anything on this machine.
    """
    if row.user_id != account.id:
        hub.images.access.require_entry(account)
    given = row.request.get("of_environment")
    if given and not _publishes(token):
        raise Forbidden(
            f"Sandbox {row.id} holds the secrets of {given['name']}; this API key needs the scope environments:write to "
            "go into it."
        )


@router.post("/{sandbox_id}/lease")
async def renew(sandbox_id: str, body: LeaseBody, account: AccountDep, hub: HubDep) -> dict[str, Any]:
    """Keep it for so long from now; a sandbox whose lease runs out is ended."""
    return {"expires_at": await hub.sandboxes.renew(account, sandbox_id, body.lease_seconds)}


@router.get("/{sandbox_id}/logs")
async def logs(
    sandbox_id: str,
    request: Request,
    account: AccountDep,
    hub: HubDep,
    offset: Annotated[int | None, Query(ge=-LOG_BYTES, le=1 << 53)] = None,
    wait: Annotated[float, Query(ge=0, le=MAX_WAIT)] = 0.0,
) -> dict[str, Any]:
    """What its start command has written, the end of it. With `offset`, what comes from that byte on (a negative one
    counts from the end), held for `wait` seconds while there is nothing, and the `offset` to go on with; `complete`
    once it has ended and all of it was told.
    """
    if offset is None:
        if wait:
            raise Invalid("Only what comes from an offset on is waited for; give offset, too.")
        return {"logs": await hub.sandboxes.logs(await hub.sandboxes.get(account, sandbox_id))}
    found = await while_connected(request, hub.logs.read(account, sandbox_id, offset, wait))
    return {"logs": found.text, "offset": found.offset, "complete": found.complete}


@router.get("/{sandbox_id}/error-context")
async def error_context(sandbox_id: str, account: AccountDep, hub: HubDep) -> dict[str, Any]:
    """Why it ended; answered as long as the record lives."""
    row = await hub.sandboxes.get(account, sandbox_id)
    return {
        "status": row.status,
        "errorType": row.error_type,
        "errorMessage": row.error_message,
        "exitCode": row.exit_code,
        "logs": await hub.sandboxes.logs(row),
    }


@router.get("/{sandbox_id}/usage")
async def usage(sandbox_id: str, account: AccountDep, hub: HubDep) -> dict[str, Any]:
    """What its processes use: memory in bytes, processor seconds."""
    return await hub.sandbox_io.usage(account, sandbox_id)
