"""Whether this runner is still wanted: a Hub that calls, something that lives, or else the end."""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections.abc import Callable


class Presence:
    """Heartbeats of the Hub and the decision to exit.

    The runner is wanted while `alive()` counts something, or for `idle_exit` seconds after the last heartbeat.
    """

    def __init__(self, idle_exit: float, alive: Callable[[], int]) -> None:
        self.runner_id = uuid.uuid4().hex
        self.hub_pid: int | None = None
        self._idle_exit = idle_exit
        self._alive = alive
        self._wanted_until = time.monotonic() + idle_exit
        self._changed = asyncio.Event()
        self._stop = False

    def attach(self, hub_pid: int | None) -> None:
        """A Hub is there."""
        self.hub_pid = hub_pid
        self._wanted_until = time.monotonic() + self._idle_exit
        self._changed.set()

    def detach(self) -> None:
        """The Hub goes; nothing is to be waited for but what lives."""
        self.hub_pid = None
        self._wanted_until = time.monotonic()
        self._changed.set()

    def look_again(self) -> None:
        """Something began or ended."""
        self._changed.set()

    def stop(self) -> None:
        """Exit now."""
        self._stop = True
        self._changed.set()

    async def until_unwanted(self) -> None:
        """Return when the runner is to exit."""
        while not self._stop:
            left = self._wanted_until - time.monotonic()
            alive = self._alive()
            if left <= 0 and not alive:
                return
            self._changed.clear()
            # With something alive only its end (or a heartbeat) can change the answer.
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), None if alive else left)
