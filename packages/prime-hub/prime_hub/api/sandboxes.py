"""Sandboxes, the control plane (sandboxes.md §2.1). Every answer is an object, never an empty one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Body, Query, Request
from pydantic import BaseModel, Field

from prime_hub.api.deps import API, AccountDep, HubDep, base_url, on_this_machine
from prime_hub.api.images import Wait
from prime_hub.db.models import Account, Exposure, Sandbox
from prime_hub.errors import HubError, Invalid, NotFound
from prime_hub.hub import Hub
from prime_hub.services.sandboxes import SandboxRequest

router = APIRouter(prefix=f"{API}/sandbox", tags=["sandboxes"])

# Most servers are up by then, and a client that polls saves its first pause; an id is never kept back for longer.
CREATE_HOLD_SECONDS = 1.0

# What JSON cannot tell again would be in the way of every later answer.
Size = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class CreateBody(BaseModel):
    """What the official clients send, and `lease_seconds`, `image_digest` and `port` of ours."""

    name: Annotated[str, Field(min_length=1, max_length=200)]
    docker_image: Annotated[str, Field(min_length=1, max_length=512)]
    start_command: str | list[str] | dict[str, Any] | None = None
    cpu_cores: Size = 1.0
    memory_gb: Size = 1.0
    disk_size_gb: Size = 5.0
    gpu_count: int = 0
    timeout_minutes: int = 60
    idle_timeout_minutes: Annotated[int | None, Field(ge=1)] = None
    environment_vars: dict[str, str] | None = None
    secrets: dict[str, str] | None = None
    labels: list[str] = Field(default_factory=list)
    team_id: str | None = None
    vm: bool = False
    idempotency_key: Annotated[str | None, Field(max_length=200)] = None
    lease_seconds: Annotated[float | None, Field(gt=0, le=86400)] = None
    image_digest: str | None = None
    port: Annotated[int | None, Field(ge=1, le=65535)] = None

    def request(self) -> SandboxRequest:
        """The service's form of it."""
        if self.gpu_count:
            raise Invalid("This Hub has no GPUs for sandboxes; ask for gpu_count 0.")
        if self.team_id:
            raise Invalid("This Hub has no teams; create the sandbox without team_id.")
        shown = {
            "cpu_cores": self.cpu_cores,
            "memory_gb": self.memory_gb,
            "disk_size_gb": self.disk_size_gb,
            "timeout_minutes": self.timeout_minutes,
            "idle_timeout_minutes": self.idle_timeout_minutes,
            "labels": self.labels,
            "vm": self.vm,
        }
        return SandboxRequest(
            name=self.name,
            docker_image=self.docker_image,
            image_digest=self.image_digest,
            start_command=_command(self.start_command),
            environment={**(self.environment_vars or {}), **(self.secrets or {})},
            port=self.port,
            timeout_seconds=self.timeout_minutes * 60.0 if self.timeout_minutes > 0 else None,
            idle_seconds=self.idle_timeout_minutes * 60.0 if self.idle_timeout_minutes else None,
            lease_seconds=self.lease_seconds,
            idempotency_key=self.idempotency_key,
            shown=shown,
        )


def _command(given: str | list[str] | dict[str, Any] | None) -> str | list[str] | None:
    if not isinstance(given, dict):
        return given or None
    executable, arguments = given.get("executable"), given.get("args") or []
    if not isinstance(executable, str) or not executable or not isinstance(arguments, list):
        raise Invalid("start_command as an object needs 'executable' (text) and 'args' (a list).")
    return [executable, *(str(argument) for argument in arguments)]


class LeaseBody(BaseModel):
    """How long the lease holds from now."""

    lease_seconds: Annotated[float, Field(gt=0, le=86400)]


class ExposeBody(BaseModel):
    """A port to open."""

    port: Annotated[int, Field(ge=1, le=65535)]
    name: Annotated[str | None, Field(max_length=200)] = None
    protocol: Literal["HTTP", "TCP"] = "HTTP"


class ManyBody(BaseModel):
    """Several of the caller's sandboxes, by id or by label."""

    sandbox_ids: Annotated[list[str] | None, Field(max_length=1000)] = None
    labels: list[str] | None = None
    all_users: bool = False


def shape(row: Sandbox) -> dict[str, Any]:
    """A sandbox on the wire (sandboxes.md §1.3), without the start command, whose type old and new clients dispute."""
    asked = row.request
    return {
        "id": row.id,
        "name": row.name,
        "dockerImage": row.docker_image,
        "imageDigest": row.image_digest,
        "cpuCores": _number(asked["cpu_cores"]),
        "memoryGB": _number(asked["memory_gb"]),
        "diskSizeGB": _number(asked["disk_size_gb"]),
        "diskMountPath": "/",
        "gpuCount": 0,
        "vm": asked["vm"],
        "status": row.status,
        "timeoutMinutes": asked["timeout_minutes"],
        "idleTimeoutMinutes": asked["idle_timeout_minutes"],
        "labels": asked["labels"],
        "createdAt": row.created_at,
        "updatedAt": row.updated_at,
        "startedAt": row.started_at,
        "terminatedAt": row.terminated_at,
        "expiresAt": row.expires_at,
        "exitCode": row.exit_code,
        "errorType": row.error_type,
        "errorMessage": row.error_message,
        "userId": row.owner_id,
        "teamId": None,
    }


def _number(value: float) -> int | float:
    return int(value) if float(value).is_integer() else value


def _gateway(request: Request, hub: Hub, account: Account, row: Sandbox) -> dict[str, Any]:
    seconds = hub.settings.gateway_token_seconds
    expires = datetime.now(UTC) + timedelta(seconds=seconds)
    return {
        "gateway_url": f"{base_url(request)}/gateway",
        "user_ns": account.slug,
        "job_id": row.id,
        "token": hub.signer.sign(f"gateway/{row.id}", seconds),
        "expires_at": expires.isoformat(timespec="seconds").replace("+00:00", "Z"),
        "is_vm": row.request["vm"],
    }


def _exposure(row: Exposure) -> dict[str, Any]:
    endpoint = f"{row.host}:{row.external_port}"
    return {
        "exposure_id": row.id,
        "sandbox_id": row.sandbox_id,
        "port": row.port,
        "name": row.name,
        "url": f"http://{endpoint}",
        "tls_socket": "",
        "protocol": row.protocol,
        "external_port": row.external_port,
        "external_endpoint": endpoint,
        "created_at": row.created_at,
    }


@router.post("")
async def create(body: CreateBody, request: Request, account: AccountDep, hub: HubDep) -> dict[str, Any]:
    """Ask for a sandbox; repeated with the same `idempotency_key`, the same sandbox."""
    row = await hub.sandboxes.create(account, body.request())
    row = await hub.sandboxes.get(account, row.id, CREATE_HOLD_SECONDS)
    return {**shape(row), "gatewayAuth": _gateway(request, hub, account, row)}


@router.get("")
async def list_sandboxes(
    account: AccountDep,
    hub: HubDep,
    page: Annotated[int, Query(ge=1, le=1_000_000)] = 1,
    per_page: Annotated[int, Query(ge=1, le=100)] = 50,
    status: str | None = None,
    labels: Annotated[list[str] | None, Query(max_length=32)] = None,
    is_active: bool | None = None,
) -> dict[str, Any]:
    """The caller's sandboxes, newest first."""
    rows, total = await hub.sandboxes.find(
        account, status=status, labels=labels or (), active=is_active, limit=per_page, offset=(page - 1) * per_page
    )
    return {
        "sandboxes": [shape(row) for row in rows],
        "total": total,
        "page": page,
        "perPage": per_page,
        "hasNext": page * per_page < total,
    }


@router.delete("")
async def delete_many(account: AccountDep, hub: HubDep, body: Annotated[ManyBody, Body()]) -> dict[str, Any]:
    """End several of the caller's sandboxes."""
    if body.sandbox_ids:
        wanted = body.sandbox_ids
    elif body.labels and not body.all_users:
        rows, _ = await hub.sandboxes.find(account, labels=body.labels, active=True, limit=1000)
        wanted = [row.id for row in rows]
    else:
        raise Invalid("Name the sandboxes to delete with sandbox_ids or labels.")
    succeeded, failed = [], []
    for sandbox_id in wanted:
        try:
            await hub.sandboxes.delete(account, sandbox_id)
            succeeded.append(sandbox_id)
        except HubError as error:
            failed.append({"sandbox_id": sandbox_id, "error": error.detail})
    return {
        "succeeded": succeeded,
        "failed": failed,
        "message": f"Deleted {len(succeeded)} of {len(wanted)} sandboxes.",
    }


@router.post("/status:batchGet")
async def statuses(account: AccountDep, hub: HubDep, body: Annotated[ManyBody, Body()]) -> dict[str, Any]:
    """The status of up to a hundred sandboxes."""
    wanted = body.sandbox_ids or []
    if len(wanted) > 100:
        raise Invalid("Ask for the status of at most 100 sandboxes at once.")
    found, errors = [], []
    for sandbox_id in wanted:
        try:
            row = await hub.sandboxes.get(account, sandbox_id)
        except NotFound as error:
            errors.append({"sandbox_id": sandbox_id, "code": "NOT_FOUND", "message": error.detail})
            continue
        found.append(
            {
                "sandbox_id": row.id,
                "status": row.status,
                "error_type": row.error_type,
                "error_message": row.error_message,
                "pending_image_build_id": None,
            }
        )
    return {"statuses": found, "errors": errors}


@router.get("/expose/all")
async def all_exposures(account: AccountDep, hub: HubDep) -> dict[str, Any]:
    """Every open port of the caller's live sandboxes."""
    return {"exposures": [_exposure(row) for row in await hub.sandbox_io.exposures(account, None)]}


@router.get("/capacity")
async def capacity(account: AccountDep, hub: HubDep) -> dict[str, Any]:
    """What the machine of the sandboxes has: processors, memory, and how many sandboxes run there."""
    return await hub.sandbox_io.capacity()


@router.get("/{sandbox_id}")
async def get(sandbox_id: str, account: AccountDep, hub: HubDep, wait: Wait = 0.0) -> dict[str, Any]:
    """One sandbox; with `wait`, held until it has started or failed."""
    return shape(await hub.sandboxes.get(account, sandbox_id, wait))


@router.delete("/{sandbox_id}")
async def delete(sandbox_id: str, account: AccountDep, hub: HubDep) -> dict[str, Any]:
    """End it; nothing of it runs any more when this answers."""
    await hub.sandboxes.delete(account, sandbox_id)
    return {"id": sandbox_id, "status": "TERMINATED"}


@router.post("/{sandbox_id}/auth")
async def authorise(sandbox_id: str, request: Request, account: AccountDep, hub: HubDep) -> dict[str, Any]:
    """Where and with which token its inside is reached."""
    return _gateway(request, hub, account, await hub.sandboxes.row(account, sandbox_id))


@router.post("/{sandbox_id}/lease")
async def renew(sandbox_id: str, body: LeaseBody, account: AccountDep, hub: HubDep) -> dict[str, Any]:
    """Keep it for so long from now; a sandbox whose lease runs out is ended."""
    return {"expires_at": await hub.sandboxes.renew(account, sandbox_id, body.lease_seconds)}


@router.get("/{sandbox_id}/logs")
async def logs(sandbox_id: str, account: AccountDep, hub: HubDep) -> dict[str, Any]:
    """What its start command has written, the end of it."""
    return {"logs": await hub.sandboxes.logs(await hub.sandboxes.get(account, sandbox_id))}


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


@router.post("/{sandbox_id}/expose")
async def expose(
    sandbox_id: str, body: ExposeBody, request: Request, account: AccountDep, hub: HubDep
) -> dict[str, Any]:
    """Open a port. A client on this machine is told of the server's unix socket, where it may have one."""
    exposure, unix_socket = await hub.sandbox_io.expose(account, sandbox_id, body.port, body.name, body.protocol)
    known = {"unix_socket": unix_socket} if unix_socket and on_this_machine(request) else {}
    return {**_exposure(exposure), **known}


@router.get("/{sandbox_id}/usage")
async def usage(sandbox_id: str, account: AccountDep, hub: HubDep) -> dict[str, Any]:
    """What its processes use: memory in bytes, processor seconds."""
    return await hub.sandbox_io.usage(account, sandbox_id)


@router.get("/{sandbox_id}/listen")
async def listening(sandbox_id: str, account: AccountDep, hub: HubDep) -> dict[str, Any]:
    return await hub.sandbox_io.listening(account, sandbox_id)


@router.get("/{sandbox_id}/expose")
async def exposures(sandbox_id: str, account: AccountDep, hub: HubDep) -> dict[str, Any]:
    """Its open ports."""
    return {"exposures": [_exposure(row) for row in await hub.sandbox_io.exposures(account, sandbox_id)]}


@router.delete("/{sandbox_id}/expose/{exposure_id}")
async def unexpose(sandbox_id: str, exposure_id: str, account: AccountDep, hub: HubDep) -> dict[str, Any]:
    """Take a port off the list."""
    await hub.sandbox_io.unexpose(account, sandbox_id, exposure_id)
    return {"exposure_id": exposure_id}
