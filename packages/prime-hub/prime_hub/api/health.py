"""Whether the Hub lives and is ready, for whatever starts it again or sends it requests."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse
from sqlalchemy import select

from prime_hub.api.deps import HubDep
from prime_hub.db.models import Account

router = APIRouter(tags=["system"])
SECONDS = 3.0
_PROBE = "ready/probe"


@router.get("/livez")
async def live() -> dict[str, str]:
    """Whether the process serves: it asks nobody else, so a Hub without its database is not started again for that."""
    return {"status": "ok"}


@router.get("/readyz")
async def ready(hub: HubDep) -> JSONResponse:
    """Whether requests can be served: database and blobs answer within three seconds, and the Hub is not ending. 503 where
    not. `runner` is told and does not count, since publishing and installing go on without one.
    """

    async def database() -> None:
        async with hub.database.read() as session:
            # Of a table of ours: SQLite answers what needs no file without looking at it.
            await session.execute(select(Account.id).limit(1))

    parts = {"database": await _answers(database()), "blobs": await _answers(hub.blobs.exists(_PROBE))}
    if hub.closing.is_set():
        parts["hub"] = "is ending"
    is_ready = all(state == "ok" for state in parts.values())
    told: dict[str, Any] = {"status": "ok" if is_ready else "not ready", **parts, "runner": hub.runner.health()}
    return JSONResponse(told, status_code=200 if is_ready else 503, headers={"Cache-Control": "no-store"})


async def _answers(question: Awaitable[object]) -> str:
    try:
        async with asyncio.timeout(SECONDS):
            await question
    except TimeoutError:
        return f"did not answer within {SECONDS:g} seconds"
    except Exception as error:  # whatever it is, its words may hold an address with a password
        return f"failed ({type(error).__name__})"
    return "ok"
