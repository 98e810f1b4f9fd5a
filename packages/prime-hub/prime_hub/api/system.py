"""Health, and our own distributions."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import FileResponse

from prime_hub import __version__
from prime_hub.api.deps import API, HubDep, base_url

router = APIRouter(prefix=API, tags=["system"])


@router.get("/health")
async def health(hub: HubDep) -> dict[str, Any]:
    """Whether the Hub answers, which one it is, and how its runner is."""
    return {"status": "ok", "version": __version__, "hub_id": hub.id, "runner": hub.runner.health()}


@router.get("/distributions")
async def distributions(request: Request, hub: HubDep) -> dict[str, Any]:
    """The wheels of our own packages, with their hashes."""
    found = await asyncio.to_thread(hub.distributions.all)
    rows = [
        {
            "name": item.name,
            "version": item.version,
            "filename": item.filename,
            "sha256": item.sha256,
            "url": f"{base_url(request)}{API}/distributions/{item.filename}",
        }
        for item in found
    ]
    return {"distributions": rows}


@router.head("/distributions/{filename}", include_in_schema=False)
@router.get("/distributions/{filename}")
async def distribution(filename: str, hub: HubDep) -> FileResponse:
    """One of those wheels."""
    found = await asyncio.to_thread(hub.distributions.file, filename)
    return FileResponse(found.path, filename=found.filename, media_type="application/octet-stream")
