"""An environment's versions, and what changed between two of them."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any
from urllib.parse import quote, urlencode

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from prime_hub.api.deps import HubDep
from prime_hub.db.models import Version
from prime_hub.services.comparing import BINARY, ENTANGLED, TOO_LARGE, TOO_MANY, Comparison, FileChange, predecessors
from prime_hub.web.colouring import Room
from prime_hub.web.environment_frame import PATH, VERSIONS, Frame, Wanted, frame
from prime_hub.web.visitors import VisitorDep

router = APIRouter(include_in_schema=False)

AT_WORK = asyncio.Semaphore(2)
"""Comparisons that become HTML at the same time."""

WHY = {
    BINARY: "Not a text file.",
    TOO_LARGE: "Too large to compare line by line.",
    TOO_MANY: "Not shown: there is a limit to what one page compares.",
    ENTANGLED: "Too different to compare line by line.",
}
WORDS = {
    "description": "Description",
    "tags": "Tags",
    "python": "Python",
    "dependencies": "Dependencies",
    "license": "License",
    "links": "Links",
    "image": "Image",
    "image_digest": "Image digest",
}


@router.get(f"{PATH}/versions")
async def versions_page(
    owner: str, name: str, request: Request, hub: HubDep, visitor: VisitorDep, version: Wanted = "latest"
) -> Response:
    """Every version, newest first."""
    framed = await frame(request, hub, visitor, owner, name, version, VERSIONS)
    versions = await hub.catalogue.versions(framed.environment)
    counts, before = await hub.sources.counts(versions), predecessors(versions)
    rows = [
        {
            "number": one.version,
            "at": one.finalized_at,
            "hash": one.content_hash,
            "wheel": one.wheel.size if one.wheel else None,
            "source": one.size,
            "files": counts.get(one.id),
            "latest": one.id == framed.environment.latest_version_id,
            "shown": one.id == framed.version.id,
            "yanked": one.yanked_at is not None,
            "reason": one.yanked_reason,
            "query": "?" + urlencode({"version": one.version}),
            "changes": _address(framed, before[one.id], one) if one.id in before else None,
        }
        for one in versions
    ]
    return framed.page("versions.html", rows=rows)


def _address(framed: Frame, before: Version, after: Version) -> str:
    return f"{framed.href}/changes?" + urlencode({"from": before.version, "to": after.version})


@router.get(f"{PATH}/changes")
async def changes_page(
    owner: str,
    name: str,
    request: Request,
    hub: HubDep,
    visitor: VisitorDep,
    before: Annotated[str, Query(alias="from", max_length=80)] = "previous",
    after: Annotated[str, Query(alias="to", max_length=80)] = "latest",
) -> Response:
    """What changed between two versions."""
    framed = await frame(request, hub, visitor, owner, name, after, VERSIONS)
    versions = await hub.catalogue.versions(framed.environment)
    first = before == "previous" and framed.version.id not in predecessors(versions)
    found = None if first else await hub.comparing.compare(framed.environment, before, after)
    return framed.page(
        "changes.html",
        numbers=[one.version for one in versions],
        before=found.before.version if found else framed.version.version,
        after=framed.version.version,
        found=found,
        fields=[(WORDS[one.name], one) for one in found.fields] if found else [],
        files=await _files(framed, found) if found else [],
    )


async def _files(framed: Frame, found: Comparison) -> list[dict[str, Any]]:
    room = Room()
    async with AT_WORK:
        return await asyncio.to_thread(
            lambda: [_file(framed, found, one, number, room) for number, one in enumerate(found.files, 1)]
        )


def _file(framed: Frame, found: Comparison, change: FileChange, number: int, room: Room) -> dict[str, Any]:
    version = found.before if change.status == "removed" else found.after
    return {
        "id": f"file-{number}",
        "change": change,
        "href": f"{framed.href}/files/{quote(change.path)}?{urlencode({'version': version.version})}",
        "why": WHY.get(change.why or "", ""),
        "hunks": [
            {
                "heading": hunk.heading,
                "lines": [
                    {
                        "line": one,
                        "html": room.line([("", one.text)]),
                        "kind": {"+": "added", "-": "removed"}.get(one.sign, "same"),
                    }
                    for one in hunk.lines
                ],
            }
            for hunk in (change.lines.hunks if change.lines else ())
        ],
    }
