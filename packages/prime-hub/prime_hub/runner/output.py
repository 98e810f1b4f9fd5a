"""What sandboxes and builds print: read as it comes, kept within bounds, never the reason that a program stops.

A sandbox writes into a named pipe that its own processes also hold open for reading, so that it lives on when the
runner dies, and waits (at most) when nobody reads. The runner copies it into two files that take turns.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

CHUNK_BYTES = 65536
PIPE_BYTES = 1 << 18
F_SETPIPE_SZ = 1031
REST_SECONDS = 0.01
LOG_BYTES = 8 << 20
EXEC_BYTES = 16 << 20


class PipeReader:
    """Calls `sink` with what comes out of a pipe until its last writer is gone.

    After a full chunk it rests for `rest` seconds, so that endless output costs the writer time and not this program.
    """

    def __init__(self, descriptor: int, sink: Callable[[bytes], object], rest: float = 0.0) -> None:
        self.rest = rest
        self.finished = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._descriptor = descriptor
        self._sink = sink
        self._timer: asyncio.TimerHandle | None = None
        os.set_blocking(descriptor, False)
        self._loop.add_reader(descriptor, self._readable)

    def _readable(self) -> None:
        if self._read() and self.rest:
            self._loop.remove_reader(self._descriptor)
            self._timer = self._loop.call_later(self.rest, self._resume)

    def _resume(self) -> None:
        self._timer = None
        if self._descriptor >= 0:
            self._loop.add_reader(self._descriptor, self._readable)

    def _read(self) -> bool:
        """One read; True when there may be more at once."""
        try:
            data = os.read(self._descriptor, CHUNK_BYTES)
        except BlockingIOError:
            return False
        except OSError:
            data = b""
        if not data:
            self.close()
            return False
        self._sink(data)
        return len(data) == CHUNK_BYTES

    def drain(self) -> None:
        """Take what lies in the pipe now (at most one pipe full of it)."""
        for _ in range(PIPE_BYTES * 4 // CHUNK_BYTES):
            if self._descriptor < 0 or not self._read():
                return

    def close(self) -> None:
        """Read no more."""
        if self._timer is not None:
            self._timer.cancel()
        if self._descriptor >= 0:
            self._loop.remove_reader(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1
        self.finished.set()


@dataclass(frozen=True)
class LogPart:
    """A part of all that was printed; `end` is the byte, counted from the very first one, that comes after `data`."""

    data: bytes
    end: int


class BoundedFile:
    """A log file of at most `limit` bytes: when it is half full it becomes `NAME.1`, in place of the one before.

    Each byte keeps its number, from the first that was ever written: how many came before those of `NAME.1` stands in
    `NAME.before`.
    """

    def __init__(self, path: Path, limit: int = LOG_BYTES) -> None:
        self._path = path
        self._older = path.with_name(path.name + ".1")
        self._count = path.with_name(path.name + ".before")
        self._half = limit // 2
        self._lock = threading.Lock()

    def write(self, data: bytes) -> None:
        """Append. A full disk loses the line, not the sandbox."""
        with contextlib.suppress(OSError), self._lock:
            with self._path.open("ab") as file:
                file.write(data)
                size = file.tell()
            if size > self._half:
                if (older := _size(self._older)) > 0:
                    self._count.write_text(str(self._before() + older))
                self._path.replace(self._older)

    def remove(self) -> None:
        """Delete all that is kept."""
        for path in (self._path, self._older, self._count):
            path.unlink(missing_ok=True)

    def tail(self, limit: int) -> bytes:
        """The last `limit` bytes."""
        return self.part(-limit, limit).data if limit > 0 else b""

    def part(self, offset: int, limit: int) -> LogPart:
        """At most `limit` bytes from byte `offset` on; a negative one counts from the end. What is no longer kept is
        left out.
        """
        with self._lock:
            before, older, newer = self._before(), _size(self._older), _size(self._path)
            end = before + older + newer
            start = max(before, end + offset if offset < 0 else min(offset, end))
            data = _read(self._older, start - before, limit) if start < before + older else b""
            if len(data) < limit:
                data += _read(self._path, max(0, start - before - older), limit - len(data))
            return LogPart(data, start + len(data))

    def _before(self) -> int:
        try:
            return int(self._count.read_text())
        except (OSError, ValueError):
            return 0


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _read(path: Path, offset: int, limit: int) -> bytes:
    try:
        with path.open("rb") as file:
            file.seek(offset)
            return file.read(limit)
    except OSError:
        return b""


class SandboxOutput:
    """The output of one sandbox: the named pipe `output.pipe` and the log `output.log` in its folder."""

    def __init__(self, folder: Path) -> None:
        self._pipe = folder / "output.pipe"
        self.log = BoundedFile(folder / "output.log")
        self._reader: PipeReader | None = None
        self._grown = asyncio.Event()

    def open(self) -> int:
        """Make the pipe, begin to read, and return the descriptor for the child's stdout and stderr; close it after
        the spawn. Raises OSError.
        """
        self._pipe.unlink(missing_ok=True)
        os.mkfifo(self._pipe, 0o600)
        # Read-write: as long as a child lives the pipe has a reader, so its writes never fail.
        descriptor = os.open(self._pipe, os.O_RDWR | os.O_CLOEXEC)
        _enlarge(descriptor)
        self.attach()
        return descriptor

    def attach(self) -> None:
        """Begin to read, also after a restart of the runner. Nothing happens when the pipe is gone."""
        with contextlib.suppress(OSError):
            descriptor = os.open(self._pipe, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            self._reader = PipeReader(descriptor, self._take, REST_SECONDS)

    def _take(self, data: bytes) -> None:
        self.log.write(data)
        self._grown.set()
        self._grown = asyncio.Event()

    async def part(self, offset: int, limit: int, wait: float = 0.0) -> LogPart:
        """As BoundedFile.part; while there is nothing yet, it waits for at most `wait` seconds."""
        deadline = asyncio.get_running_loop().time() + wait
        while True:
            grown = self._grown
            found = await asyncio.to_thread(self.log.part, offset, limit)
            if found.data:
                return found
            try:
                async with asyncio.timeout_at(deadline):
                    await grown.wait()
            except TimeoutError:
                return found

    def close(self) -> None:
        """Take what is left and remove the pipe."""
        if self._reader is not None:
            self._reader.drain()
            self._reader.close()
        self._pipe.unlink(missing_ok=True)

    def remove(self) -> None:
        """Remove the log."""
        self.log.remove()


def _enlarge(descriptor: int) -> None:
    with contextlib.suppress(OSError):
        fcntl.fcntl(descriptor, F_SETPIPE_SZ, PIPE_BYTES)


class Kept:
    """One stream of a command, cut after EXEC_BYTES."""

    def __init__(self) -> None:
        self._data = bytearray()
        self.cut = False

    def take(self, data: bytes) -> None:
        """Keep what there is room for."""
        room = EXEC_BYTES - len(self._data)
        self._data += data[:room]
        self.cut = self.cut or len(data) > room

    def text(self) -> str:
        """As text, undecodable bytes replaced."""
        note = f"\n[output cut after {EXEC_BYTES >> 20} MiB]\n" if self.cut else ""
        return bytes(self._data).decode("utf-8", "replace") + note
