"""What goes in and out of a runtime: requests, images, sandboxes, commands and files, as plain values."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

STDOUT = 1
STDERR = 2
SHELL = ("/bin/bash", "-c")
"""How a shell line is run: where an image has no bash, a runtime takes `/bin/sh` in its place."""


@dataclass(frozen=True)
class BuildRequest:
    """What to build: a context archive (tar.gz) and the Dockerfile in it, relative to the archive's root."""

    id: str
    context: Path
    dockerfile: str = "Dockerfile"
    build_args: dict[str, str] = field(default_factory=dict)
    no_cache: bool = False


@dataclass(frozen=True)
class ImageConfig:
    """What an image says about being run.

    `cmd` is a list (exec form), a string (shell form) or None; `env` and `workdir` are the image's own, with its own
    paths; `port` is the first EXPOSE, else the one CMD names; `notes` are the instructions that were not honoured.
    """

    cmd: list[str] | str | None = None
    env: dict[str, str] = field(default_factory=dict)
    workdir: str = "/"
    port: int | None = None
    notes: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Image:
    """An image on this host. `digest` is `sha256:<64 hex>`, the same for the same content; `size` in bytes."""

    digest: str
    config: ImageConfig
    size: int

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"digest": self.digest, "size": self.size, "config": self.config.as_dict()}


@dataclass(frozen=True)
class Limits:
    """What one sandbox may take of its host; None is no limit of its own. `disk_bytes` counts what it writes."""

    cpus: float | None = None
    memory_bytes: int | None = None
    pids: int | None = None
    disk_bytes: int | None = None


@dataclass(frozen=True)
class Egress:
    """Where a sandbox may connect to, of what lies outside this host.

    `allow` None: everywhere but `deny`; else only there, so that an empty list is nowhere. Entries are a host, `*.host`,
    an IPv4 address or a CIDR block, each with `:port` or `:low-high` where it is not for every port. This host itself
    and its private networks can only be reached where an entry of `allow` names them.
    """

    allow: list[str] | None = None
    deny: list[str] = field(default_factory=list)

    @property
    def none(self) -> bool:
        """Whether nothing outside can be reached."""
        return self.allow is not None and not self.allow

    @property
    def everywhere(self) -> bool:
        """Whether no entry restricts it."""
        return self.allow is None and not self.deny


@dataclass(frozen=True)
class SandboxSpec:
    """What to start. `start_command` None means the image's; `port` is the one the server is said to listen on."""

    id: str
    digest: str
    start_command: str | list[str] | None = None
    env: dict[str, str] = field(default_factory=dict)
    port: int | None = None
    limits: Limits = field(default_factory=Limits)
    egress: Egress = field(default_factory=Egress)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> SandboxSpec:
        """What `as_dict` made. Raises TypeError, KeyError."""
        plain = {name: value for name, value in content.items() if name not in ("limits", "egress")}
        return cls(**plain, limits=Limits(**content.get("limits", {})), egress=Egress(**content.get("egress", {})))


@dataclass(frozen=True)
class Exit:
    """How a sandbox's main process ended: `code` (negative: the signal; None: unknown), and `kind`, which is EXITED or
    OOM_KILLED. `message` is the sentence for the user where the kind has one of its own.
    """

    code: int | None = None
    kind: str = "EXITED"
    message: str | None = None


@dataclass(frozen=True)
class Listening:
    """A TCP address on which a sandbox listens: `port` in the sandbox's own numbers, `host_port` on this host."""

    host: str
    port: int
    host_port: int


@dataclass(frozen=True)
class Reached:
    """Where a port of a sandbox is reached from this host. `unix_socket` is a path at which the same server may listen
    as well, for this user only; it need not be there (yet)."""

    host: str
    port: int
    unix_socket: Path | None = None


@dataclass(frozen=True)
class CommandSpec:
    """A command for a sandbox. `argv` with the image's paths, `("/bin/bash", "-c", LINE)` for a shell line.

    `working_dir` None is the image's; `env` is added to the sandbox's; `user` None is the one its server runs as.
    `stdin` False gives it an empty input. `pty` (rows, columns) gives it a terminal, whose output is all STDOUT.
    """

    argv: tuple[str, ...]
    working_dir: str | None = None
    env: dict[str, str] = field(default_factory=dict)
    user: str | None = None
    stdin: bool = False
    pty: tuple[int, int] | None = None

    @classmethod
    def shell(cls, line: str, **more: Any) -> CommandSpec:
        """A line for the shell."""
        return cls((*SHELL, line), **more)


def exit_code(status: int) -> int:
    """A process's end as a shell would say it: a negative status, its signal, becomes 128 and that number."""
    return status if status >= 0 else 128 - status


KILLED = exit_code(-signal.SIGKILL)


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at on this host for a runtime: whether it is as needed, what was found, and what it
    would take where it is not. `needed` False: the runtime works without it, less well.
    """

    what: str
    good: bool
    found: str
    fix: str | None = None
    needed: bool = True

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


FileKind = Literal["file", "folder", "link", "other"]


@dataclass(frozen=True)
class FileInfo:
    """One entry of a sandbox's file system, a link itself and not what it points at.

    `path` is absolute, `size` in bytes, `mode` the permission bits, `modified` seconds since the epoch, `target` where a
    link points.
    """

    path: str
    kind: FileKind
    size: int
    mode: int
    modified: float
    target: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "path": _text(self.path), "target": self.target and _text(self.target)}


def _text(name: str) -> str:
    """A file's name, which may be any bytes, as text."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


@dataclass(frozen=True)
class Window:
    """A part of a file: the whole file's `size`, the part's first byte, its `length` and its bytes."""

    size: int
    start: int
    length: int
    chunks: AsyncIterator[bytes]


def window(size: int, offset: int, length: int | None) -> tuple[int, int]:
    """(first byte, number of bytes) of a part of a file; a negative offset counts from the end."""
    start = max(0, size + offset) if offset < 0 else min(offset, size)
    return start, size - start if length is None else min(length, size - start)
