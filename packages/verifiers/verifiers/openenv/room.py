"""How many servers the machine they run on still bears, as a source tells it: asked while servers are wanted, never
guessed, and never waited for by a rollout that a running server can take.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from verifiers.openenv.source import Room, RunningServer, ServerSource

FRESH_SECONDS = 2.0
MANY = 1_000_000
logger = logging.getLogger("verifiers.openenv")


class Bounds:
    """The latest answer of `source.room`. `changed` is called when a new one is there, or worth asking for."""

    def __init__(self, source: ServerSource, changed: Callable[[], None]) -> None:
        self._source = source
        self._changed = changed
        self._room: Room | None = None
        self._asked = float("-inf")  # when the answer came, by the loop's clock
        self._left = MANY
        self._asking: asyncio.Task[None] | None = None
        self._again: asyncio.TimerHandle | None = None

    def starts(self, server: RunningServer | None, starting: int) -> int:
        """How many servers may be started now, beside those `starting`; 0 while the source is being asked.

        `server` is a healthy one, the measure of the others; without one there is nothing to be measured.
        """
        if server is None:
            return MANY
        loop = asyncio.get_running_loop()
        if loop.time() - self._asked > FRESH_SECONDS:
            if self._asking is None:
                self._asking = loop.create_task(self._ask(server, starting))
            return 0
        if self._room is None:
            return MANY
        free = min(self._room.starts - starting, self._left)
        if self._left <= 0 and self._again is None:
            self._again = loop.call_later(FRESH_SECONDS, self._look_again)
        return max(0, free)

    def started(self) -> None:
        """One more server takes of the room."""
        self._left -= 1

    async def close(self) -> None:
        if self._again is not None:
            self._again.cancel()
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.gather(self._asking, return_exceptions=True)

    async def _ask(self, server: RunningServer, starting: int) -> None:
        try:
            self._room = await self._source.room(server)
            self._left = MANY if self._room is None or self._room.servers is None else self._room.servers - starting
        except Exception as error:  # a source of somebody's own: not knowing must not hold up anybody
            logger.debug("How many servers there is room for is not known: %s", error)
            self._room, self._left = None, MANY
        finally:
            self._asked, self._asking = asyncio.get_running_loop().time(), None
        self._changed()

    def _look_again(self) -> None:
        self._again = None
        self._changed()
