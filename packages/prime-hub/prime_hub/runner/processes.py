"""What /proc tells about processes: who carries a sandbox's mark, when one started, on which addresses it listens.

On systems without /proc the answers are empty (or come from `ps`), and the callers fall back on process groups.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from prime_hub.runner.children import alive, wait_gone

PROC = Path("/proc")
LISTEN_STATE = "0A"
CONNECTED_STATE = "03"  # of a unix socket
KILL_ROUNDS = 50


class Address(NamedTuple):
    """Where a socket listens."""

    host: str
    port: int


def has_proc() -> bool:
    """Whether this system shows processes under /proc."""
    return (PROC / "self" / "environ").exists()


def _pids() -> Iterator[int]:
    try:
        names = [path.name for path in PROC.iterdir()]
    except OSError:
        return
    for name in names:
        if name.isdigit():
            yield int(name)


def marked(variable: str, value: str) -> list[int]:
    """The living processes that were started with `variable=value` in their environment, this one excepted."""
    wanted = f"{variable}={value}".encode()
    found = []
    for pid in _pids():
        try:
            environ = (PROC / str(pid) / "environ").read_bytes()
        except OSError:
            continue
        if wanted in environ.split(b"\0") and pid != os.getpid():
            found.append(pid)
    return found


def members(variable: str, value: str) -> list[int]:
    """The marked processes and all their descendants, who may have cleared their environment."""
    found = set(marked(variable, value))
    parents = {pid: parent for pid in _pids() if (parent := _parent(pid)) is not None}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return sorted(found - {os.getpid()})


def _parent(pid: int) -> int | None:
    try:
        return int((PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()[1])
    except (OSError, ValueError, IndexError):
        return None


def start_token(pid: int) -> str | None:
    """Something that tells this process from a later one of the same number; None when it is not running."""
    try:
        stat = (PROC / str(pid) / "stat").read_text()
    except OSError:
        return None if has_proc() else _start_by_ps(pid)
    # The name in parentheses may hold spaces; field 3 is the state, field 22 the start in ticks since boot.
    fields = stat.rpartition(")")[2].split()
    if fields[0] in ("Z", "X"):
        return None
    return f"{_boot_id()}:{fields[19]}"


def _boot_id() -> str:
    try:
        return (PROC / "sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _start_by_ps(pid: int) -> str | None:
    # Only where /proc is missing, and only in the event loop's thread: there the reaper cannot run in between.
    if not alive(pid):
        return None
    try:
        shown = subprocess.run(["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
    except OSError:
        return None
    return shown.stdout.strip() or None


async def kill_marked(variable: str, value: str) -> None:
    """SIGKILL every process with that mark and their descendants, until a look finds none (they may fork meanwhile)."""
    for _ in range(KILL_ROUNDS):
        if not await asyncio.to_thread(marked, variable, value):
            return
        found = await asyncio.to_thread(members, variable, value)
        for pid in found:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        await wait_all_gone(found, 2.0)


async def kill_known(known: Mapping[int, str | None]) -> None:
    """SIGKILL those of these processes (number → start token) that still are the same ones."""
    left = [pid for pid, token in known.items() if token is not None and start_token(pid) == token]
    for pid in left:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)
    await wait_all_gone(left, 2.0)


async def wait_all_gone(pids: Iterable[int], seconds: float) -> None:
    """Wait until all of these have ended, at most `seconds`."""
    waiting = {asyncio.ensure_future(wait_gone(pid)) for pid in pids}
    if waiting:
        _, late = await asyncio.wait(waiting, timeout=seconds)
        for task in late:
            task.cancel()


def _rows(net: Path = PROC / "net") -> Iterator[tuple[str, str, str, str, str]]:
    """(table, local, remote, state, inode) of every TCP socket of this network namespace."""
    for table in ("tcp", "tcp6"):
        try:
            lines = (net / table).read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            yield table, fields[1], fields[2], fields[3], fields[9]


def _port(address: str) -> int:
    return int(address.rpartition(":")[2], 16)


def _host(address: str) -> str:
    packed = address.rpartition(":")[0]
    # Each 32-bit group is written in the machine's byte order, which is little-endian wherever this runs.
    groups = [bytes.fromhex(packed[start : start + 8])[::-1] for start in range(0, len(packed), 8)]
    family = socket.AF_INET if len(groups) == 1 else socket.AF_INET6
    return socket.inet_ntop(family, b"".join(groups))


def listening(pids: Iterable[int]) -> list[Address]:
    """The TCP addresses on which any of these processes listens, sorted."""
    inodes = {inode for pid in pids for inode in _socket_inodes(pid)}
    return sorted(
        {
            Address(_host(local), _port(local))
            for _, local, _, state, inode in _rows()
            if state == LISTEN_STATE and inode in inodes
        }
    )


def listening_beside(pid: int) -> list[Address]:
    """The TCP addresses on which anybody listens in the network namespace of a process, sorted."""
    rows = _rows(PROC / str(pid) / "net")
    return sorted({Address(_host(local), _port(local)) for _, local, _, state, _ in rows if state == LISTEN_STATE})


def descendants(pid: int) -> list[int]:
    """A process and all that descend from it."""
    found = {pid}
    parents = {child: parent for child in _pids() if (parent := _parent(child)) is not None}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return sorted(found)


def _socket_inodes(pid: int) -> Iterator[str]:
    folder = PROC / str(pid) / "fd"
    try:
        descriptors = list(folder.iterdir())
    except OSError:
        return
    for descriptor in descriptors:
        try:
            target = str(descriptor.readlink())
        except OSError:
            continue
        if target.startswith("socket:["):
            yield target[8:-1]


def busy_ports() -> set[int]:
    """Local ports with a connection that is open or was within the last minute (TIME_WAIT)."""
    ports = set()
    for _, local, remote, state, _ in _rows():
        if state != LISTEN_STATE:
            ports |= {_port(local), _port(remote)}
    return ports


def busy_hosts() -> set[str]:
    """The addresses to which this host has a connection that is open or was within the last minute (TIME_WAIT)."""
    return {_host(remote) for _, _, remote, state, _ in _rows() if state != LISTEN_STATE}


def busy_sockets() -> set[str]:
    """The paths of unix sockets that hold an open connection."""
    try:
        lines = (PROC / "net" / "unix").read_text(errors="surrogateescape").splitlines()[1:]
    except OSError:
        return set()
    # Num, RefCount, Protocol, Flags, Type, St, Inode, Path; what a listener has accepted bears its path.
    rows = [fields for line in lines if len(fields := line.split(maxsplit=7)) == 8]
    return {fields[7] for fields in rows if fields[5] == CONNECTED_STATE}
