"""The sandboxes of an account and its teams: how they are, what ended them, what they have printed; and their end."""

from __future__ import annotations

from contextlib import suppress
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Query, Request
from fastapi.responses import RedirectResponse, Response

from prime_hub.api.deps import HubDep
from prime_hub.api.ports import PREFIX, token_of
from prime_hub.db.models import Sandbox
from prime_hub.errors import HubError, NotFound
from prime_hub.hub import Hub
from prime_hub.services.queue import LIVE
from prime_hub.services.references import parse_reference
from prime_hub.services.starting import LOG_BYTES
from prime_hub.web.forms import FormDep
from prime_hub.web.images import image_href
from prime_hub.web.render import page
from prime_hub.web.shown import end_of_log, memory, span, until
from prime_hub.web.visitors import SignedIn, SignedInDep
from prime_hub.web.whose import PER_PAGE, makers, may_change, whose

router = APIRouter(include_in_schema=False)
SANDBOXES = "/dashboard/sandboxes"
WORDS = {
    "PENDING": "Waiting",
    "PROVISIONING": "Starting",
    "RUNNING": "Running",
    "ERROR": "Failed",
    "TERMINATED": "Ended",
    "TIMEOUT": "Timed out",
}
DONE = {"deleted": "The sandbox is deleted, and nothing of it runs any more."}
Done = Annotated[str, Query(max_length=20)]


@router.get(SANDBOXES)
async def sandboxes_page(
    request: Request,
    hub: HubDep,
    me: SignedInDep,
    team: Annotated[str, Query(max_length=64)] = "",
    show: Annotated[str, Query(pattern="^(running|all)$")] = "running",
    number: Annotated[int, Query(alias="page", ge=1, le=100_000)] = 1,
    done: Done = "",
) -> Response:
    """The sandboxes of the account or of a team of its, newest first: those that run, or all that are on record."""
    chosen = await whose(hub, me, team)
    alive = show == "running"
    rows, total = await hub.sandboxes.find(
        me.account, team=chosen.team, active=alive or None, limit=PER_PAGE, offset=(number - 1) * PER_PAGE
    )
    names = await makers(hub, me, chosen.owner)
    kept = None if alive else show
    return page(
        request,
        "sandboxes.html",
        whose=chosen,
        choices=chosen.choices(SANDBOXES, show=kept),
        shows=[
            {"words": "Running", "href": chosen.link(SANDBOXES), "here": alive},
            {"words": "All", "href": chosen.link(SANDBOXES, show="all"), "here": not alive},
        ],
        rows=[_row(row, names) for row in rows],
        alive=alive,
        total=total,
        number=number,
        newer=chosen.link(SANDBOXES, show=kept, page=number - 1 if number > 2 else None) if number > 1 else None,
        older=chosen.link(SANDBOXES, show=kept, page=number + 1) if number * PER_PAGE < total else None,
        done=DONE.get(done),
    )


def _row(row: Sandbox, names: dict[str, str]) -> dict[str, Any]:
    living = row.status in LIVE
    return {
        "href": f"{SANDBOXES}/{row.id}",
        "id": row.id,
        "name": row.name,
        "image": row.docker_image,
        "status": row.status,
        "words": WORDS[row.status],
        "why": row.pending_reason if living else _ending(row),
        "at": row.created_at,
        "left": until(row.expires_at) if row.status == "RUNNING" else None,
        "by": names.get(row.user_id, "somebody who has left") if names else None,
    }


def _ending(row: Sandbox) -> str:
    """What ended it, a sentence."""
    if row.error_message:
        return row.error_message
    if row.status == "TERMINATED":
        return "It was deleted." if row.deleted_at is not None else "Its start command has ended."
    return ""


@router.get(f"{SANDBOXES}/{{sandbox_id}}")
async def sandbox_page(sandbox_id: str, request: Request, hub: HubDep, me: SignedInDep) -> Response:
    """One sandbox: what it may use and uses, its ports, what it has printed."""
    return await _sandbox(request, hub, me, sandbox_id)


async def _sandbox(
    request: Request, hub: Hub, me: SignedIn, sandbox_id: str, *, error: HubError | None = None
) -> Response:
    row = await hub.sandboxes.get(me.account, sandbox_id)
    living = row.status in LIVE
    names = await makers(hub, me, row.owner)
    usage: dict[str, Any] | None = None
    log, cut, unread = "", False, ""
    try:
        text = await hub.sandboxes.logs(row)
        log, _ = end_of_log(text)
        cut = len(text.encode()) >= LOG_BYTES
    except HubError as problem:
        unread = problem.detail
    if row.status == "RUNNING" and not unread:
        with suppress(HubError):  # it may have ended just now
            usage = await hub.sandbox_io.usage(me.account, sandbox_id)
    return page(
        request,
        "sandbox.html",
        200 if error is None else error.status,
        row=row,
        href=f"{SANDBOXES}/{row.id}",
        words=WORDS[row.status],
        living=living,
        ends=until(row.expires_at),
        why=row.pending_reason if living else _ending(row),
        by=names.get(row.user_id, "somebody who has left") if names else None,
        image=await _image(hub, me, row),
        facts=_facts(row, usage),
        ports=await _ports(hub, me, row) if living else [],
        log=log,
        cut=cut,
        unread=unread,
        changes=living and await may_change(hub, me, row.owner, row.user_id),
        problem=error.detail if error else None,
    )


async def _image(hub: Hub, me: SignedIn, row: Sandbox) -> str | None:
    """The page of its image, where the name still stands for one that the visitor may see."""
    try:
        named = parse_reference(row.docker_image)
        team = row.owner if row.team_id else None
        tag = await hub.images.named(me.account, named.owner, named.name, named.tag, team)
    except HubError:
        return None
    return image_href(tag.owner.slug, tag.name, tag.tag)


def _facts(row: Sandbox, usage: dict[str, Any] | None) -> list[tuple[str, str]]:
    """What is asked for and what is used; never variables, which nobody is shown again."""
    asked = row.request
    limits, egress = asked.get("limits") or {}, asked.get("egress") or {}
    allowed = [
        f"{limits['cpus']:g} processor{'' if limits['cpus'] == 1 else 's'}" if limits.get("cpus") else "",
        f"{memory(limits['memory_bytes'])} memory" if limits.get("memory_bytes") else "",
        f"{memory(limits['disk_bytes'])} disk" if limits.get("disk_bytes") else "",
    ]
    allow, deny = egress.get("allow"), egress.get("deny")
    network = "nowhere" if allow == [] else f"only to {', '.join(allow)}" if allow else ""
    network = network or (f"everywhere but {', '.join(deny)}" if deny else "everywhere")
    lease, idle = asked.get("lease_seconds"), asked.get("idle_seconds")
    facts = [
        ("May use", ", ".join(word for word in allowed if word)),
        ("Uses now", _uses(usage) if usage else ""),
        ("Connects", network),
        ("Longest life", span(asked.get("timeout_seconds") or 0)),
        ("Lease", f"{span(lease)}, renewed by its client" if lease else ""),
        ("Idle limit", f"{span(idle)} without use" if idle else ""),
        ("Server's port", str(asked.get("port") or "")),
        ("Environment", (asked.get("of_environment") or {}).get("name") or ""),
        ("Exit code", "" if row.exit_code is None else str(row.exit_code)),
    ]
    return [(name, value) for name, value in facts if value]


def _uses(usage: dict[str, Any]) -> str:
    count = usage["processes"]
    return f"{memory(usage['memory_bytes'])} memory, {count} process{'' if count == 1 else 'es'}"


async def _ports(hub: Hub, me: SignedIn, row: Sandbox) -> list[dict[str, Any]]:
    """Its open ports. A browser goes through the Hub, which keeps its cookie from the server and the server's from it."""
    try:
        found = await hub.sandbox_io.exposures(me.account, row.id)
    except NotFound:  # it has gone in the meantime
        return []
    return [
        {
            "port": exposure.port,
            "name": exposure.name,
            "protocol": exposure.protocol,
            "href": f"{PREFIX}{token_of(hub, me.account, exposure.id, sandbox)}/"
            if exposure.protocol == "HTTP"
            else "",
        }
        for exposure, sandbox in found
    ]


@router.post(f"{SANDBOXES}/{{sandbox_id}}/delete")
async def delete_sandbox(sandbox_id: str, request: Request, hub: HubDep, me: SignedInDep, form: FormDep) -> Response:
    """End it."""
    row = await hub.sandboxes.row(me.account, sandbox_id)
    try:
        await hub.sandboxes.delete(me.account, sandbox_id)
    except HubError as error:
        return await _sandbox(request, hub, me, sandbox_id, error=error)
    chosen = f"&team={quote(row.owner.slug)}" if row.team_id else ""
    return RedirectResponse(f"{SANDBOXES}?done=deleted{chosen}", status_code=303)
