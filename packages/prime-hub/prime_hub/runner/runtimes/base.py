"""The contract of a runtime: how an image is made and how a sandbox of it is started, used and ended.

A runtime knows no leases, no deadlines and no HTTP; the supervisor above it knows no processes and no containers.
Everything is called from one event loop. Errors are sentences for the user; anything else that is raised is a fault of
the runtime and is reported as such. `runtimes/conformance.py` is the suite that every runtime passes; a runtime of
somebody else's comes in by the entry point group `prime_hub.runtimes` (see `choice.py`).
"""

from __future__ import annotations

import signal
from abc import ABC, abstractmethod
from collections.abc import AsyncIterable, AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from prime_hub.runner.children import Children
from prime_hub.runner.machine import Usage
from prime_hub.runner.output import LogPart
from prime_hub.runner.runtimes.values import (
    BuildRequest,
    CommandSpec,
    Egress,
    Exit,
    FileInfo,
    Finding,
    Image,
    Listening,
    Reached,
    SandboxSpec,
    Window,
)


class RunnerError(Exception):
    """Something a user did or meets; `str(error)` is the sentence, `kind` a word for programs."""

    kind = "RUNNER_ERROR"


class RuntimeUnavailable(RunnerError):
    """This host cannot run sandboxes this way; the sentence says what is missing and what it would take."""

    kind = "RUNTIME_UNAVAILABLE"


class BuildError(RunnerError):
    """The image cannot be built."""

    kind = "BUILD_FAILED"


class ImageMissing(RunnerError):
    """No image of that digest is on this host, or none of that reference can be had."""

    kind = "IMAGE_NOT_FOUND"


class ImageInUse(RunnerError):
    """A living sandbox needs the image."""

    kind = "IMAGE_IN_USE"


class StartError(RunnerError):
    """The sandbox cannot be started."""

    kind = "START_FAILED"


class ExecError(RunnerError):
    """The command cannot be run (its folder is missing, say), or the file operation cannot be done."""

    kind = "EXEC_FAILED"


class FileMissing(RunnerError):
    """No such file in the sandbox."""

    kind = "FILE_NOT_FOUND"


class BuildLog(Protocol):
    """Where a build says what it does."""

    def write(self, text: str) -> None:
        """Append text as it is."""
        ...


class Command(ABC):
    """A command that was started in a sandbox.

    Its output is read as fast as the caller asks for it, so endless output costs the command time and the runner
    nothing. Its processes live on when it ends, as a shell's background jobs do.
    """

    @property
    @abstractmethod
    def pid(self) -> int:
        """Its process number, this host's or the sandbox's own; for showing only."""

    @abstractmethod
    def output(self) -> AsyncIterator[tuple[int, bytes]]:
        """What it prints, as (STDOUT or STDERR, bytes); asked for once. It is over when the command itself has ended
        and what it had written was taken, also while its children hold the pipes open.
        """

    @abstractmethod
    async def wait(self) -> int:
        """Its exit code, 128 and the signal's number when one ended it. May be called by several at once."""

    @abstractmethod
    async def write(self, data: bytes) -> None:
        """Give it input, waiting until it is taken. Raises ExecError when it has no input or no longer reads it."""

    @abstractmethod
    async def close_stdin(self) -> None:
        """Tell it that there is no more input. Idempotent."""

    @abstractmethod
    async def resize(self, rows: int, columns: int) -> None:
        """Give its terminal another size. Raises ExecError when it has none."""

    @abstractmethod
    async def send_signal(self, number: signal.Signals) -> None:
        """Send a signal to it and its process group; nothing when it has ended."""

    @abstractmethod
    async def close(self) -> None:
        """Kill it, group and all, when it still runs, and let go of its pipes. Idempotent."""


class Files(ABC):
    """The file system of a sandbox, as its own processes see it: no link and no race in it leads out of the sandbox.

    Paths are absolute or relative to the image's working directory. All raise FileMissing where the path does not
    exist, and ExecError, with the reason, where the operation cannot be done.
    """

    @abstractmethod
    async def stat(self, path: str) -> FileInfo:
        """One entry."""

    @abstractmethod
    async def entries(self, path: str) -> list[FileInfo]:
        """What lies in a folder, by name."""

    @abstractmethod
    async def read(self, path: str, offset: int = 0, length: int | None = None) -> Window:
        """A part of a regular file, links followed; devices and pipes are refused. A negative offset counts from the
        end.
        """

    @abstractmethod
    async def write(self, path: str, content: AsyncIterable[bytes], mode: int | None = None) -> int:
        """Write a file in one step, making its folders; the bytes written."""

    @abstractmethod
    async def make_folder(self, path: str) -> None:
        """Make a folder and those above it; nothing when it is there."""

    @abstractmethod
    async def remove(self, path: str) -> None:
        """Remove a file, a link, or a folder with all that is in it."""

    @abstractmethod
    async def pack(self, path: str) -> AsyncIterator[bytes]:
        """A folder's content as a tar archive without compression, names relative to the folder."""

    @abstractmethod
    async def unpack(self, path: str, archive: AsyncIterable[bytes]) -> None:
        """Unpack such an archive, also a compressed one, into a folder, made where missing; an entry that would lie elsewhere
        is refused, and so is an archive that is not whole.
        """


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

    @property
    @abstractmethod
    def files(self) -> Files:
        """Its file system."""

    @abstractmethod
    def saved(self) -> dict[str, Any]:
        """What `Runtime.adopt` needs to find this sandbox again; JSON."""

    @abstractmethod
    async def wait(self) -> Exit:
        """Return when the main process has ended."""

    @abstractmethod
    async def end(self, grace: float) -> None:
        """End everything that belongs to the sandbox: asked nicely, killed after `grace` seconds. Idempotent.

        When it returns, no process, port, mount or network of the sandbox is left.
        """

    @abstractmethod
    async def remove(self) -> None:
        """Free what lies on disk, the log included, after `end`. Idempotent."""

    @abstractmethod
    async def run(self, spec: CommandSpec) -> Command:
        """Start a command. Raises ExecError, also for a user whom the runtime cannot give it."""

    @abstractmethod
    async def expose(self, port: int) -> Reached:
        """Where `port` of the sandbox is reached from this host, now and after a restart of the runner; the server
        need not listen yet. Raises ExecError.
        """

    @abstractmethod
    async def listening(self) -> list[Listening]:
        """The TCP addresses on which the sandbox's own processes listen."""

    async def connected(self) -> bool:
        """Whether somebody is connected to a server of it, or was within the last minute, which counts as use; of
        what neither `ports` nor `socket_folder` shows.
        """
        return False

    @abstractmethod
    async def usage(self) -> Usage:
        """What the sandbox's processes use of this host."""

    @abstractmethod
    async def set_egress(self, egress: Egress) -> None:
        """Change where it may connect to, for connections from now on. Raises ExecError where that cannot be done."""

    @abstractmethod
    async def logs(self, limit: int) -> bytes:
        """The last `limit` bytes of what the main process printed; also after `end`, before `remove`."""

    @abstractmethod
    async def log_part(self, offset: int, limit: int, wait: float = 0.0) -> LogPart:
        """At most `limit` bytes of what the main process printed, from byte `offset` of it on (a negative one counts
        from the end), without what is no longer kept; also after `end`, before `remove`.

        While there is nothing yet, it waits for at most `wait` seconds.
        """


@dataclass(frozen=True)
class Setup:
    """What a runtime is made with: its folder, the runner's child processes, and options by name, its own to read."""

    folder: Path
    children: Children
    options: Mapping[str, str] = field(default_factory=dict)


class Runtime(ABC):
    """One way to run sandboxes on this host."""

    name: str
    isolating: bool
    isolates_builds: bool = False
    """Whether what runs while an image is built (installers and what they install) is walled off like a sandbox."""
    enforces: frozenset[str] = frozenset()
    """What it holds a sandbox to, of `memory`, `cpus`, `pids`, `disk` and `egress`; as found on this host by `open`."""
    images_kind: str
    """Images are usable by every runtime of the same kind: `venv`, or `oci` for those of a container engine."""

    def __init__(self, setup: Setup) -> None:
        self.setup = setup

    @classmethod
    @abstractmethod
    async def examine(cls, setup: Setup) -> list[Finding]:
        """Look at this host: what this runtime needs, has and lacks. Changes nothing, leaves nothing behind."""

    @abstractmethod
    def not_enforced(self) -> list[str]:
        """What a sandbox of this runtime can do on this host although a well kept container could not, in words."""

    @abstractmethod
    async def open(self) -> None:
        """Get ready; end what interrupted builds left behind. Raises RuntimeUnavailable when this host cannot do it."""

    @abstractmethod
    async def build(self, request: BuildRequest, log: BuildLog) -> Image:
        """Build an image. Raises BuildError; cancelling ends everything that was started for it."""

    @abstractmethod
    async def image(self, digest: str) -> Image:
        """The image of that digest. Raises ImageMissing."""

    @abstractmethod
    async def images(self) -> list[Image]:
        """All images on this host that were built here or fetched for a sandbox."""

    async def fetch(self, reference: str) -> Image:
        """The image of a reference in a registry, fetched where this host does not have it. Raises ImageMissing."""
        raise ImageMissing(
            f"There is no image '{reference}' on this Hub, and its runtime ({self.name}) takes none from registries; "
            "build it with 'vf-build' or 'prime images push'."
        )

    async def publish(self, digest: str, reference: str, log: BuildLog) -> None:
        """Push an image to an OCI registry under a reference. Raises ImageMissing, RunnerError."""
        raise RunnerError(f"The runtime {self.name} has no container images, so it can push none to a registry.")

    @abstractmethod
    async def delete_image(self, digest: str) -> None:
        """Free an image; the caller has made sure that no sandbox uses it. Raises ImageMissing."""

    @abstractmethod
    async def start(
        self, spec: SandboxSpec, folder: Path, progress: Callable[[dict[str, Any]], None]
    ) -> RunningSandbox:
        """Start a sandbox whose files may lie in `folder` (made already).

        `progress` stores what `adopt` needs as soon as something was started that must not be lost when the runner
        dies. Raises ImageMissing, StartError; nothing is left behind then, nor when it is cancelled.
        """

    @abstractmethod
    async def adopt(self, spec: SandboxSpec, folder: Path, saved: dict[str, Any]) -> RunningSandbox | None:
        """Find a sandbox of an earlier runner again; None when its main process is gone (leftovers are then ended)."""

    @abstractmethod
    async def sweep(self, sandbox_id: str, folder: Path) -> None:
        """End and remove whatever is left of a sandbox that could not be started or adopted. Idempotent."""

    async def strays(self, known: set[str]) -> list[str]:
        """The ids of sandboxes that this runner's runtime runs without their being `known`; they are swept."""
        return []

    @abstractmethod
    async def close(self) -> None:
        """Give back what the runtime itself holds; sandboxes have been ended before."""
