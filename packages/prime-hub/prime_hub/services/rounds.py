"""What the Hub does again and again in the background."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress

from prime_hub.errors import HubError


class Rounds:
    """Calls `work` every so many seconds, the first time at once or after that time. A round that fails is logged, and
    the next one comes all the same.
    """

    def __init__(self, name: str, work: Callable[[], Awaitable[object]], seconds: float, *, at_once: bool) -> None:
        self._name = name
        self._work = work
        self._seconds = seconds
        self._at_once = at_once
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin, in the background."""
        self._task = asyncio.create_task(self._run(), name=self._name)

    async def stop(self) -> None:
        """End it, also in the middle of a round."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        log = logging.getLogger(f"prime_hub.{self._name}")
        if not self._at_once:
            await asyncio.sleep(self._seconds)
        while True:
            try:
                await self._work()
            except HubError as error:
                log.warning("%s", error)
            except Exception:
                log.exception("a round of %s failed", self._name)
            await asyncio.sleep(self._seconds)
