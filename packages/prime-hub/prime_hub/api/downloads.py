"""Stored files as downloads, and which of them count as usage."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi.responses import FileResponse
from starlette.types import Message, Receive, Scope, Send

from prime_hub.errors import NotFound
from prime_hub.hub import Hub


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
    hub: Hub, key: str | None, filename: str, media_type: str, sha256: str, whole: Callable[[], None]
) -> Download:
    """A stored blob as a download with a strong ETag. Raises NotFound when the bytes are gone."""
    try:
        async with hub.blobs.local(key or "") as path:
            headers = {"ETag": f'"{sha256}"', "X-Content-Type-Options": "nosniff"}
            return Download(path, filename=filename, media_type=media_type, headers=headers, whole=whole)
    except FileNotFoundError:
        raise NotFound(f"The bytes of {filename} are missing from this Hub's storage.") from None
