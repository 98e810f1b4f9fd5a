"""The runtime that isolates without a container engine: a server runs in namespaces of its own, made by bubblewrap.

The image's tree lies at its own paths and its virtual environment at `/app/.venv`, so a start command runs as it is
written. How a box is built and talked to stands in the modules `box_*`; `bubblewrap_host` knows what this host allows.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

from prime_hub.runner import processes
from prime_hub.runner.cgroups import Cgroups
from prime_hub.runner.egress import EgressProxy
from prime_hub.runner.ports import Ports
from prime_hub.runner.runtimes import bubblewrap_host
from prime_hub.runner.runtimes.base import RunningSandbox, RuntimeUnavailable, Setup, StartError
from prime_hub.runner.runtimes.box_kit import Kits
from prime_hub.runner.runtimes.box_plan import SANDBOX_MARK
from prime_hub.runner.runtimes.bubblewrap_sandbox import BoxSandbox
from prime_hub.runner.runtimes.local_sockets import SocketFolders
from prime_hub.runner.runtimes.values import Finding, SandboxSpec
from prime_hub.runner.runtimes.venv_images import VenvRuntime


class BubblewrapRuntime(VenvRuntime):
    """Sandboxes in namespaces of their own; images as virtual environments, the same as those of `process`."""

    name = "bubblewrap"
    isolating = True

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self.ports = Ports()
        self.sockets = SocketFolders(setup.folder)
        self.kits = Kits(setup.folder / "boxes", setup.children)
        self.proxy = EgressProxy()
        self.host = bubblewrap_host.Host(os.geteuid() == 0, None, "not looked at yet", Cgroups({}))
        self.hidden = [Path.home(), setup.folder]

    @property
    def cgroups(self) -> Cgroups:
        """The control groups of this runner."""
        return self.host.cgroups

    @classmethod
    async def examine(cls, setup: Setup) -> list[Finding]:
        host = await bubblewrap_host.look(setup.folder, setup.children)
        if not host.cgroups.sandboxes():
            host.cgroups.close()
        return bubblewrap_host.findings(host)

    def not_enforced(self) -> list[str]:
        return bubblewrap_host.not_enforced(self.host)

    async def open(self) -> None:
        self.host = await bubblewrap_host.look(self.setup.folder, self.children)
        if self.host.problem is not None:
            raise RuntimeUnavailable(f"{self.host.problem[0].upper()}{self.host.problem[1:]}.")
        self.enforces = bubblewrap_host.enforced(self.host)
        if self.host.root:
            # Images are read by the users that boxes have; the runner's folder itself is closed to all of them.
            os.umask(0o022)
        # Every connection into a box and out of it takes two.
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
        await super().open()

    async def start(
        self, spec: SandboxSpec, folder: Path, progress: Callable[[dict[str, Any]], None]
    ) -> RunningSandbox:
        image = self._store.get(spec.digest)
        command = spec.start_command or image.image.config.cmd
        if not command:
            raise StartError("There is no start command, and the image's Dockerfile has no CMD; give one of the two.")
        box = BoxSandbox(self, spec, image, folder)
        try:
            await box.start(command, progress)
        except BaseException:
            await box.end(0.0)
            await box.remove()
            raise
        return box

    async def adopt(self, spec: SandboxSpec, folder: Path, saved: dict[str, Any]) -> RunningSandbox | None:
        box = BoxSandbox(self, spec, self._store.get(spec.digest), folder)
        if await box.find_again(saved):
            return box
        await box.end(0.0)
        await box.remove()
        await self.sweep(spec.id, folder)
        return None

    async def sweep(self, sandbox_id: str, folder: Path) -> None:
        await processes.kill_marked(SANDBOX_MARK, sandbox_id)
        await asyncio.to_thread(self.cgroups.existing(sandbox_id).remove)
        await self.proxy.end(sandbox_id)
        BoxSandbox.remove_files(folder)
        self.sockets.remove(sandbox_id)

    async def strays(self, known: set[str]) -> list[str]:
        return sorted(self.cgroups.sandboxes() - known)

    async def close(self) -> None:
        await self.proxy.close()
        self.ports.close()
        self.cgroups.close()
