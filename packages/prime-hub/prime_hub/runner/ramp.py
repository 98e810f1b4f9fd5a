"""How many sandboxes start at the same time: as many as do not slow each other down, and as memory bears.

A start keeps a processor busy for seconds, mostly with imports; a hundred at once would all be late. So starts queue, and
the number at once is found by trying: it grows while starts take as long as the quickest one of their image did, and
shrinks when they take longer. What the machine has is read with its control groups' limits (`machine.py`).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from prime_hub.runner import machine

LOOK_SECONDS = 0.03
HELD_SECONDS = 30.0
MEMORY_SECONDS = 1.0
AT_FIRST_PER_CPU = 2.0  # a start also waits: for the disk, for its sandbox
MOST_PER_CPU = 8.0
SLOWER = 1.5
SLACK_SECONDS = 0.1
RESERVE = 20  # a twentieth of the memory stays free

log = logging.getLogger("prime_hub.runner")


@dataclass
class Start:
    """One start under way. `ready` says whether its server listens or has ended; None: nothing to wait for."""

    image: str
    began: float = field(default_factory=time.monotonic)
    ready: Callable[[], Awaitable[bool]] | None = None
    settled: bool = False

    async def look(self) -> bool:
        """Whether it no longer keeps the machine busy with its start."""
        if self.ready is None or time.monotonic() - self.began > HELD_SECONDS:
            return True
        with contextlib.suppress(Exception):
            return await self.ready()
        return True


@dataclass(eq=False)
class _Waiting:
    """Somebody in the queue."""

    image: str
    turn: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Ramp:
    """The queue of starts of one runner. `running` counts the sandboxes that have memory already."""

    def __init__(self, running: Callable[[], int], capacity: Callable[[], machine.Capacity] = machine.capacity) -> None:
        self._running = running
        self._capacity = capacity
        self._cpus = capacity().cpus
        self._limit = max(1.0, AT_FIRST_PER_CPU * self._cpus)
        self._under_way: list[Start] = []
        self._waiting: deque[_Waiting] = deque()
        self._quickest: dict[str, float] = {}
        self._memory: dict[str, int] = {}
        self._task: asyncio.Task[None] | None = None

    @property
    def limit(self) -> int:
        """How many may start at once now."""
        return max(1, int(self._limit))

    @property
    def waiting(self) -> int:
        """How many wait for their turn."""
        return len(self._waiting)

    def saw(self, image: str, memory_bytes: int | None) -> None:
        """A running sandbox of that image uses so much."""
        if memory_bytes:
            self._memory[image] = max(memory_bytes, self._memory.get(image, 0))

    @asynccontextmanager
    async def turn(self, image: str, on_wait: Callable[[], None]) -> AsyncGenerator[Start]:
        """A turn to start, in the order in which it was asked for. `on_wait` is called when there is none at once.

        The turn lasts until the start is `settled`, which may be after the block; a block that raises gives it back.
        """
        if self._waiting or not self._room(image):
            on_wait()
            mine = _Waiting(image)
            self._waiting.append(mine)
            self._watch()
            try:
                await mine.turn
            except BaseException:
                if mine in self._waiting:
                    self._waiting.remove(mine)
                raise
        start = Start(image)
        self._under_way.append(start)
        try:
            yield start
        except BaseException:
            self._end(start)
            raise
        if start.ready is None:
            self._end(start)
        elif self._waiting:
            self._watch()

    def _room(self, image: str) -> bool:
        if len(self._under_way) >= self.limit:
            return False
        if not self._running() and not self._under_way:
            return True  # the first one is always tried: nothing that ends could make room for it
        found = self._capacity()
        if found.memory_bytes is None or found.memory_available_bytes is None:
            return True
        return found.memory_available_bytes - found.memory_bytes // RESERVE > self._memory.get(image, 0)

    def look_again(self) -> None:
        """Something has ended, so there may be room."""
        if self._waiting:
            self._watch()

    def _watch(self) -> None:
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._let_in(), name="ramp")

    async def _let_in(self) -> None:
        """While somebody waits: see which starts have settled, and let the next ones in."""
        while self._waiting:
            for start in list(self._under_way):
                if not start.settled and await start.look():
                    self._learn(start)
                    self._end(start)
            let_in = 0
            while self._waiting and len(self._under_way) + let_in < self.limit:
                if not self._room(self._waiting[0].image):
                    break
                turn = self._waiting.popleft().turn
                if not turn.done():
                    turn.set_result(None)
                    let_in += 1
            await asyncio.sleep(LOOK_SECONDS if self._under_way or let_in else MEMORY_SECONDS)

    def _learn(self, start: Start) -> None:
        took = time.monotonic() - start.began
        quickest = min(took, self._quickest.get(start.image, took))
        # Forgotten little by little: the machine may have been idler then than it will be again.
        self._quickest[start.image] = quickest * 1.01
        if took <= SLOWER * quickest + SLACK_SECONDS:
            self._limit = min(MOST_PER_CPU * max(1.0, self._cpus), self._limit + 1.0 / self._limit)
        else:
            self._limit = max(1.0, self._limit * 0.9)

    def _end(self, start: Start) -> None:
        start.settled = True
        if start in self._under_way:
            self._under_way.remove(start)

    async def close(self) -> None:
        """Let nobody in any more."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
