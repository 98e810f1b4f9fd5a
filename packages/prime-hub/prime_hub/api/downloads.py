"""Stored files as downloads, and which of them count as usage."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

from fastapi import Request
from fastapi.responses import FileResponse, RedirectResponse
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from prime_hub.errors import NotFound
from prime_hub.hub import Hub
from prime_hub.services.blobs import BlobStore
from prime_hub.streaming import Stream

RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")


class Download(FileResponse):
    """A file with HEAD and ranges. `whole` is called when a GET has been answered with all of it.

    So it is not for a HEAD, for a part (installers read the end of a wheel, or go on with a download that broke off), nor
    for a client that goes away in the middle.
    """

    def __init__(self, *given: Any, whole: Callable[[], None], **options: Any) -> None:
        super().__init__(*given, **options)
        self._whole = whole

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it, and tell."""
        complete = False

        async def watched(message: Message) -> None:
            nonlocal complete
            await send(message)
            if message["type"] == "http.response.start":
                complete = message["status"] == 200 and scope["method"] == "GET"
            elif not message.get("more_body", False) and complete:
                self._whole()

        await super().__call__(scope, receive, watched)


async def blob_response(
    hub: Hub,
    request: Request,
    key: str | None,
    filename: str,
    media_type: str,
    sha256: str,
    whole: Callable[[], None],
    caching: Mapping[str, str] | None = None,
) -> Response:
    """A stored blob as a download with a strong ETag, and the headers `caching` where it is the blob that is answered.

    Out of a bucket: a redirect to the bucket's own address, where clients reach it, else its bytes. Raises NotFound when
    the bytes are gone.
    """
    headers = {"ETag": f'"{sha256}"', "X-Content-Type-Options": "nosniff", **(caching or {})}
    try:
        if hub.blobs.remote:
            return await _of_bucket(hub.blobs, request, key or "", filename, media_type, headers, whole)
        async with hub.blobs.local(key or "") as path:
            return Download(path, filename=filename, media_type=media_type, headers=headers, whole=whole)
    except FileNotFoundError:
        raise NotFound(f"The bytes of {filename} are missing from this Hub's storage.") from None


async def _of_bucket(
    blobs: BlobStore,
    request: Request,
    key: str,
    filename: str,
    media_type: str,
    headers: dict[str, str],
    whole: Callable[[], None],
) -> Response:
    """A HEAD is always answered here: a signed address is for one method."""
    size = await blobs.size(key)
    asked = request.headers.get("range")
    if request.method == "GET" and (url := await blobs.download_url(key)) is not None:
        if asked is None:
            whole()  # what follows is between the client and the bucket
        return RedirectResponse(url, 307, {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer"})
    headers |= {"Accept-Ranges": "bytes", "Content-Disposition": f'attachment; filename="{filename}"'}
    start, end, status = 0, size, 200
    if asked is not None and request.headers.get("if-range", headers["ETag"]) == headers["ETag"]:
        start, end, status = _part(asked, size)
        if status == 206:
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
        elif status == 416:
            return Response(status_code=416, headers={"Content-Range": f"bytes */{size}"})
    headers["Content-Length"] = str(end - start)
    if request.method == "HEAD":
        return Response(status_code=status, headers=headers, media_type=media_type)

    async def parts() -> AsyncIterator[bytes]:
        sent = start
        async for part in blobs.get(key, start, None if status == 200 else end):
            yield part
            sent += len(part)
            if status == 200 and sent == size:  # at once: a client that has all of it may be gone by the next step
                whole()

    return Stream(parts(), status_code=status, headers=headers, media_type=media_type)


def _part(asked: str, size: int) -> tuple[int, int, int]:
    """(first byte, the one after the last, status) of a Range header; one that is not understood is ignored (RFC 9110)."""
    found = RANGE.fullmatch(asked.strip())
    if found is None or not (found[1] or found[2]):
        return 0, size, 200
    if not found[1]:
        start, end = max(0, size - int(found[2])), size
    else:
        start, end = int(found[1]), min(size, int(found[2]) + 1) if found[2] else size
        if found[2] and int(found[2]) < start:
            return 0, size, 200
    return (start, end, 206) if start < end else (0, 0, 416)
