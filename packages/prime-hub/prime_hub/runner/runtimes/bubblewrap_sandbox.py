"""One box of the runtime bubblewrap, from its making to its last trace."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prime_hub.runner import machine, processes
from prime_hub.runner.building.store import VenvImage
from prime_hub.runner.cgroups import Group
from prime_hub.runner.children import Child, signal_group, wait_gone
from prime_hub.runner.egress_policy import BadEntry
from prime_hub.runner.local_commands import LocalCommand, Pipes
from prime_hub.runner.output import LogPart, SandboxOutput
from prime_hub.runner.ports import LOOPBACK, NoFreePort
from prime_hub.runner.runtimes import box_client, box_kit, box_launch, bubblewrap_host
from prime_hub.runner.runtimes.base import Command, ExecError, FileMissing, RunningSandbox, StartError
from prime_hub.runner.runtimes.box_client import BoxProcess, Control, Question
from prime_hub.runner.runtimes.box_files import BoxFiles
from prime_hub.runner.runtimes.box_plan import PROXY_PORT, SANDBOX_MARK, Plan
from prime_hub.runner.runtimes.box_ports import Fronts, unix_listener
from prime_hub.runner.runtimes.commands import as_words
from prime_hub.runner.runtimes.local_sockets import listening_also
from prime_hub.runner.runtimes.values import CommandSpec, Egress, Exit, Listening, Reached, SandboxSpec

if TYPE_CHECKING:
    from prime_hub.runner.runtimes.bubblewrap import BubblewrapRuntime

COMMAND_MARK = "PRIME_COMMAND_ID"
CONTROL = "control.sock"
START_SECONDS = 300.0
ADOPT_SECONDS = 10.0
LOOK_SECONDS = 0.5
ENDING_SECONDS = 5.0  # for bubblewrap, to follow a box that has ended
# bwrap's own two processes count in a control group; the first process of the box counts everywhere.
SPARE_PIDS = 2


class BoxSandbox(RunningSandbox):
    """A server in a box, what it started, and the sockets by which it is reached."""

    def __init__(self, runtime: BubblewrapRuntime, spec: SandboxSpec, image: VenvImage, folder: Path) -> None:
        self._runtime = runtime
        self._spec = spec
        self._image = image
        self._folder = folder
        self._plan = Plan(spec, image, runtime.host, runtime.hidden)
        self._output = SandboxOutput(folder)
        self._sockets = runtime.sockets.of(spec.id)
        self._control = Control(self._sockets / CONTROL)
        self._files = BoxFiles(self._control, image.image.config.workdir)
        self._group: Group = runtime.cgroups.existing(spec.id)
        self._held: set[str] = set()
        self._child: Child | None = None
        self._outer: int | None = None
        self._init: int | None = None
        self._tokens: dict[int, str | None] = {}
        self._fronts = Fronts(runtime.ports, self._sockets, folder)
        self._listeners: dict[int, socket.socket] = {}
        self._exposing = asyncio.Lock()
        self._life: asyncio.Task[int | None] | None = None
        self._watch: asyncio.Task[None] | None = None
        self._beyond_memory = False
        self._ended = False

    # What is told.

    @property
    def pid(self) -> int | None:
        return self._init

    @property
    def ports(self) -> dict[int, int]:
        return self._fronts.numbers

    @property
    def host_rewritten(self) -> bool:
        return False

    @property
    def socket_folder(self) -> Path | None:
        return self._sockets

    @property
    def files(self) -> BoxFiles:
        return self._files

    def saved(self) -> dict[str, Any]:
        return {
            "outer": self._outer,
            "init": self._init,
            "tokens": [[pid, token] for pid, token in self._tokens.items()],
            "held": sorted(self._held),
        }

    # Its making.

    async def start(self, command: str | list[str], progress: Callable[[dict[str, Any]], None]) -> None:
        """Make the box and start the server. Raises StartError, OSError."""
        words = as_words(command)
        kit = await self._runtime.kits.get(box_kit.interpreter(self._image).path)
        try:
            self._make_sockets(self._plan.ports_of(words))
            await self._runtime.proxy.serve_unix(
                self._spec.id, self._spec.egress, self._sockets / "out" / "proxy.sock", mode=0o666
            )
        except (NoFreePort, BadEntry) as error:
            raise StartError(str(error)) from None
        limits = self._spec.limits
        self._group = self._runtime.cgroups.make(self._spec.id)
        self._held = self._group.limit(limits, SPARE_PIDS)
        progress(self.saved())
        info = await self._spawn(words, kit)
        self._init = await self._first_process(info)
        self._remember(self._init)
        progress(self.saved())
        await self._begin()

    def _make_sockets(self, ports: list[int]) -> None:
        if self._runtime.sockets.make(self._spec.id) is None:
            raise StartError(f"The sandbox's sockets cannot be made in {self._sockets.parent}.")
        out = self._sockets / "out"
        out.mkdir(mode=0o755)
        out.chmod(0o755)
        for port in ports:
            self._listeners[port] = unix_listener(self._sockets / f"{port}.sock")
            self._fronts.open(port)
        self._fronts.save()

    async def _spawn(self, words: list[str], kit: Path) -> int:
        """Start bubblewrap; the descriptor on which it tells of the box. Raises StartError, OSError."""
        held: list[int] = []
        read, write = os.pipe()
        held.append(write)
        try:
            output = self._output.open()
            held.append(output)
            places, env = self._plan.places(words, kit, self._sockets / "out")
            uid = bubblewrap_host.uid_of(self._spec.id) if self._runtime.host.root else None
            if uid is not None:
                os.fchown(output, uid, uid)
            control = box_client.listener(self._control.path)
            held.append(control.detach())
            quiet = os.open(os.devnull, os.O_RDONLY)
            held.append(quiet)
            listeners = [(port, listener.detach()) for port, listener in self._listeners.items()]
            held += [number for _, number in listeners]
            changed = listening_also(
                words,
                self._image.venv,
                "box",
                launcher=f"{box_launch.KIT}/also_unix.py",
                seen_at=self._plan.venv_paths(),
            )
            config = {
                "argv": changed or words,
                "env": self._plan.environment(env),
                "cwd": self._image.image.config.workdir,
                "stdin": quiet,
                "control": held[2],
                "listeners": listeners,
                "launched": listeners[0][0] if changed and listeners else None,
                "egress": (PROXY_PORT, f"{box_launch.EGRESS}/proxy.sock"),
                "rlimits": self._plan.rlimits(),
                "folders": [*box_launch.FOLDERS, self._image.image.config.workdir],
                "files": box_launch.FILES,
                "image": box_launch.IMAGE,
            }
            described = os.memfd_create("box", os.MFD_CLOEXEC)
            held.append(described)
            with open(os.dup(described), "wb") as file:  # noqa: PTH123, ASYNC230 - it lies in memory
                file.write(box_client.packed(config))
            os.lseek(described, 0, os.SEEK_SET)
            filtering = bubblewrap_host.seccomp()
            if filtering is not None:
                held.append(filtering)
            python = box_kit.interpreter(self._image).path
            size = bubblewrap_host.disk_bytes(self._spec.limits, memory_is_held="memory" in self._held)
            launch = box_launch.Launch(
                size,
                places,
                box_kit.command(python, box_launch.KIT, described),
                write,
                filtering,
                uid,
                self._group.joins,
            )
            self._child = self._runtime.children.spawn(
                launch.argv,
                cwd=Path("/"),
                env={"PATH": bubblewrap_host.SYSTEM_PATH, "LANG": "C.UTF-8", SANDBOX_MARK: self._spec.id},
                stdout=output,
                stderr=output,
                pass_fds=[number for number in held if number != output],
            )
        except BaseException:
            os.close(read)
            raise
        finally:
            for number in held:
                os.close(number)
            self._listeners.clear()
        self._outer = self._child.pid
        self._remember(self._outer)
        return read

    def _remember(self, pid: int) -> None:
        self._tokens[pid] = processes.start_token(pid)

    async def _first_process(self, info: int) -> int:
        """The number on this host of the box's first process, as bubblewrap tells it. Raises StartError."""
        reader = asyncio.StreamReader(limit=65536)
        loop = asyncio.get_running_loop()
        transport, _ = await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(info, "rb", 0)
        )
        try:
            async with asyncio.timeout(START_SECONDS):
                told = await reader.readuntil(b"}")
            return int(json.loads(told)["child-pid"])
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, TimeoutError, ValueError, KeyError):
            raise StartError(await self._why("bubblewrap could not make the sandbox")) from None
        finally:
            transport.close()

    async def _why(self, what: str) -> str:
        """A failed start as a sentence, with the last thing that was said about it."""
        if self._child is not None:
            self._child.signal_group(signal.SIGKILL)
            await self._child.wait()
        self._output.close()
        said = (await self.logs(4000)).decode("utf-8", "replace").strip().splitlines()
        return f"{what}: {said[-1].strip().rstrip('.')}." if said else f"{what}; it said nothing."

    async def _begin(self) -> None:
        """Hear that the server was started, and go on hearing how it goes. Raises StartError."""
        try:
            await self._ask_for_life(START_SECONDS)
        except ExecError:
            code = await self._code_of_early_end()
            if code is None:
                raise StartError(await self._why("The sandbox could not be started")) from None
            self._life = asyncio.create_task(asyncio.sleep(0, code))

    async def _code_of_early_end(self) -> int | None:
        """The exit code of a server that had ended before it was asked after; None where it was never started."""
        assert self._child is not None
        try:
            async with asyncio.timeout(ENDING_SECONDS):
                code = await self._child.wait()
        except TimeoutError:
            return None
        # bubblewrap hands the code of the box on; with these two the box says that the program could not be run.
        return code if 0 <= code < 126 else None

    async def _ask_for_life(self, seconds: float) -> None:
        life = await Question.ask(self._control, {"do": "life"})
        try:
            await life.answer(seconds)
        except BaseException:
            life.close()
            raise
        self._follow(life)

    def _follow(self, life: Question) -> None:
        async def end() -> int | None:
            try:
                code = (await life.answer(None)).get("exit")
                return code if isinstance(code, int) and -65 < code < 256 else None
            except ExecError:
                return None
            finally:
                life.close()

        self._life = asyncio.create_task(end())
        if self._spec.limits.memory_bytes is not None and "memory" not in self._held:
            self._watch = asyncio.create_task(self._watch_memory(self._spec.limits.memory_bytes))

    async def _watch_memory(self, limit: int) -> None:
        """Where no control group holds it: end the box when it is found beyond its memory."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            used = (await self.usage()).memory_bytes
            if used is not None and used > limit:
                self._beyond_memory = True
                self._kill_all()
                return

    async def find_again(self, saved: dict[str, Any]) -> bool:
        """Take the box of an earlier runner over; False when it is gone."""
        self._outer, self._init = saved.get("outer"), saved.get("init")
        self._tokens = {int(pid): token for pid, token in saved.get("tokens", [])}
        self._held = set(saved.get("held", []))
        if self._init is None or not self._same(self._init):
            return False
        self._output.attach()
        try:
            self._fronts.open_again()
            (self._sockets / "out").mkdir(mode=0o755, exist_ok=True)
            await self._runtime.proxy.serve_unix(
                self._spec.id, self._spec.egress, self._sockets / "out" / "proxy.sock", mode=0o666
            )
            await self._ask_for_life(ADOPT_SECONDS)
        except (OSError, ExecError, BadEntry, NoFreePort):
            return False
        return True

    def _same(self, pid: int) -> bool:
        token = self._tokens.get(pid)
        return token is not None and processes.start_token(pid) == token

    # Its end.

    async def wait(self) -> Exit:
        if self._child is not None:
            await self._child.wait()
        if self._init is not None and self._same(self._init):
            await wait_gone(self._init)
        code = None
        if self._life is not None:
            code = await asyncio.shield(self._life)
        killed = code in (None, -signal.SIGKILL, 128 + signal.SIGKILL)
        if self._beyond_memory or (killed and await asyncio.to_thread(self._group.out_of_memory)):
            limit = self._spec.limits.memory_bytes
            mib = f" of {limit >> 20} MiB" if limit is not None else ""
            sentence = (
                f"The sandbox used more memory than its limit{mib}, its files included, and was ended; give it more."
            )
            return Exit(code, "OOM_KILLED", sentence)
        return Exit(code)

    def _kill_all(self) -> None:
        """Kill the first process of the box, and so every other one in it."""
        if self._init is not None and self._same(self._init):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(self._init, signal.SIGKILL)

    async def end(self, grace: float) -> None:
        if self._ended:
            return
        if self._init is not None and self._same(self._init):
            if grace > 0:
                with contextlib.suppress(ExecError):
                    asked = await Question.ask(self._control, {"do": "term"})
                    asked.close()
                    await processes.wait_all_gone([self._init], grace)
            self._kill_all()
            await wait_gone(self._init)
        if self._child is not None:
            if self._init is None:
                self._child.signal_group(signal.SIGKILL)
                await processes.kill_marked(SANDBOX_MARK, self._spec.id)
            await self._child.wait()
        elif self._outer is not None and self._same(self._outer):
            signal_group(self._outer, signal.SIGKILL)
            await wait_gone(self._outer)
        for task in (self._watch, self._life):
            if task is not None:
                task.cancel()
        await asyncio.gather(*(task for task in (self._watch, self._life) if task), return_exceptions=True)
        await self._runtime.proxy.end(self._spec.id)
        await self._fronts.close()
        for listener in self._listeners.values():
            listener.close()
        self._runtime.sockets.remove(self._spec.id)
        await asyncio.to_thread(self._group.remove)
        self._output.close()
        self._ended = True

    async def remove(self) -> None:
        self.remove_files(self._folder)

    @staticmethod
    def remove_files(folder: Path) -> None:
        """Remove what lies in a sandbox's folder. Idempotent."""
        output = SandboxOutput(folder)
        output.close()
        output.remove()
        Fronts.remove_file(folder)

    # Its use.

    async def run(self, spec: CommandSpec) -> Command:
        if spec.user not in (None, "root", "0"):
            raise ExecError(
                f"A sandbox of the runtime bubblewrap has one user, root; no command can run as '{spec.user}'."
            )
        mark = secrets.token_hex(8)
        workdir = self._image.image.config.workdir
        cwd = spec.working_dir or workdir
        question = {
            "do": "run",
            "argv": list(spec.argv),
            "env": {**self._plan.environment(spec.env), COMMAND_MARK: mark},
            "cwd": cwd if cwd.startswith("/") else f"{workdir.rstrip('/')}/{cwd}",
            "terminal": spec.pty is not None,
        }
        pipes = Pipes.make(spec.stdin, spec.pty)
        try:
            process = await BoxProcess.start(self._control, question, pipes.child)
        except FileMissing:
            pipes.close()
            raise ExecError(f"The folder {cwd} does not exist in the sandbox.") from None
        except BaseException:
            pipes.close()
            raise
        finally:
            pipes.close_child()

        async def kill_rest() -> None:
            with contextlib.suppress(ExecError):
                asked = await self._work("kill", mark=f"{COMMAND_MARK}={mark}")
                asked.close()

        return LocalCommand(process, pipes, kill_rest)

    async def _work(self, what: str, **more: Any) -> Question:
        asked = await Question.ask(self._control, {"do": "work", "what": what, **more})
        try:
            await asked.answer()
        except BaseException:
            asked.close()
            raise
        return asked

    async def expose(self, port: int) -> Reached:
        if not 0 < port < 65536:
            raise ExecError(f"There is no port {port}.")
        async with self._exposing:
            if port not in self._fronts.numbers:
                await self._expose_new(port)
        return Reached(LOOPBACK, self._fronts.numbers[port], self._sockets / f"{port}.sock")

    async def _expose_new(self, port: int) -> None:
        path = self._sockets / f"{port}.sock"
        try:
            with unix_listener(path) as listener:
                asked = await Question.ask(self._control, {"do": "listen", "port": port}, [listener.fileno()])
            try:
                await asked.answer()
            finally:
                asked.close()
            self._fronts.open(port)
            self._fronts.save()
        except (OSError, NoFreePort) as error:
            raise ExecError(f"Port {port} cannot be exposed: {error}.") from None

    async def listening(self) -> list[Listening]:
        if self._init is None:
            return []
        found = await asyncio.to_thread(processes.listening_beside, self._init)
        return [
            Listening(item.host, item.port, self._fronts.numbers.get(item.port, item.port))
            for item in found
            if item.port != PROXY_PORT
        ]

    async def usage(self) -> machine.Usage:
        def look() -> machine.Usage:
            pids = self._group.pids() or ([] if self._init is None else processes.descendants(self._init))
            return machine.usage(pids)

        return await asyncio.to_thread(look)

    async def set_egress(self, egress: Egress) -> None:
        try:
            self._runtime.proxy.set(self._spec.id, egress)
        except BadEntry as error:
            raise ExecError(str(error)) from None

    async def logs(self, limit: int) -> bytes:
        return await asyncio.to_thread(self._output.log.tail, limit)

    async def log_part(self, offset: int, limit: int, wait: float = 0.0) -> LogPart:
        return await self._output.part(offset, limit, wait)
