"""The contract of a runtime: how an image is made and how a sandbox of it is started, used and ended.

A runtime knows no leases, no deadlines and no HTTP; the supervisor above it knows no processes and no containers.
Everything is called from one event loop. Errors are sentences for the user; anything else that is raised is a fault of
the runtime and is reported as such.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterable, Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

from prime_hub.runner.machine import Usage
from prime_hub.runner.output import Result


class RunnerError(Exception):
    """Something a user did or meets; `str(error)` is the sentence, `kind` a word for programs."""

    kind = "RUNNER_ERROR"


class BuildError(RunnerError):
    """The image cannot be built."""

    kind = "BUILD_FAILED"


class ImageMissing(RunnerError):
    """No image of that digest is on this host."""

    kind = "IMAGE_NOT_FOUND"


class ImageInUse(RunnerError):
    """A living sandbox needs the image."""

    kind = "IMAGE_IN_USE"


class StartError(RunnerError):
    """The sandbox cannot be started."""

    kind = "START_FAILED"


class ExecError(RunnerError):
    """The command cannot be run (its folder is missing, say)."""

    kind = "EXEC_FAILED"


class FileMissing(RunnerError):
    """No such file in the sandbox."""

    kind = "FILE_NOT_FOUND"


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
class SandboxSpec:
    """What to start. `start_command` None means the image's; `port` is the one the server is said to listen on."""

    id: str
    digest: str
    start_command: str | list[str] | None = None
    env: dict[str, str] = field(default_factory=dict)
    port: int | None = None


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


class BuildLog(Protocol):
    """Where a build says what it does."""

    def write(self, text: str) -> None:
        """Append text as it is."""
        ...


class RunningSandbox(ABC):
    """A sandbox that was started (or adopted) by a runtime."""

    @property
    @abstractmethod
    def pid(self) -> int | None:
        """The main process on this host, where there is one."""

    @property
    @abstractmethod
    def ports(self) -> dict[int, int]:
        """Port in the sandbox → port on this host's loopback, as far as known."""

    @property
    @abstractmethod
    def host_rewritten(self) -> bool:
        """Whether the runtime made a server that wants all interfaces listen on loopback."""

    @property
    @abstractmethod
    def socket_folder(self) -> Path | None:
        """Where the unix sockets of its servers lie, if it may have any: a connection to one of them counts as use."""

    @abstractmethod
    def saved(self) -> dict[str, Any]:
        """What `Runtime.adopt` needs to find this sandbox again; JSON."""

    @abstractmethod
    async def wait(self) -> int | None:
        """Return when the main process has ended: its exit code (negative: the signal), None when that is unknown."""

    @abstractmethod
    async def end(self, grace: float) -> None:
        """End everything that belongs to the sandbox: asked nicely, killed after `grace` seconds. Idempotent.

        When it returns, no process, port, mount or network of the sandbox is left.
        """

    @abstractmethod
    async def remove(self) -> None:
        """Free what lies on disk, the log included, after `end`. Idempotent."""

    @abstractmethod
    async def execute(self, command: str, *, working_dir: str | None, env: dict[str, str], seconds: float) -> Result:
        """Run a shell command. Raises TimeoutError (the command is killed) and ExecError."""

    @abstractmethod
    async def write_file(self, path: str, content: AsyncIterable[bytes]) -> int:
        """Write a file, making its folders; the bytes written. Raises ExecError when the path cannot be written."""

    @abstractmethod
    def read_file(self, path: str) -> Path:
        """A path on this host where the file can be read. Raises FileMissing."""

    @abstractmethod
    async def expose(self, port: int) -> Reached:
        """Where `port` of the sandbox is reached from this host. Raises ExecError."""

    @abstractmethod
    async def listening(self) -> list[Listening]:
        """The TCP addresses on which the sandbox's own processes listen."""

    @abstractmethod
    async def usage(self) -> Usage:
        """What the sandbox's processes use of this host."""

    @abstractmethod
    def logs(self, limit: int) -> bytes:
        """The last `limit` bytes of what the main process printed; also after `end`."""


class Runtime(ABC):
    """One way to run sandboxes on this host."""

    name: str
    isolating: bool

    @abstractmethod
    def not_enforced(self) -> list[str]:
        """What a sandbox of this runtime can do although a container could not, in words."""

    @abstractmethod
    async def open(self) -> None:
        """Get ready; end what interrupted builds left behind. Raises RunnerError when this host cannot do it."""

    @abstractmethod
    async def build(self, request: BuildRequest, log: BuildLog) -> Image:
        """Build an image. Raises BuildError; cancelling ends everything that was started for it."""

    @abstractmethod
    def image(self, digest: str) -> Image:
        """The image of that digest. Raises ImageMissing."""

    @abstractmethod
    def images(self) -> list[Image]:
        """All images on this host."""

    @abstractmethod
    async def delete_image(self, digest: str) -> None:
        """Free an image; the caller has made sure that no sandbox uses it. Raises ImageMissing."""

    @abstractmethod
    async def start(
        self, spec: SandboxSpec, folder: Path, progress: Callable[[dict[str, Any]], None]
    ) -> RunningSandbox:
        """Start a sandbox whose files may lie in `folder` (made already).

        `progress` stores what `adopt` needs as soon as something was started that must not be lost when the runner
        dies. Raises ImageMissing, StartError; nothing is left behind then.
        """

    @abstractmethod
    async def adopt(self, spec: SandboxSpec, folder: Path, saved: dict[str, Any]) -> RunningSandbox | None:
        """Find a sandbox of an earlier runner again; None when its main process is gone (leftovers are then ended)."""

    @abstractmethod
    async def sweep(self, sandbox_id: str, folder: Path) -> None:
        """End and remove whatever is left of a sandbox that could not be started or adopted. Idempotent."""

    @abstractmethod
    async def close(self) -> None:
        """Give back what the runtime itself holds; sandboxes have been ended before."""
