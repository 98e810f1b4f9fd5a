"""The runner's routes for a sandbox's files; contents raw, folders as tar archives."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import ExitStack, contextmanager

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from prime_hub.runner.fields import BadRequest, query_integer
from prime_hub.runner.runtimes.base import Files
from prime_hub.runner.supervisor import Sandboxes
from prime_hub.streaming import Stream

TAR = "application/x-tar"
MAX_MODE = 0o7777


class FileRoutes:
    """The handlers."""

    def __init__(self, sandboxes: Sandboxes) -> None:
        self._sandboxes = sandboxes

    @contextmanager
    def _files(self, request: Request) -> Generator[Files]:
        with self._sandboxes.held(request.path_params["id"]) as running:
            yield running.files

    async def stat(self, request: Request) -> Response:
        with self._files(request) as files:
            return JSONResponse((await files.stat(_path(request))).as_dict())

    async def entries(self, request: Request) -> Response:
        with self._files(request) as files:
            found = await files.entries(_path(request))
        return JSONResponse({"entries": [entry.as_dict() for entry in found]})

    async def make_folder(self, request: Request) -> Response:
        with self._files(request) as files:
            await files.make_folder(_path(request))
        return JSONResponse({})

    async def remove(self, request: Request) -> Response:
        with self._files(request) as files:
            await files.remove(_path(request))
        return JSONResponse({})

    async def put(self, request: Request) -> Response:
        path, mode = _path(request), _mode(request)
        with self._files(request) as files:
            size = await files.write(path, request.stream(), mode)
        return JSONResponse({"path": path, "size": size})

    async def get(self, request: Request) -> Response:
        length = query_integer(request, "length", 0) if "length" in request.query_params else None
        offset = query_integer(request, "offset", 0, negative=True)
        with ExitStack() as using:
            files = using.enter_context(self._files(request))
            part = await files.read(_path(request), offset, length)
            headers = {
                "Content-Length": str(part.length),
                "X-File-Size": str(part.size),
                "X-File-Offset": str(part.start),
            }
            return Stream(part.chunks, headers=headers, finish=using.pop_all().close)

    async def pack(self, request: Request) -> Response:
        with ExitStack() as using:
            files = using.enter_context(self._files(request))
            chunks = await files.pack(_path(request))
            return Stream(chunks, media_type=TAR, finish=using.pop_all().close)

    async def unpack(self, request: Request) -> Response:
        with self._files(request) as files:
            await files.unpack(_path(request), request.stream())
        return JSONResponse({})

    def routes(self) -> list[Route]:
        """Beneath one sandbox."""
        files = "/sandboxes/{id}/files"
        return [
            Route(files, self.get, methods=["GET"]),
            Route(files, self.put, methods=["PUT"]),
            Route(files, self.remove, methods=["DELETE"]),
            Route(f"{files}/stat", self.stat, methods=["GET"]),
            Route(f"{files}/entries", self.entries, methods=["GET"]),
            Route(f"{files}/folder", self.make_folder, methods=["POST"]),
            Route(f"{files}/tree", self.pack, methods=["GET"]),
            Route(f"{files}/tree", self.unpack, methods=["PUT"]),
        ]


def _path(request: Request) -> str:
    path = request.query_params.get("path", "")
    if not path or "\0" in path:
        raise BadRequest("path is missing.")
    return path


def _mode(request: Request) -> int | None:
    """`?mode=755`, the permission bits in octal."""
    given = request.query_params.get("mode")
    if given is None:
        return None
    try:
        mode = int(given, 8)
    except ValueError:
        mode = -1
    if not 0 <= mode <= MAX_MODE:
        raise BadRequest("mode must be an octal number of permission bits, such as 644.")
    return mode
