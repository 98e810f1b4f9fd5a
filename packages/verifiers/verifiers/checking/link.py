"""How a program of the check that runs in a sandbox speaks with the Hub that started it: one JSON object a line, over the
two pipes that are its standard input and output.

The pipes are taken away from descriptors 0 and 1 at the start and no child inherits them: what is printed, by this
program or by what it runs, is no message. TCP connections to servers in other sandboxes go over the same pipes, so no
network is needed between them (`listen`).

| message | means |
|---|---|
| `{"id", "call", …}` → `{"id", "result"}` or `{"id", "refused"}` | something is asked of the Hub |
| `{"open": N, "server"}` | connection N, to that server |
| `{"data": N, "bytes"}` (base64), `{"eof": N}`, `{"close": N}` | of connection N, both ways |
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import ctypes
import itertools
import json
import os
import sys
from typing import Any, Self

LINE_BYTES = 16 * 1024 * 1024
PART_BYTES = 48 * 1024
PR_SET_DUMPABLE = 4


class Refused(Exception):
    """The Hub did not do it; the sentence says why."""


def unreadable() -> None:
    """Keep other programs of the same user from reading this one's memory and from opening its pipes by /proc (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)


class Link:
    """The program's side. Belongs to one event loop."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._numbers = itertools.count(1)
        self._asked: dict[int, asyncio.Future[Any]] = {}
        self._open: dict[int, asyncio.StreamWriter] = {}
        self._receiving: asyncio.Task[None] | None = None

    @classmethod
    async def over_standard_pipes(cls) -> Self:
        """Take the pipes; from now on descriptor 0 is empty, and what is printed goes to standard error."""
        given, taken = os.dup(0), os.dup(1)
        empty = os.open(os.devnull, os.O_RDONLY)
        os.dup2(empty, 0)
        os.close(empty)
        os.dup2(2, 1)
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(LINE_BYTES)
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(given, "rb", 0))
        transport, protocol = await loop.connect_write_pipe(asyncio.streams.FlowControlMixin, os.fdopen(taken, "wb", 0))
        return cls(reader, asyncio.StreamWriter(transport, protocol, None, loop))

    async def task(self) -> dict[str, Any]:
        """The first message, which says what is to be done; the others are received in the background from now on."""
        line = await self._reader.readline()
        if not line:
            raise EOFError("The Hub sent no task.")
        self._receiving = asyncio.create_task(self._receive())
        return json.loads(line)

    async def send(self, message: dict[str, Any]) -> None:
        """One message, once there is room for it."""
        self._writer.write(json.dumps(message, default=str).encode() + b"\n")
        await self._writer.drain()

    async def call(self, name: str, **details: Any) -> Any:
        """Ask something of the Hub. Raises Refused, and ConnectionError when it is gone."""
        number = next(self._numbers)
        answer = self._asked[number] = asyncio.get_running_loop().create_future()
        try:
            await self.send({"id": number, "call": name, **details})
            return await answer
        finally:
            del self._asked[number]

    async def listen(self, server: str) -> tuple[str, asyncio.Server]:
        """(an http address on loopback whose connections are ones to that server, what closes it)."""

        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            number = next(self._numbers)
            self._open[number] = writer
            try:
                await self.send({"open": number, "server": server})
                while data := await reader.read(PART_BYTES):
                    await self.send({"data": number, "bytes": base64.b64encode(data).decode()})
                await self.send({"eof": number})
            except OSError:
                await self.send({"close": number})

        listener = await asyncio.start_server(connected, "127.0.0.1", 0)
        return f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}", listener

    async def _receive(self) -> None:
        while line := await self._reader.readline():
            message = json.loads(line)
            if "id" in message:
                self._answer(message)
            elif (writer := self._open.get(message.get("data", 0))) is not None:
                with contextlib.suppress(OSError, RuntimeError):
                    writer.write(base64.b64decode(message["bytes"]))
            elif (writer := self._open.get(message.get("eof", 0))) is not None:
                with contextlib.suppress(OSError, RuntimeError):
                    writer.write_eof()
            elif (writer := self._open.pop(message.get("close", 0), None)) is not None:
                writer.close()
        gone = ConnectionError("The Hub is gone.")
        for answer in self._asked.values():
            if not answer.done():
                answer.set_exception(gone)

    def _answer(self, message: dict[str, Any]) -> None:
        answer = self._asked.get(message["id"])
        if answer is None or answer.done():
            return
        if "refused" in message:
            answer.set_exception(Refused(str(message["refused"])))
        else:
            answer.set_result(message["result"])
