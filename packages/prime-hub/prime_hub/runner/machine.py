"""What this machine has for servers, and what some of its processes use of it.

Counted is what this program may use: the processors it is allowed on, and the limits of its control groups (either
version) where they are below what the machine has. What this system does not tell is None.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
PLACES_OF_ENGINES = (Path("/var/lib/docker"), Path("/var/lib/containers"), Path("/"))


@dataclass(frozen=True)
class Capacity:
    """Of this machine: `cpus` as a number of processors, which a quota may make a fraction; memory in bytes.

    `memory_available_bytes` is what can still be taken without swapping.
    """

    cpus: float
    memory_bytes: int | None
    memory_available_bytes: int | None


@dataclass(frozen=True)
class Usage:
    """Of some processes: memory in bytes, what they share divided among those who share it; processor seconds, with
    those of children that have ended.
    """

    processes: int
    memory_bytes: int | None
    cpu_seconds: float | None


def capacity(proc: Path = PROC) -> Capacity:
    """What this machine has now."""
    cpus = float(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    for folder in _control_groups("cpu", proc):
        if (quota := _quota(folder)) is not None:
            cpus = min(cpus, quota)
    total, available = _memory(proc)
    for folder in _control_groups("memory", proc):
        limit, used = _limit(folder)
        if limit is not None and (total is None or limit < total):
            total = limit
        if limit is not None and used is not None and available is not None:
            available = max(0, min(available, limit - used))
    return Capacity(cpus, total, available)


def disk_bytes(*folders: Path) -> int | None:
    """The size of the largest of the file systems that hold these folders, or what an engine has; None if none tells."""
    sizes = []
    for folder in (*folders, *PLACES_OF_ENGINES):
        with contextlib.suppress(OSError):
            sizes.append(shutil.disk_usage(folder).total)
    return max(sizes, default=None)


def usage(pids: Iterable[int], proc: Path = PROC) -> Usage:
    """What these processes use now; those that have ended meanwhile are left out."""
    memory, seconds, count = 0, 0.0, 0
    known = (proc / "self" / "stat").exists()
    for pid in pids:
        folder = proc / str(pid)
        try:
            # The name in parentheses may hold spaces; fields 14 to 17 are the times, own and of ended children.
            times = (folder / "stat").read_text().rpartition(")")[2].split()[11:15]
            memory += _resident(folder)
        except (OSError, ValueError, IndexError):
            continue
        seconds += sum(map(int, times)) / os.sysconf("SC_CLK_TCK")
        count += 1
    return Usage(count, memory if known else None, seconds if known else None)


def _resident(folder: Path) -> int:
    try:
        rollup = (folder / "smaps_rollup").read_text()
        return next(int(line.split()[1]) * 1024 for line in rollup.splitlines() if line.startswith("Pss:"))
    except (OSError, StopIteration):
        # Nobody's pages, or not ours to look at: what it holds, shared or not.
        return int((folder / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _memory(proc: Path) -> tuple[int | None, int | None]:
    try:
        lines = (proc / "meminfo").read_text().splitlines()
    except OSError:
        try:
            return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"), None
        except (OSError, ValueError):
            return None, None
    found = {name: int(rest.split()[0]) * 1024 for name, _, rest in (line.partition(":") for line in lines)}
    return found.get("MemTotal"), found.get("MemAvailable")


def _control_groups(controller: str, proc: Path) -> Iterator[Path]:
    """The folders of the groups that this process is in for a controller, its own first, then those above it."""
    try:
        groups = (proc / "self" / "cgroup").read_text().splitlines()
        mounts = (proc / "self" / "mountinfo").read_text().splitlines()
    except OSError:
        return
    for line in groups:
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        mount = _mount(mounts, controller if controllers else None)
        if mount is None:
            continue
        root, top = mount
        # In a container the path may be the machine's and the mount begin at the container's own group.
        inside = path[len(root) :] if root != "/" and (path + "/").startswith(root + "/") else path
        folder = top / inside.strip("/")
        if ".." in folder.parts or not folder.is_dir():
            folder = top
        yield folder
        while folder != top:
            folder = folder.parent
            yield folder


def _mount(mounts: list[str], controller: str | None) -> tuple[str, Path] | None:
    """(the group that is mounted, where) of a controller, or of the second version."""
    for line in mounts:
        first, _, second = line.partition(" - ")
        kind, _, options = second.partition(" ")
        fields = first.split()
        if controller is None and kind == "cgroup2":
            return fields[3], Path(fields[4])
        if controller is not None and kind == "cgroup" and controller in options.split()[-1].split(","):
            return fields[3], Path(fields[4])
    return None


def _quota(folder: Path) -> float | None:
    """How many processors a group may use."""
    quota, period = (_words(folder / "cpu.max") or ["max", "1"])[:2]
    if quota == "max":
        quota = (_words(folder / "cpu.cfs_quota_us") or ["-1"])[0]
        period = (_words(folder / "cpu.cfs_period_us") or ["1"])[0]
    return int(quota) / int(period) if int(quota) > 0 else None


def _limit(folder: Path) -> tuple[int | None, int | None]:
    """(a group's limit, what it uses and cannot simply drop) in bytes."""
    # Beyond the second version's `high` a group is slowed down until it stands still, though not ended.
    names = ("memory.max", "memory.high", "memory.limit_in_bytes")
    limits = [int(words[0]) for name in names if (words := _words(folder / name)) and words[0] != "max"]
    used = _words(folder / "memory.current") or _words(folder / "memory.usage_in_bytes")
    if not limits:
        return None, None
    words = _words(folder / "memory.stat")
    counted = dict(zip(words[::2], words[1::2], strict=False))
    # The first version counts a group's own pages under the plain name.
    idle = int(counted.get("total_inactive_file", counted.get("inactive_file", "0")))
    return min(limits), max(0, int(used[0]) - idle) if used else None


def _words(file: Path) -> list[str]:
    try:
        return file.read_text().split()
    except OSError:
        return []
