"""Child processes of the runner: spawned from the event loop, reaped by it, and waited for without polling.

The runner makes itself the reaper of its descendants (Linux), so that a daemon whose parent was killed does not stay a
zombie. One `waitpid(-1)` on SIGCHLD serves all of them; nothing else in this program may start processes.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import IO

PR_SET_CHILD_SUBREAPER = 36
ADOPTED_POLL_SECONDS = 0.5


class Child:
    """A process that this runner started. `exited` holds the exit code (negative: the signal) once it has ended."""

    def __init__(self, process: subprocess.Popen[bytes], exited: asyncio.Future[int]) -> None:
        self.pid = process.pid
        self.exited = exited
        self._process = process

    async def wait(self) -> int:
        """The exit code. May be called by several at once; cancelling one does not disturb the others."""
        return await asyncio.shield(self.exited)

    def signal_group(self, number: signal.Signals) -> None:
        """Send a signal to the child's process group; nothing when it is gone."""
        signal_group(self.pid, number)

    def _done(self, code: int) -> None:
        self._process.returncode = code
        if not self.exited.done():
            self.exited.set_result(code)


class Children:
    """All children of this process. Use `spawn` only from the event loop's own thread."""

    def __init__(self) -> None:
        self._known: dict[int, Child] = {}
        self._loop = asyncio.get_running_loop()

    def start(self) -> None:
        """Begin to reap. Raises RuntimeError outside the main thread."""
        become_reaper()
        self._loop.add_signal_handler(signal.SIGCHLD, self.reap)

    def stop(self) -> None:
        """Stop reaping; children that live on are left alone."""
        self._loop.remove_signal_handler(signal.SIGCHLD)

    def spawn(
        self,
        argv: Sequence[str],
        *,
        cwd: Path,
        env: Mapping[str, str],
        stdin: int | None = None,
        stdout: int | IO[bytes],
        stderr: int | IO[bytes],
        pass_fds: Collection[int] = (),
    ) -> Child:
        """Start a program as the leader of a session (and so a process group) of its own. Raises OSError."""
        process = subprocess.Popen(
            list(argv),
            cwd=cwd,
            env=dict(env),
            stdin=subprocess.DEVNULL if stdin is None else stdin,
            stdout=stdout,
            stderr=stderr,
            start_new_session=True,
            close_fds=True,
            pass_fds=pass_fds,
        )
        child = Child(process, self._loop.create_future())
        self._known[child.pid] = child
        return child

    def reap(self) -> None:
        """Collect every child that has ended, known ones and orphans that were given to this process."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            child = self._known.pop(pid, None)
            if child is not None:
                child._done(os.waitstatus_to_exitcode(status))

    async def capture(
        self, argv: Sequence[str], *, cwd: Path, env: Mapping[str, str], limit: float = 60.0
    ) -> tuple[int, str]:
        """Run a short program to its end: (exit code, its stdout). Raises OSError, TimeoutError."""
        read_end, write_end = os.pipe()
        try:
            child = self.spawn(argv, cwd=cwd, env=env, stdout=write_end, stderr=subprocess.DEVNULL)
        except OSError:
            os.close(read_end)
            raise
        finally:
            os.close(write_end)
        reader = asyncio.StreamReader()
        transport, _ = await self._loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(read_end, "rb", 0)
        )
        try:
            async with asyncio.timeout(limit):
                text = await reader.read()
                return await child.wait(), text.decode("utf-8", "replace")
        finally:
            child.signal_group(signal.SIGKILL)
            transport.close()


def become_reaper() -> bool:
    """Ask the kernel to give orphaned descendants to this process; False where that does not exist."""
    if sys.platform != "linux":
        return False
    with contextlib.suppress(OSError, AttributeError):
        return ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
    return False


def signal_group(pid: int, number: signal.Signals) -> None:
    """Send a signal to the process group that `pid` leads; nothing when it is gone or not ours."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


async def wait_gone(pid: int) -> None:
    """Wait until a process that need not be our child has ended (a zombie counts as ended)."""
    loop = asyncio.get_running_loop()
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    except (AttributeError, OSError):
        while alive(pid):  # noqa: ASYNC110 - nothing tells of another's child where there is no pidfd
            await asyncio.sleep(ADOPTED_POLL_SECONDS)
        return
    gone = loop.create_future()
    loop.add_reader(descriptor, lambda: gone.done() or gone.set_result(None))
    try:
        await gone
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


def alive(pid: int) -> bool:
    """Whether a process of that number exists."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
