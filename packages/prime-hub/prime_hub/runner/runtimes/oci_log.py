"""What a container has printed, as its engine keeps it: the end of it, and any part of it by bytes.

The engine counts lines and knows no place to go on from. So a log that somebody follows is read once, to count its
bytes, and then followed from there into memory for as long as somebody asks for more.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Any

from prime_hub.runner.output import LogPart
from prime_hub.runner.runtimes.base import RunnerError
from prime_hub.runner.runtimes.oci_engine import Engine, EngineError

SHORT_TAIL_LINES = 2000
READ_SECONDS = 60.0
HELD_BYTES = 1 << 20
UNASKED_SECONDS = 90.0
LAST_SECONDS = 5.0
AGAIN_SECONDS = 1.0


class _Held:
    """The last bytes of a log, and how many there were in all."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._pieces: deque[bytes] = deque()
        self._size = 0
        self.end = self.lines = 0

    def add(self, data: bytes) -> None:
        if not data:
            return
        self._pieces.append(data)
        self._size += len(data)
        self.end += len(data)
        self.lines += data.count(b"\n")
        while self._pieces and self._size - len(self._pieces[0]) >= self._limit:
            self._size -= len(self._pieces.popleft())

    def part(self, offset: int, limit: int) -> LogPart:
        first = self.end - self._size
        start = max(first, self.end + offset if offset < 0 else min(offset, self.end))
        if start == self.end:
            return LogPart(b"", self.end)
        data = b"".join(self._pieces)[start - first : start - first + limit]
        return LogPart(data, start + len(data))


class ContainerLog:
    """The log of one container."""

    def __init__(self, engine: Engine, container: Callable[[], str]) -> None:
        self._engine = engine
        self._container = container
        self._held = _Held(HELD_BYTES)
        self._following: asyncio.Task[None] | None = None
        self._unasked: asyncio.TimerHandle | None = None
        self._grown = asyncio.Event()
        self._opening = asyncio.Lock()

    async def tail(self, limit: int) -> bytes:
        """The last `limit` bytes. Raises EngineGone."""
        held = _Held(max(0, limit))
        with contextlib.suppress(EngineError):
            # A few lines first, and all only where those are too short.
            await self._read(held, str(SHORT_TAIL_LINES))
            if held.end < limit and held.lines >= SHORT_TAIL_LINES:
                held = _Held(limit)
                await self._read(held, "all")
        return held.part(-limit, limit).data if limit > 0 else b""

    async def part(self, offset: int, limit: int, wait: float, *, ended: bool) -> LogPart:
        """As RunningSandbox.log_part. When the engine has thrown away the beginning of a long log since it was followed
        last, bytes have other numbers, and who is ahead of them goes on at the end. Raises EngineError, EngineGone.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + wait
        while True:
            async with self._opening:
                await self._open(wait > 0, ended)
            grown = self._grown
            found = self._held.part(offset, limit)
            left = deadline - loop.time()
            if found.data or left <= 0:
                return found
            followed = self._following is not None and not self._following.done()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left if followed else min(left, AGAIN_SECONDS)):
                    await grown.wait()

    async def _open(self, follow: bool, ended: bool) -> None:
        """Have at hand what there is and, with `follow`, what comes."""
        if self._unasked is not None:
            self._unasked.cancel()
        self._unasked = asyncio.get_running_loop().call_later(UNASKED_SECONDS, self.close)
        if self._following is not None:
            if ended:
                await asyncio.wait({self._following}, timeout=LAST_SECONDS)
            if ended == self._following.done():
                return
        held = _Held(HELD_BYTES)
        await self._read(held, "all")
        self._held = held
        if follow and not ended:
            self._following = asyncio.create_task(self._follow(held))

    async def _follow(self, held: _Held) -> None:
        known = held.end
        try:
            async for data in self._stream("all", follow=True):
                held.add(data[known:])
                known = max(0, known - len(data))
                self._wake()
        except RunnerError:
            self._following = None  # Who asks next finds out whether the engine is there again.
        finally:
            self._wake()

    def _wake(self) -> None:
        self._grown.set()
        self._grown = asyncio.Event()

    async def _read(self, held: _Held, tail: str) -> None:
        async for data in self._stream(tail):
            held.add(data)

    async def _stream(self, tail: str, *, follow: bool = False) -> AsyncIterator[bytes]:
        params = {"stdout": "true", "stderr": "true", "tail": tail, "follow": "true" if follow else "false"}
        seconds = None if follow else READ_SECONDS
        path = f"containers/{self._container()}/logs"
        async with self._engine.stream("GET", path, params=params, seconds=seconds) as reply:
            async for data in _unframed(reply.content):
                yield data

    def close(self) -> None:
        """Follow no more, and forget what is held. Idempotent."""
        if self._unasked is not None:
            self._unasked.cancel()
        if self._following is not None:
            self._following.cancel()
        self._unasked = self._following = None
        self._held = _Held(HELD_BYTES)


async def _unframed(content: Any) -> AsyncIterator[bytes]:
    """The data of an engine's log, without the heads that tell the two outputs apart."""
    while True:
        try:
            head = await content.readexactly(8)
            left = int.from_bytes(head[4:], "big")
            while left > 0 and (data := await content.read(min(left, 65536))):
                left -= len(data)
                yield data
        except (EOFError, asyncio.IncompleteReadError):
            return
