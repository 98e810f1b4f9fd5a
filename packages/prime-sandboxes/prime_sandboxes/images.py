"""AsyncImageClient: build images on a Hub, and list them (protocols/hub.md §4)."""

from __future__ import annotations

import asyncio
import builtins
import contextlib
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from prime_core.context import context_digest, write_context
from prime_sandboxes.models import Image, ImageBuild
from prime_sandboxes.transport import APIClient, Transport

if TYPE_CHECKING:
    from prime_core.connection import Connection

PAGE = 250
UNFINISHED = frozenset({"PENDING", "UPLOADING", "BUILDING"})
LOG_SECONDS = 1.0
HOLD_SECONDS = 20.0
CANCEL_SECONDS = 5.0


class AsyncImageClient:
    """Images of a Hub, for one event loop. An async context manager. Every call raises APIError and its kinds."""

    def __init__(self, connection: Connection | APIClient | None = None, *, api_key: str | None = None) -> None:
        self._transport = Transport(connection, api_key)

    async def build(
        self,
        name: str,
        tag: str,
        context: Path,
        dockerfile: str = "Dockerfile",
        no_cache: bool = False,
        on_log: Callable[[str], object] | None = None,
        build_args: dict[str, str] | None = None,
        port: int | None = None,
    ) -> ImageBuild:
        """Build `name:tag` from a folder on the Hub and wait for the end; `on_log` gets the log's text as it grows.

        Nothing is sent when the Hub has an image of the same files, unless `no_cache`. A build that fails is an
        answer, not an exception. When the call is cancelled, so is the build. Raises ProjectError for the folder, APIError and its kinds.
        """
        api = await self._transport.api()
        digest = await asyncio.to_thread(context_digest, context, dockerfile)
        body: dict[str, Any] = {
            "image_name": name,
            "image_tag": tag,
            "dockerfile_path": dockerfile,
            "context_digest": digest,
            "no_cache": no_cache,
            "build_args": build_args or {},
            "port": port,
        }
        begun = await api.post("/images/build", {key: value for key, value in body.items() if value is not None})
        build_id = str(begun.get("build_id") or begun.get("id"))
        if not begun.get("cached"):
            try:
                await self._send(str(begun["upload_url"]), context, dockerfile)
                await api.post(f"/images/build/{build_id}/start", {"context_uploaded": True})
                begun = {**begun, **await self._follow(build_id, on_log)}
            except asyncio.CancelledError:
                # Nobody waits for it any more, and an abandoned build must not become the newest image of its name.
                with contextlib.suppress(Exception):
                    await asyncio.wait_for(self.cancel(build_id), CANCEL_SECONDS)
                raise
        return ImageBuild(
            status=str(begun.get("status") or "COMPLETED"),
            image=str(begun.get("fullImagePath") or f"{name}:{tag}"),
            digest=begun.get("imageDigest"),
            error=begun.get("errorMessage"),
            id=build_id,
            cached=bool(begun.get("cached")),
        )

    async def cancel(self, build_id: str) -> None:
        """Cancel a build; one that has ended stays as it is. Raises NotFound."""
        api = await self._transport.api()
        await api.post(f"/images/build/{build_id}/cancel", {})

    async def _send(self, upload_url: str, context: Path, dockerfile: str) -> None:
        api = await self._transport.api()
        with tempfile.TemporaryDirectory(prefix="prime-context-") as scratch:
            archive = Path(scratch) / "context.tar.gz"
            await asyncio.to_thread(write_context, context, dockerfile, archive)
            await api.upload(upload_url, archive)

    async def _follow(self, build_id: str, on_log: Callable[[str], object] | None) -> dict[str, Any]:
        api = await self._transport.api()
        offset = 0
        hold = HOLD_SECONDS if on_log is None else LOG_SECONDS
        while True:
            state = await api.get(f"/images/build/{build_id}", {"wait": f"{hold:g}"}, timeout=hold + 30)
            if on_log is not None:
                offset = await self._read_log(build_id, offset, on_log)
            if state.get("status") not in UNFINISHED:
                return state

    async def _read_log(self, build_id: str, offset: int, on_log: Callable[[str], object]) -> int:
        api = await self._transport.api()
        while True:
            part = await api.get(f"/images/build/{build_id}/logs", {"offset": offset})
            text = str(part.get("text") or "")
            if not text:
                return offset
            on_log(text)
            offset = int(part.get("offset") or offset + len(text.encode()))

    async def list(self, search: str | None = None) -> builtins.list[Image]:
        """The account's images, and builds that have not become one."""
        api = await self._transport.api()
        found: list[Image] = []
        while True:
            answer = await api.get("/images", {"limit": PAGE, "offset": len(found), "search": search})
            rows = [Image.from_wire(row) for row in answer.get("data", [])]
            found += rows
            if not rows or len(found) >= int(answer.get("totalCount") or 0):
                return found

    async def get(self, name: str, tag: str = "latest", owner: str | None = None) -> Image:
        """One image. Raises NotFound."""
        api = await self._transport.api()
        path = f"/images/{owner}/{name}/{tag}" if owner else f"/images/{name}/{tag}"
        return Image.from_wire(await api.get(path))

    async def aclose(self) -> None:
        """End all connections; the client can be used again."""
        await self._transport.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()
