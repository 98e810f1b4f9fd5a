"""The inside of sandboxes as the official clients reach it, for whoever holds its token (sandboxes.md §2.2)."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.responses import JSONResponse, Response
from pydantic import Field

from prime_hub.api.asked import Asked
from prime_hub.api.gateway_files import FilePath
from prime_hub.api.inside import PREFIX, InsideDep
from prime_hub.api.multipart import FilePart
from prime_hub.disconnects import while_connected
from prime_hub.errors import Conflict, Gone, TooLarge
from prime_hub.services.sandbox_io import MAX_EXEC_SECONDS
from prime_hub.streaming import Stream

router = APIRouter(prefix=PREFIX, tags=["gateway"])


class ExecBody(Asked):
    """A command for the sandbox's shell."""

    command: str
    working_dir: str | None = None
    env: dict[str, str] | None = None
    timeout: Annotated[float, Field(gt=0, le=MAX_EXEC_SECONDS)] = 300
    user: str | None = None


@router.post("/exec")
async def execute(box: InsideDep, body: ExecBody) -> dict[str, Any]:
    """Run a command to its end, or until the client goes away."""
    work = box.hub.sandbox_io.execute(
        box.sandbox_id, body.command, body.working_dir, body.env or {}, body.timeout, body.user
    )
    try:
        return await while_connected(box.request, work)
    except Gone as error:
        # Official clients that run commands this way ask why a sandbox ended after this status, and not after a 410.
        raise Conflict(error.detail, code=error.code) from None


@router.post("/upload")
async def upload(box: InsideDep, path: FilePath) -> dict[str, Any]:
    """One file in, as the multipart field `file`."""
    part = FilePart(box.request.headers.get("content-type", ""), box.body())
    await part.open()
    size = await box.hub.sandbox_io.write(box.sandbox_id, path, part.chunks())
    return {"success": True, "path": path, "size": size, "timestamp": datetime.now(UTC)}


@router.get("/download")
async def download(box: InsideDep, path: FilePath) -> Response:
    """One file out."""
    size, _, content = await box.hub.sandbox_io.read(box.sandbox_id, path)
    return Stream(content, headers={"Content-Length": str(size)})


@router.get("/read-file")
async def read_file(
    box: InsideDep,
    path: FilePath,
    offset: int = 0,
    length: Annotated[int | None, Query(ge=0)] = None,
) -> Response:
    """A window of a file as text; a negative offset counts from the end."""
    limit = box.hub.settings.max_read_bytes
    window = limit if length is None else min(length, limit)
    size, start, content = await box.hub.sandbox_io.read(box.sandbox_id, path, offset, window)
    data = b"".join([part async for part in content])
    if length is None and start + len(data) < size:
        raise TooLarge(f"The file has {size} bytes; read it in windows of at most {limit}, or download it.")
    return JSONResponse(
        {
            "content": data.decode("utf-8", "replace"),
            "size": len(data),
            "total_size": size,
            "offset": start,
            "truncated": start + len(data) < size,
        }
    )
