"""The runner's HTTP routes, spoken over its unix socket by the Hub of the same machine; JSON unless said otherwise.

What is refused, and how: `refusals`. Commands and files have a module each.
"""

from __future__ import annotations

import asyncio
import os
import socket
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from prime_hub.disconnects import while_connected
from prime_hub.operations.request_ids import RequestIds
from prime_hub.runner import machine
from prime_hub.runner.builds import Builds
from prime_hub.runner.command_routes import CommandRoutes
from prime_hub.runner.fields import BadRequest, Fields, query_integer, seconds_to_wait
from prime_hub.runner.file_routes import FileRoutes
from prime_hub.runner.following import follow
from prime_hub.runner.held_commands import HeldCommands
from prime_hub.runner.image_routes import ImageRoutes
from prime_hub.runner.refusals import handlers
from prime_hub.runner.runtimes.base import ImageInUse, Runtime
from prime_hub.runner.runtimes.values import BuildRequest, Egress, Limits, SandboxSpec
from prime_hub.runner.supervisor import Sandboxes

if TYPE_CHECKING:
    from prime_hub.runner.presence import Presence

LOG_TAIL_BYTES = 65536


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
                "isolates_builds": self._runtime.isolates_builds,
                "images_kind": self._runtime.images_kind,
                "enforces": sorted(self._runtime.enforces),
                "not_enforced": self._runtime.not_enforced(),
                "sandboxes": self._sandboxes.live_count(),
                "builds": self._builds.running_count(),
                "machine": await self._machine(),
            }
        )

    async def _machine(self) -> dict[str, float | None]:
        """What one sandbox can be given at most, looked at again each time: a quota or a disk may grow."""
        found = await asyncio.to_thread(machine.capacity)
        disk = await asyncio.to_thread(machine.disk_bytes, self._runtime.setup.folder)
        return {"cpus": found.cpus, "memory_bytes": found.memory_bytes, "disk_bytes": disk}

    async def capacity(self, request: Request) -> Response:
        found = await asyncio.to_thread(machine.capacity)
        return JSONResponse({**asdict(found), "sandboxes": self._sandboxes.live_count()})

    async def attach(self, request: Request) -> Response:
        fields = await Fields.read(request)
        self._presence.attach(fields.integer("hub_pid", required=False))
        return JSONResponse({"runner_id": self._presence.runner_id})

    async def detach(self, request: Request) -> Response:
        fields = await Fields.read(request)
        self._presence.detach(fields.integer("hub_pid", required=False))
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
        offset = query_integer(request, "offset", 0)
        job = await self._builds.wait_log(request.path_params["id"], offset, seconds_to_wait(request))
        text, end, complete = job.read_log(offset)
        return JSONResponse({"text": text, "offset": end, "complete": complete})

    async def cancel_build(self, request: Request) -> Response:
        return JSONResponse((await self._builds.cancel(request.path_params["id"])).state())

    async def list_images(self, request: Request) -> Response:
        images = await self._runtime.images()
        return JSONResponse({"images": [image.as_dict() for image in images]})

    async def delete_image(self, request: Request) -> Response:
        image = await self._runtime.image(request.path_params["digest"])
        if users := self._sandboxes.users_of(image.digest):
            raise ImageInUse(
                f"The image is in use by {len(users)} running sandbox(es), {users[0]} first; delete them first."
            )
        await self._runtime.delete_image(image.digest)
        return JSONResponse({})

    async def create_sandbox(self, request: Request) -> Response:
        fields = await Fields.read(request)
        digest = (await self._runtime.image(fields.string("digest"))).digest
        spec = SandboxSpec(
            fields.name("id"),
            digest,
            fields.command("start_command"),
            fields.strings("env"),
            fields.integer("port", required=False),
            _limits(fields.object("limits")),
            _egress(fields.object("egress")),
        )
        record = self._sandboxes.create(
            spec,
            lease_seconds=fields.positive("lease_seconds"),
            expires_at=fields.positive("expires_at"),
            idle_seconds=fields.positive("idle_seconds"),
            spare=fields.get("spare") is True,
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

    async def assign(self, request: Request) -> Response:
        fields = await Fields.read(request)
        record = self._sandboxes.assign(
            request.path_params["id"],
            lease_seconds=fields.positive("lease_seconds"),
            expires_at=fields.positive("expires_at"),
            idle_seconds=fields.positive("idle_seconds"),
        )
        return JSONResponse(record.state())

    async def logs(self, request: Request) -> Response:
        if "offset" in request.query_params:
            return await self._log_part(request)
        tail = query_integer(request, "tail", LOG_TAIL_BYTES)
        data = await self._sandboxes.logs(request.path_params["id"], tail)
        return JSONResponse({"logs": data.decode("utf-8", "replace")})

    async def _log_part(self, request: Request) -> Response:
        offset = query_integer(request, "offset", 0, negative=True)
        record = self._sandboxes.get(request.path_params["id"])
        found = await while_connected(request, follow(record, offset, seconds_to_wait(request)))
        return JSONResponse(asdict(found))

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

    async def set_egress(self, request: Request) -> Response:
        egress = _egress(await Fields.read(request))
        await self._sandboxes.set_egress(request.path_params["id"], egress)
        return JSONResponse({"allow": egress.allow, "deny": egress.deny})

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
            Route(f"{box}/assign", self.assign, methods=["POST"]),
            Route(f"{box}/logs", self.logs),
            Route(f"{box}/expose", self.expose, methods=["POST"]),
            Route(f"{box}/listen", self.listen),
            Route(f"{box}/usage", self.usage),
            Route(f"{box}/egress", self.set_egress, methods=["POST"]),
        ]


def _limits(fields: Fields) -> Limits:
    sizes = [fields.integer(name, required=False) for name in ("memory_bytes", "pids", "disk_bytes")]
    return Limits(fields.positive("cpus"), *sizes)


def _egress(fields: Fields) -> Egress:
    return Egress(fields.words("allow"), fields.words("deny") or [])


def create_app(runtime: Runtime, sandboxes: Sandboxes, builds: Builds, presence: Presence) -> Starlette:
    """The ASGI application of one runner."""
    held = HeldCommands()
    sandboxes.before_end, sandboxes.in_use = held.end_all, held.in_use
    parts = [
        Routes(runtime, sandboxes, builds, presence),
        ImageRoutes(runtime),
        CommandRoutes(sandboxes, held),
        FileRoutes(sandboxes),
    ]
    routes = [route for part in parts for route in part.routes()]
    return Starlette(routes=routes, exception_handlers=handlers(), middleware=[Middleware(RequestIds)])
