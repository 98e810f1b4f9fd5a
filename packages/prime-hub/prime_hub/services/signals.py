"""Waking requests that are held until something changes."""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

RECHECK_SECONDS = 2.0


class Signals:
    """Topics that can be waited for within this process.

    A change made by another process is seen by looking again every RECHECK_SECONDS. Once `closing` is set nobody waits.
    """

    def __init__(self, closing: asyncio.Event) -> None:
        self._closing = closing
        self._waiting: defaultdict[str, set[asyncio.Event]] = defaultdict(set)

    @property
    def closed(self) -> bool:
        """Whether the Hub stops, so that nobody waits any more."""
        return self._closing.is_set()

    def send(self, topic: str) -> None:
        """Wake whoever waits for `topic`."""
        for event in self._waiting.get(topic, ()):
            event.set()

    async def until(
        self, topic: str | Collection[str], seconds: float, look: Callable[[], Awaitable[T]], done: Callable[[T], bool]
    ) -> T:
        """What `look` returns as soon as it is `done`, or after `seconds` as it is then. `topic` may be several."""
        topics = [topic] if isinstance(topic, str) else topic
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        event = asyncio.Event()
        for name in topics:
            self._waiting[name].add(event)
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
            for name in topics:
                self._waiting[name].discard(event)
                if not self._waiting[name]:
                    del self._waiting[name]

    async def held(self, work: Coroutine[Any, Any, T], otherwise: T) -> T:
        """What `work` returns; `otherwise`, and `work` cancelled, once nobody is to wait any more."""
        working = asyncio.ensure_future(work)
        closing = asyncio.create_task(self._closing.wait())
        try:
            await asyncio.wait({working, closing}, return_when=asyncio.FIRST_COMPLETED)
            return working.result() if working.done() else otherwise
        finally:
            for task in (working, closing):
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError, Exception):
                    await task
