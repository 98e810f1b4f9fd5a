"""Commands whose pipes this program holds itself: read on demand, written without blocking, never left half open.

What started the process is not known here: a runtime gives its `Process` (who has a number, an end and signals) and the
ends of its pipes that stay with the runner.
"""

from __future__ import annotations

import array
import asyncio
import contextlib
import errno
import fcntl
import os
import signal
import struct
import termios
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Protocol

from prime_hub.runner.output import REST_SECONDS, PipeReader
from prime_hub.runner.runtimes.base import Command, ExecError
from prime_hub.runner.runtimes.values import STDERR, STDOUT, exit_code

READ_BYTES = 65536


class Process(Protocol):
    """A process that somebody else started."""

    @property
    def pid(self) -> int: ...

    @property
    def exited(self) -> asyncio.Future[int]:
        """Its exit status (negative: the signal), once it has ended."""
        ...

    def signal_group(self, number: signal.Signals) -> None:
        """Send a signal to its process group; nothing when it has ended."""
        ...


@dataclass
class Pipes:
    """The pipes of a command: `child` are the three ends it gets, the others stay here (-1 where there is none)."""

    child: tuple[int, int, int]
    stdin: int
    outputs: dict[int, int] = field(default_factory=dict)
    """Our descriptor → STDOUT or STDERR."""
    terminal: int = -1

    @classmethod
    def make(cls, stdin: bool, pty: tuple[int, int] | None) -> Pipes:
        """Open them, none inheritable. Raises OSError."""
        if pty is not None:
            master, slave = os.openpty()
            set_size(master, *pty)
            return cls((slave, slave, slave), master, {master: STDOUT}, master)
        made: list[int] = []
        try:
            read_in, write_in = os.pipe() if stdin else (os.open(os.devnull, os.O_RDONLY), -1)
            made += [read_in, *([write_in] if stdin else [])]
            read_out, write_out = os.pipe()
            made += [read_out, write_out]
            read_err, write_err = os.pipe()
        except OSError:
            for descriptor in made:
                os.close(descriptor)
            raise
        return cls((read_in, write_out, write_err), write_in, {read_out: STDOUT, read_err: STDERR})

    def close_child(self) -> None:
        """The child has its own copies now."""
        for descriptor in set(self.child):
            os.close(descriptor)

    def close(self) -> None:
        """Close what stays here."""
        for descriptor in {*self.outputs, self.stdin} - {-1}:
            os.close(descriptor)
        self.outputs, self.stdin = {}, -1


def set_size(terminal: int, rows: int, columns: int) -> None:
    """Give a terminal a size in characters."""
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


class LocalCommand(Command):
    """A command over pipes of this program. `kill_rest` ends what left its process group, where somebody can tell."""

    def __init__(self, process: Process, pipes: Pipes, kill_rest: Callable[[], Awaitable[None]]) -> None:
        self._process = process
        self._pipes = pipes
        self._kill_rest = kill_rest
        self._loop = asyncio.get_running_loop()
        self._closed = False
        self._writing = asyncio.Lock()
        for descriptor in {*pipes.outputs, pipes.stdin} - {-1}:
            os.set_blocking(descriptor, False)

    @property
    def pid(self) -> int:
        return self._process.pid

    async def wait(self) -> int:
        return exit_code(await asyncio.shield(self._process.exited))

    async def output(self) -> AsyncIterator[tuple[int, bytes]]:
        try:
            while self._pipes.outputs:
                for descriptor in await self._ready():
                    data = _read(descriptor, READ_BYTES)
                    if data:
                        yield self._pipes.outputs[descriptor], data
                    elif data is not None:
                        self._drop(descriptor)
                if self._process.exited.done():
                    for stream, data in self._rest():
                        yield stream, data
                    return
        finally:
            self._let_go()

    async def _ready(self) -> list[int]:
        """The pipes that hold something (or their end), waited for until the command ends."""
        changed = self._loop.create_future()

        def wake(*_: object) -> None:
            if not changed.done():
                changed.set_result(None)

        ready: list[int] = []

        def readable(descriptor: int) -> None:
            ready.append(descriptor)
            self._loop.remove_reader(descriptor)
            wake()

        watched = list(self._pipes.outputs)
        self._process.exited.add_done_callback(wake)
        for descriptor in watched:
            self._loop.add_reader(descriptor, readable, descriptor)
        try:
            await changed
        finally:
            self._process.exited.remove_done_callback(wake)
            for descriptor in watched:
                self._loop.remove_reader(descriptor)
        return ready

    def _rest(self) -> list[tuple[int, bytes]]:
        """What lies in the pipes now that the command has ended; what its children write later is not its own."""
        found = []
        for descriptor, stream in list(self._pipes.outputs.items()):
            left = _pending(descriptor)
            while left > 0 and (data := _read(descriptor, left)):
                found.append((stream, data))
                left -= len(data)
        return found

    def _drop(self, descriptor: int) -> None:
        if self._pipes.outputs.pop(descriptor, None) is not None:
            if descriptor == self._pipes.stdin:
                self._pipes.stdin = -1
            os.close(descriptor)

    def _let_go(self) -> None:
        """Read on and forget, so that children which hold the pipes neither block nor break."""
        for descriptor in list(self._pipes.outputs):
            if descriptor == self._pipes.terminal:
                continue
            del self._pipes.outputs[descriptor]
            PipeReader(descriptor, lambda data: None, REST_SECONDS)

    async def write(self, data: bytes) -> None:
        async with self._writing:
            left = memoryview(data)
            while left:
                if self._pipes.stdin < 0:
                    raise ExecError("The command takes no input, or no longer.")
                try:
                    left = left[os.write(self._pipes.stdin, left) :]
                except BlockingIOError:
                    await self._writable()
                except OSError:
                    raise ExecError("The command no longer reads its input.") from None

    async def _writable(self) -> None:
        ready = self._loop.create_future()
        descriptor = self._pipes.stdin

        def wake(*_: object) -> None:
            if not ready.done():
                ready.set_result(None)

        self._loop.add_writer(descriptor, wake)
        self._process.exited.add_done_callback(wake)
        try:
            await ready
        finally:
            self._process.exited.remove_done_callback(wake)
            self._loop.remove_writer(descriptor)
        if self._process.exited.done():
            raise ExecError("The command has ended and reads no more input.")

    async def close_stdin(self) -> None:
        async with self._writing:
            if self._pipes.terminal >= 0:
                if self._pipes.stdin >= 0:
                    with contextlib.suppress(OSError):
                        os.write(self._pipes.stdin, b"\x04")
            elif self._pipes.stdin >= 0:
                os.close(self._pipes.stdin)
                self._pipes.stdin = -1

    async def resize(self, rows: int, columns: int) -> None:
        if self._pipes.terminal < 0 or self._pipes.terminal not in self._pipes.outputs:
            raise ExecError("The command has no terminal.")
        set_size(self._pipes.terminal, rows, columns)

    async def send_signal(self, number: signal.Signals) -> None:
        if not self._process.exited.done():
            self._process.signal_group(number)

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        if not self._process.exited.done():
            self._process.signal_group(signal.SIGKILL)
            await self._kill_rest()
        self._let_go()
        self._pipes.close()


def _read(descriptor: int, size: int) -> bytes | None:
    """What can be read now: b"" at the end, None when there is nothing yet."""
    try:
        return os.read(descriptor, min(size, READ_BYTES))
    except BlockingIOError:
        return None
    except OSError as error:
        # A terminal whose last program has gone says so.
        if error.errno in (errno.EIO, errno.EBADF):
            return b""
        raise


def _pending(descriptor: int) -> int:
    count = array.array("i", [0])
    try:
        fcntl.ioctl(descriptor, termios.FIONREAD, count)
    except OSError:
        return 0
    return count[0]
