"""Whether this runner is still wanted: a Hub that calls, something that lives, or else the end."""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections.abc import Callable


class Presence:
    """Heartbeats of the Hubs of this host and the decision to exit.

    The runner is wanted while `alive()` counts something, or for `idle_exit` seconds after the last heartbeat of a Hub that
    has not gone.
    """

    def __init__(self, idle_exit: float, alive: Callable[[], int]) -> None:
        self.runner_id = uuid.uuid4().hex
        self._hubs: dict[int, float] = {}  # by process: until when it is taken to be there
        self._idle_exit = idle_exit
        self._alive = alive
        self._wanted_until = time.monotonic() + idle_exit
        self._changed = asyncio.Event()
        self._stop = False

    @property
    def hub_pid(self) -> int | None:
        """The Hub that called last; None when none is there."""
        return max(self._hubs, key=lambda pid: self._hubs[pid], default=None)

    def attach(self, hub_pid: int | None) -> None:
        """A Hub is there."""
        self._wanted_until = time.monotonic() + self._idle_exit
        if hub_pid is not None:
            self._hubs[hub_pid] = self._wanted_until
        self._changed.set()

    def detach(self, hub_pid: int | None) -> None:
        """A Hub goes; where no other one is there, nothing is to be waited for but what lives."""
        if hub_pid is None:
            self._hubs.clear()
        self._hubs.pop(hub_pid or 0, None)
        moment = time.monotonic()
        self._hubs = {pid: until for pid, until in self._hubs.items() if until > moment}
        self._wanted_until = max(self._hubs.values(), default=moment)
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
