"""Where an exposed port is reached now, and how many use it at once."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Generator
from dataclasses import dataclass

import httpx

from prime_hub.db.models import Exposure, Sandbox
from prime_hub.db.session import Database
from prime_hub.errors import NotFound, Unavailable
from prime_hub.services.sandbox_io import SandboxIO
from prime_hub.services.sandboxes import Sandboxes

FRESH_SECONDS = 2.0
MOST_KNOWN = 4096
MOST_AT_ONCE = 512
KEEPALIVE_SECONDS = 5.0


@dataclass(frozen=True)
class Target:
    """A server in a sandbox, as this machine reaches it."""

    exposure_id: str
    sandbox_id: str
    sandbox_port: int
    host: str
    port: int


class Place:
    """One request or connection to a port; `closed` is set when the port is closed under it."""

    def __init__(self) -> None:
        self.closed = asyncio.Event()


class Ports:
    """The exposed ports that the Hub passes connections on to. `http` speaks to their servers."""

    def __init__(self, database: Database, sandboxes: Sandboxes, sandbox_io: SandboxIO) -> None:
        self._database = database
        self._sandboxes = sandboxes
        self._sandbox_io = sandbox_io
        self._known: dict[str, tuple[float, Target]] = {}
        self._used: dict[str, set[Place]] = {}
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=64, keepalive_expiry=KEEPALIVE_SECONDS)
        self.http = httpx.AsyncHTTPTransport(limits=limits, trust_env=False)

    async def close(self) -> None:
        """Close the connections to servers."""
        await self.http.aclose()

    async def reach(self, exposure_id: str, holder: str | None) -> Target:
        """The server of an exposed port, for the account `holder` where the sandbox is a team's. Raises NotFound when the
        port is open no longer, or no longer for that account, and BadGateway, Conflict or Gone as everything inside of a
        sandbox does.
        """
        if holder is not None:  # asked first: not even what became of the sandbox is for others
            async with self._database.read() as session:
                row = await session.get(Exposure, exposure_id)
            if row is None or not await self._sandboxes.is_for(holder, row.sandbox_id):
                raise _shut()
        return await self._reach(exposure_id)

    async def _reach(self, exposure_id: str) -> Target:
        """The runner is asked again every other second: by then the port may be another program's."""
        moment, known = self._known.get(exposure_id, (0.0, None))
        if known is not None and time.monotonic() - moment < FRESH_SECONDS:
            return known
        self._known.pop(exposure_id, None)
        async with self._database.read() as session:
            row = await session.get(Exposure, exposure_id)
            sandbox = None if row is None else await session.get(Sandbox, row.sandbox_id)
        if row is None or sandbox is None or sandbox.deleted_at is not None:
            raise _shut()
        host, port = await self._sandbox_io.reach(row.sandbox_id, row.port)
        found = Target(row.id, row.sandbox_id, row.port, host, port)
        while len(self._known) >= MOST_KNOWN:
            self._known.pop(next(iter(self._known)))
        self._known[exposure_id] = (time.monotonic(), found)
        return found

    def shut(self, exposure_id: str) -> None:
        """The port was closed: nothing more reaches it, also what is connected now."""
        self._known.pop(exposure_id, None)
        for place in self._used.get(exposure_id, ()):
            place.closed.set()

    @contextlib.contextmanager
    def place(self, exposure_id: str) -> Generator[Place]:
        """Be one of those who use a port. Raises Unavailable when there are too many."""
        used = self._used.setdefault(exposure_id, set())
        if len(used) >= MOST_AT_ONCE:
            raise Unavailable(f"{MOST_AT_ONCE} requests and connections to this port are open, which is the most.")
        place = Place()
        used.add(place)
        try:
            yield place
        finally:
            used.discard(place)
            if not used and self._used.get(exposure_id) is used:
                del self._used[exposure_id]


def _shut() -> NotFound:
    return NotFound("The port is not open any more; expose it again.", code="not_exposed")
