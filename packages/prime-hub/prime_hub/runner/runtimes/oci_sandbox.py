"""A sandbox that is a container of an engine."""

from __future__ import annotations

import asyncio
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prime_hub.runner.machine import Usage
from prime_hub.runner.output import LogPart
from prime_hub.runner.runtimes import oci_exec
from prime_hub.runner.runtimes.base import Command, ExecError, Files, RunnerError, RunningSandbox
from prime_hub.runner.runtimes.oci_engine import EngineError, EngineGone
from prime_hub.runner.runtimes.oci_log import ContainerLog
from prime_hub.runner.runtimes.oci_network import addresses, side_of
from prime_hub.runner.runtimes.oci_sockets import connected_to, listening_in
from prime_hub.runner.runtimes.values import CommandSpec, Egress, Exit, Listening, Reached, SandboxSpec

if TYPE_CHECKING:
    from prime_hub.runner.runtimes.docker import EngineRuntime

ENGINE_END_SECONDS = 30.0
LONGEST_PAUSE_SECONDS = 2.0
OOM_MESSAGE = "The sandbox ran out of memory and was ended; give it more, or let the server need less."


class ContainerSandbox(RunningSandbox):
    """One container; `container` is its id in the engine."""

    def __init__(self, runtime: EngineRuntime, spec: SandboxSpec, container: str, folder: Path) -> None:
        self._runtime = runtime
        self._spec = spec
        self._folder = folder
        self.engine = runtime.engine
        self.container = container
        self.has_shell = True
        self.host_signals = runtime.host_signals
        self._state: dict[str, Any] = {}
        self._address: str | None = None
        self.proxy_port: int | None = None
        self.gateway: str | None = None
        self.born = side_of(spec.egress)
        self.changed = False
        self.workdir = "/"
        self.layer: str | None = None
        self.disk_message: str | None = None
        self._ended = False
        self._files = runtime.files_of(self)
        self._log = ContainerLog(self.engine, lambda: self.container)

    @property
    def id(self) -> str:
        """The sandbox's id."""
        return self._spec.id

    @property
    def spec(self) -> SandboxSpec:
        """What was asked for, with the egress as it is now."""
        return self._spec

    @spec.setter
    def spec(self, spec: SandboxSpec) -> None:
        self._spec = spec

    @property
    def pid(self) -> int | None:
        return self._state.get("Pid") or None

    @property
    def running(self) -> bool:
        """Whether it ran when the engine was last asked."""
        return bool(self._state.get("Running"))

    @property
    def ports(self) -> dict[int, int]:
        return {}

    @property
    def host_rewritten(self) -> bool:
        return False

    @property
    def socket_folder(self) -> Path | None:
        return None

    @property
    def files(self) -> Files:
        return self._files

    @property
    def address(self) -> str | None:
        """Its address on its bridge."""
        return self._address

    def saved(self) -> dict[str, Any]:
        return {"container": self.container, "born": self.born, "proxy_port": self.proxy_port}

    async def look(self) -> None:
        """Learn its state from the engine. Raises EngineError, EngineGone."""
        found = await self.engine.json("GET", f"containers/{self.container}/json")
        self._state = found.get("State") or {}
        self.workdir = (found.get("Config") or {}).get("WorkingDir") or "/"
        self.layer = ((found.get("GraphDriver") or {}).get("Data") or {}).get("UpperDir")
        networks = addresses(found.get("NetworkSettings") or {})
        self._address = networks[0] if networks else None

    async def wait(self) -> Exit:
        pause = 0.1
        while True:
            try:
                await self.engine.json("POST", f"containers/{self.container}/wait", seconds=None)
                await self.look()
                if not self.running:
                    return self._exit()
            except EngineError as error:
                if error.status == 404:
                    return Exit(None)
                await asyncio.sleep(pause)
            except EngineGone:
                # The engine is being restarted, say; the container may well live on.
                await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE_SECONDS)

    def _exit(self) -> Exit:
        code = self._state.get("ExitCode")
        if self.disk_message is not None:
            return Exit(code, message=self.disk_message)
        killed = code == 137
        if killed and (self._state.get("OOMKilled") or self._runtime.memory_ran_out(self)):
            return Exit(code, "OOM_KILLED", OOM_MESSAGE)
        return Exit(code)

    async def end(self, grace: float) -> None:
        if self._ended:
            return
        self._runtime.forget_watch(self)
        if self._address is not None:
            await self._runtime.ways_out.close(self)
        try:
            if grace > 0:
                seconds = math.ceil(grace)
                await self.engine.json(
                    "POST",
                    f"containers/{self.container}/stop",
                    params={"t": str(seconds)},
                    seconds=seconds + ENGINE_END_SECONDS,
                )
            else:
                await self.engine.json("POST", f"containers/{self.container}/kill", seconds=ENGINE_END_SECONDS)
                await self.engine.json("POST", f"containers/{self.container}/wait", seconds=ENGINE_END_SECONDS)
        except EngineError as error:
            # Gone, or not running.
            if error.status not in (304, 404, 409) and "not running" not in str(error):
                raise
        self._ended = True

    async def remove(self) -> None:
        self._log.close()
        await self._runtime.remove_container(self.container)

    async def run(self, spec: CommandSpec) -> Command:
        way_out = self._runtime.ways_out.variables(self)
        return await oci_exec.start(self, spec, {**way_out, **spec.env})

    async def expose(self, port: int) -> Reached:
        if not 0 < port < 65536:
            raise ExecError(f"{port} is no port.")
        if self._address is None:
            raise ExecError("The sandbox has no network, so no port of it can be reached.")
        return Reached(self._address, port)

    async def listening(self) -> list[Listening]:
        found = await listening_in(self)
        return [Listening(item.host, item.port, item.port) for item in found]

    async def connected(self) -> bool:
        return await asyncio.to_thread(connected_to, self)

    async def usage(self) -> Usage:
        try:
            found = await self.engine.json(
                "GET", f"containers/{self.container}/stats", params={"stream": "false", "one-shot": "true"}
            )
        except EngineError as error:
            raise RunnerError(f"The engine does not tell what the sandbox uses: {error}.") from None
        memory = found.get("memory_stats") or {}
        counted = memory.get("stats") or {}
        idle = int(counted.get("total_inactive_file") or counted.get("inactive_file") or 0)
        used = None if "usage" not in memory else max(0, int(memory["usage"]) - idle)
        total = ((found.get("cpu_stats") or {}).get("cpu_usage") or {}).get("total_usage")
        processes = int((found.get("pids_stats") or {}).get("current") or 0)
        return Usage(processes, used, None if total is None else int(total) / 1e9)

    async def set_egress(self, egress: Egress) -> None:
        await self._runtime.ways_out.change(self, egress)

    async def logs(self, limit: int) -> bytes:
        return await self._log.tail(limit)

    async def log_part(self, offset: int, limit: int, wait: float = 0.0) -> LogPart:
        return await self._log.part(offset, limit, wait, ended=self._ended)
