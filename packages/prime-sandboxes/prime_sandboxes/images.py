"""AsyncImageClient: build images on a Hub, and list them (protocols/hub.md §4)."""

from __future__ import annotations

import builtins
import contextlib
import tempfile
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from prime_core.context import context_digest, write_context
from prime_core.errors import APIError, NotFound
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
    """Images of a Hub, for one event loop. An async context manager. Every call raises APIError and its kinds.

    `team_id` is the team, by id or name, that a call is about; None: the one of the configuration in force, `""`: the
    account itself.
    """

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
        visibility: str | None = None,
        team_id: str | None = None,
    ) -> ImageBuild:
        """Build `name:tag` from a folder on the Hub and wait for the end; `on_log` gets the log's text as it grows.

        Nothing is sent when the Hub has an image of the same files, unless `no_cache`. A build that fails is an
        answer, not an exception. When the call is cancelled, so is the build. `visibility` is PUBLIC or PRIVATE; an image
        of that name keeps its own without it. Raises ProjectError for the folder, APIError and its kinds.
        """
        begun = await self.start_build(name, tag, context, dockerfile, no_cache, build_args, port, visibility, team_id)
        if begun.cached or begun.id is None:
            return begun
        return replace(await self.wait_for_build(begun.id, on_log, cancel=True), image=begun.image)

    async def start_build(
        self,
        name: str,
        tag: str,
        context: Path,
        dockerfile: str = "Dockerfile",
        no_cache: bool = False,
        build_args: dict[str, str] | None = None,
        port: int | None = None,
        visibility: str | None = None,
        team_id: str | None = None,
    ) -> ImageBuild:
        """Send a folder and begin the build of `name:tag`, without waiting for it; as `build` otherwise."""
        import asyncio

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
            "visibility": visibility,
            "team_id": await self._transport.team(team_id),
        }
        begun = await api.post("/images/build", {key: value for key, value in body.items() if value is not None})
        build_id = str(begun.get("build_id") or begun.get("id"))
        if not begun.get("cached"):
            async with self._cancelled_with(build_id):
                await self._send(str(begun["upload_url"]), context, dockerfile)
                await api.post(f"/images/build/{build_id}/start", {"context_uploaded": True})
        return _build(begun, build_id, f"{name}:{tag}")

    async def start_copy(
        self,
        source: str,
        name: str | None = None,
        tag: str = "latest",
        visibility: str | None = None,
        team_id: str | None = None,
    ) -> ImageBuild:
        """Begin to fetch an image from a registry, under a name of one's own or its own; wait with `wait_for_build`.

        Raises APIError where the Hub's runtime takes none from registries, or not from that one.
        """
        api = await self._transport.api()
        body = {
            "source_image": source,
            "image_name": name,
            "image_tag": tag if name else None,
            "visibility": visibility,
            "team_id": await self._transport.team(team_id),
        }
        begun = await api.post("/images/build", {key: value for key, value in body.items() if value is not None})
        return _build(begun, str(begun.get("build_id")), source)

    async def get_build(self, build_id: str, wait: float = 0.0) -> ImageBuild:
        """How a build stands; with `wait`, held for so many seconds (at most 25) until that changes. Raises NotFound."""
        api = await self._transport.api()
        params = {"wait": f"{wait:g}"} if wait > 0 else None
        return _build(await api.get(f"/images/build/{build_id}", params, timeout=wait + 30), build_id)

    async def wait_for_build(
        self, build_id: str, on_log: Callable[[str], object] | None = None, cancel: bool = False
    ) -> ImageBuild:
        """How a build ended, once it has; `on_log` gets the log's text as it grows, from its beginning.

        With `cancel`, the build is cancelled when this call is. Raises NotFound.
        """
        async with self._cancelled_with(build_id if cancel else None):
            offset = 0
            hold = HOLD_SECONDS if on_log is None else LOG_SECONDS
            while True:
                build = await self.get_build(build_id, hold)
                if on_log is not None:
                    offset = await self._read_log(build_id, offset, on_log)
                if build.status not in UNFINISHED:
                    return build

    @contextlib.asynccontextmanager
    async def _cancelled_with(self, build_id: str | None) -> AsyncGenerator[None]:
        import asyncio

        try:
            yield
        except asyncio.CancelledError:
            # Nobody waits for it any more, and an abandoned build must not become the newest image of its name.
            if build_id is not None:
                with contextlib.suppress(Exception):
                    await asyncio.wait_for(self.cancel(build_id), CANCEL_SECONDS)
            raise

    async def build_log(self, build_id: str) -> str:
        """The log of a build, so far. Raises NotFound."""
        parts: builtins.list[str] = []
        await self._read_log(build_id, 0, parts.append)
        return "".join(parts)

    async def cancel(self, build_id: str) -> None:
        """Cancel a build; one that has ended stays as it is. Raises NotFound."""
        api = await self._transport.api()
        await api.post(f"/images/build/{build_id}/cancel", {})

    async def _send(self, upload_url: str, context: Path, dockerfile: str) -> None:
        import asyncio

        api = await self._transport.api()
        with tempfile.TemporaryDirectory(prefix="prime-context-") as scratch:
            archive = Path(scratch) / "context.tar.gz"
            await asyncio.to_thread(write_context, context, dockerfile, archive)
            await api.upload(upload_url, archive)

    async def _read_log(self, build_id: str, offset: int, on_log: Callable[[str], object]) -> int:
        api = await self._transport.api()
        while True:
            part = await api.get(f"/images/build/{build_id}/logs", {"offset": offset})
            text = str(part.get("text") or "")
            if not text:
                return offset
            on_log(text)
            offset = int(part.get("offset") or offset + len(text.encode()))

    async def list(self, search: str | None = None, team_id: str | None = None) -> builtins.list[Image]:
        """The images of the account or the team, and builds that have not become one."""
        api = await self._transport.api()
        team = await self._transport.team(team_id)
        found: list[Image] = []
        while True:
            params = {"limit": PAGE, "offset": len(found), "search": search, "teamId": team}
            answer = await api.get("/images", params)
            rows = [Image.from_wire(row) for row in answer.get("data", [])]
            found += rows
            if not rows or len(found) >= int(answer.get("totalCount") or 0):
                return found

    async def get(self, name: str, tag: str = "latest", owner: str | None = None, team_id: str | None = None) -> Image:
        """One image. Raises NotFound."""
        api = await self._transport.api()
        if owner:
            return Image.from_wire(await api.get(f"/images/{owner}/{name}/{tag}"))
        return Image.from_wire(await api.get(f"/images/{name}/{tag}", {"teamId": await self._transport.team(team_id)}))

    async def delete(self, reference: str, team_id: str | None = None) -> None:
        """Delete an image: `name:tag`, or with its owner as `list` shows it. Raises NotFound, Forbidden, and Conflict while
        something needs it.
        """
        api = await self._transport.api()
        repository, tag = split_reference(reference)
        team = None if "/" in repository else await self._transport.team(team_id)
        await api.request("DELETE", f"/images/{repository}/{tag}", params={"teamId": team})

    async def set_visibility(self, reference: str, visibility: str, team_id: str | None = None) -> None:
        """Let everybody (PUBLIC) or only its owner (PRIVATE) run an image. Raises NotFound, APIError."""
        await self._change(reference, {"visibility": visibility}, team_id)

    async def transfer(self, reference: str, to_team: str | None, team_id: str | None = None) -> None:
        """Give an image to a team of the account's, by id or name, or with None to the account itself; it has that owner's
        name from then on. Raises NotFound, APIError.
        """
        owner = {"type": "team", "teamId": to_team} if to_team else {"type": "personal"}
        await self._change(reference, {"owner": owner}, team_id)

    async def _change(self, reference: str, wanted: dict[str, Any], team_id: str | None) -> None:
        api = await self._transport.api()
        repository, tag = split_reference(reference)
        source: dict[str, Any] = {"reference": reference}
        if "/" not in repository:
            team = await self._transport.team(team_id)
            owner = {"type": "team", "teamId": team} if team else {"type": "personal"}
            source = {"owner": owner, "name": repository, "tag": tag}
        update = {"source": source, "set": wanted}
        answer = await api.patch("/images", {"mode": "explicit", "dryRun": False, "updates": [update]})
        for result in answer.get("results", []):
            failure = result.get("error") or {}
            if not result.get("success"):
                words = str(failure.get("message") or f"The image {reference} was not changed.")
                if failure.get("code") in ("NOT_FOUND", "IMAGE_NOT_FOUND"):
                    raise NotFound(words, 404, words)
                raise APIError(words)

    async def aclose(self) -> None:
        """End all connections; the client can be used again."""
        await self._transport.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


def split_reference(reference: str) -> tuple[str, str]:
    """`owner/name:tag` as (`owner/name`, `tag`); the tag is `latest` where there is none."""
    folder, slash, last = reference.strip().rpartition("/")
    name, _, tag = last.partition(":")
    return f"{folder}{slash}{name}", tag or "latest"


def _build(answer: Mapping[str, Any], build_id: str, name: str = "") -> ImageBuild:
    return ImageBuild(
        status=str(answer.get("status") or "COMPLETED"),
        image=str(answer.get("fullImagePath") or name),
        digest=answer.get("imageDigest"),
        error=answer.get("errorMessage"),
        id=build_id,
        cached=bool(answer.get("cached")),
    )
