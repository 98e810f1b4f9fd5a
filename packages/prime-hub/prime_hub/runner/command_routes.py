"""The runner's routes for commands in sandboxes; the stream of one is described in `prime_hub.frames`."""

from __future__ import annotations

import asyncio
import signal

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from prime_hub import frames
from prime_hub.disconnects import while_connected
from prime_hub.runner.fields import BadRequest, Fields
from prime_hub.runner.held_commands import CommandRequest, HeldCommand, HeldCommands, Watcher
from prime_hub.runner.output import REST_SECONDS, Kept
from prime_hub.runner.records import NAME
from prime_hub.runner.refusals import TooLarge, refusal
from prime_hub.runner.runtimes.values import CommandSpec
from prime_hub.runner.supervisor import Sandboxes
from prime_hub.streaming import Stream

EXEC_SECONDS = 300.0
MAX_LINGER_SECONDS = 24 * 3600.0
MAX_INPUT_BYTES = 16 << 20
MAX_SIDE = 10_000


class CommandRoutes:
    """The handlers."""

    def __init__(self, sandboxes: Sandboxes, held: HeldCommands) -> None:
        self._sandboxes = sandboxes
        self._held = held

    async def start(self, request: Request) -> Response:
        fields = await Fields.read(request)
        sandbox_id = request.path_params["id"]
        running = self._sandboxes.usable(sandbox_id).running
        assert running is not None
        wanted = CommandRequest(
            _spec(fields),
            None if fields.get("key") is None else fields.name("key"),
            fields.positive("timeout"),
            min(fields.positive("linger") or 0.0, MAX_LINGER_SECONDS) if fields.get("linger") else 0.0,
        )
        return await _watched(*self._held.start(sandbox_id, running, wanted))

    async def list_all(self, request: Request) -> Response:
        self._sandboxes.usable(request.path_params["id"])
        return JSONResponse({"commands": [held.about() for held in self._held.all(request.path_params["id"])]})

    def _of(self, request: Request) -> HeldCommand:
        self._sandboxes.usable(request.path_params["id"])
        return self._held.get(request.path_params["id"], request.path_params["key"])

    async def attach(self, request: Request) -> Response:
        held = self._of(request)
        return await _watched(held, held.watch())

    async def write(self, request: Request) -> Response:
        held = self._of(request)
        eof = request.query_params.get("eof", "0") == "1"
        name = _name(request)
        if name is None:
            command = await held.command()
            async for chunk in request.stream():
                for start in range(0, len(chunk), MAX_INPUT_BYTES):
                    await command.write(chunk[start : start + MAX_INPUT_BYTES])
            if eof:
                await command.close_stdin()
            return JSONResponse({})
        data = await _bounded(request)

        async def give() -> None:
            command = await held.command()
            with self._held.room_for_input(len(data)):
                if data:
                    await command.write(data)
                if eof:
                    await command.close_stdin()

        await while_connected(request, held.once(f"input {name}", give))
        return JSONResponse({})

    async def send_signal(self, request: Request) -> Response:
        held = self._of(request)
        fields = await Fields.read(request)
        try:
            number = signal.Signals(fields.integer("signal") or 0)
        except ValueError:
            raise BadRequest(f"{fields.get('signal')} is not the number of a signal.") from None

        async def send() -> None:
            await (await held.command()).send_signal(number)

        name = _name(request)
        await held.once(None if name is None else f"signal {name}", send)
        return JSONResponse({})

    async def resize(self, request: Request) -> Response:
        held = self._of(request)
        fields = await Fields.read(request)
        rows, columns = _size([fields.get("rows"), fields.get("columns")])
        await (await held.command()).resize(rows, columns)
        return JSONResponse({})

    async def kill(self, request: Request) -> Response:
        held = self._of(request)
        held.stop("cancelled", "The command was killed on request.")
        if held.task is not None:
            await asyncio.shield(held.task)
        return JSONResponse({**held.about(), "end": held.end})

    async def execute(self, request: Request) -> Response:
        fields = await Fields.read(request)
        sandbox_id = request.path_params["id"]
        running = self._sandboxes.usable(sandbox_id).running
        assert running is not None
        command = CommandSpec.shell(
            fields.string("command"),
            working_dir=fields.string("working_dir", "") or None,
            env=fields.strings("env"),
            user=fields.string("user", "") or None,
        )
        wanted = CommandRequest(command, seconds=fields.positive("timeout") or EXEC_SECONDS)
        # Who asked may have gone, and then nobody wants what the command would still do.
        return await while_connected(request, _captured(*self._held.start(sandbox_id, running, wanted)))

    def routes(self) -> list[Route]:
        """Beneath one sandbox."""
        box = "/sandboxes/{id}"
        one = f"{box}/commands/{{key}}"
        return [
            Route(f"{box}/exec", self.execute, methods=["POST"]),
            Route(f"{box}/commands", self.list_all, methods=["GET"]),
            Route(f"{box}/commands", self.start, methods=["POST"]),
            Route(one, self.attach, methods=["GET"]),
            Route(one, self.kill, methods=["DELETE"]),
            Route(f"{one}/stdin", self.write, methods=["POST"]),
            Route(f"{one}/signal", self.send_signal, methods=["POST"]),
            Route(f"{one}/resize", self.resize, methods=["POST"]),
        ]


async def _watched(held: HeldCommand, watcher: Watcher) -> Response:
    """The stream of a command that has started. Raises what its start raises."""
    try:
        await held.started()
    except BaseException:
        held.leave(watcher)
        raise
    return Stream(watcher.stream(), finish=lambda: held.leave(watcher), media_type=frames.MEDIA_TYPE)


async def _captured(held: HeldCommand, watcher: Watcher) -> Response:
    """The whole output of a command, once it has ended."""
    kept = {frames.OUT: Kept(), frames.ERR: Kept()}
    try:
        await held.started()
        while items := await watcher.take():
            for kind, payload in items:
                if kind in kept:
                    kept[kind].take(payload)
            if any(one.cut for one in kept.values()):
                # Nobody will see it: endless output costs its writer time, and this program little.
                await asyncio.sleep(REST_SECONDS)
    finally:
        held.leave(watcher)
        if held.task is not None:
            await asyncio.shield(held.task)
    assert held.end is not None
    if (error := held.end.get("error")) is not None:
        status = {"command_timeout": 408, "sandbox_terminated": 410, "cancelled": 409}.get(error, 500)
        return refusal(status, error, held.end["detail"])
    shown = {"stdout": kept[frames.OUT].text(), "stderr": kept[frames.ERR].text()}
    return JSONResponse({**shown, "exit_code": held.end["exit_code"]})


def _spec(fields: Fields) -> CommandSpec:
    argv = fields.words("argv")
    if not argv or not argv[0]:
        raise BadRequest("argv must be a list of strings, the program first.")
    pty = fields.get("pty")
    return CommandSpec(
        tuple(argv),
        working_dir=fields.string("working_dir", "") or None,
        env=fields.strings("env"),
        user=fields.string("user", "") or None,
        stdin=bool(fields.get("stdin")),
        pty=None if pty is None else _size(pty),
    )


def _size(given: object) -> tuple[int, int]:
    if not isinstance(given, list) or len(given) != 2:
        raise BadRequest("The size of a terminal is two numbers, its rows and its columns.")
    for side in given:
        if not isinstance(side, int) or isinstance(side, bool) or not 0 < side <= MAX_SIDE:
            raise BadRequest(f"The rows and columns of a terminal are whole numbers between 1 and {MAX_SIDE}.")
    return given[0], given[1]


def _name(request: Request) -> str | None:
    """`?id=NAME`, by which what is sent twice is done once."""
    name = request.query_params.get("id")
    if name is not None and not NAME.fullmatch(name):
        raise BadRequest("id must be letters, digits, '_', '.' and '-' only, 100 at most.")
    return name


async def _bounded(request: Request) -> bytes:
    data = bytearray()
    async for chunk in request.stream():
        data += chunk
        if len(data) > MAX_INPUT_BYTES:
            raise TooLarge(f"Input with an id is at most {MAX_INPUT_BYTES} bytes; send it in parts.")
    return bytes(data)
