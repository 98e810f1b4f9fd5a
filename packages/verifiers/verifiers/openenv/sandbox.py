"""Servers in sandboxes of the Hub: created with a lease that is renewed, exposed, and deleted when they are stopped."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import json
import logging
import os
import random
import socket
import time
import uuid
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from verifiers.errors import SandboxError
from verifiers.openenv.probe import log_tail
from verifiers.openenv.source import Address, Room, RunningServer

if TYPE_CHECKING:
    from prime_core.manifest import Manifest

LEASE_SECONDS = 60.0
BUILD_SECONDS = 1200.0
CANCEL_SECONDS = 5.0
ROOM_SECONDS = 5.0
MIB = 1024 * 1024
LEAST_SERVER_BYTES = 32 * MIB
RESERVE = 10  # a tenth of the memory stays free
SERVERS_A_CPU = 32
MOST_STARTS = 4
NO_SDK = "OpenEnvEnv requires prime-sandboxes. Install with: uv add prime-sandboxes"
logger = logging.getLogger("verifiers.openenv")


@dataclass(frozen=True)
class Patience:
    """How often and at which intervals (seconds) a sandbox is asked for before that fails."""

    wait_attempts: int = 20
    retries: int = 5
    base_delay: float = 0.5
    backoff_factor: float = 2.0
    max_backoff: float = 30.0
    jitter: float = 1e-3

    def delay(self, attempt: int) -> float:
        """The pause after the attempt with this number, from 0 on."""
        return min(self.base_delay * self.backoff_factor**attempt, self.max_backoff) + random.uniform(0, self.jitter)


class SandboxSource:
    """Servers of a project's image, each in a sandbox of the Hub that the configuration names.

    A sandbox has a lease (`lease_seconds`, or PRIME_LEASE_SECONDS) that is renewed in the background, so it is gone one
    lease after this process died. A Hub that does not have the image builds it from `project`, where that is given; and
    where the account may publish the project's environment, the Hub gives it that environment's secrets and variables.
    `offline`: the sandbox reaches nothing outside, which not every runtime can hold it to.
    """

    starts = True
    limit: int | None = None

    def __init__(
        self,
        manifest: Manifest,
        patience: Patience | None = None,
        lease_seconds: float | None = None,
        project: Path | None = None,
        offline: bool = False,
    ) -> None:
        require_sandboxes()
        self.manifest = manifest
        self._offline = offline
        self._project = project
        self._environment = None if project is None else environment_of(project)
        self._building: asyncio.Task[None] | None = None
        self.patience = patience or Patience()
        self.lease_seconds = lease_seconds if lease_seconds is not None else default_lease_seconds()
        self._client: Any = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def client(self) -> Any:
        """The SDK's client for the running event loop."""
        from prime_sandboxes import AsyncSandboxClient

        loop = asyncio.get_running_loop()
        if self._client is None or self._loop is not loop:
            self._client, self._loop = AsyncSandboxClient(), loop
        return self._client

    async def start(self) -> RunningServer:
        client = self.client()
        creating = asyncio.ensure_future(self._create(client))
        try:
            sandbox = await asyncio.shield(creating)
        except asyncio.CancelledError:
            # The Hub may have heard it already: what it makes is ended here, or else with its lease.
            with contextlib.suppress(Exception, asyncio.CancelledError):
                await client.delete((await asyncio.wait_for(creating, CANCEL_SECONDS)).id)
            raise
        server = _Sandboxed(self, sandbox.id, client.keep_alive(sandbox.id, self.lease_seconds))
        try:
            await client.wait_for_creation(sandbox.id, max_attempts=self.patience.wait_attempts)
            server.started = time.monotonic()
            exposed = await client.expose(sandbox.id, self.manifest.port, name="openenv-env", protocol="TCP")
            server.url, server.unix_socket = endpoint_url(exposed), getattr(exposed, "unix_socket", None)
        except Exception as error:
            message = await server.failure(error)
            await server.stop()
            raise SandboxError(message) from error
        except BaseException:
            await asyncio.shield(server.stop())
            raise
        return server

    async def _create(self, client: Any) -> Any:
        from prime_core.errors import NotFound

        key = uuid.uuid4().hex
        for attempt in range(self.patience.retries + 1):
            manifest = self.manifest
            try:
                return await client.create(self._request(manifest, key))
            except Exception as error:
                if isinstance(error, NotFound) and self._project is not None:
                    if manifest is self.manifest:
                        await self._build(self._project)
                    continue
                if attempt == self.patience.retries or not may_pass(error):
                    raise SandboxError(
                        f"Failed to create OpenEnv sandbox for image {manifest.image}. {sentence_of(error)}"
                    ) from error
            await asyncio.sleep(self.patience.delay(attempt))
        raise SandboxError(f"Failed to create OpenEnv sandbox for image {self.manifest.image}.")

    def _request(self, manifest: Manifest, key: str) -> Any:
        from prime_sandboxes import CreateSandboxRequest

        return CreateSandboxRequest(
            name="openenv-env",
            docker_image=manifest.image,
            image_digest=manifest.image_digest,
            start_command=manifest.start_command,
            port=manifest.port,
            environment=self._environment,
            cpu_cores=2,
            memory_gb=4,
            disk_size_gb=10,
            timeout_minutes=-1,  # as long as the lease is renewed: a pooled server outlives many rollouts
            environment_vars={"ENABLE_WEB_INTERFACE": "false"},
            lease_seconds=self.lease_seconds,
            idempotency_key=key,
            network_allowlist=[] if self._offline else None,
        )

    async def _build(self, project: Path) -> None:
        """Build the image that the Hub lacks from the project, once for all who wait for it."""
        if self._building is None:
            self._building = asyncio.ensure_future(self._build_image(project))
        await asyncio.shield(self._building)

    async def _build_image(self, root: Path) -> None:
        from prime_core.manifest import environment_id_of
        from prime_core.project import read_project
        from prime_sandboxes import AsyncImageClient

        name, missing = environment_id_of(root), self.manifest.image
        logger.warning("The Hub has no image %s; building it from %s, which may take minutes.", missing, root)
        try:
            async with AsyncImageClient() as client, asyncio.timeout(BUILD_SECONDS):
                build = await client.build(name, "latest", root, dockerfile=read_project(root).dockerfile)
        except Exception as error:
            raise SandboxError(
                f"The Hub has no image {missing}, and building it failed. {sentence_of(error)}"
            ) from error
        if build.status != "COMPLETED":
            raise SandboxError(
                f"The Hub has no image {missing}, and building it did not complete successfully "
                f"(status={build.status.lower()}). {build.error or ''} Run: vf-build {name}"
            )
        # Built from the project as it is now, so what an earlier build was made from says nothing about it.
        self.manifest = replace(self.manifest, image=build.image, image_digest=build.digest, context_digest=None)

    async def room(self, server: RunningServer) -> Room | None:
        """By the memory that `server` uses and the machine has, and by the machine's processors (`room_for`)."""
        if not isinstance(server, _Sandboxed):
            return None
        client = self.client()
        try:
            async with asyncio.timeout(ROOM_SECONDS):
                machine, one = await asyncio.gather(client.capacity(), client.usage(server.id))
        except Exception as error:  # a Hub that cannot tell, or is away: then nobody knows
            logger.debug("How many servers there is room for is not known: %s", sentence_of(error))
            return None
        return room_for(machine, one.memory_bytes)

    async def usage(self, server: RunningServer) -> tuple[int | None, int | None]:
        """What a server's sandbox uses: bytes of memory, number of processes; None for what cannot be told. Never raises."""
        try:
            async with asyncio.timeout(ROOM_SECONDS):
                used = await self.client().usage(cast("_Sandboxed", server).id)
        except Exception as error:
            logger.debug("What the sandbox uses is not known: %s", sentence_of(error))
            return None, None
        return used.memory_bytes, used.processes

    async def network_reason(self) -> str | None:
        """Why the Hub's runtime cannot keep a sandbox from the network, None when it can. Raises what a Hub raises."""
        from prime_core.api import AsyncAPIClient
        from prime_core.connection import connect

        connection = connect()
        async with AsyncAPIClient(connection.base_url, connection.api_key) as client:
            runner = (await client.get("/health")).get("runner") or {}
        if "egress" in (runner.get("enforces") or ()):
            return None
        return f"This Hub's runtime ({runner.get('runtime', 'unknown')}) cannot keep a sandbox from the network."

    def without_network(self) -> SandboxSource:
        """The same servers, in sandboxes that reach nothing outside."""
        return SandboxSource(self.manifest, self.patience, self.lease_seconds, self._project, offline=True)

    async def aclose(self) -> None:
        client, self._client = self._client, None
        if client is None:
            return
        if self._loop is asyncio.get_running_loop():
            await client.aclose()
        else:
            client.stop_renewals()


class _Sandboxed:
    """A server in a sandbox."""

    def __init__(self, source: SandboxSource, sandbox_id: str, keeper: Any) -> None:
        self.url = ""
        self.unix_socket: str | None = None
        self.started = time.monotonic()
        self.id = sandbox_id
        self._source, self._keeper, self._stopped = source, keeper, False
        self._connectable = False

    @property
    def socket_path(self) -> str | None:
        # The server makes it when it begins to listen, so until it was there once it may still come.
        self._connectable = self._connectable or (self.unix_socket is not None and connectable(self.unix_socket))
        return self.unix_socket if self._connectable else None

    async def ended(self) -> str | None:
        try:
            context = await self._source.client().error_context(self.id)
        except Exception:
            return None
        status = getattr(context, "status", None)
        if status in (None, "RUNNING", "PENDING", "PROVISIONING"):
            return None
        code = getattr(context, "exit_code", None)
        return f"exit code {code}" if code is not None else f"sandbox {self.id} is {status}"

    async def logs(self) -> str:
        return str(await self._source.client().get_logs(self.id))

    async def listening(self) -> list[Address] | None:
        from prime_core.api import AsyncAPIClient
        from prime_core.connection import connect
        from prime_core.errors import APIError

        connection = connect()
        async with AsyncAPIClient(connection.base_url, connection.api_key) as client:
            try:
                found = await client.get(f"/sandbox/{self.id}/listen")
            except APIError:
                return None
        rewritten = bool(found.get("host_rewritten"))
        return [Address(item["host"], item["port"], rewritten) for item in found.get("addresses", [])]

    async def failure(self, error: Exception) -> str:
        text = ""
        with contextlib.suppress(Exception):
            text = log_tail(await self.logs())
        image = self._source.manifest.image
        sentence = f"OpenEnv sandbox {self.id} failed during startup. Image={image}. {sentence_of(error)}"
        return f"{sentence} Logs (tail):\n{text}" if text else sentence

    async def stop(self) -> None:
        if self._stopped:
            return
        with contextlib.suppress(Exception):
            self._keeper.cancel()
        with contextlib.suppress(Exception):
            await self._source.client().delete(self.id)
        self._stopped = True  # a delete that was cancelled may be asked for again


def environment_of(project: Path) -> str:
    """The environment that a project belongs to, as the Hub is asked for what it gives: `OWNER/NAME` where the folder says
    where it was pushed to or pulled from, else its name.
    """
    from prime_core.manifest import environment_id_of

    try:
        record = json.loads((project.absolute().parent / ".prime" / ".env-metadata.json").read_text(encoding="utf-8"))
        owner, name = record["owner"], record["name"]
    except (OSError, ValueError, TypeError, KeyError):
        return environment_id_of(project)
    return f"{owner}/{name}" if isinstance(owner, str) and isinstance(name, str) else environment_id_of(project)


def room_for(machine: Any, server_bytes: int | None) -> Room:
    """How many more servers a machine (`Capacity`) bears when one uses so many bytes.

    Its free memory but for a tenth of all, divided by what one uses (32 MiB at least), and never more than 32 for each
    processor with those that run; as many starts at once as processors, four at most, because a start keeps one busy.
    """
    starts = max(1, min(MOST_STARTS, int(machine.cpus)))
    total, available = machine.memory_bytes, machine.memory_available_bytes
    if total is None or available is None or server_bytes is None:
        return Room(None, starts)
    by_memory = (available - total // RESERVE) // max(server_bytes, LEAST_SERVER_BYTES)
    by_cpus = int(SERVERS_A_CPU * machine.cpus) - machine.sandboxes
    return Room(max(0, min(by_memory, by_cpus)), starts)


def connectable(path: str) -> bool:
    """Whether a server takes connections on the unix socket at `path`, and from this user."""
    if not hasattr(socket, "AF_UNIX"):
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except BlockingIOError:  # so many are waiting to be let in
            return True
        except (OSError, ValueError):
            return False
    return True


def require_sandboxes() -> None:
    """Raises ImportError, with what to install, when the sandbox SDK is not there."""
    if importlib.util.find_spec("prime_sandboxes") is None:
        raise ImportError(NO_SDK)


def default_lease_seconds() -> float:
    """PRIME_LEASE_SECONDS, else 60. Raises ValueError when it is no number above 0."""
    text = os.environ.get("PRIME_LEASE_SECONDS", "")
    try:
        seconds = float(text) if text else LEASE_SECONDS
    except ValueError:
        seconds = -1.0
    if not seconds > 0:
        raise ValueError(f"PRIME_LEASE_SECONDS must be a number of seconds above 0, not {text!r}.")
    return seconds


def endpoint_url(exposed: Any) -> str:
    """The http address of an exposed port: external endpoint, else a tcp:// or http(s):// url. Raises SandboxError."""
    endpoint = getattr(exposed, "external_endpoint", None)
    if endpoint:
        return f"http://{endpoint}"
    url = str(getattr(exposed, "url", None) or "")
    if url.startswith("tcp://"):
        return "http://" + url.removeprefix("tcp://").rstrip("/")
    if url.startswith(("http://", "https://")):
        return url.rstrip("/")
    raise SandboxError("OpenEnv sandbox exposure did not provide a usable endpoint URL.")


def may_pass(error: Exception) -> bool:
    """Whether asking again may help: the Hub was not reached, or is not itself; not when it understood and refused."""
    from prime_core.errors import APIError

    return isinstance(error, APIError) and (error.status is None or error.status == 429 or error.status >= 500)


def sentence_of(error: Exception) -> str:
    """What an error says, with its hint where it has one."""
    text = str(error) or type(error).__name__
    hint = getattr(error, "hint", None)
    return f"{text} {hint}" if hint else text
