"""How ports of a box are reached: a unix socket each, whose listening end the box holds, and a TCP port in front of it.

No socket of this host's network ever gets into a box: it could be turned elsewhere there. What comes in at the TCP port
is passed on here.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import socket
from pathlib import Path

from prime_hub.runner.ports import LOOPBACK, NoFreePort, Ports
from prime_hub.runner.records import write_private

CHUNK_BYTES = 65536
BACKLOG = 4096  # beyond it a unix socket refuses instead of letting wait; the kernel may grant less
PAUSE_SECONDS = 0.5
CONNECTIONS = 4096
TRIES = 20
PORTS_FILE = "ports.json"
_PASSING = frozenset({errno.EAGAIN, errno.EINTR, errno.ECONNABORTED})


def unix_listener(path: Path) -> socket.socket:
    """The listening socket of one port, made anew. Raises OSError."""
    path.unlink(missing_ok=True)
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        made.bind(os.fspath(path))
        made.listen(BACKLOG)
    except BaseException:
        made.close()
        raise
    return made


class Front:
    """A TCP port of this host's loopback, passed on to a unix socket."""

    def __init__(self, host_port: int, path: Path) -> None:
        """Listen. Raises OSError where the port is taken."""
        self._path = os.fspath(path)
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._listener.bind((LOOPBACK, host_port))
            self._listener.listen(BACKLOG)
            self._listener.setblocking(False)
        except BaseException:
            self._listener.close()
            raise
        self._loop.add_reader(self._listener, self._accept)

    def _accept(self) -> None:
        try:
            client, _ = self._listener.accept()
        except OSError as error:
            if error.errno not in _PASSING:
                self._pause()
            return
        client.setblocking(False)
        task = self._loop.create_task(self._serve(client))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        if len(self._tasks) >= CONNECTIONS:
            self._pause()

    def _pause(self) -> None:
        self._loop.remove_reader(self._listener)
        self._loop.call_later(PAUSE_SECONDS, self._resume)

    def _resume(self) -> None:
        if self._listener.fileno() >= 0:
            self._loop.add_reader(self._listener, self._accept)

    async def _serve(self, client: socket.socket) -> None:
        with client, socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
            server.setblocking(False)
            with contextlib.suppress(OSError):
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                server.connect(self._path)
                await self._both(client, server)

    async def _both(self, client: socket.socket, server: socket.socket) -> None:
        ways = {
            asyncio.ensure_future(self._one_way(client, server)),
            asyncio.ensure_future(self._one_way(server, client)),
        }
        waiting = ways
        try:
            while waiting:
                done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
        finally:
            for task in ways:
                task.cancel()
            await asyncio.gather(*ways, return_exceptions=True)

    async def _one_way(self, source: socket.socket, target: socket.socket) -> None:
        while data := await self._loop.sock_recv(source, CHUNK_BYTES):
            await self._loop.sock_sendall(target, data)
        target.shutdown(socket.SHUT_WR)

    async def close(self) -> None:
        """Listen no more and end what is connected. Idempotent."""
        if self._listener.fileno() >= 0:
            self._loop.remove_reader(self._listener)
            self._listener.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


class Fronts:
    """The ports of one box that this host's loopback leads to, kept in its folder for a runner that comes after.

    `sockets` is where the box's unix sockets are, `folder` its own folder. `numbers` says which port of this host leads to
    which of the box.
    """

    def __init__(self, ports: Ports, sockets: Path, folder: Path) -> None:
        self._held, self._sockets, self._file = ports, sockets, folder / PORTS_FILE
        self._fronts: dict[int, Front] = {}
        self.numbers: dict[int, int] = {}

    def open(self, port: int) -> None:
        """Let a free port of this host lead to `port` of the box. Raises NoFreePort."""
        for _ in range(TRIES):
            if self._listen(port, self._held.take()):
                return
        raise NoFreePort("No free port was found on this machine.")

    def open_again(self) -> None:
        """Open what an earlier runner had; on another port where somebody took that one since. Raises NoFreePort, OSError."""
        earlier: dict[int, int] = {}
        with contextlib.suppress(OSError, ValueError, TypeError):
            earlier = {int(port): int(number) for port, number in json.loads(self._file.read_text(encoding="utf-8"))}
        for port, number in earlier.items():
            if not (self._held.hold(number) and self._listen(port, number)):
                self.open(port)
        if self.numbers != earlier:
            self.save()

    def _listen(self, port: int, number: int) -> bool:
        """Listen on the held port `number`; False, and it is let go, when somebody took it in this moment."""
        try:
            self._fronts[port] = Front(number, self._sockets / f"{port}.sock")
        except OSError:
            self._held.give_back(number)
            return False
        self.numbers[port] = number
        return True

    def save(self) -> None:
        """Write down what is open. Raises OSError."""
        write_private(self._file, json.dumps(list(self.numbers.items())))

    async def close(self) -> None:
        """Listen no more and let the ports go. Idempotent."""
        for front in self._fronts.values():
            await front.close()
        for number in self.numbers.values():
            self._held.give_back(number)

    @staticmethod
    def remove_file(folder: Path) -> None:
        """Remove what was written down in a box's folder. Idempotent."""
        (folder / PORTS_FILE).unlink(missing_ok=True)
