"""Sandboxes as they are shown, to whom: the official clients of different versions dispute the type of a field."""

from __future__ import annotations

import re
import shlex
from datetime import UTC, datetime, timedelta
from typing import Any

from fastapi import Request

from prime_hub.api.deps import base_url
from prime_hub.api.inside import token_of
from prime_hub.db.models import Account, Sandbox
from prime_hub.hub import Hub

_AGENT = re.compile(r"prime-sandboxes/(\d+)\.(\d+)\.(\d+)")


def official(request: Request) -> tuple[int, int, int] | None:
    """The version of the official SDK that asks; None for anything else. Ours, of the same name, is told by its number,
    which is below 0.2 or has a third part of a hundred and more.
    """
    match = _AGENT.match(request.headers.get("user-agent", ""))
    if match is None:
        return None
    version = (int(match[1]), int(match[2]), int(match[3]))
    return None if version < (0, 2, 0) or version[2] >= 100 else version


def shape(row: Sandbox, agent: tuple[int, int, int] | None = None) -> dict[str, Any]:
    """A sandbox on the wire (sandboxes.md §1.3)."""
    asked, limits = row.request, row.request.get("limits") or {}
    egress = asked.get("egress") or {}
    gigabytes = {name: (limits.get(name) or 0) / (1 << 30) for name in ("memory_bytes", "disk_bytes")}
    return {
        "id": row.id,
        "name": row.name,
        "dockerImage": row.docker_image,
        "imageDigest": row.image_digest or None,
        "cpuCores": _number(asked.get("cpu_cores") or limits.get("cpus") or 1.0),
        "memoryGB": _number(asked.get("memory_gb") or gigabytes["memory_bytes"] or 1.0),
        "diskSizeGB": _number(asked.get("disk_size_gb") or gigabytes["disk_bytes"] or 5.0),
        "diskMountPath": "/",
        "gpuCount": 0,
        "vm": asked["vm"],
        "status": row.status,
        "timeoutMinutes": asked["timeout_minutes"],
        "idleTimeoutMinutes": asked["idle_timeout_minutes"] or _minutes(asked.get("idle_seconds")),
        "labels": asked["labels"],
        "networkAllowlist": egress.get("allow"),
        "networkDenylist": egress.get("deny") or None,
        "networkAccess": egress.get("allow") != [],
        "createdAt": row.created_at,
        "updatedAt": row.updated_at,
        "startedAt": row.started_at,
        "terminatedAt": row.terminated_at,
        "expiresAt": row.expires_at,
        "exitCode": row.exit_code,
        "errorType": row.error_type,
        "errorMessage": row.error_message,
        "pendingImageBuildId": pending_build(row),
        "pendingReason": row.pending_reason,
        "environment": (asked.get("of_environment") or {}).get("name"),
        "userId": row.user_id,
        "teamId": row.team_id,
        **_start_command(asked.get("start_command"), agent),
    }


def pending_build(row: Sandbox) -> str | None:
    """The build that a sandbox waits for."""
    return row.build_id if not row.image_digest else None


def _start_command(given: str | list[str] | None, agent: tuple[int, int, int] | None) -> dict[str, Any]:
    """A text up to 0.2, an object from 0.3 on; a client that is neither is told nothing that it might not take."""
    if agent is None or not given:
        return {}
    if agent < (0, 3, 0):
        return {"startCommand": given if isinstance(given, str) else shlex.join(given)}
    words = ["/bin/sh", "-c", given] if isinstance(given, str) else given
    return {"startCommand": {"executable": words[0], "args": words[1:]}}


def _minutes(seconds: float | None) -> int | None:
    """The Hub's own limit in the wire's whole minutes, one at least."""
    return None if seconds is None else max(1, round(seconds / 60))


def _number(value: float) -> int | float:
    """A whole number as one: the oldest clients take no other."""
    return int(value) if float(value).is_integer() else round(value, 3)


def gateway(request: Request, hub: Hub, account: Account, row: Sandbox) -> dict[str, Any]:
    """Where the sandbox's inside is reached, and the token for it."""
    seconds = hub.settings.gateway_token_seconds
    expires = datetime.now(UTC) + timedelta(seconds=seconds)
    return {
        "gateway_url": f"{base_url(request)}/gateway",
        "user_ns": account.slug,
        "job_id": row.id,
        "token": token_of(hub, account, row),
        "expires_at": expires.isoformat(timespec="seconds").replace("+00:00", "Z"),
        "is_vm": row.request["vm"],
    }
