"""Whether a container's memory ran out, for an engine that does not say it: the kernel's own count, watched.

The control group is gone soon after the container, so its count is read whenever the kernel says that it changed.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
from pathlib import Path

MOUNTS = Path("/proc/self/mountinfo")


class MemoryWatch:
    """One container's count of kills for want of memory."""

    def __init__(self, pid: int) -> None:
        self.ran_out = False
        self._loop = asyncio.get_running_loop()
        self._descriptors: list[int] = []
        self._count = -1
        self._events = 0
        with contextlib.suppress(OSError):
            folder = memory_group(pid)
            if folder is not None:
                self._begin(folder)

    def _begin(self, folder: Path) -> None:
        events, control = folder / "memory.events", folder / "cgroup.event_control"
        if events.exists():
            self._count = self._open(events)
            poller = select.epoll()
            poller.register(self._count, select.EPOLLPRI)
            self._descriptors.append(os.dup(poller.fileno()))
            poller.close()
            self._loop.add_reader(self._descriptors[-1], self._look)
        elif control.exists():
            self._count = self._open(folder / "memory.oom_control")
            event = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
            self._descriptors.append(event)
            control.write_text(f"{event} {self._count}")
            self._loop.add_reader(event, self._told)

    def _open(self, path: Path) -> int:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._descriptors.append(descriptor)
        return descriptor

    def _told(self) -> None:
        """The first version says so by an event, and by one more when the group goes."""
        with contextlib.suppress(BlockingIOError):
            self._events += os.eventfd_read(self._descriptors[-1])
        try:
            os.pread(self._count, 4096, 0)
            self.ran_out = self.ran_out or self._events > 0
        except OSError:
            self.ran_out = self.ran_out or self._events > 1
            self.close()

    def _look(self) -> None:
        """The second version counts."""
        try:
            words = os.pread(self._count, 4096, 0).split()
        except OSError:
            # The group has gone, and will not say anything any more.
            self.close()
            return
        counts = dict(zip(words[::2], words[1::2], strict=False))
        self.ran_out = self.ran_out or int(counts.get(b"oom_kill", b"0")) > 0

    def close(self) -> None:
        """Stop watching. Idempotent."""
        for descriptor in self._descriptors:
            self._loop.remove_reader(descriptor)
            os.close(descriptor)
        self._descriptors = []


def memory_group(pid: int) -> Path | None:
    """The folder of the control group that counts a process's memory, of either version. Raises OSError."""
    mounts = [line.partition(" - ") for line in MOUNTS.read_text().splitlines()]
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        for first, _, second in mounts:
            kind, _, options = second.partition(" ")
            fits = (
                kind == "cgroup2"
                if not controllers
                else kind == "cgroup" and "memory" in options.split()[-1].split(",")
            )
            folder = Path(first.split()[4]) / path.strip("/")
            if fits and folder.is_dir() and (controllers or (folder / "memory.events").exists()):
                return folder
    return None
