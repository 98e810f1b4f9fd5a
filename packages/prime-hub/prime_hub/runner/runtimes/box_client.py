"""The runner's side of a box's control socket: questions, and what may be believed of the answers.

The runner binds the socket in a folder of its own and hands the listening end into the box, so that there is no path
in the box to be replaced, and the next runner connects to the same one. No descriptor of the box is ever taken, answers
are bounded, typed and waited for only so long: a box that lies or hangs harms its own user.
"""

from __future__ import annotations

import array
import asyncio
import contextlib
import errno
import json
import marshal
import os
import signal
import socket
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from prime_hub.runner.runtimes.base import ExecError, FileMissing

ANSWER_BYTES = 65536
INLINE_BYTES = 32768
ANSWER_SECONDS = 30.0
TURN_SECONDS = 60.0
BACKLOG = 128  # what every kernel grants
ASKED_AT_ONCE = 100  # what another runner asked last may still stand in the queue
KILLED_SECONDS = 10.0
MARSHAL_VERSION = 2  # understood by every Python 3
_PLACES = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class BoxSilent(ExecError):
    """The box does not answer, or not what was asked."""

    def __init__(self) -> None:
        super().__init__("The sandbox does not answer; its own programs may have stopped it. Delete it.")


def packed(value: Any) -> bytes:
    """A plain value as the box's interpreter reads it, of whatever version."""
    return marshal.dumps(value, MARSHAL_VERSION)


def listener(path: Path) -> socket.socket:
    """A control socket, made anew. Raises OSError."""
    path.unlink(missing_ok=True)
    made = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        made.bind(os.fspath(path))
        made.listen(BACKLOG)
    except BaseException:
        made.close()
        raise
    return made


class Control:
    """The way to one box: its socket, and the turns of those who ask. A connection that the box has not accepted yet
    takes a place in the socket's queue, and beyond the last place there is an error instead of a wait.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._turns = asyncio.Semaphore(ASKED_AT_ONCE)

    async def turn(self) -> Callable[[], None]:
        """Wait for a turn; what gives it back, once however often it is called. Raises BoxSilent."""
        try:
            async with asyncio.timeout(TURN_SECONDS):
                await self._turns.acquire()
        except TimeoutError:
            raise BoxSilent from None
        given_back = False

        def give_back() -> None:
            nonlocal given_back
            if not given_back:
                given_back = True
                self._turns.release()

        return give_back


class Question:
    """One open question: its connection, on which answers come."""

    def __init__(self, connection: socket.socket, answered: Callable[[], None]) -> None:
        self._socket = connection
        self._answered = answered
        self._loop = asyncio.get_running_loop()

    @classmethod
    async def ask(cls, control: Control, question: dict[str, Any], descriptors: Iterable[int] = ()) -> Question:
        """Ask with descriptors for the box to use; they stay the caller's to close. Raises BoxSilent."""
        answered = await control.turn()
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            connection.setblocking(False)
            connection.connect(os.fspath(control.path))
            cls._send(connection, packed(question), list(descriptors))
        except (OSError, ValueError):
            connection.close()
            answered()
            raise BoxSilent from None
        return cls(connection, answered)

    @staticmethod
    def _send(connection: socket.socket, content: bytes, descriptors: list[int]) -> None:
        if len(content) <= INLINE_BYTES:
            _send_with(connection, b"I" + content, descriptors)
            return
        memory = os.memfd_create("question", os.MFD_CLOEXEC)
        try:
            left = memoryview(content)
            while left:
                left = left[os.write(memory, left) :]
            _send_with(connection, b"M", [memory, *descriptors])
        finally:
            os.close(memory)

    async def answer(self, seconds: float | None = ANSWER_SECONDS) -> dict[str, Any]:
        """The next answer. Raises BoxSilent when none comes or it is none."""
        try:
            async with asyncio.timeout(seconds):
                # Without room for descriptors, any that come along are closed by the kernel.
                data = await self._loop.sock_recv(self._socket, ANSWER_BYTES)
            found = json.loads(data) if data else None
        except (OSError, TimeoutError, ValueError, RecursionError):
            found = None
        finally:
            self._answered()
        if not isinstance(found, dict):
            raise BoxSilent
        return found

    async def good_answer(self, path: str, seconds: float | None = ANSWER_SECONDS) -> dict[str, Any]:
        """The next answer, unless it is a refusal, which is raised for `path`: FileMissing, ExecError, OSError for a
        full disk.
        """
        found = await self.answer(seconds)
        number = found.get("errno")
        if isinstance(number, int):
            if number in (errno.ENOENT, errno.ENOTDIR):
                raise FileMissing(f"There is no {path} in the sandbox.")
            if number in _PLACES:
                raise OSError(number, os.strerror(number))
            if number == errno.EAGAIN:
                raise ExecError(
                    "The sandbox has as many processes as it may have, so no other can be started in it; let its server "
                    "start fewer, or give it a higher limit."
                )
            raise ExecError(f"The sandbox refused it for {path}: {os.strerror(number)}.")
        return found

    def say(self, data: bytes) -> None:
        """Say something about the question; nothing when the box no longer listens."""
        with contextlib.suppress(OSError):
            self._socket.send(data)

    def close(self) -> None:
        """No further answer is of interest. Idempotent."""
        self._socket.close()
        self._answered()


def _send_with(connection: socket.socket, data: bytes, descriptors: list[int]) -> None:
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
    connection.sendmsg([data], rights)


class BoxProcess:
    """A command in a box, for `LocalCommand`: its number there, its end, and signals for its group."""

    def __init__(self, question: Question, pid: int) -> None:
        self.pid = pid
        self.exited: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._question = question
        self._given_up: asyncio.TimerHandle | None = None
        self._task = asyncio.create_task(self._wait())

    @classmethod
    async def start(cls, control: Control, question: dict[str, Any], streams: tuple[int, int, int]) -> BoxProcess:
        """Start one with these streams. Raises ExecError."""
        asked = await Question.ask(control, question, streams)
        try:
            found = await asked.good_answer("the folder")
            if isinstance(found.get("missing"), str):
                raise ExecError(f"There is no program '{question['argv'][0]}' in the sandbox.")
            pid = found.get("pid")
            if not isinstance(pid, int):
                raise BoxSilent
            return cls(asked, pid)
        except BaseException:
            asked.close()
            raise

    async def _wait(self) -> None:
        status = -int(signal.SIGKILL)
        try:
            found = (await self._question.answer(None)).get("exit")
            if isinstance(found, int) and -65 < found < 256:
                status = found
        except ExecError:
            # With the box itself everything in it was killed.
            pass
        finally:
            self._question.close()
            if self._given_up is not None:
                self._given_up.cancel()
            if not self.exited.done():
                self.exited.set_result(status)

    def signal_group(self, number: signal.Signals) -> None:
        """Send a signal to its process group; nothing when it has ended."""
        if self.exited.done():
            return
        self._question.say(b"%d" % int(number))
        if number == signal.SIGKILL and self._given_up is None:
            # A box that does not tell of an end would keep this open for as long as it likes.
            self._given_up = asyncio.get_running_loop().call_later(KILLED_SECONDS, self._task.cancel)
