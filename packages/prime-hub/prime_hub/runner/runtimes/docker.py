"""The runtimes `docker` and `podman`: real images and containers, by the Docker Engine API that both engines speak.

What an engine leaves to its administrator is done here: sandboxes reach neither one another nor this host, nothing of
theirs outlives them, and what cannot be held to on this host is said.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from prime_hub.runner import processes
from prime_hub.runner.runtimes import oci_config, oci_examine, oci_rooted
from prime_hub.runner.runtimes.base import (
    BuildLog,
    Files,
    ImageInUse,
    RunnerError,
    RunningSandbox,
    Runtime,
    RuntimeUnavailable,
    Setup,
    StartError,
)
from prime_hub.runner.runtimes.oci_build import Builder
from prime_hub.runner.runtimes.oci_credentials import Credentials
from prime_hub.runner.runtimes.oci_disk import DiskWatch
from prime_hub.runner.runtimes.oci_egress import WaysOut
from prime_hub.runner.runtimes.oci_engine import Engine, EngineError, EngineGone, find
from prime_hub.runner.runtimes.oci_files import ContainerFiles
from prime_hub.runner.runtimes.oci_firewall import Firewall, bridge_filter
from prime_hub.runner.runtimes.oci_images import Images
from prime_hub.runner.runtimes.oci_inside import InsideFiles
from prime_hub.runner.runtimes.oci_memory import MemoryWatch
from prime_hub.runner.runtimes.oci_network import Networks, side_of
from prime_hub.runner.runtimes.oci_sandbox import ContainerSandbox
from prime_hub.runner.runtimes.values import BuildRequest, Finding, Image, SandboxSpec

REMOVE_SECONDS = 60.0
START_SECONDS = 120.0
OWNER_LENGTH = 8


class EngineRuntime(Runtime):
    """Sandboxes as containers of an engine on this host."""

    isolating = True
    isolates_builds = True
    images_kind = "oci"
    variables: tuple[str, ...]
    """Environment variables that name the engine's socket."""
    usual: tuple[str, ...]
    """Where the engine listens otherwise."""

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self.engine = Engine(find(setup.options, self.variables, self.usual))
        folder = setup.folder.resolve()
        self.owner = hashlib.sha256(f"{self.name}:{folder}".encode()).hexdigest()[:OWNER_LENGTH]
        self.label = (oci_config.RUNNER_LABEL, self.owner)
        self.images_here = Images(self.engine, self.owner, Credentials())
        self._builder = Builder(self.engine, self.images_here, folder / "contexts", self.owner)
        self.oci_runtime = setup.options.get("oci_runtime") or None
        self.host_signals = False
        self._rooted = False
        self._init = True
        self._disk = False
        self.firewall: Firewall | None = None
        self.networks = Networks(self.engine, self.owner, self.label, None)
        self._why_no_firewall: str | None = None
        self.ways_out = WaysOut(self.networks, None, None)
        self._watches: dict[str, MemoryWatch] = {}
        self._disks = DiskWatch()

    @classmethod
    async def examine(cls, setup: Setup) -> list[Finding]:
        return await oci_examine.examine(cls(setup))

    def not_enforced(self) -> list[str]:
        return oci_examine.not_enforced(self)

    async def open(self) -> None:
        await self.engine.open()
        try:
            self.name = "podman" if self.engine.podman else "docker"
            self._check()
            await self._learn()
            await self._builder.clean()
            if self.firewall is not None:
                in_use = await self.networks.containers()
                for address in await self.firewall.addresses() - in_use:
                    await self.firewall.forget(address)
        except EngineError as error:
            raise RuntimeUnavailable(f"The {self.engine.name} engine refused to be looked at: {error}.") from None

    def _check(self) -> None:
        if oci_examine.rootless(self.engine):
            raise RuntimeUnavailable(
                f"The {self.engine.name} engine at {self.engine.path} runs without root, so its containers cannot be "
                "reached from this host's network; use the engine of the system, or the runtime bubblewrap."
            )
        if self.oci_runtime is not None and self.oci_runtime not in (self.engine.info.get("Runtimes") or {}):
            raise RuntimeUnavailable(
                f"The {self.engine.name} engine has no runtime '{self.oci_runtime}'; name it in its configuration "
                '(for Docker, "runtimes" in /etc/docker/daemon.json).'
            )

    async def _learn(self) -> None:
        """What of this host can be used, and what can be held to."""
        root = os.geteuid() == 0
        # gVisor's processes are not this host's: their numbers and their root folder mean nothing here.
        self.host_signals = root and self.oci_runtime is None
        self._rooted = self.host_signals and await asyncio.to_thread(oci_rooted.works)
        self._why_no_firewall = await Firewall.works(self.setup.children)
        if self._why_no_firewall is None:
            self.firewall = Firewall(self.setup.children, self.owner, Networks.bridges(self.owner))
        self.networks = Networks(self.engine, self.owner, self.label, self.firewall)
        self.ways_out = WaysOut(self.networks, self.firewall, self._why_no_firewall)
        info = self.engine.info
        self._disk = await asyncio.to_thread(oci_examine.bounds_disk, self.engine)
        held = {
            "memory": info.get("MemoryLimit"),
            "cpus": info.get("CpuCfsQuota"),
            "pids": info.get("PidsLimit"),
            "disk": self._disk,
            "egress": self.firewall is not None and bridge_filter(),
        }
        self.enforces = frozenset(name for name, holds in held.items() if holds)

    @property
    def watches_disk(self) -> bool:
        """Whether sandboxes are ended that wrote too much, where the engine does not bound it."""
        return not self._disk and os.geteuid() == 0

    @property
    def why_no_firewall(self) -> str | None:
        """Why there are no rules of our own on this host."""
        return self._why_no_firewall

    async def build(self, request: BuildRequest, log: BuildLog) -> Image:
        return await self._builder.build(request, log)

    async def image(self, digest: str) -> Image:
        return await self.images_here.get(digest)

    async def images(self) -> list[Image]:
        return await self.images_here.all()

    async def fetch(self, reference: str) -> Image:
        return await self.images_here.fetch(reference)

    async def publish(self, digest: str, reference: str, log: BuildLog) -> None:
        await self.images_here.publish(digest, reference, log)

    async def delete_image(self, digest: str) -> None:
        await self.images_here.get(digest)
        try:
            await self.images_here.remove(self.images_here.tag(digest))
        except EngineError as error:
            if error.status == 409:
                raise ImageInUse(f"A container of the engine uses the image: {error}.") from None
            raise

    def files_of(self, box: ContainerSandbox) -> Files:
        """The file system of a sandbox, by the best way that works here."""
        return ContainerFiles(box) if self._rooted else InsideFiles(box)

    async def start(
        self, spec: SandboxSpec, folder: Path, progress: Callable[[dict[str, Any]], None]
    ) -> RunningSandbox:
        box = ContainerSandbox(self, spec, "", folder)
        making: asyncio.Task[str] | None = None
        try:
            config = await self._config(box)
            # Whoever gives up on it must still learn of what the engine made.
            making = asyncio.create_task(self._create(spec, config))
            box.container = await asyncio.shield(making)
            progress(box.saved())
            await self.engine.json("POST", f"containers/{box.container}/start", seconds=START_SECONDS)
            await box.look()
            await self._arrive(box)
            return box
        except BaseException as error:
            await asyncio.shield(self._undo(box, making))
            if isinstance(error, EngineGone):
                self.networks.forget()
            if isinstance(error, EngineError):
                raise StartError(f"The {self.engine.name} engine did not start the sandbox: {_plain(error)}.") from None
            raise

    async def _config(self, box: ContainerSandbox) -> dict[str, Any]:
        spec = box.spec
        image, labels = await self.images_here.described(spec.digest)
        side = side_of(spec.egress)
        network = await self.networks.ensure(side)
        if not spec.egress.everywhere and not spec.egress.none:
            await self.ways_out.open(box, await self.networks.gateway(side))
        box.gateway = await self.networks.gateway(side) if box.proxy_port else None
        return oci_config.container_config(
            self.engine,
            spec,
            image.config,
            runner=self.owner,
            reference=self.images_here.tag(spec.digest),
            network=network,
            env=self.ways_out.variables(box),
            labels=labels,
            oci_runtime=self.oci_runtime,
            init=self._init,
            disk=self._disk,
        )

    async def _create(self, spec: SandboxSpec, config: dict[str, Any]) -> str:
        params = {"name": self.container_name(spec.id)}
        try:
            made = await self.engine.json(
                "POST", "containers/create", params=params, body=config, seconds=START_SECONDS
            )
        except EngineError as error:
            if not (self._init and "init" in str(error).lower() and "not found" in str(error).lower()):
                raise
            # Podman needs a program of its own for it, which not every system installs along.
            self._init = False
            config["HostConfig"]["Init"] = False
            return await self._create(spec, config)
        return str(made["Id"])

    def container_name(self, sandbox_id: str) -> str:
        """The container's name in the engine."""
        return f"prime-{self.owner}-{sandbox_id}"

    async def _arrive(self, box: ContainerSandbox) -> None:
        """What needs the address or the process of a container that has started."""
        await self.ways_out.arrive(box)
        if self.engine.podman and self.host_signals and box.pid and box.id not in self._watches:
            self._watches[box.id] = MemoryWatch(box.pid)
        limit = box.spec.limits.disk_bytes
        if self.watches_disk and box.layer is not None and limit is not None:
            self._disks.add(box, Path(box.layer), limit)

    async def _undo(self, box: ContainerSandbox, making: asyncio.Task[str] | None) -> None:
        with contextlib.suppress(RunnerError):
            if making is not None:
                await asyncio.wait({making})
        with contextlib.suppress(RunnerError):
            await self.ways_out.close(box)
        self.forget_watch(box)
        with contextlib.suppress(RunnerError):
            await self.remove_container(self.container_name(box.id))

    async def adopt(self, spec: SandboxSpec, folder: Path, saved: dict[str, Any]) -> RunningSandbox | None:
        box = ContainerSandbox(self, spec, str(saved.get("container") or self.container_name(spec.id)), folder)
        try:
            found = await self.engine.json("GET", f"containers/{box.container}/json")
            labels = (found.get("Config") or {}).get("Labels") or {}
            ours = labels.get(oci_config.RUNNER_LABEL) == self.owner and labels.get(oci_config.SANDBOX_LABEL) == spec.id
            if ours and (found.get("State") or {}).get("StartedAt", "0001").startswith("0001") is False:
                box.container = str(found["Id"])
                await box.look()
                if box.running:
                    await self._take_over(box, saved)
                return box
        except EngineError as error:
            if error.status != 404:
                raise
        await self.sweep(spec.id, folder)
        return None

    async def _take_over(self, box: ContainerSandbox, saved: dict[str, Any]) -> None:
        """The way out of a sandbox of an earlier runner: its port as before, and the exceptions for its address."""
        await self.networks.ensure(side_of(box.spec.egress))
        port = saved.get("proxy_port")
        if isinstance(port, int):
            side = saved.get("born") or side_of(box.spec.egress)
            box.gateway = await self.networks.gateway(side)
            await self.ways_out.open(box, box.gateway, port)
        await self._arrive(box)

    def memory_ran_out(self, box: ContainerSandbox) -> bool:
        """Whether the kernel ended something in it for want of memory."""
        watch = self._watches.get(box.id)
        return watch is not None and watch.ran_out

    def forget_watch(self, box: ContainerSandbox) -> None:
        """Stop watching its memory and its disk."""
        self._disks.forget(box.id)
        watch = self._watches.pop(box.id, None)
        if watch is not None:
            watch.close()

    async def sweep(self, sandbox_id: str, folder: Path) -> None:
        for container in await self._containers(f"{oci_config.SANDBOX_LABEL}={sandbox_id}"):
            await self.remove_container(str(container["Id"]))
        await self.remove_container(self.container_name(sandbox_id))
        if self.host_signals:
            await processes.kill_marked(oci_config.SANDBOX_MARK, sandbox_id)

    async def strays(self, known: set[str]) -> list[str]:
        found = await self._containers()
        ids = {str((item.get("Labels") or {}).get(oci_config.SANDBOX_LABEL)) for item in found}
        return sorted(ids - known - {"None"})

    async def _containers(self, *labels: str) -> list[dict[str, Any]]:
        filters = {"label": ["=".join(self.label), *labels]}
        return await self.engine.json("GET", "containers/json", params={"all": "true", "filters": json.dumps(filters)})

    async def remove_container(self, container: str) -> None:
        """Kill and remove a container with its anonymous volumes; nothing when there is none. Raises EngineError."""
        deadline = asyncio.get_running_loop().time() + REMOVE_SECONDS
        while True:
            try:
                await self.engine.json(
                    "DELETE", f"containers/{container}", params={"force": "true", "v": "true"}, seconds=REMOVE_SECONDS
                )
            except EngineError as error:
                if error.status == 404:
                    return
                # Another request of ours removes it already, or it is just being stopped.
                if error.status not in (409, 500) or asyncio.get_running_loop().time() > deadline:
                    raise
                await asyncio.sleep(0.1)
                continue
            return

    async def close(self) -> None:
        for watch in self._watches.values():
            watch.close()
        self._watches.clear()
        await self._disks.close()
        await self.ways_out.end()
        with contextlib.suppress(RunnerError):
            if self.engine.info:
                await self.networks.close()
        await self.engine.close()


class DockerRuntime(EngineRuntime):
    """Containers of a Docker engine."""

    name = "docker"
    variables = ("DOCKER_HOST",)
    usual = ("/var/run/docker.sock", "/run/docker.sock")


class PodmanRuntime(EngineRuntime):
    """Containers of Podman, by the socket of its Docker-compatible service."""

    name = "podman"
    variables = ("CONTAINER_HOST",)
    usual = ("/run/podman/podman.sock",)


def _plain(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text[:600].rstrip(".")
