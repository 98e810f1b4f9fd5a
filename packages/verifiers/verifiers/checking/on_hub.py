"""The check of a published version as the Hub makes it: the program that runs in a sandbox with nothing but the checker.

`python -I -m verifiers.checking.on_hub`, spoken to by `link`. The environment's code and its servers run in sandboxes of
their own, which this program has the Hub start; nothing of theirs ever runs beside it, so that nobody but it has a say in the
report. Its task: `{"archive", "owner", "content_hash", "image", "no_image", "no_code", "offline"}`; its last message:
`{"report"}`, and `{"progress"}` before that for each check.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prime_core.archive import extract_archive
from prime_core.checks.registry import Check
from prime_core.checks.report import Result
from prime_core.errors import PrimeError
from prime_core.manifest import Manifest, parse_manifest
from verifiers.checking.case import Blocked, Target
from verifiers.checking.link import Link, Refused, unreadable
from verifiers.checking.loading import Told
from verifiers.checking.run import run
from verifiers.checking.targets import of_version
from verifiers.errors import SandboxError
from verifiers.openenv.source import Address, Room, RunningServer

SOURCE = "environment"


@dataclass
class Server:
    """A server in a sandbox of the Hub, reached over the link."""

    link: Link
    id: str
    url: str
    listener: asyncio.Server
    started: float = field(default_factory=time.monotonic)
    socket_path: str | None = None

    async def ended(self) -> str | None:
        """See RunningServer."""
        return await self.link.call("ended", server=self.id)

    async def logs(self) -> str | None:
        """See RunningServer."""
        return await self.link.call("logs", server=self.id)

    async def listening(self) -> list[Address] | None:
        """See RunningServer."""
        found = await self.link.call("listening", server=self.id)
        return None if found is None else [Address(str(host), int(port), bool(meant)) for host, port, meant in found]

    async def stop(self) -> None:
        """See RunningServer."""
        self.listener.close()
        with contextlib.suppress(Refused, OSError):
            await self.link.call("stop", server=self.id)


class Servers:
    """Servers of the version's image, in sandboxes that the Hub starts. `reason`: why none can be kept from the network."""

    starts = True
    limit: int | None = None

    def __init__(self, link: Link, reason: str | None, *, offline: bool = False) -> None:
        self._link, self._reason, self._offline = link, reason, offline
        self.running: list[Server] = []

    async def start(self) -> RunningServer:
        """See ServerSource."""
        try:
            started = str(await self._link.call("start", offline=self._offline))
        except Refused as refused:
            raise SandboxError(str(refused)) from refused
        url, listener = await self._link.listen(started)
        self.running.append(Server(self._link, started, url, listener))
        return self.running[-1]

    async def room(self, server: RunningServer) -> Room | None:
        """See ServerSource."""
        return None

    async def aclose(self) -> None:
        """See ServerSource."""

    async def usage(self, server: Server) -> tuple[int | None, int | None]:
        """Bytes of memory and number of processes of a server's sandbox; None for what the runtime does not tell."""
        memory, processes = await self._link.call("usage", server=server.id)
        return memory, processes

    async def network_reason(self) -> str | None:
        """Why a server cannot be kept from the network here, None when it can."""
        return self._reason

    def without_network(self) -> Servers:
        """The same servers, which reach nothing outside."""
        return Servers(self._link, None, offline=True)


def target(task: dict[str, Any], folder: Path, link: Link) -> Target:
    """What is checked."""
    manifest, source = _manifest(task.get("image")), None
    if manifest is not None:
        source = Servers(link, task.get("offline"))
    made = of_version(folder, manifest, None, source=source)
    made.details.update(owner=task.get("owner"), content_hash=task.get("content_hash"))
    if task.get("no_image") and made.has_project:
        made.source, made.no_source = None, str(task["no_image"])
    made.child = _children(link, source, task.get("no_code"))
    return made


def _manifest(content: Any) -> Manifest | None:
    if not isinstance(content, dict):
        return None
    try:
        return parse_manifest(content)
    except PrimeError:
        return None


def _children(
    link: Link, source: Servers | None, no_code: str | None
) -> Callable[[dict[str, Any], float], Awaitable[Told]]:
    async def child(task: dict[str, Any], seconds: float) -> Told:
        if no_code:
            raise Blocked(no_code)
        url = task["server_url"]
        server = next((one.id for one in source.running if one.url == url), None) if source and url else None
        try:
            told = await link.call("child", task=task, seconds=seconds, server=server)
        except Refused as refused:
            raise Blocked(str(refused)) from refused
        events = [item for item in told["events"] if isinstance(item, dict) and isinstance(item.get("event"), str)]
        return Told(events, str(told["ended"]), str(told["printed"]))

    return child


async def main() -> None:
    """Do the task."""
    unreadable()
    link = await Link.over_standard_pipes()
    task = await link.task()
    logging.disable(logging.WARNING)
    begun: set[asyncio.Task[None]] = set()

    def progress(check: Check, result: Result | None) -> None:
        if result is None:
            sending = asyncio.ensure_future(link.send({"progress": {"group": check.group, "id": check.id}}))
            begun.add(sending)
            sending.add_done_callback(begun.discard)

    with tempfile.TemporaryDirectory(prefix="prime-check-") as scratch:
        folder = Path(scratch) / SOURCE
        await asyncio.to_thread(extract_archive, Path(task["archive"]), folder)
        report = await run(target(task, folder, link), progress=progress)
    await asyncio.gather(*begun)
    await link.send({"report": report.as_dict()})


if __name__ == "__main__":
    asyncio.run(main())
