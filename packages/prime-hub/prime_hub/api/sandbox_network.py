"""A sandbox's network: which of its ports are reached, and where it may connect to."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request
from pydantic import Field

from prime_hub.api import ports
from prime_hub.api.asked import Asked
from prime_hub.api.deps import API, AccountDep, HubDep, on_this_machine
from prime_hub.api.sandbox_body import Entries, egress
from prime_hub.db.models import Sandbox

router = APIRouter(prefix=f"{API}/sandbox", tags=["sandboxes"])


class ExposeBody(Asked):
    """A port to open."""

    port: Annotated[int, Field(ge=1, le=65535)]
    name: Annotated[str | None, Field(max_length=200)] = None
    protocol: Literal["HTTP", "TCP"] = "HTTP"


class EgressBody(Asked):
    """Where it may connect to: only to what is allowed, or everywhere but to what is denied."""

    allowlist: Entries | None = None
    denylist: Entries | None = None


@router.get("/expose/all")
async def all_exposures(request: Request, account: AccountDep, hub: HubDep) -> dict[str, Any]:
    """Every open port of the live sandboxes of the caller and their teams."""
    rows = await hub.sandbox_io.exposures(account, None)
    return {"exposures": [ports.shown(request, account, row, sandbox) for row, sandbox in rows]}


@router.post("/{sandbox_id}/expose")
async def expose(
    sandbox_id: str, body: ExposeBody, request: Request, account: AccountDep, hub: HubDep
) -> dict[str, Any]:
    """Open a port. A client on this machine reaches it there, and is told of the server's unix socket where it may have
    one; any other reaches it through this Hub.
    """
    sandbox = await hub.sandboxes.row(account, sandbox_id)
    exposure, unix_socket = await hub.sandbox_io.expose(account, sandbox_id, body.port, body.name, body.protocol)
    known = {"unix_socket": unix_socket} if unix_socket and on_this_machine(request) else {}
    return {**ports.shown(request, account, exposure, sandbox), **known}


@router.get("/{sandbox_id}/expose")
async def exposures(sandbox_id: str, request: Request, account: AccountDep, hub: HubDep) -> dict[str, Any]:
    """Its open ports."""
    rows = await hub.sandbox_io.exposures(account, sandbox_id)
    return {"exposures": [ports.shown(request, account, row, sandbox) for row, sandbox in rows]}


@router.delete("/{sandbox_id}/expose/{exposure_id}")
async def unexpose(sandbox_id: str, exposure_id: str, account: AccountDep, hub: HubDep) -> dict[str, Any]:
    """Take a port off the list; what reached it through this Hub no longer does."""
    await hub.sandbox_io.unexpose(account, sandbox_id, exposure_id)
    hub.ports.shut(exposure_id)
    return {"exposure_id": exposure_id}


@router.get("/{sandbox_id}/listen")
async def listening(sandbox_id: str, account: AccountDep, hub: HubDep) -> dict[str, Any]:
    """Where its processes listen."""
    return await hub.sandbox_io.listening(account, sandbox_id)


@router.get("/{sandbox_id}/egress-policy")
async def get_egress(sandbox_id: str, account: AccountDep, hub: HubDep) -> dict[str, Any]:
    """Where it may connect to."""
    return _policy(await hub.sandboxes.row(account, sandbox_id))


@router.put("/{sandbox_id}/egress-policy")
async def put_egress(sandbox_id: str, body: EgressBody, account: AccountDep, hub: HubDep) -> dict[str, Any]:
    """Change it, for connections from now on."""
    wanted = egress(body.allowlist, body.denylist)
    return _policy(await hub.sandbox_io.set_egress(account, sandbox_id, wanted))


def _policy(row: Sandbox) -> dict[str, Any]:
    rules = row.request.get("egress") or {}
    generation = int(row.request.get("egress_generation") or 1)
    allow = rules.get("allow")
    applied = row.started_at is not None
    return {
        "policy": {"allowlist": allow, "denylist": None if allow is not None else rules.get("deny") or []},
        "generation": generation,
        "applied_generation": generation if applied else 0,
        "applied": applied,
    }
