"""Many sandboxes, or jobs in them, asked for at once (sandboxes.md §2.1)."""

from __future__ import annotations

import asyncio
import re
from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import BaseModel, Field

from prime_hub.api.asked import Asked
from prime_hub.api.deps import API, AccountDep, HubDep
from prime_hub.api.sandbox_shape import pending_build
from prime_hub.db.models import Account
from prime_hub.errors import BadGateway, Conflict, Gone, HubError, NotFound
from prime_hub.hub import Hub

router = APIRouter(prefix=f"{API}/sandbox", tags=["sandboxes"])

# Longer would be cut off by proxies; the clients poll in their own pace after it.
HOLD_SECONDS = 20.0
MOST = 100
JOBS_AT_ONCE = 8
JOB_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


class StatusesBody(Asked):
    """Up to a hundred sandboxes."""

    sandbox_ids: Annotated[list[str], Field(max_length=MOST)] = Field(default_factory=list)
    wait: Annotated[float, Field(ge=0, le=HOLD_SECONDS)] = HOLD_SECONDS


class Job(BaseModel):
    """A background job of the official clients: a command whose exit code goes to `/tmp/job_ID.exit`."""

    sandbox_id: str
    job_id: str


class JobsBody(Asked):
    """Several of them."""

    jobs: Annotated[list[Job], Field(max_length=1000)] = Field(default_factory=list)


@router.post("/status:batchGet")
async def statuses(account: AccountDep, hub: HubDep, body: StatusesBody) -> dict[str, Any]:
    """The status of sandboxes. While all of them are starting the answer is held, until one no longer is, so that who
    waits for them need not ask again and again.
    """
    rows = await hub.statuses.of(account, body.sandbox_ids, body.wait)
    found, errors = [], []
    for sandbox_id in dict.fromkeys(body.sandbox_ids):
        row = rows.get(sandbox_id)
        if row is None:
            message = f"{account.slug} has no sandbox {sandbox_id}."
            errors.append({"sandbox_id": sandbox_id, "code": "NOT_FOUND", "message": message})
            continue
        found.append(
            {
                "sandbox_id": row.id,
                "status": row.status,
                "error_type": row.error_type,
                "error_message": row.error_message,
                "pending_image_build_id": pending_build(row),
            }
        )
    return {"statuses": found, "errors": errors}


@router.post("/background-jobs/status:batchGet")
async def jobs(account: AccountDep, hub: HubDep, body: JobsBody) -> dict[str, Any]:
    """Whether background jobs have ended, and their exit codes."""
    places = asyncio.Semaphore(JOBS_AT_ONCE)

    async def look(job: Job) -> dict[str, Any]:
        async with places:
            return await _job(hub, account, job)

    answers = await asyncio.gather(*(look(job) for job in body.jobs))
    return {
        "statuses": [answer for answer in answers if "code" not in answer],
        "errors": [answer for answer in answers if "code" in answer],
    }


async def _job(hub: Hub, account: Account, job: Job) -> dict[str, Any]:
    about = {"sandbox_id": job.sandbox_id, "job_id": job.job_id}
    try:
        await hub.sandboxes.row(account, job.sandbox_id)
        if not JOB_ID.fullmatch(job.job_id):
            raise NotFound("A job's id is letters, digits, '_' and '-' only.")
    except NotFound as error:
        return {**about, "code": "NOT_FOUND", "message": error.detail}
    try:
        _, _, parts = await hub.sandbox_io.read(job.sandbox_id, f"/tmp/job_{job.job_id}.exit", 0, 32)
        text = b"".join([part async for part in parts]).decode("ascii", "replace").strip()
    except NotFound as error:
        if error.code == "file_not_found":
            return {**about, "completed": False, "exit_code": None}
        return {**about, "code": "NOT_FOUND", "message": error.detail}
    except (BadGateway, Conflict, Gone) as error:
        return {**about, "code": "NOT_RUNNING", "message": error.detail}
    except HubError as error:
        return {**about, "code": "RUNTIME_ERROR", "message": error.detail}
    # The file is there a moment before what is written into it.
    code = int(text) if re.fullmatch(r"-?\d{1,9}", text) else None
    return {**about, "completed": code is not None, "exit_code": code}
