"""What sandboxes and builds print: read as it comes, kept within bounds, never the reason that a program stops.

A sandbox writes into a named pipe that its own processes also hold open for reading, so that it lives on when the
runner dies, and waits (at most) when nobody reads. The runner copies it into two files that take turns.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from prime_hub.runner.children import Child, Children

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


class BoundedFile:
    """A log file of at most `limit` bytes: when it is half full it becomes `NAME.1`, in place of the one before."""

    def __init__(self, path: Path, limit: int = LOG_BYTES) -> None:
        self._path = path
        self._older = path.with_name(path.name + ".1")
        self._half = limit // 2

    def write(self, data: bytes) -> None:
        """Append. A full disk loses the line, not the sandbox."""
        with contextlib.suppress(OSError):
            with self._path.open("ab") as file:
                file.write(data)
                size = file.tell()
            if size > self._half:
                self._path.replace(self._older)

    def remove(self) -> None:
        """Delete both files."""
        self._path.unlink(missing_ok=True)
        self._older.unlink(missing_ok=True)

    def tail(self, limit: int) -> bytes:
        """The last `limit` bytes."""
        newer = _tail(self._path, limit)
        return _tail(self._older, limit - len(newer)) + newer if len(newer) < limit else newer


def _tail(path: Path, limit: int) -> bytes:
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - limit))
            return file.read(limit)
    except OSError:
        return b""


class SandboxOutput:
    """The output of one sandbox: the named pipe `output.pipe` and the log `output.log` in its folder."""

    def __init__(self, folder: Path) -> None:
        self._pipe = folder / "output.pipe"
        self.log = BoundedFile(folder / "output.log")
        self._reader: PipeReader | None = None

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
            self._reader = PipeReader(descriptor, self.log.write, REST_SECONDS)

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


@dataclass(frozen=True)
class Result:
    """What a command left behind; output as text, undecodable bytes replaced."""

    stdout: str
    stderr: str
    exit_code: int


class _Kept:
    """One stream of a command, cut after EXEC_BYTES."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.open = True
        self.cut = False

    def take(self, data: bytes) -> None:
        if not self.open:
            return
        room = EXEC_BYTES - len(self.data)
        self.data += data[:room]
        self.cut = self.cut or len(data) > room

    def text(self) -> str:
        note = f"\n[output cut after {EXEC_BYTES >> 20} MiB]\n" if self.cut else ""
        return bytes(self.data).decode("utf-8", "replace") + note


async def run_captured(
    children: Children, argv: Sequence[str], *, cwd: Path, env: Mapping[str, str], seconds: float
) -> Result:
    """Run a command in a process group of its own and keep what it prints.

    It is over when the command itself has ended; grandchildren that hold its output are read on (and forgotten), so
    that they neither delay the answer nor break. Raises TimeoutError after killing the group, OSError when the
    program cannot be started.
    """
    out, err = _Kept(), _Kept()
    child, readers = _spawn(children, argv, cwd, env, out, err)
    try:
        async with asyncio.timeout(seconds):
            code = await child.wait()
    except BaseException:
        child.signal_group(signal.SIGKILL)
        for reader, kept in zip(readers, (out, err), strict=True):
            kept.open = False
            reader.rest = REST_SECONDS
        raise
    for reader, kept in zip(readers, (out, err), strict=True):
        reader.drain()
        kept.open = False
        reader.rest = REST_SECONDS
    return Result(out.text(), err.text(), code if code >= 0 else 128 - code)


def _spawn(
    children: Children, argv: Sequence[str], cwd: Path, env: Mapping[str, str], out: _Kept, err: _Kept
) -> tuple[Child, list[PipeReader]]:
    read_out, write_out = os.pipe()
    read_err, write_err = os.pipe()
    try:
        child = children.spawn(argv, cwd=cwd, env=env, stdout=write_out, stderr=write_err)
    except BaseException:
        os.close(read_out)
        os.close(read_err)
        raise
    finally:
        os.close(write_out)
        os.close(write_err)
    return child, [PipeReader(read_out, out.take), PipeReader(read_err, err.take)]
