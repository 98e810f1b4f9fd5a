"""The runtime without isolation: a server is a child process of the runner, in the image's virtual environment.

For images of this machine's own user only. It needs nothing but a Python; what it cannot enforce it says.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pwd
import secrets
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from prime_core.errors import PrimeError
from prime_core.uv import uv_command
from prime_hub.runner import machine, processes
from prime_hub.runner.building import trees
from prime_hub.runner.building.store import VenvImage
from prime_hub.runner.children import Child, signal_group, wait_gone
from prime_hub.runner.local_commands import LocalCommand, Pipes
from prime_hub.runner.output import LogPart, SandboxOutput
from prime_hub.runner.ports import LOOPBACK, NoFreePort, Ports, is_free
from prime_hub.runner.runtimes.base import (
    BuildError,
    Command,
    ExecError,
    RunningSandbox,
    Setup,
    StartError,
)
from prime_hub.runner.runtimes.commands import Start, plan, script_at
from prime_hub.runner.runtimes.host_files import HostFiles
from prime_hub.runner.runtimes.local_sockets import SocketFolders, listening_also
from prime_hub.runner.runtimes.paths import PathMap
from prime_hub.runner.runtimes.values import (
    CommandSpec,
    Egress,
    Exit,
    Finding,
    Listening,
    Reached,
    SandboxSpec,
)
from prime_hub.runner.runtimes.venv_images import VenvRuntime

SANDBOX_MARK = "PRIME_SANDBOX_ID"
COMMAND_MARK = "PRIME_COMMAND_ID"
# A session leader that opens a terminal gets it as its own, which is what a shell needs for its job control.
TAKE_TERMINAL = 'exec "$@" <>"$PRIME_TERMINAL" >&0 2>&0'


class ProcessRuntime(VenvRuntime):
    """Sandboxes as child processes; images as virtual environments under `folder`."""

    name = "process"
    isolating = False

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self.ports = Ports()
        self.sockets = SocketFolders(setup.folder)

    @classmethod
    async def examine(cls, setup: Setup) -> list[Finding]:
        found = sys.platform == "linux"
        where = "Linux, where every process of a sandbox is found again" if found else sys.platform
        fix = (
            None if found else "A process that leaves its group may be left over; use Linux to have all of them ended."
        )
        return [Finding("system", found, where, fix, needed=False)]

    def not_enforced(self) -> list[str]:
        return [
            "the server can read and write what the user of this Hub can",
            "the server can reach the network and this machine's other servers",
            "memory, processors, processes and disk are not limited; what is asked for is only recorded",
            "where it may connect to is not restricted",
            "a server that binds all interfaces by itself, and not by its start command, is reachable from outside",
        ]

    async def start(
        self, spec: SandboxSpec, folder: Path, progress: Callable[[dict[str, Any]], None]
    ) -> RunningSandbox:
        image = self._store.get(spec.digest)
        command = spec.start_command or image.image.config.cmd
        if not command:
            raise StartError("There is no start command, and the image's Dockerfile has no CMD; give one of the two.")
        box = ProcessSandbox(self, spec, image, folder)
        try:
            await box.prepare()
            start = box.plan(command)
            progress({"ports": list(start.ports.items()), "host_rewritten": start.host_rewritten})
            box.spawn(start)
        except BaseException:
            await box.end(0.0)
            await box.remove()
            raise
        return box

    async def adopt(self, spec: SandboxSpec, folder: Path, saved: dict[str, Any]) -> RunningSandbox | None:
        box = ProcessSandbox(self, spec, self._store.get(spec.digest), folder)
        if box.find_again(saved):
            return box
        await box.end(0.0)
        await box.remove()
        return None

    async def sweep(self, sandbox_id: str, folder: Path) -> None:
        await processes.kill_marked(SANDBOX_MARK, sandbox_id)
        await asyncio.to_thread(trees.remove, folder / "root")
        self.sockets.remove(sandbox_id)
        output = SandboxOutput(folder)
        output.close()
        output.remove()

    async def close(self) -> None:
        self.ports.close()


class ProcessSandbox(RunningSandbox):
    """One server process and what it started, told from others by its mark in the environment."""

    def __init__(self, runtime: ProcessRuntime, spec: SandboxSpec, image: VenvImage, folder: Path) -> None:
        self._runtime = runtime
        self._spec = spec
        self._image = image
        self._output = SandboxOutput(folder)
        self._folder = folder
        self._paths = PathMap(image, folder / "root")
        self._files = HostFiles(self._paths)
        self._child: Child | None = None
        self._pid: int | None = None
        self._start_token: str | None = None
        self._ports: dict[int, int] = {}
        self._host_rewritten = False
        self._sockets: Path | None = None
        self._ended = False

    @property
    def pid(self) -> int | None:
        return self._pid

    @property
    def ports(self) -> dict[int, int]:
        return self._ports

    @property
    def host_rewritten(self) -> bool:
        return self._host_rewritten

    @property
    def socket_folder(self) -> Path | None:
        return self._sockets

    @property
    def files(self) -> HostFiles:
        return self._files

    def saved(self) -> dict[str, Any]:
        return {
            "pid": self._pid,
            "start_token": self._start_token,
            "ports": list(self._ports.items()),
            "host_rewritten": self._host_rewritten,
        }

    async def prepare(self) -> None:
        """Give the sandbox its own copy of the image's tree."""
        await asyncio.to_thread(trees.copy, self._image.root, self._paths.root)
        for folder in (self._paths.home, self._paths.tmp, self._paths.on_host(self._image.image.config.workdir)):
            folder.mkdir(parents=True, exist_ok=True)

    def plan(self, command: str | list[str]) -> Start:
        """What to run, with ports held. Raises StartError."""
        port = self._spec.port or self._image.image.config.port
        try:
            start = plan(command, self._variables(), port, self._paths, self._take_port)
        except NoFreePort as error:
            raise StartError(str(error)) from None
        if start.fixed is not None and not self._runtime.ports.hold(start.fixed):
            # A command of the caller's own that was given no port need not be the image's server at all.
            if self._spec.port is None and self._spec.start_command is not None:
                del start.ports[start.fixed]
            else:
                raise StartError(
                    f"Port {start.fixed} of this machine is taken, and the start command '{_shown(command)}' names "
                    f"no port that could be replaced; write it as 'uvicorn server:app --port {start.fixed}', or let "
                    "the server read it from a PORT variable that the Dockerfile sets with ENV."
                )
        self._ports, self._host_rewritten = start.ports, start.host_rewritten
        return start

    def _take_port(self) -> int:
        port = self._runtime.ports.take()
        # Known at once, so that a start that fails gives it back.
        self._ports = {**self._ports, -port: port}
        return port

    def _variables(self) -> dict[str, str]:
        return {**self._image.image.config.env, **self._spec.env}

    def _environment(self, variables: dict[str, str]) -> dict[str, str]:
        """The whole environment of a process in this sandbox; nothing of the runner's own."""
        env = {"HOME": str(self._paths.home), "TMPDIR": str(self._paths.tmp), "LANG": "C.UTF-8", **variables}
        for name in ("PYTHONPATH", "LD_LIBRARY_PATH"):
            if name in env:
                env[name] = ":".join(part for part in env[name].split(":") if part)
        env["PATH"] = self._paths.search_path(self._variables().get("PATH", ""))
        env[SANDBOX_MARK] = self._spec.id
        return env

    def spawn(self, start: Start) -> None:
        """Start the server. Raises StartError, OSError."""
        env = self._environment(start.env)
        argv = list(start.argv)
        if "uv" in argv[0] or any("uv run" in word for word in argv):
            env |= self._for_uv_run()
        argv = self._listening_also(argv)
        cwd = self._paths.on_host(self._image.image.config.workdir)
        program = _find_program(argv[0], cwd, env["PATH"])
        if program is None:
            raise StartError(
                f"The start command's program '{argv[0]}' is neither in the image nor on this machine; install it "
                "in the Dockerfile, for example through requirements.txt."
            )
        descriptor = self._output.open()
        try:
            self._child = self._runtime.children.spawn(
                [program, *argv[1:]], cwd=cwd, env=env, stdout=descriptor, stderr=descriptor
            )
        finally:
            os.close(descriptor)
        self._pid = self._child.pid
        self._start_token = processes.start_token(self._pid)

    def _listening_also(self, argv: list[str]) -> list[str]:
        """`argv`, made to listen on a unix socket beside the port where that can be had."""
        sockets = self._runtime.sockets
        changed = listening_also(argv, self._image.venv, sockets.of(self._spec.id))
        if changed is None or sockets.make(self._spec.id) is None:
            return argv
        self._sockets = sockets.of(self._spec.id)
        return changed

    def _for_uv_run(self) -> dict[str, str]:
        """What `uv run` needs to use the image's environment as it is."""
        with contextlib.suppress(PrimeError):
            folder = str(Path(uv_command()[0]).parent)
            path = self._paths.search_path(self._variables().get("PATH", ""))
            quiet = dict.fromkeys(("UV_NO_SYNC", "UV_OFFLINE", "UV_FROZEN"), "1")
            return {"PATH": f"{path}:{folder}", "UV_PROJECT_ENVIRONMENT": str(self._image.venv), **quiet}
        return {}

    def find_again(self, saved: dict[str, Any]) -> bool:
        """Take the process of an earlier runner over; False when it is gone."""
        self._ports = dict(saved.get("ports", []))
        self._host_rewritten = bool(saved.get("host_rewritten"))
        pid, token = saved.get("pid"), saved.get("start_token")
        if not isinstance(pid, int) or token is None or processes.start_token(pid) != token:
            return False
        self._pid, self._start_token = pid, token
        for host_port in self._ports.values():
            self._runtime.ports.hold_again(host_port)
        sockets = self._runtime.sockets.of(self._spec.id)
        self._sockets = sockets if sockets.is_dir() else None
        self._output.attach()
        return True

    async def wait(self) -> Exit:
        if self._child is not None:
            return Exit(await self._child.wait())
        if self._pid is not None:
            await wait_gone(self._pid)
        return Exit()

    def _leads(self) -> bool:
        """Whether the main process still is ours to signal by its number."""
        if self._child is not None:
            return not self._child.exited.done()
        return self._pid is not None and processes.start_token(self._pid) == self._start_token

    async def _members(self) -> list[int]:
        return await asyncio.to_thread(processes.members, SANDBOX_MARK, self._spec.id)

    async def end(self, grace: float) -> None:
        if self._ended:
            return
        if self._pid is not None and self._leads():
            # Looked up first: once their parent is gone, those without a mark belong to nobody.
            known = {pid: processes.start_token(pid) for pid in {*await self._members(), self._pid}}
            for pid in known:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGTERM)
            await processes.wait_all_gone(known, grace)
            if self._leads():
                signal_group(self._pid, signal.SIGKILL)
            await processes.kill_known(known)
        await processes.kill_marked(SANDBOX_MARK, self._spec.id)
        if self._child is not None:
            await self._child.wait()
        for host_port in self._ports.values():
            self._runtime.ports.give_back(host_port)
        self._runtime.sockets.remove(self._spec.id)
        self._output.close()
        self._ended = True

    async def remove(self) -> None:
        await asyncio.to_thread(trees.remove, self._folder / "root")
        self._output.remove()

    async def run(self, spec: CommandSpec) -> Command:
        if spec.user is not None and spec.user not in _own_names():
            raise ExecError(
                f"The runtime process runs everything as the user of this Hub, so no command can run as '{spec.user}'."
            )
        cwd = self._on_host(spec.working_dir or self._image.image.config.workdir)
        if not cwd.is_dir():
            raise ExecError(f"The folder {spec.working_dir} does not exist in the sandbox.")
        mark = secrets.token_hex(8)
        variables = {name: self._paths.value(value) for name, value in (self._variables() | spec.env).items()}
        env = {**self._environment(variables), COMMAND_MARK: mark}
        argv = self._argv(spec.argv)
        program = _find_program(argv[0], cwd, env["PATH"])
        if program is None:
            raise ExecError(f"There is no program '{argv[0]}' in the sandbox.")
        pipes = Pipes.make(spec.stdin, spec.pty)
        argv = [program, *argv[1:]]
        if pipes.terminal >= 0:
            env["PRIME_TERMINAL"] = os.ttyname(pipes.child[0])
            argv = ["/bin/sh", "-c", TAKE_TERMINAL, "sh", *argv]
        try:
            stdin, stdout, stderr = pipes.child
            child = self._runtime.children.spawn(argv, cwd=cwd, env=env, stdin=stdin, stdout=stdout, stderr=stderr)
        except BaseException:
            pipes.close()
            raise
        finally:
            pipes.close_child()
        return LocalCommand(child, pipes, lambda: processes.kill_marked(COMMAND_MARK, mark))

    def _argv(self, argv: tuple[str, ...]) -> list[str]:
        """A command's words for this host; which ports it uses is its own business, only paths are changed."""
        words = [_shell() if argv[0] == "/bin/bash" else self._paths.word(argv[0]), *argv[1:]]
        at = script_at(list(argv))
        if at is not None:
            words[at] = self._paths.script(words[at])
            return words[: at + 1] + [self._paths.word(word) for word in words[at + 1 :]]
        return [words[0], *(self._paths.word(word) for word in words[1:])]

    def _on_host(self, path: str) -> Path:
        try:
            return self._paths.on_host(path)
        except BuildError:
            raise ExecError(f"The path {path} leads out of the sandbox by a link.") from None

    async def expose(self, port: int) -> Reached:
        if not 0 < port < 65536:
            raise ExecError(f"There is no port {port}.")
        if port in self._ports:
            host_port = self._ports[port]
            socket = None if self._sockets is None else self._sockets / f"{host_port}.sock"
            return Reached(LOOPBACK, host_port, socket)
        if not is_free(port) and port not in {item.host_port for item in await self.listening()}:
            raise ExecError(f"Port {port} of this machine is used by a program outside of the sandbox.")
        return Reached(LOOPBACK, port)

    async def listening(self) -> list[Listening]:
        members = await self._members()
        found = await asyncio.to_thread(processes.listening, members)
        own = {host_port: port for port, host_port in self._ports.items()}
        return [Listening(item.host, own.get(item.port, item.port), item.port) for item in found]

    async def usage(self) -> machine.Usage:
        return await asyncio.to_thread(machine.usage, await self._members())

    async def set_egress(self, egress: Egress) -> None:
        raise ExecError(
            "The runtime process does not restrict where a sandbox connects to; use a Hub with the runtime bubblewrap "
            "or docker for that."
        )

    async def logs(self, limit: int) -> bytes:
        return await asyncio.to_thread(self._output.log.tail, limit)

    async def log_part(self, offset: int, limit: int, wait: float = 0.0) -> LogPart:
        return await self._output.part(offset, limit, wait)


def _shell() -> str:
    return shutil.which("bash", path="/bin:/usr/bin:/usr/local/bin") or "/bin/sh"


def _find_program(name: str, cwd: Path, search_path: str) -> str | None:
    if "/" in name:
        path = cwd / name
        return str(path) if path.is_file() and os.access(path, os.X_OK) else None
    found = shutil.which(name, path=search_path)
    if found is None and name == "bash":
        return "/bin/sh"
    return found


def _own_names() -> set[str]:
    """What this program's user is called."""
    names = {str(os.getuid())}
    with contextlib.suppress(KeyError):
        names.add(pwd.getpwuid(os.getuid()).pw_name)
    return names


def _shown(command: str | list[str]) -> str:
    text = command if isinstance(command, str) else " ".join(command)
    return text if len(text) <= 120 else text[:117] + "..."
