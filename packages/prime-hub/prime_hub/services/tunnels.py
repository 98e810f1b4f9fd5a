"""TCP connections of a hosted program to servers in other sandboxes, carried by its messages (`verifiers.checking.link`).

The program listens in its own sandbox; each connection there is one here, to where this machine reaches the server. So no
sandbox needs a way to another.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from prime_hub.errors import BadGateway, HubError
from prime_hub.services.hosted import Program

PART_BYTES = 48 * 1024
MOST_BYTES = 512 * 1024 * 1024
MOST_CONNECTIONS = 256
MOST_WAITING = 1024

Reach = Callable[[str], Awaitable[tuple[str, int]]]
"""Where a server, by its name, is reached now. Raises HubError."""


class Tunnels:
    """The connections of one program. Raises BadGateway beyond so many bytes or connections."""

    def __init__(self, program: Program, reach: Reach, most_bytes: int = MOST_BYTES) -> None:
        self._program, self._reach, self._most = program, reach, most_bytes
        self._inbox: dict[int, asyncio.Queue[bytes | None]] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._bytes = 0

    def take(self, message: dict[str, Any]) -> bool:
        """Whether it is one of a connection, which it is then given to."""
        try:
            return self._take(message)
        except (binascii.Error, KeyError, TypeError, ValueError):
            raise BadGateway("The program sent something that is no message.") from None

    def _take(self, message: dict[str, Any]) -> bool:
        if "open" in message:
            number = int(message["open"])
            if len(self._tasks) >= MOST_CONNECTIONS or number in self._tasks:
                raise BadGateway("The program opened too many connections.")
            self._inbox[number] = asyncio.Queue(MOST_WAITING)
            task = asyncio.create_task(self._carry(number, str(message["server"]), self._inbox[number]))
            self._tasks[number] = task
            task.add_done_callback(lambda _: self._forget(number))  # also of one that was ended before it began
        elif "data" in message:
            data = base64.b64decode(message["bytes"], validate=True)
            self._count(len(data))
            self._give(message["data"], data)
        elif "eof" in message:
            self._give(message["eof"], None)
        elif "close" in message:
            if (task := self._tasks.get(message["close"])) is not None:
                task.cancel()
        else:
            return False
        return True

    def _give(self, number: int, data: bytes | None) -> None:
        inbox = self._inbox.get(number)
        if inbox is None:
            return
        try:
            inbox.put_nowait(data)
        except asyncio.QueueFull:  # the server reads nothing, and what it is sent is not kept for ever
            self._tasks[number].cancel()

    def _count(self, size: int) -> None:
        self._bytes += size
        if self._bytes > self._most:
            raise BadGateway(f"More than {self._most >> 20} MiB went between a server and who looks at it.")

    def _forget(self, number: int) -> None:
        del self._inbox[number]
        del self._tasks[number]

    async def _carry(self, number: int, server: str, inbox: asyncio.Queue[bytes | None]) -> None:
        writer: asyncio.StreamWriter | None = None
        try:
            host, port = await self._reach(server)
            reader, writer = await asyncio.open_connection(host, port)
            sending = asyncio.create_task(self._send(inbox, writer))
            try:
                while data := await reader.read(PART_BYTES):
                    self._count(len(data))
                    await self._program.send({"data": number, "bytes": base64.b64encode(data).decode()})
            finally:
                sending.cancel()
        except (OSError, HubError):
            pass  # to the program it is a connection that broke off
        finally:
            if writer is not None:
                writer.transport.abort()
            with suppress(HubError):
                await self._program.send({"close": number})

    @staticmethod
    async def _send(inbox: asyncio.Queue[bytes | None], writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while (data := await inbox.get()) is not None:
                writer.write(data)
                await writer.drain()
            if writer.can_write_eof():
                writer.write_eof()

    async def close(self) -> None:
        """Break every connection off."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
