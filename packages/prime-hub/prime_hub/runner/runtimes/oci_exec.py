"""Commands in a container, by the engine's exec.

The engine ends an exec when its pipes are closed, which the command's background children may hold open for hours. So
a few lines of shell run the command and say on both of its outputs when it has ended, after all it had written; they
also go into its folder, and tell whether it was started at all. A terminal needs none of it: it ends with its leader.
Images without a shell run the words as they are.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import secrets
import signal
from collections.abc import AsyncIterator, Awaitable
from typing import Any, Protocol

from prime_hub.runner import processes
from prime_hub.runner.children import wait_gone
from prime_hub.runner.runtimes.base import Command, ExecError
from prime_hub.runner.runtimes.oci_engine import Engine, EngineError, EngineGone
from prime_hub.runner.runtimes.oci_markers import Markers
from prime_hub.runner.runtimes.values import KILLED, STDOUT, CommandSpec

COMMAND_MARK = "PRIME_COMMAND_ID"
START_SECONDS = 60.0
AFTER_DEATH_SECONDS = 0.5
QUEUED = 16
CHUNK_BYTES = 65536
EARLY_BYTES = 4096
_BEGIN = """m=$1 d=$2 r=$3 c=$4; shift 4
say() { printf '\\036%s %s\\036' "$m" "$1" >&"$2"; }
if [ -n "$d" ] && ! cd -- "$d" 2>/dev/null; then say no-folder 2; exit 126; fi
if [ "$1" = /bin/bash ] && [ ! -x /bin/bash ]; then shift; set -- /bin/sh "$@"; fi
command -v "$1" >/dev/null 2>&1 || { say no-program 2; exit 127; }
"""
PLAIN = (
    _BEGIN
    + """trap : HUP INT QUIT TERM USR1 USR2 PIPE ALRM
exec 3>&2 2>/dev/null
say "start $$" 3; say "start $$" 1
(exec "$@" 2>&3 3>&-)
s=$?
say "end $s" 1; say "end $s" 3
exit "$s"
"""
)
TERMINAL = (
    _BEGIN
    + """stty rows "$r" cols "$c" 2>/dev/null
say "start $$" 1
exec "$@"
"""
)
# From inside, where this program may not signal the sandbox's processes itself.
KILL_INSIDE = """for p in /proc/[0-9]*; do
grep -qs "$1" "$p/environ" && kill "$2" "${p#/proc/}" 2>/dev/null; done; kill "$2" -- "-$3" 2>/dev/null; true"""
_NO_SHELL = re.compile(r"/bin/sh\W.*(no such file|not found)|(no such file|not found).*/bin/sh", re.I | re.S)


class Container(Protocol):
    """What a command needs to know of its sandbox."""

    engine: Engine
    container: str
    has_shell: bool
    """Until an attempt tells otherwise."""
    host_signals: bool
    """Whether this program may signal the sandbox's processes by their numbers on this host."""


async def start(box: Container, spec: CommandSpec, env: dict[str, str]) -> Command:
    """Start a command. Raises ExecError."""
    try:
        if box.has_shell:
            command = EngineCommand(box, spec)
            try:
                await command.start(env)
                return command
            except _NoShell:
                box.has_shell = False
        if spec.argv[0] in ("/bin/bash", "/bin/sh"):
            raise ExecError("The image has no shell; name a program of the image and its words instead.")
        command = EngineCommand(box, spec)
        await command.start(env)
        return command
    except EngineError as error:
        raise ExecError(_sentence(str(error), spec)) from None


class _NoShell(Exception):
    pass


class EngineCommand(Command):
    """One exec: a connection that carries both directions."""

    def __init__(self, box: Container, spec: CommandSpec) -> None:
        self._box = box
        self._engine = box.engine
        self._spec = spec
        self._mark = secrets.token_hex(8)
        self._wrapped = box.has_shell
        self._id = ""
        self._pid_inside = 0
        self._host_pid: int | None = None
        loop = asyncio.get_running_loop()
        self._exited: asyncio.Future[int] = loop.create_future()
        self._started: asyncio.Future[str] = loop.create_future()
        self._gone: asyncio.Future[None] = loop.create_future()
        self._queue: asyncio.Queue[tuple[int, bytes] | None] = asyncio.Queue(QUEUED)
        self._markers = Markers(self._mark)
        self._begun: set[int] = set()
        self._over: set[int] = set()
        self._writer: asyncio.StreamWriter | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._writing = asyncio.Lock()
        self._stdin_open = spec.stdin or spec.pty is not None
        self._early = b""
        self._closed = False

    @property
    def pid(self) -> int:
        return self._host_pid or self._pid_inside

    async def start(self, env: dict[str, str]) -> None:
        """Begin it, and return when it runs. Raises ExecError, EngineError, EngineGone."""
        spec = self._spec
        tty = spec.pty is not None
        made = await self._engine.json("POST", f"containers/{self._box.container}/exec", body=self._request(env))
        self._id = str(made["Id"])
        reader, self._writer = await self._engine.hijack(f"exec/{self._id}/start", {"Detach": False, "Tty": tty})
        self._tasks.append(asyncio.create_task(self._pump(reader, tty)))
        try:
            if self._wrapped:
                async with asyncio.timeout(START_SECONDS):
                    self._check(await asyncio.shield(self._started))
            self._tasks.append(asyncio.create_task(self._watch()))
            if spec.pty is not None:
                with contextlib.suppress(ExecError):
                    await self.resize(*spec.pty)
        except TimeoutError:
            await self.close()
            raise EngineGone(f"The {self._engine.name} engine did not start the command in time.") from None
        except BaseException:
            await asyncio.shield(self.close())
            raise

    def _request(self, env: dict[str, str]) -> dict[str, Any]:
        spec = self._spec
        words = list(spec.argv)
        if self._wrapped:
            script = PLAIN if spec.pty is None else TERMINAL
            rows, columns = spec.pty or (0, 0)
            words = ["/bin/sh", "-c", script, "sh", self._mark, spec.working_dir or "", str(rows), str(columns), *words]
        request: dict[str, Any] = {
            "AttachStdin": self._stdin_open,
            "AttachStdout": True,
            "AttachStderr": True,
            "Tty": spec.pty is not None,
            "Cmd": words,
            "Env": [f"{name}={value}" for name, value in {**env, COMMAND_MARK: self._mark}.items()],
        }
        if spec.user is not None:
            request["User"] = spec.user
        if spec.working_dir is not None and not self._wrapped:
            request["WorkingDir"] = spec.working_dir
        return request

    def _check(self, word: str) -> None:
        """What the first marker says, or what came in its place."""
        kind, _, rest = word.partition(" ")
        if kind == "start" and rest.isdigit():
            self._pid_inside = int(rest)
        elif kind == "no-folder":
            raise ExecError(f"The folder {self._spec.working_dir} does not exist in the sandbox.")
        elif kind == "no-program":
            raise ExecError(f"There is no program '{self._spec.argv[0]}' in the sandbox.")
        elif _NO_SHELL.search(word):
            raise _NoShell
        else:
            raise ExecError(_sentence(word, self._spec))

    async def _pump(self, reader: asyncio.StreamReader, tty: bool) -> None:
        """Carry its output into the queue, which is small: a command that nobody reads waits."""
        try:
            async for stream, data in _pieces(reader) if tty else _frames(reader):
                if await self._take(stream, data):
                    break
        except (OSError, EOFError):
            pass
        finally:
            if not self._started.done():
                self._started.set_result(self._early.decode("utf-8", "replace").strip() or "it ended at once")
        await self._queue.put(None)
        await self._settle()

    async def _take(self, stream: int, data: bytes) -> bool:
        """One piece; True when nothing more of it is the command's own."""
        for piece, word in self._markers.split(stream, data) if self._wrapped else [(data, None)]:
            if piece and (stream in self._begun or not self._wrapped):
                await self._queue.put((stream, piece))
            elif piece:
                # Not the command's: the engine tells here why it started none.
                self._early = (self._early + piece)[:EARLY_BYTES]
            if word is None:
                continue
            kind, _, rest = word.partition(" ")
            if kind == "end" and rest.isdigit():
                self._over.add(stream)
                if len(self._over) == 2:
                    self._exit(int(rest))
                    return True
                continue
            self._begun.add(stream)
            if not self._started.done():
                self._started.set_result(word)
        return False

    async def _settle(self) -> None:
        """After the last output: the exit code, from the engine where the command did not say it itself."""
        pause = 0.01
        while not self._exited.done():
            try:
                found = await self._engine.json("GET", f"exec/{self._id}/json")
            except (EngineError, EngineGone):
                return self._exit(KILLED)
            if not found.get("Running") and found.get("ExitCode") is not None:
                return self._exit(_status(int(found["ExitCode"])))
            await asyncio.sleep(pause)
            pause = min(pause * 2, 1.0)
        return None

    async def _watch(self) -> None:
        """See its process end even where its end is not said: it was killed, and others hold its pipes."""
        try:
            found = await self._engine.json("GET", f"exec/{self._id}/json")
        except (EngineError, EngineGone):
            return
        pid = int(found.get("Pid") or 0)
        if not found.get("Running") or pid <= 0 or not self._box.host_signals:
            return
        self._host_pid = pid
        await wait_gone(pid)
        await asyncio.sleep(AFTER_DEATH_SECONDS)
        await self._settle()
        if not self._gone.done():
            self._gone.set_result(None)

    def _exit(self, code: int) -> None:
        if not self._exited.done():
            self._exited.set_result(code)

    async def output(self) -> AsyncIterator[tuple[int, bytes]]:
        while (item := await self._next()) is not None:
            yield item

    async def _next(self) -> tuple[int, bytes] | None:
        """The next piece; None at the end, or once nothing more comes of a process that has gone."""
        if not self._queue.empty():
            return self._queue.get_nowait()
        coming = asyncio.ensure_future(self._queue.get())
        try:
            await asyncio.wait({coming, self._gone}, return_when=asyncio.FIRST_COMPLETED)
            if not coming.done():
                await asyncio.wait({coming}, timeout=AFTER_DEATH_SECONDS)
            return coming.result() if coming.done() else None
        finally:
            coming.cancel()

    async def wait(self) -> int:
        return await asyncio.shield(self._exited)

    async def write(self, data: bytes) -> None:
        async with self._writing:
            if not self._stdin_open or self._exited.done() or self._writer is None:
                raise ExecError("The command takes no input, or no longer.")
            await self._unless_exited(self._drain(data), "The command has ended and reads no more input.")

    async def _drain(self, data: bytes) -> None:
        assert self._writer is not None
        try:
            self._writer.write(data)
            await self._writer.drain()
        except OSError:
            raise ExecError("The command no longer reads its input.") from None

    async def _unless_exited(self, doing: Awaitable[None], sentence: str) -> None:
        task = asyncio.ensure_future(doing)
        try:
            await asyncio.wait({task, self._exited}, return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                raise ExecError(sentence)
            task.result()
        finally:
            if not task.done():
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError, ExecError):
                    await task

    async def close_stdin(self) -> None:
        async with self._writing:
            if not self._stdin_open or self._writer is None:
                return
            with contextlib.suppress(OSError, RuntimeError):
                if self._spec.pty is not None:
                    self._writer.write(b"\x04")
                else:
                    self._stdin_open = False
                    self._writer.write_eof()

    async def resize(self, rows: int, columns: int) -> None:
        if self._spec.pty is None or self._exited.done():
            raise ExecError("The command has no terminal.")
        try:
            await self._engine.json("POST", f"exec/{self._id}/resize", params={"h": str(rows), "w": str(columns)})
        except EngineError as error:
            raise ExecError(f"The terminal could not be resized: {error}") from None

    async def send_signal(self, number: signal.Signals) -> None:
        if self._exited.done():
            return
        if self._host_pid is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                # It leads a session of its own, and so a group.
                os.killpg(os.getpgid(self._host_pid), number)
                return
        if self._box.host_signals:
            await asyncio.to_thread(self._signal_marked, number)
        else:
            await self._kill_inside(number)

    def _signal_marked(self, number: signal.Signals) -> None:
        for pid in processes.members(COMMAND_MARK, self._mark):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, number)

    async def _kill_inside(self, number: signal.Signals) -> None:
        words = ["/bin/sh", "-c", KILL_INSIDE, "sh", f"{COMMAND_MARK}={self._mark}", f"-{int(number)}"]
        body = {"Cmd": [*words, str(self._pid_inside or 2**22)], "User": "0"}
        with contextlib.suppress(EngineError, EngineGone):
            made = await self._engine.json("POST", f"containers/{self._box.container}/exec", body=body)
            await self._engine.json("POST", f"exec/{made['Id']}/start", body={"Detach": True})

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        if not self._exited.done() and self._id:
            if self._box.host_signals:
                await processes.kill_marked(COMMAND_MARK, self._mark)
            else:
                await self._kill_inside(signal.SIGKILL)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._exit(KILLED)
        if self._writer is not None:
            self._writer.close()


async def _frames(reader: asyncio.StreamReader) -> AsyncIterator[tuple[int, bytes]]:
    """The two outputs as the engine multiplexes them: eight bytes (stream, 0, 0, 0, size), then the data."""
    while True:
        head = await reader.readexactly(8)
        left = int.from_bytes(head[4:], "big")
        while left > 0 and (data := await reader.read(min(left, CHUNK_BYTES))):
            left -= len(data)
            yield head[0] or STDOUT, data
        if left:
            raise EOFError


async def _pieces(reader: asyncio.StreamReader) -> AsyncIterator[tuple[int, bytes]]:
    while data := await reader.read(CHUNK_BYTES):
        yield STDOUT, data


def _status(code: int) -> int:
    """The engine's exit code as a shell's: -1 is that of one that was never reaped."""
    return code if code >= 0 else KILLED


def _sentence(reason: str, spec: CommandSpec) -> str:
    if spec.user is not None and re.search(r"unable to find (user|group)|no matching entries|no users found", reason):
        return f"There is no user '{spec.user}' in the sandbox."
    reason = re.sub(r"^OCI runtime exec failed: exec failed: (unable to start container process: )?", "", reason)
    return f"The command could not be started: {' '.join(reason.split())[:500].rstrip('.')}."
