"""Control groups of this runner's sandboxes, where this user may make some: version 1 (as root) or 2 (delegated).

All lie below one group of the runner's own, in the group that the runner itself is in (or, in version 2, beside it),
so the limits of whoever started the runner hold for its sandboxes too. Groups of others are never touched.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from prime_hub.runner.runtimes.values import Limits

PERIOD_MICROSECONDS = 100_000
REMOVE_SECONDS = 5.0
_WANTED = ("memory", "cpu", "pids")


@dataclass(frozen=True)
class Group:
    """The groups of one sandbox: controller → folder (the same one for all in version 2)."""

    folders: dict[str, Path]

    @property
    def _all(self) -> list[Path]:
        return list(dict.fromkeys(self.folders.values()))

    @property
    def joins(self) -> list[Path]:
        """The files into which a process writes its own number to be in the group, and all that it starts."""
        return [folder / "cgroup.procs" for folder in self._all]

    def limit(self, limits: Limits, spare_pids: int) -> set[str]:
        """Set the limits; those that hold now, of memory, cpus and pids. `spare_pids` are not the sandbox's own."""
        held = set()
        if limits.memory_bytes is not None and (folder := self.folders.get("memory")):
            value = str(limits.memory_bytes)
            if _write(folder / "memory.max", value) or _write(folder / "memory.limit_in_bytes", value):
                # Without these a sandbox would take as much again of the machine's swap.
                if not _write(folder / "memory.swap.max", "0"):
                    _write(folder / "memory.memsw.limit_in_bytes", value)
                held.add("memory")
        if limits.cpus is not None and (folder := self.folders.get("cpu")):
            quota = max(1000, int(limits.cpus * PERIOD_MICROSECONDS))
            if _write(folder / "cpu.max", f"{quota} {PERIOD_MICROSECONDS}") or (
                _write(folder / "cpu.cfs_period_us", str(PERIOD_MICROSECONDS))
                and _write(folder / "cpu.cfs_quota_us", str(quota))
            ):
                held.add("cpus")
        folder = self.folders.get("pids")
        if limits.pids is not None and folder and _write(folder / "pids.max", str(limits.pids + spare_pids)):
            held.add("pids")
        return held

    def out_of_memory(self) -> int:
        """How many processes of it were killed because memory ran out."""
        folder = self.folders.get("memory")
        for name in ("memory.events", "memory.oom_control") if folder is not None else ():
            with contextlib.suppress(OSError, ValueError, IndexError):
                for line in (folder / name).read_text().splitlines():  # ty: ignore[unsupported-operator]
                    if line.startswith("oom_kill "):
                        return int(line.split()[1])
        return 0

    def pids(self) -> list[int]:
        """The processes in it, as this host numbers them."""
        found: set[int] = set()
        for file in self.joins[:1]:
            with contextlib.suppress(OSError):
                found.update(int(word) for word in file.read_text().split())
        return sorted(found)

    def remove(self) -> None:
        """Kill what is left in it and remove it. Blocks, at most for some seconds; idempotent."""
        deadline = time.monotonic() + REMOVE_SECONDS
        for folder in self._all:
            while folder.is_dir():
                try:
                    folder.rmdir()
                    break
                except OSError:
                    if time.monotonic() > deadline:
                        break
                _kill(folder)
                time.sleep(0.005)


def _kill(folder: Path) -> None:
    if _write(folder / "cgroup.kill", "1"):
        return
    with contextlib.suppress(OSError):
        for word in (folder / "cgroup.procs").read_text().split():
            with contextlib.suppress(OSError):
                os.kill(int(word), signal.SIGKILL)


class Cgroups:
    """The runner's own groups; `controllers` are those of memory, cpu and pids that it has."""

    def __init__(self, folders: dict[str, Path]) -> None:
        self._folders = folders

    @property
    def controllers(self) -> set[str]:
        """What can be limited."""
        return set(self._folders)

    @classmethod
    def find(cls, runner_folder: Path, proc: Path = Path("/proc")) -> Cgroups:
        """What this user may have here; made when missing."""
        name = "prime-" + hashlib.sha256(os.fsencode(runner_folder.resolve())).hexdigest()[:12]
        found: dict[str, Path] = {}
        for controller in _WANTED:
            if (own := _own_v1(controller, proc)) is not None and _make(own / name):
                found[controller] = own / name
        if not found:
            found = _second_version(name, proc)
        return cls(found)

    def make(self, sandbox_id: str) -> Group:
        """The groups of a sandbox, made. What cannot be made is left out."""
        return Group({name: path for name, path in self.of(sandbox_id).folders.items() if _make(path)})

    def of(self, sandbox_id: str) -> Group:
        """The groups of a sandbox, whether or not they are there."""
        return Group({name: folder / sandbox_id for name, folder in self._folders.items()})

    def existing(self, sandbox_id: str) -> Group:
        """Those that are there."""
        return Group({name: path for name, path in self.of(sandbox_id).folders.items() if path.is_dir()})

    def sandboxes(self) -> set[str]:
        """The ids of the sandboxes that have groups."""
        found: set[str] = set()
        for folder in set(self._folders.values()):
            with contextlib.suppress(OSError):
                found.update(item.name for item in folder.iterdir() if item.is_dir())
        return found

    def close(self) -> None:
        """Remove the runner's own groups, if nothing is in them."""
        for folder in set(self._folders.values()):
            with contextlib.suppress(OSError):
                folder.rmdir()


def _own_v1(controller: str, proc: Path) -> Path | None:
    """The folder of the group in which this process is, in version 1."""
    try:
        groups = (proc / "self" / "cgroup").read_text().splitlines()
        mounts = (proc / "self" / "mountinfo").read_text().splitlines()
    except OSError:
        return None
    for line in groups:
        _, controllers, path = line.split(":", 2)
        if controller in controllers.split(","):
            for mount in mounts:
                first, _, second = mount.partition(" - ")
                kind, _, options = second.partition(" ")
                if kind == "cgroup" and controller in options.split()[-1].split(","):
                    return _inside(path, first.split()[3], Path(first.split()[4]))
    return None


def _inside(path: str, root: str, top: Path) -> Path:
    # In a container the path may be the machine's and the mount begin at the container's own group.
    inside = path[len(root) :] if root != "/" and (path + "/").startswith(root + "/") else path
    folder = top / inside.strip("/")
    return top if ".." in folder.parts or not folder.is_dir() else folder


def _second_version(name: str, proc: Path) -> dict[str, Path]:
    """A group in version 2 that hands controllers on: beside the group of this process, or further up."""
    try:
        groups = (proc / "self" / "cgroup").read_text().splitlines()
        mounts = (proc / "self" / "mountinfo").read_text().splitlines()
    except OSError:
        return {}
    path = next((line[3:] for line in groups if line.startswith("0::")), None)
    mount = next((fields for line in mounts if " - cgroup2 " in line for fields in [line.split()]), None)
    if path is None or mount is None:
        return {}
    top = Path(mount[4])
    folder = _inside(path, mount[3], top)
    while True:
        handed = set(_read(folder / "cgroup.subtree_control").split()) & set(_WANTED)
        # To move a process there, its user must also be allowed to write where both groups meet.
        if handed and os.access(folder / "cgroup.procs", os.W_OK) and _make(folder / name):
            if _write(folder / name / "cgroup.subtree_control", " ".join(f"+{item}" for item in sorted(handed))):
                return dict.fromkeys(sorted(handed), folder / name)
            with contextlib.suppress(OSError):
                (folder / name).rmdir()
        if folder == top:
            return {}
        folder = folder.parent


def _make(folder: Path) -> bool:
    try:
        folder.mkdir(exist_ok=True)
    except OSError:
        return False
    return os.access(folder / "cgroup.procs", os.W_OK)


def _read(file: Path) -> str:
    try:
        return file.read_text()
    except OSError:
        return ""


def _write(file: Path, text: str) -> bool:
    try:
        # Not made where it is missing.
        descriptor = os.open(file, os.O_WRONLY | os.O_TRUNC)
    except OSError:
        return False
    try:
        os.write(descriptor, text.encode())
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True
