"""Where servers come from: start → url, logs, stop. Pool and session know nothing else of them.

`SandboxSource` (verifiers.openenv.sandbox) starts the project's image in a sandbox of the Hub; `URLSource` is a server
that already runs, an author's own `uvicorn` for instance.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import Protocol

from verifiers.utils.urls import shown_url


@dataclass(frozen=True)
class Address:
    """Where a server listens, in the sandbox's own numbers. `meant_everywhere`: it asked for every interface, and the
    runtime made that loopback."""

    host: str
    port: int
    meant_everywhere: bool = False


class RunningServer(Protocol):
    """A started server process; not necessarily healthy yet."""

    url: str
    started: float
    """`time.monotonic()` at which the process started: start-up time counts from here, not from the queue."""

    @property
    def socket_path(self) -> str | None:
        """A unix socket on which the same server takes connections now, None while there is none: on one machine a
        message takes less time by it.
        """
        ...

    async def ended(self) -> str | None:
        """Why the process is no longer there ("exit code 1"), None while it runs or when that cannot be told."""

    async def logs(self) -> str | None:
        """What the server has printed so far; None when nobody here can see it."""
        ...

    async def listening(self) -> list[Address] | None:
        """The TCP addresses it listens on, None when that cannot be told."""
        ...

    async def stop(self) -> None:
        """End it and wait until it is gone. Idempotent, callable from any event loop, never raises."""


@dataclass(frozen=True)
class Room:
    """What the servers' machine bears. `servers`: how many more may run beside those that do, None when that cannot be
    told; `starts`: how many may be starting at once.
    """

    servers: int | None
    starts: int


class ServerSource(Protocol):
    """Starts servers of one project."""

    starts: bool
    """Whether `start` starts a process; a server that somebody else runs is there, or it is not."""
    limit: int | None
    """How many servers there may be at once, None for any number."""

    async def start(self) -> RunningServer:
        """Start one more. A cancelled start leaves nothing behind. Raises: verifiers.errors.SandboxError."""
        ...

    async def room(self, server: RunningServer) -> Room | None:
        """How many more servers like this one, a healthy one, there is room for; None when it cannot be told. Takes a
        bounded time and never raises.
        """
        ...

    async def aclose(self) -> None:
        """Let go of connections. Servers are stopped one by one, by who started them."""


@dataclass
class _Somewhere:
    url: str
    started: float = field(default_factory=time.monotonic)
    socket_path: str | None = None

    async def ended(self) -> str | None:
        return None

    async def logs(self) -> None:
        return None

    async def listening(self) -> list[Address] | None:
        return None

    async def stop(self) -> None:
        return None


class URLSource:
    """One server that somebody else runs and stops. Its sessions are shared with whoever else uses it."""

    starts = False
    limit: int | None = 1

    def __init__(self, url: str) -> None:
        if not url.startswith(("http://", "https://")):
            raise ValueError(f"server_url must begin with http:// or https://. Got: {shown_url(url)!r}")
        self.url = url.rstrip("/")

    async def start(self) -> RunningServer:
        await asyncio.sleep(0)
        return _Somewhere(self.url)

    async def room(self, server: RunningServer) -> Room | None:
        return None

    async def aclose(self) -> None:
        return None
