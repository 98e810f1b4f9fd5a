"""Results that stay the same: the newest are kept, and equal requests at the same time are one piece of work."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

Result = TypeVar("Result")


class Kept(Generic[Result]):
    """Keeps results that weigh `most` together, as `weigh` tells; the newest `few` whatever they weigh."""

    def __init__(self, most: int, few: int, weigh: Callable[[Result], int]) -> None:
        self._most, self._few, self._weigh = most, few, weigh
        self._kept: OrderedDict[object, tuple[Result, int]] = OrderedDict()
        self._running: dict[object, asyncio.Task[Result]] = {}

    async def get(self, key: object, make: Callable[[], Coroutine[Any, Any, Result]]) -> Result:
        """What is kept under the key, or is made now. Who leaves does not end what others may wait for."""
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key][0]
        running = self._running.get(key)
        if running is None:
            running = self._running[key] = asyncio.create_task(make())
            running.add_done_callback(lambda done: self._made(key, done))
        return await asyncio.shield(running)

    def _made(self, key: object, done: asyncio.Task[Result]) -> None:
        del self._running[key]
        if done.cancelled() or done.exception() is not None:
            return
        self._kept[key] = (done.result(), self._weigh(done.result()))
        weight = sum(one for _, one in self._kept.values())
        while weight > self._most and len(self._kept) > self._few:
            weight -= self._kept.popitem(last=False)[1][1]
