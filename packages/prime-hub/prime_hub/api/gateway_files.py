"""A sandbox's files, for whoever holds its token; contents raw, folders as tar archives."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response

from prime_hub.api.inside import FILE_SECONDS, PREFIX, InsideDep

router = APIRouter(prefix=PREFIX + "/files", tags=["gateway"])

FilePath = Annotated[str, Query(min_length=1, max_length=4096)]


@router.get("/stat")
async def stat(box: InsideDep, path: FilePath) -> Response:
    """One entry: `{path, kind, size, mode, modified, target}`."""
    return await box.ask("GET", "files/stat", params={"path": path})


@router.get("/entries")
async def entries(box: InsideDep, path: FilePath) -> Response:
    """What lies in a folder: `{entries: […]}`."""
    return await box.ask("GET", "files/entries", params={"path": path}, silence=FILE_SECONDS)


@router.post("/folder")
async def make_folder(box: InsideDep, path: FilePath) -> Response:
    """Make a folder and those above it."""
    return await box.ask("POST", "files/folder", params={"path": path})


@router.delete("")
async def remove(box: InsideDep, path: FilePath) -> Response:
    """Remove a file, a link, or a folder with all that is in it."""
    return await box.ask("DELETE", "files", params={"path": path}, silence=FILE_SECONDS)


@router.get("")
async def get(box: InsideDep, path: FilePath) -> Response:
    """A file, or a window of it by `offset` (negative: from the end) and `length`."""
    params = {"path": path, **box.params("offset", "length")}
    return await box.stream("GET", "files", params=params, silence=FILE_SECONDS)


@router.put("")
async def put(box: InsideDep, path: FilePath) -> Response:
    """Write a file in one step, its folders made where missing; `mode` in octal."""
    params = {"path": path, **box.params("mode")}
    content = box.body(box.hub.settings.max_file_bytes)
    return await box.ask("PUT", "files", params=params, content=content, silence=FILE_SECONDS)


@router.get("/tree")
async def pack(box: InsideDep, path: FilePath) -> Response:
    """A folder as a tar archive."""
    return await box.stream("GET", "files/tree", params={"path": path}, silence=FILE_SECONDS)


@router.put("/tree")
async def unpack(box: InsideDep, path: FilePath) -> Response:
    """Unpack such an archive into a folder."""
    content = box.body(box.hub.settings.max_file_bytes)
    return await box.ask("PUT", "files/tree", params={"path": path}, content=content, silence=FILE_SECONDS)
