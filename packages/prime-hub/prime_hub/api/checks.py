"""Checks of published versions: asking the Hub for one, and reading what it found. No request here carries a finding."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request

from prime_hub.api.deps import API, AccountDep, CallerDep, HubDep, frontend_url
from prime_hub.db.models import Environment, Version, VersionCheck
from prime_hub.services.checks import badge

router = APIRouter(prefix=f"{API}/environmentshub/{{owner}}/{{name}}/@{{version}}/check", tags=["checks"])

HOLD_SECONDS = 25


@router.post("", status_code=202)
async def begin(
    owner: str, name: str, version: str, request: Request, account: AccountDep, hub: HubDep
) -> dict[str, Any]:
    """Have a version checked; while one check goes on, asking again is asking for that one."""
    row = await hub.checks.ask(account, owner, name, version)
    environment = await hub.catalogue.environment(account, owner, name)
    found = await hub.catalogue.version(environment, version)
    return {"data": shown(request, environment, found, row)}


@router.get("")
async def read(
    owner: str,
    name: str,
    version: str,
    request: Request,
    hub: HubDep,
    caller: CallerDep,
    wait: Annotated[float, Query(ge=0, le=HOLD_SECONDS)] = 0.0,
) -> dict[str, Any]:
    """The check of a version and its report; with `wait`, held until something has changed."""
    environment = await hub.catalogue.environment(caller, owner, name)
    found = await hub.catalogue.version(environment, version)
    row = await hub.checks.of(found, wait, report=True)
    about = shown(request, environment, found, row)
    if not await hub.checks.may_ask(caller, environment):
        about["log"] = None  # what an installation says may tell of this machine
    return {"data": {**about, "report": None if row is None else row.report}}


def shown(request: Request, environment: Environment, version: Version, row: VersionCheck | None) -> dict[str, Any]:
    """A check without its report. `state`: none, queued, running, done, failed."""
    page = f"{frontend_url(request)}/dashboard/environments/{environment.owner.slug}/{environment.normalized_name}"
    return {
        "owner": environment.owner.slug,
        "name": environment.name,
        "version": version.version,
        "state": "none" if row is None else row.state,
        "badge": badge(row).text,
        "reason": row and row.reason,
        "log": row and row.log,
        "progress": row and row.progress,
        "asked_at": row and row.asked_at,
        "started_at": row and row.started_at,
        "checked_at": row and row.checked_at,
        "runtime": row and row.runtime,
        "checker": row and row.checker,
        "problems": row and row.problems,
        "advice": row and row.advice,
        "page_url": f"{page}/check?version={version.version}",
    }
