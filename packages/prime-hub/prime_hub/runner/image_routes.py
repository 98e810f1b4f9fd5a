"""The runner's routes for registries: fetching an image, and pushing one, whose log is answered as it is written."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from prime_hub.disconnects import while_connected
from prime_hub.runner.fields import Fields
from prime_hub.runner.runtimes.base import RunnerError, Runtime
from prime_hub.streaming import Stream

PUBLISH_SECONDS = 20 * 60.0
MAX_REFERENCE = 512

log = logging.getLogger("prime_hub.runner")


class ImageRoutes:
    """The handlers."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    async def fetch(self, request: Request) -> Response:
        """`{"reference"}` → the image. Who asked and went away no longer wants it."""
        fields = await Fields.read(request)
        image = await while_connected(request, self._runtime.fetch(fields.string("reference")[:MAX_REFERENCE]))
        return JSONResponse(image.as_dict())

    async def publish(self, request: Request) -> Response:
        """`{"reference"}` → lines of JSON: `{"text"}` as it goes on, and `{"error", "detail"}` last when it failed."""
        fields = await Fields.read(request)
        image = await self._runtime.image(request.path_params["digest"])
        lines = self._publish(image.digest, fields.string("reference")[:MAX_REFERENCE])
        return Stream(lines, media_type="application/x-ndjson")

    async def _publish(self, digest: str, reference: str) -> AsyncIterator[bytes]:
        said: asyncio.Queue[str | None] = asyncio.Queue()

        async def work() -> None:
            try:
                async with asyncio.timeout(PUBLISH_SECONDS):
                    await self._runtime.publish(digest, reference, _Log(said))
            finally:
                said.put_nowait(None)

        working = asyncio.create_task(work())
        try:
            while (text := await said.get()) is not None:
                yield _line({"text": text})
            try:
                await working
            except TimeoutError:
                yield _line({"error": "timeout", "detail": f"it took longer than {PUBLISH_SECONDS / 60:g} minutes."})
            except RunnerError as error:
                yield _line({"error": error.kind.lower(), "detail": str(error)})
            except Exception as error:
                log.exception("pushing %s", digest)
                yield _line({"error": "failed", "detail": f"the runner failed on it ({type(error).__name__})."})
        finally:
            working.cancel()

    def routes(self) -> list[Route]:
        """This part of the wire."""
        return [
            Route("/images/fetch", self.fetch, methods=["POST"]),
            Route("/images/{digest}/publish", self.publish, methods=["POST"]),
        ]


class _Log:
    """A build log that is read at its other end."""

    def __init__(self, said: asyncio.Queue[str | None]) -> None:
        self._said = said

    def write(self, text: str) -> None:
        self._said.put_nowait(text)


def _line(content: dict[str, str]) -> bytes:
    return json.dumps(content).encode() + b"\n"
