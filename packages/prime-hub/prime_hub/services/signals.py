"""Waking requests that are held until something changes."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")

RECHECK_SECONDS = 2.0


class Signals:
    """Topics that can be waited for within this process.

    A change made by another process is seen by looking again every RECHECK_SECONDS. Once `closing` is set nobody waits.
    """

    def __init__(self, closing: asyncio.Event) -> None:
        self._closing = closing
        self._waiting: defaultdict[str, set[asyncio.Event]] = defaultdict(set)

    def send(self, topic: str) -> None:
        """Wake whoever waits for `topic`."""
        for event in self._waiting.get(topic, ()):
            event.set()

    async def until(self, topic: str, seconds: float, look: Callable[[], Awaitable[T]], done: Callable[[T], bool]) -> T:
        """What `look` returns as soon as it is `done`, or after `seconds` as it is then."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        event = asyncio.Event()
        self._waiting[topic].add(event)
        closing = asyncio.create_task(self._closing.wait())
        try:
            while True:
                event.clear()
                value = await look()
                left = deadline - loop.time()
                if done(value) or left <= 0 or self._closing.is_set():
                    return value
                changed = asyncio.create_task(event.wait())
                try:
                    await asyncio.wait(
                        {changed, closing}, timeout=min(left, RECHECK_SECONDS), return_when=asyncio.FIRST_COMPLETED
                    )
                finally:
                    changed.cancel()
        finally:
            closing.cancel()
            self._waiting[topic].discard(event)
            if not self._waiting[topic]:
                del self._waiting[topic]
