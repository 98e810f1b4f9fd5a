"""The inside of sandboxes, for whoever holds a sandbox's own token (sandboxes.md §2.2)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from pydantic import BaseModel, Field
from starlette.datastructures import UploadFile

from prime_hub.api.deps import HubDep
from prime_hub.disconnects import while_connected
from prime_hub.errors import Invalid, TooLarge, Unauthorized
from prime_hub.services.sandbox_io import MAX_EXEC_SECONDS

router = APIRouter(prefix="/gateway/{user_ns}/{sandbox_id}", tags=["gateway"])

PIECE = 256 * 1024
FilePath = Annotated[str, Query(min_length=1, max_length=4096)]


class ExecBody(BaseModel):
    """A command for the sandbox's shell."""

    command: str
    working_dir: str | None = None
    env: dict[str, str] | None = None
    timeout: Annotated[float, Field(gt=0, le=MAX_EXEC_SECONDS)] = 300


def _authorise(request: Request, sandbox_id: str) -> None:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    signer = request.app.state.hub.signer
    if scheme.lower() != "bearer" or not signer.holds(f"gateway/{sandbox_id}", token.strip()):
        raise Unauthorized("The sandbox's token is missing, wrong or has run out; ask for a new one.")


@router.post("/exec")
async def execute(sandbox_id: str, body: ExecBody, request: Request, hub: HubDep) -> dict[str, Any]:
    """Run a command to its end, or until the client goes away."""
    _authorise(request, sandbox_id)
    work = hub.sandbox_io.execute(sandbox_id, body.command, body.working_dir, body.env or {}, body.timeout)
    return await while_connected(request, work)


@router.post("/upload")
async def upload(sandbox_id: str, path: FilePath, request: Request, hub: HubDep) -> dict[str, Any]:
    """One file in, as the multipart field `file`."""
    _authorise(request, sandbox_id)
    async with request.form(max_files=1, max_fields=8) as form:
        part = form.get("file")
        if not isinstance(part, UploadFile):
            raise Invalid("The upload needs one multipart field named 'file'.")
        size = await hub.sandbox_io.write(sandbox_id, path, _pieces(part))
    return {"success": True, "path": path, "size": size, "timestamp": datetime.now(UTC)}


async def _pieces(part: UploadFile) -> AsyncIterator[bytes]:
    while piece := await part.read(PIECE):
        yield piece


@router.get("/download")
async def download(sandbox_id: str, path: FilePath, request: Request, hub: HubDep) -> Response:
    """One file out."""
    _authorise(request, sandbox_id)
    size, _, parts = await hub.sandbox_io.read(sandbox_id, path)
    headers = {"Content-Length": str(size)}
    return StreamingResponse(parts, media_type="application/octet-stream", headers=headers)


@router.get("/read-file")
async def read_file(
    sandbox_id: str,
    path: FilePath,
    request: Request,
    hub: HubDep,
    offset: int = 0,
    length: Annotated[int | None, Query(ge=0)] = None,
) -> Response:
    """A window of a file as text; a negative offset counts from the end."""
    _authorise(request, sandbox_id)
    limit = hub.settings.max_read_bytes
    window = limit if length is None else min(length, limit)
    size, start, parts = await hub.sandbox_io.read(sandbox_id, path, offset, window)
    data = b"".join([part async for part in parts])
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
