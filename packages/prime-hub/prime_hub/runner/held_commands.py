"""Commands in sandboxes as those see them who watch from outside: by key, several at once, ended with their sandbox.

A watcher that is slow slows the command, so nothing piles up here. A command that nobody watches any more is killed,
at once or after as long as it was given; until then it goes on, and the end of what it prints is kept for who comes next.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import resource
import uuid
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from dataclasses import dataclass
from typing import Any

from prime_hub import frames
from prime_hub.runner.output import REST_SECONDS
from prime_hub.runner.runtimes.base import Command, RunnerError, RunningSandbox
from prime_hub.runner.runtimes.values import KILLED, STDERR, CommandSpec

log = logging.getLogger("prime_hub.runner")

KEEPALIVE_SECONDS = 15.0
BUFFER_BYTES = 1 << 18
PIECE_BYTES = 1 << 16
RETAIN_SECONDS = 60.0
MAX_RETAINED = 256
MAX_IN_SANDBOX = 256
MAX_WATCHERS = 16
MAX_REMEMBERED = 256
MAX_PENDING = 16
MAX_WAITING_INPUT = 64 << 20
# A command's three pipes, the connection of who watches it, and what the runtime needs for it.
DESCRIPTORS_EACH = 8
SANDBOX_END_SECONDS = 0.5
CLOSE_SECONDS = 10.0


class UnknownCommand(Exception):
    """No command of that key is known in the sandbox."""


class SandboxEnded(Exception):
    """The sandbox ended before its command had started."""


class TooMany(RunnerError):
    """More commands, or watchers of one, than are held at a time."""

    kind = "TOO_MANY"


@dataclass(frozen=True)
class CommandRequest:
    """What to run; killed after `seconds` (None: never), and once nobody has watched it for `linger` seconds."""

    spec: CommandSpec
    key: str | None = None
    seconds: float | None = None
    linger: float = 0.0


class Watcher:
    """One who watches a command: what was printed and not yet taken, bounded, and whether more will come."""

    def __init__(self) -> None:
        self._items: list[tuple[bytes, bytes]] = []
        self._size = 0
        self._finished = False
        self._news = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()

    def give(self, kind: bytes, payload: bytes) -> None:
        """Add a frame."""
        self._items.append((kind, payload))
        self._size += len(payload)
        if self._size >= BUFFER_BYTES:
            self._room.clear()
        self._news.set()

    def finish(self) -> None:
        """Nothing comes any more."""
        self._finished = True
        self._news.set()

    async def room(self) -> None:
        """Return when it takes more."""
        await self._room.wait()

    async def take(self) -> list[tuple[bytes, bytes]]:
        """What there is, waited for; a keepalive after a while without anything, nothing at all after the end."""
        while not self._items and not self._finished:
            self._news.clear()
            try:
                async with asyncio.timeout(KEEPALIVE_SECONDS):
                    await self._news.wait()
            except TimeoutError:
                return [(frames.KEEPALIVE, b"")]
        items, self._items, self._size = self._items, [], 0
        self._room.set()
        return items

    async def stream(self) -> AsyncIterator[bytes]:
        """All of it as frames."""
        while items := await self.take():
            yield b"".join(frames.encode(kind, payload) for kind, payload in items)

    def close(self) -> list[tuple[bytes, bytes]]:
        """Never be waited for again; what was not taken."""
        self._room.set()
        items, self._items = self._items, []
        return items


class HeldCommand:
    """One command and who watches it."""

    def __init__(self, running: RunningSandbox, request: CommandRequest) -> None:
        self.key = request.key or uuid.uuid4().hex
        self.request = request
        self.end: dict[str, Any] | None = None
        self.task: asyncio.Task[None] | None = None
        loop = asyncio.get_running_loop()
        self._running = running
        self._command: Command | None = None
        self._started: asyncio.Future[None] = loop.create_future()
        self._stopped: asyncio.Future[tuple[str, str]] = loop.create_future()
        self._watchers: set[Watcher] = set()
        self._missed: deque[tuple[bytes, bytes]] = deque()
        self._missed_bytes = 0
        self._leaving: asyncio.TimerHandle | None = None
        self._done_once: OrderedDict[str, asyncio.Future[None]] = OrderedDict()

    @property
    def failed(self) -> bool:
        """Whether it could not be started."""
        return self.end is not None and self._command is None

    @property
    def watched(self) -> bool:
        """Whether it runs and somebody is there."""
        return self.end is None and bool(self._watchers)

    def about(self) -> dict[str, Any]:
        """For a list."""
        pid = None if self._command is None else self._command.pid
        about = {"key": self.key, "pid": pid, "argv": list(self.request.spec.argv), "running": self.end is None}
        return {**about, "watchers": len(self._watchers)}

    async def started(self) -> None:
        """Return when it has started. Raises what its start raised."""
        await asyncio.shield(self._started)

    async def command(self) -> Command:
        """The command once it has started. Raises UnknownCommand when it has ended, and what its start raised."""
        await self.started()
        if self.end is not None or self._command is None:
            raise UnknownCommand(f"The command {self.key} has ended.")
        return self._command

    def watch(self) -> Watcher:
        """Watch: a start first, then what nobody has seen (the end of it) and what comes, an end last. Raises TooMany."""
        if len(self._watchers) >= MAX_WATCHERS:
            raise TooMany(f"The command {self.key} is watched by {MAX_WATCHERS} already; close some of them.")
        watcher = Watcher()
        if self._command is not None:
            self._greet(watcher)
        for kind, payload in self._missed:
            watcher.give(kind, payload)
        self._missed.clear()
        self._missed_bytes = 0
        if self.end is not None:
            self._part(watcher)
            return watcher
        if self._leaving is not None:
            self._leaving.cancel()
            self._leaving = None
        self._watchers.add(watcher)
        return watcher

    def _greet(self, watcher: Watcher) -> None:
        assert self._command is not None
        watcher.give(*frames.plain(frames.STARTED, {"key": self.key, "pid": self._command.pid}))

    def _part(self, watcher: Watcher) -> None:
        assert self.end is not None
        watcher.give(*frames.plain(frames.END, self.end))
        watcher.finish()

    def leave(self, watcher: Watcher) -> None:
        """Watch no longer; the last one's leaving may end the command."""
        left = watcher.close()
        self._watchers.discard(watcher)
        if not self._watchers:
            for kind, payload in left:
                self._miss(kind, payload)
        if self._watchers or self.end is not None or self._leaving is not None:
            return
        words = ("cancelled", "Nobody waited for the command any more, so it was killed.")
        if self.request.linger <= 0:
            self.stop(*words)
        else:
            self._leaving = asyncio.get_running_loop().call_later(self.request.linger, self.stop, *words)

    def stop(self, error: str, detail: str) -> None:
        """Kill it; its end says why. Nothing when it has ended."""
        if not self._stopped.done():
            self._stopped.set_result((error, detail))

    async def live(self) -> None:
        """From its start to its end."""
        try:
            command = await self._running.run(self.request.spec)
        except BaseException as error:
            await self._not_started(error)
            if not isinstance(error, Exception):
                raise
            return
        self._command = command
        for watcher in self._watchers:
            self._greet(watcher)
        self._started.set_result(None)
        pumping = asyncio.ensure_future(self._pump(command))
        end: dict[str, Any] = {"exit_code": None, "error": "exec_failed", "detail": "The runner failed; see its log."}
        try:
            await asyncio.wait(
                {pumping, self._stopped}, timeout=self.request.seconds, return_when=asyncio.FIRST_COMPLETED
            )
            end = await self._how(pumping)
        except Exception:
            log.exception("command %s", self.key)
        finally:
            pumping.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await pumping
            try:
                await asyncio.shield(command.close())
            except Exception:
                log.exception("ending command %s", self.key)
            self._finish(end)

    async def _not_started(self, error: BaseException) -> None:
        if isinstance(error, RunnerError):
            # A sandbox that ends starts nothing any more, and its end may be noticed a moment later.
            await asyncio.wait({self._stopped}, timeout=SANDBOX_END_SECONDS)
        why = ("exec_failed", str(error))
        if self._stopped.done() and self._stopped.result()[0] == "sandbox_terminated":
            why = self._stopped.result()
            error = SandboxEnded(why[1])
        self._started.set_exception(error)
        self._started.exception()  # whoever waited for it has it; nobody need have
        self._finish({"exit_code": None, "error": why[0], "detail": why[1]})

    async def _how(self, pumping: asyncio.Future[int]) -> dict[str, Any]:
        if pumping.done() and pumping.exception() is None:
            if pumping.result() == KILLED:
                # The sandbox's own end kills what runs in it, and may be noticed a moment later.
                await asyncio.wait({self._stopped}, timeout=SANDBOX_END_SECONDS)
            if not self._stopped.done():
                return {"exit_code": pumping.result()}
        if self._stopped.done():
            error, detail = self._stopped.result()
            return {"exit_code": None, "error": error, "detail": detail}
        if pumping.done():
            raise RuntimeError("the output could not be read") from pumping.exception()
        words = f"The command did not end within {self.request.seconds:g} seconds and was killed."
        return {"exit_code": None, "error": "command_timeout", "detail": words}

    async def _pump(self, command: Command) -> int:
        output = command.output()
        try:
            async for stream, data in output:
                kind = frames.ERR if stream == STDERR else frames.OUT
                for start in range(0, len(data), PIECE_BYTES):
                    await self._deliver(kind, data[start : start + PIECE_BYTES])
        finally:
            close = getattr(output, "aclose", None)
            if close is not None:
                await close()
        return await command.wait()

    async def _deliver(self, kind: bytes, data: bytes) -> None:
        watchers = list(self._watchers)
        for watcher in watchers:
            watcher.give(kind, data)
        for watcher in watchers:
            await watcher.room()
        if not watchers:
            self._miss(kind, data)
            if len(data) == PIECE_BYTES:
                # Most of it nobody will see: endless output costs its writer time, and this program little.
                await asyncio.sleep(REST_SECONDS)

    def _miss(self, kind: bytes, data: bytes) -> None:
        """Keep for who watches next what nobody has seen."""
        if kind not in (frames.OUT, frames.ERR):
            return
        self._missed.append((kind, data))
        self._missed_bytes += len(data)
        while self._missed_bytes > BUFFER_BYTES:
            self._missed_bytes -= len(self._missed.popleft()[1])

    def _finish(self, end: dict[str, Any]) -> None:
        self.end = end
        if self._leaving is not None:
            self._leaving.cancel()
        for watcher in self._watchers:
            self._part(watcher)

    async def once(self, name: str | None, work: Callable[[], Awaitable[None]]) -> None:
        """Do something to the command; with a `name`, once only, however often it is asked for under that name, and to
        its end although who asked first may have gone. Raises TooMany, and what `work` raises.
        """
        if name is None:
            await work()
            return
        known = self._done_once.get(name)
        if known is None:
            if sum(not task.done() for task in self._done_once.values()) >= MAX_PENDING:
                raise TooMany(f"The command {self.key} has not taken what it was sent before; send it later.")
            known = self._done_once[name] = asyncio.ensure_future(work())
            known.add_done_callback(_looked_at)
            while len(self._done_once) > MAX_REMEMBERED and next(iter(self._done_once.values())).done():
                self._done_once.popitem(last=False)
        await asyncio.shield(known)


def _looked_at(work: asyncio.Future[None]) -> None:
    if not work.cancelled():
        work.exception()


class HeldCommands:
    """All commands of one runner that are held, by sandbox and key."""

    def __init__(self) -> None:
        self._boxes: dict[str, dict[str, HeldCommand]] = {}
        files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._most = max(16, files // 2 // DESCRIPTORS_EACH)
        self._input_bytes = 0

    def start(self, sandbox_id: str, running: RunningSandbox, request: CommandRequest) -> tuple[HeldCommand, Watcher]:
        """Begin to start a command and watch it; one of the same key is only watched. Raises TooMany."""
        box = self._boxes.setdefault(sandbox_id, {})
        held = box.get(request.key) if request.key else None
        if held is None:
            self._refuse_too_many(box)
            held = HeldCommand(running, request)
            box[held.key] = held
            watcher = held.watch()
            held.task = asyncio.create_task(held.live(), name=f"command {held.key} in {sandbox_id}")
            held.task.add_done_callback(lambda _: self._ended(sandbox_id, held))
            return held, watcher
        return held, held.watch()

    def _refuse_too_many(self, box: dict[str, HeldCommand]) -> None:
        if sum(held.end is None for held in box.values()) >= MAX_IN_SANDBOX:
            raise TooMany(f"The sandbox runs {MAX_IN_SANDBOX} commands at once, which is the most; end some of them.")
        if sum(held.end is None for every in self._boxes.values() for held in every.values()) >= self._most:
            raise TooMany(f"All sandboxes together run {self._most} commands at once, which is the most; try later.")

    def _ended(self, sandbox_id: str, held: HeldCommand) -> None:
        """Keep the end of a command for those who come back for it, for a while and not too many of them."""
        if held.failed or held.request.key is None:
            self._forget(sandbox_id, held)
            return
        asyncio.get_running_loop().call_later(RETAIN_SECONDS, self._forget, sandbox_id, held)
        over = [item for item in self._boxes.get(sandbox_id, {}).values() if item.end is not None]
        for item in over[: max(0, len(over) - MAX_RETAINED)]:
            self._forget(sandbox_id, item)

    def _forget(self, sandbox_id: str, held: HeldCommand) -> None:
        box = self._boxes.get(sandbox_id, {})
        if box.get(held.key) is held:
            del box[held.key]
        if not box:
            self._boxes.pop(sandbox_id, None)

    def get(self, sandbox_id: str, key: str) -> HeldCommand:
        """The command of that key. Raises UnknownCommand."""
        held = self._boxes.get(sandbox_id, {}).get(key)
        if held is None:
            raise UnknownCommand(f"No command {key} is known in the sandbox {sandbox_id}.")
        return held

    def all(self, sandbox_id: str) -> list[HeldCommand]:
        """The sandbox's commands, oldest first."""
        return list(self._boxes.get(sandbox_id, {}).values())

    def in_use(self, sandbox_id: str) -> bool:
        """Whether somebody watches a command of the sandbox that runs."""
        return any(held.watched for held in self.all(sandbox_id))

    @contextlib.contextmanager
    def room_for_input(self, size: int) -> Generator[None]:
        """Hold `size` bytes of input. Raises TooMany when too much of it waits already."""
        if self._input_bytes + size > MAX_WAITING_INPUT:
            raise TooMany("Too much input waits for commands that do not read it; send it later.")
        self._input_bytes += size
        try:
            yield
        finally:
            self._input_bytes -= size

    async def end_all(self, sandbox_id: str, words: str) -> None:
        """The sandbox ends: so do its commands, for that reason. Returns when they have, or after a while."""
        held = self._boxes.pop(sandbox_id, {})
        for one in held.values():
            one.stop("sandbox_terminated", words)
        tasks = [one.task for one in held.values() if one.task is not None and not one.task.done()]
        if tasks:
            await asyncio.wait(tasks, timeout=CLOSE_SECONDS)
