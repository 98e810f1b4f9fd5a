"""On which addresses the processes of a container listen, as its own network namespace tells."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from pathlib import Path
from typing import Protocol

from prime_hub.runner.processes import LISTEN_STATE, Address, busy_hosts
from prime_hub.runner.runtimes.base import Command, RunnerError
from prime_hub.runner.runtimes.values import STDOUT, CommandSpec

TABLE_BYTES = 4 << 20
TABLES = ("tcp", "tcp6")
# Where Docker answers for names inside of every container.
ENGINE_ADDRESS = "127.0.0.11"


class Container(Protocol):
    """What has to be known of a sandbox."""

    @property
    def pid(self) -> int | None: ...

    @property
    def container(self) -> str: ...

    @property
    def address(self) -> str | None: ...

    @property
    def host_signals(self) -> bool: ...

    async def run(self, spec: CommandSpec) -> Command: ...


async def listening_in(box: Container) -> list[Address]:
    """The addresses, sorted. Raises RunnerError where neither this host nor the container tells."""
    text = await asyncio.to_thread(_of_host, box.pid, box.container) if box.host_signals else None
    if text is None:
        text = await _of_inside(box)
    found = {address for line in text.splitlines() if (address := _listener(line)) is not None}
    return sorted(address for address in found if address.host != ENGINE_ADDRESS)


def _of_host(pid: int | None, container: str) -> str | None:
    try:
        text = "".join(_table(pid, name) for name in TABLES)
        # Read after them: as long as the process is the container's own, so was what was read.
        return text if container in Path(f"/proc/{pid}/cgroup").read_text() else None
    except OSError:
        return None


def connected_to(box: Container) -> bool:
    """Whether a connection to one of its servers is open, or was within the last minute. Blocking."""
    if box.address in busy_hosts():
        return True
    # Where the server closed it first, only its own side remembers.
    rows = [line.split() for line in (_of_host(box.pid, box.container) or "").splitlines()]
    rows = [fields for fields in rows if len(fields) >= 10]
    served = {fields[1].rpartition(":")[2] for fields in rows if fields[3] == LISTEN_STATE}
    return any(
        fields[3] != LISTEN_STATE and fields[1].rpartition(":")[2] in served and not _is_own(fields[2])
        for fields in rows
    )


def _is_own(packed: str) -> bool:
    """Whether an address is loopback: the sandbox's own talk."""
    return (packed.partition(":")[0].endswith("7F") and len(packed) < 20) or packed.startswith("0" * 24 + "01000000")


def _table(pid: int | None, name: str) -> str:
    with Path(f"/proc/{pid}/net/{name}").open() as file:
        return file.read(TABLE_BYTES)


async def _of_inside(box: Container) -> str:
    command = await box.run(CommandSpec(("cat", "/proc/net/tcp", "/proc/net/tcp6")))
    held = b""
    try:
        async with asyncio.timeout(30):
            async for stream, data in command.output():
                if stream == STDOUT and len(held) < TABLE_BYTES:
                    held += data
    except TimeoutError:
        raise RunnerError("The sandbox did not tell on which addresses it listens.") from None
    finally:
        await command.close()
    return held.decode("ascii", "replace")


def _listener(line: str) -> Address | None:
    """The address of one row that listens; None for every other line."""
    fields = line.split()
    if len(fields) < 10 or fields[3] != LISTEN_STATE:
        return None
    packed, _, port = fields[1].partition(":")
    try:
        # Each 32-bit group is written in the machine's byte order, which is little-endian wherever this runs.
        content = b"".join(bytes.fromhex(packed[at : at + 8])[::-1] for at in range(0, len(packed), 8))
        family = socket.AF_INET if len(content) == 4 else socket.AF_INET6
        host = str(ipaddress.ip_address(socket.inet_ntop(family, content)))
        return Address(host, int(port, 16))
    except (ValueError, OSError):
        return None
