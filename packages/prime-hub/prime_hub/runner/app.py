"""The runner's HTTP routes, spoken over its unix socket by the Hub of the same machine; JSON unless said otherwise.

Refusals: 400 bad_request, 404 sandbox_not_found | build_not_found | image_not_found | file_not_found, 408
command_timeout, 409 not_now | image_in_use, 410 sandbox_terminated, 422 exec_failed | refused for what the sandbox, the
runtime or the system refuses, 500 failed, 507 disk. Body: `{"error": WORD, "detail": SENTENCE}`.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import AsyncIterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from prime_hub.disconnects import while_connected
from prime_hub.runner import machine
from prime_hub.runner.builds import Builds, UnknownBuild
from prime_hub.runner.fields import BadRequest, Fields, seconds_to_wait
from prime_hub.runner.runtimes.base import (
    BuildRequest,
    ExecError,
    FileMissing,
    ImageInUse,
    ImageMissing,
    RunnerError,
    Runtime,
    SandboxSpec,
)
from prime_hub.runner.supervisor import EndedSandbox, Sandboxes, UnknownSandbox

if TYPE_CHECKING:
    from prime_hub.runner.presence import Presence

EXEC_SECONDS = 300.0
LOG_TAIL_BYTES = 65536
CHUNK_BYTES = 1 << 18


class Routes:
    """The handlers, over the parts that do the work."""

    def __init__(self, runtime: Runtime, sandboxes: Sandboxes, builds: Builds, presence: Presence) -> None:
        self._runtime = runtime
        self._sandboxes = sandboxes
        self._builds = builds
        self._presence = presence

    async def info(self, request: Request) -> Response:
        return JSONResponse(
            {
                "runner_id": self._presence.runner_id,
                "host": socket.gethostname(),
                "pid": os.getpid(),
                "runtime": self._runtime.name,
                "isolating": self._runtime.isolating,
                "not_enforced": self._runtime.not_enforced(),
                "sandboxes": self._sandboxes.live_count(),
                "builds": self._builds.running_count(),
            }
        )

    async def capacity(self, request: Request) -> Response:
        found = await asyncio.to_thread(machine.capacity)
        return JSONResponse({**asdict(found), "sandboxes": self._sandboxes.live_count()})

    async def attach(self, request: Request) -> Response:
        fields = await Fields.read(request)
        self._presence.attach(fields.integer("hub_pid", required=False))
        return JSONResponse({"runner_id": self._presence.runner_id})

    async def detach(self, request: Request) -> Response:
        self._presence.detach()
        return JSONResponse({})

    async def create_build(self, request: Request) -> Response:
        fields = await Fields.read(request)
        build = BuildRequest(
            fields.name("id"),
            Path(fields.string("context")),
            fields.string("dockerfile", "Dockerfile"),
            fields.strings("build_args"),
            bool(fields.get("no_cache")),
        )
        if not build.context.is_file():
            raise BadRequest(f"There is no build context at {build.context}.")
        return JSONResponse(self._builds.create(build).state(), 202)

    async def get_build(self, request: Request) -> Response:
        job = await self._builds.wait(request.path_params["id"], seconds_to_wait(request))
        return JSONResponse(job.state())

    async def build_log(self, request: Request) -> Response:
        offset = _query_integer(request, "offset", 0)
        job = await self._builds.wait_log(request.path_params["id"], offset, seconds_to_wait(request))
        text, end, complete = job.read_log(offset)
        return JSONResponse({"text": text, "offset": end, "complete": complete})

    async def cancel_build(self, request: Request) -> Response:
        return JSONResponse((await self._builds.cancel(request.path_params["id"])).state())

    async def list_images(self, request: Request) -> Response:
        images = await asyncio.to_thread(self._runtime.images)
        return JSONResponse({"images": [image.as_dict() for image in images]})

    async def delete_image(self, request: Request) -> Response:
        image = self._runtime.image(request.path_params["digest"])
        if users := self._sandboxes.users_of(image.digest):
            raise ImageInUse(
                f"The image is in use by {len(users)} running sandbox(es), {users[0]} first; delete them first."
            )
        await self._runtime.delete_image(image.digest)
        return JSONResponse({})

    async def create_sandbox(self, request: Request) -> Response:
        fields = await Fields.read(request)
        digest = self._runtime.image(fields.string("digest")).digest
        spec = SandboxSpec(
            fields.name("id"),
            digest,
            fields.command("start_command"),
            fields.strings("env"),
            fields.integer("port", required=False),
        )
        record = self._sandboxes.create(
            spec,
            lease_seconds=fields.positive("lease_seconds"),
            expires_at=fields.positive("expires_at"),
            idle_seconds=fields.positive("idle_seconds"),
        )
        return JSONResponse(record.state(), 201)

    async def list_sandboxes(self, request: Request) -> Response:
        return JSONResponse({"sandboxes": [record.state() for record in self._sandboxes.all()]})

    async def get_sandbox(self, request: Request) -> Response:
        record = await self._sandboxes.wait_started(request.path_params["id"], seconds_to_wait(request))
        return JSONResponse(record.state())

    async def delete_sandbox(self, request: Request) -> Response:
        return JSONResponse((await self._sandboxes.delete(request.path_params["id"])).state())

    async def renew(self, request: Request) -> Response:
        fields = await Fields.read(request)
        seconds = fields.positive("lease_seconds")
        if seconds is None:
            raise BadRequest("lease_seconds is missing.")
        return JSONResponse(self._sandboxes.renew(request.path_params["id"], seconds).state())

    async def logs(self, request: Request) -> Response:
        tail = _query_integer(request, "tail", LOG_TAIL_BYTES)
        data = await asyncio.to_thread(self._sandboxes.logs, request.path_params["id"], tail)
        return JSONResponse({"logs": data.decode("utf-8", "replace")})

    async def expose(self, request: Request) -> Response:
        fields = await Fields.read(request)
        running = self._sandboxes.usable(request.path_params["id"]).running
        assert running is not None
        found = await running.expose(fields.integer("port") or 0)
        unix_socket = None if found.unix_socket is None else str(found.unix_socket)
        return JSONResponse({"host": found.host, "port": found.port, "unix_socket": unix_socket})

    async def listen(self, request: Request) -> Response:
        running = self._sandboxes.usable(request.path_params["id"]).running
        assert running is not None
        found = await running.listening()
        addresses = [{"host": item.host, "port": item.port, "host_port": item.host_port} for item in found]
        return JSONResponse({"addresses": addresses, "host_rewritten": running.host_rewritten})

    async def usage(self, request: Request) -> Response:
        running = self._sandboxes.usable(request.path_params["id"]).running
        assert running is not None
        return JSONResponse(asdict(await running.usage()))

    async def execute(self, request: Request) -> Response:
        fields = await Fields.read(request)
        running = self._sandboxes.usable(request.path_params["id"]).running
        assert running is not None
        seconds = fields.positive("timeout") or EXEC_SECONDS
        work = running.execute(
            fields.string("command"),
            working_dir=fields.string("working_dir", "") or None,
            env=fields.strings("env"),
            seconds=seconds,
        )
        try:
            # Who asked may have gone, and then nobody wants what the command would still do.
            result = await while_connected(request, work)
        except TimeoutError:
            return _refusal(
                408, "command_timeout", f"The command did not end within {seconds:g} seconds and was killed."
            )
        return JSONResponse({"stdout": result.stdout, "stderr": result.stderr, "exit_code": result.exit_code})

    async def put_file(self, request: Request) -> Response:
        running = self._sandboxes.usable(request.path_params["id"]).running
        assert running is not None
        size = await running.write_file(_path(request), request.stream())
        return JSONResponse({"path": _path(request), "size": size})

    async def get_file(self, request: Request) -> Response:
        running = self._sandboxes.usable(request.path_params["id"]).running
        assert running is not None
        path = running.read_file(_path(request))
        size = path.stat().st_size
        start = _query_integer(request, "offset", 0, negative=True)
        start = max(0, size + start) if start < 0 else min(start, size)
        length = min(_query_integer(request, "length", size), size - start)
        headers = {"Content-Length": str(length), "X-File-Size": str(size), "X-File-Offset": str(start)}
        return StreamingResponse(_content(path, start, length), headers=headers, media_type="application/octet-stream")

    def routes(self) -> list[Route]:
        """The whole wire."""
        box = "/sandboxes/{id}"
        return [
            Route("/info", self.info),
            Route("/capacity", self.capacity),
            Route("/attach", self.attach, methods=["POST"]),
            Route("/detach", self.detach, methods=["POST"]),
            Route("/builds", self.create_build, methods=["POST"]),
            Route("/builds/{id}", self.get_build, methods=["GET"]),
            Route("/builds/{id}", self.cancel_build, methods=["DELETE"]),
            Route("/builds/{id}/log", self.build_log),
            Route("/images", self.list_images),
            Route("/images/{digest}", self.delete_image, methods=["DELETE"]),
            Route("/sandboxes", self.list_sandboxes, methods=["GET"]),
            Route("/sandboxes", self.create_sandbox, methods=["POST"]),
            Route(box, self.get_sandbox, methods=["GET"]),
            Route(box, self.delete_sandbox, methods=["DELETE"]),
            Route(f"{box}/lease", self.renew, methods=["POST"]),
            Route(f"{box}/logs", self.logs),
            Route(f"{box}/expose", self.expose, methods=["POST"]),
            Route(f"{box}/listen", self.listen),
            Route(f"{box}/usage", self.usage),
            Route(f"{box}/exec", self.execute, methods=["POST"]),
            Route(f"{box}/files", self.put_file, methods=["PUT"]),
            Route(f"{box}/files", self.get_file, methods=["GET"]),
        ]


async def _content(path: Path, start: int, length: int) -> AsyncIterator[bytes]:
    with path.open("rb") as file:
        file.seek(start)
        while length > 0 and (chunk := await asyncio.to_thread(file.read, min(CHUNK_BYTES, length))):
            length -= len(chunk)
            yield chunk


def _path(request: Request) -> str:
    path = request.query_params.get("path", "")
    if not path or "\0" in path:
        raise BadRequest("path is missing.")
    return path


def _query_integer(request: Request, name: str, default: int, *, negative: bool = False) -> int:
    try:
        value = int(request.query_params.get(name, default))
    except ValueError:
        raise BadRequest(f"{name} must be a whole number.") from None
    if value < 0 and not negative:
        raise BadRequest(f"{name} must not be negative.")
    return value


def _refusal(status: int, error: str, detail: str) -> JSONResponse:
    return JSONResponse({"error": error, "detail": detail}, status)


_KINDS: dict[Any, tuple[int, str]] = {
    BadRequest: (400, "bad_request"),
    UnknownSandbox: (404, "sandbox_not_found"),
    UnknownBuild: (404, "build_not_found"),
    ImageMissing: (404, "image_not_found"),
    FileMissing: (404, "file_not_found"),
    ImageInUse: (409, "image_in_use"),
    EndedSandbox: (410, "sandbox_terminated"),
    ExecError: (422, "exec_failed"),
    RunnerError: (409, "not_now"),
}


_DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_ASKED_WRONGLY = frozenset(
    {errno.E2BIG, errno.ENAMETOOLONG, errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ELOOP}
    | {errno.EACCES, errno.EPERM}
)


def _of_the_system(error: OSError) -> Response:
    # Without the path: it is this machine's, and the one that was asked for is known to who asked.
    why = error.strerror or type(error).__name__
    if error.errno in _DISK_FULL:
        return _refusal(507, "disk", f"The sandbox's machine has no space left for it ({why}); free some, try again.")
    if error.errno in _ASKED_WRONGLY:
        return _refusal(422, "refused", f"The sandbox's machine refused it: {why}.")
    return _refusal(500, "failed", f"The sandbox's machine failed on it: {why}.")


async def _on_error(request: Request, error: Exception) -> Response:
    if isinstance(error, OSError):
        return _of_the_system(error)
    status, word = next(found for kind in type(error).__mro__ if (found := _KINDS.get(kind)))
    return _refusal(status, word, str(error))


def create_app(runtime: Runtime, sandboxes: Sandboxes, builds: Builds, presence: Presence) -> Starlette:
    """The ASGI application of one runner."""
    routes = Routes(runtime, sandboxes, builds, presence).routes()
    return Starlette(routes=routes, exception_handlers=dict.fromkeys([*_KINDS, OSError], _on_error))
