"""AsyncSandboxClient: sandboxes of a Hub. The one implementation; `sync` drives it for programs without asyncio."""

from __future__ import annotations

import asyncio
import builtins
import time
import uuid
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from prime_sandboxes.exceptions import SandboxNotRunningError, not_running
from prime_sandboxes.gateway import Gateway
from prime_sandboxes.leases import LeaseKeeper, Leases
from prime_sandboxes.models import (
    BulkDeleteSandboxResponse,
    Capacity,
    CommandResponse,
    CreateSandboxRequest,
    ErrorContext,
    ExposedPort,
    FileUploadResponse,
    ReadFileResponse,
    Sandbox,
    SandboxListResponse,
    SandboxStatus,
    Usage,
)
from prime_sandboxes.transport import APIClient, Transport

if TYPE_CHECKING:
    from prime_core.connection import Connection

COMMAND_SECONDS = 300.0
FILE_SECONDS = 300.0
READ_SECONDS = 30.0
HOLD_SECONDS = 20.0


class AsyncSandboxClient:
    """Sandboxes of a Hub, for one event loop. An async context manager; `aclose()` ends connections and renewals.

    `connection` says which Hub and key; without it those of the configuration in force, found out at the first call.
    Every call raises APIError and its kinds, and NotAuthenticated without a key.
    """

    def __init__(self, connection: Connection | APIClient | None = None, *, api_key: str | None = None) -> None:
        self._transport = Transport(connection, api_key)
        self._gateway = Gateway(self._transport)
        self._leases: Leases | None = None

    async def create(self, request: CreateSandboxRequest) -> Sandbox:
        """Ask for a sandbox; it may still be starting. Sent again with the same `idempotency_key`, the same one."""
        api = await self._transport.api()
        request = replace(request, idempotency_key=request.idempotency_key or uuid.uuid4().hex)
        answer = await api.post("/sandbox", request.to_wire())
        sandbox = Sandbox.from_wire(answer)
        self._gateway.remember(sandbox.id, answer.get("gatewayAuth"))
        return sandbox

    async def get(self, sandbox_id: str, wait: float = 0.0) -> Sandbox:
        """A sandbox; with `wait`, held by the Hub for so many seconds (at most 25) while it is starting."""
        api = await self._transport.api()
        params = {"wait": f"{wait:g}"} if wait > 0 else None
        return Sandbox.from_wire(await api.get(f"/sandbox/{sandbox_id}", params, timeout=wait + 30))

    async def list(
        self,
        status: str | None = None,
        labels: Sequence[str] | None = None,
        page: int = 1,
        per_page: int = 50,
        exclude_terminated: bool | None = None,
    ) -> SandboxListResponse:
        """One page of the account's sandboxes, newest first."""
        api = await self._transport.api()
        params: dict[str, Any] = {"page": page, "per_page": per_page, "status": status, "labels": [*(labels or [])]}
        answer = await api.get("/sandbox", params | {"is_active": True if exclude_terminated else None})
        found = [Sandbox.from_wire(item) for item in answer.get("sandboxes", [])]
        more = bool(answer.get("hasNext"))
        return SandboxListResponse(found, answer.get("total", len(found)), page, per_page, more)

    async def wait_for_creation(self, sandbox_id: str, max_attempts: int = 60) -> Sandbox:
        """Return when the sandbox runs. `max_attempts` as the official client counts them: five seconds for the first
        five, two for each one more.

        Raises SandboxNotRunningError and its kinds when it ends instead, or is not running by then.
        """
        seconds = min(max_attempts, 5) + 2.0 * max(0, max_attempts - 5)
        deadline = time.monotonic() + seconds
        while True:
            left = deadline - time.monotonic()
            sandbox = await self.get(sandbox_id, max(0.0, min(HOLD_SECONDS, left)))
            if sandbox.status == SandboxStatus.RUNNING:
                return sandbox
            if not sandbox.starting:
                raise await self._ended(sandbox)
            if left <= 0:
                words = f"Sandbox {sandbox_id} was still {sandbox.status} after {seconds:g} seconds."
                raise SandboxNotRunningError(words, sandbox_id, sandbox.status)
            # Only for a Hub that does not hold the answer.
            await asyncio.sleep(0.05)

    async def _ended(self, sandbox: Sandbox) -> SandboxNotRunningError:
        context = await self.error_context(sandbox.id)
        message = context.error_message or sandbox.error_message
        return not_running(sandbox.id, sandbox.status, context.error_type or sandbox.error_type, message)

    async def error_context(self, sandbox_id: str) -> ErrorContext:
        """Why a sandbox ended and its last output; empty where the Hub does not know."""
        return ErrorContext.from_wire(await self._gateway.error_context(sandbox_id))

    async def delete(self, sandbox_id: str) -> dict[str, Any]:
        """End a sandbox; nothing of it is left when this returns. Raises NotFound when there is none."""
        self._gateway.forget(sandbox_id)
        return await (await self._transport.api()).delete(f"/sandbox/{sandbox_id}")

    async def bulk_delete(
        self, sandbox_ids: Sequence[str] | None = None, labels: Sequence[str] | None = None
    ) -> BulkDeleteSandboxResponse:
        """End several sandboxes, by id or by label."""
        api = await self._transport.api()
        body = {"sandbox_ids": [*sandbox_ids] if sandbox_ids else None, "labels": [*labels] if labels else None}
        given = {name: value for name, value in body.items() if value}
        return BulkDeleteSandboxResponse.from_wire(await api.request("DELETE", "/sandbox", given))

    async def renew(self, sandbox_id: str, lease_seconds: float) -> str | None:
        """Let the lease run `lease_seconds` from now; until when, as the Hub says it."""
        api = await self._transport.api()
        answer = await api.post(f"/sandbox/{sandbox_id}/lease", {"lease_seconds": lease_seconds})
        return answer.get("expires_at")

    def keep_alive(self, sandbox_id: str, lease_seconds: float) -> LeaseKeeper:
        """Renew the lease at each third of it, in the background, until `.cancel()`, `aclose()` or its end."""
        if self._leases is None:
            self._leases = Leases(self._transport.connect_now, self._transport.agent)
        return self._leases.keep(sandbox_id, lease_seconds)

    def stop_renewals(self) -> None:
        """Renew no lease any more; returns when no renewal is under way."""
        leases, self._leases = self._leases, None
        if leases is not None:
            leases.close()

    async def get_logs(self, sandbox_id: str) -> str:
        """The end of what the start command has printed."""
        return str((await (await self._transport.api()).get(f"/sandbox/{sandbox_id}/logs")).get("logs") or "")

    async def expose(self, sandbox_id: str, port: int, name: str | None = None, protocol: str = "HTTP") -> ExposedPort:
        """Make a port of the sandbox reachable; `protocol` is HTTP or TCP."""
        api = await self._transport.api()
        body = {"port": port, "name": name, "protocol": protocol}
        return ExposedPort.from_wire(await api.post(f"/sandbox/{sandbox_id}/expose", body))

    async def unexpose(self, sandbox_id: str, exposure_id: str) -> None:
        """Take a port off the list."""
        await (await self._transport.api()).delete(f"/sandbox/{sandbox_id}/expose/{exposure_id}")

    async def list_exposed_ports(self, sandbox_id: str) -> builtins.list[ExposedPort]:
        """The ports of a sandbox that are open."""
        answer = await (await self._transport.api()).get(f"/sandbox/{sandbox_id}/expose")
        return [ExposedPort.from_wire(item) for item in answer.get("exposures", [])]

    async def capacity(self) -> Capacity:
        """What the machine of the Hub's sandboxes has, and how much of its memory is free now."""
        return Capacity.from_wire(await (await self._transport.api()).get("/sandbox/capacity"))

    async def usage(self, sandbox_id: str) -> Usage:
        """What a running sandbox uses of its machine now."""
        return Usage.from_wire(await (await self._transport.api()).get(f"/sandbox/{sandbox_id}/usage"))

    async def execute_command(
        self,
        sandbox_id: str,
        command: str,
        working_dir: str | None = None,
        env: dict[str, str] | None = None,
        timeout: float | None = None,
    ) -> CommandResponse:
        """Run a shell command in the sandbox, 300 seconds at most unless told. Raises CommandTimeoutError,
        SandboxNotRunningError.
        """
        seconds = timeout or COMMAND_SECONDS
        return CommandResponse.from_wire(await self._gateway.execute(sandbox_id, command, working_dir, env, seconds))

    async def upload_file(
        self, sandbox_id: str, file_path: str, local_file_path: str | Path, timeout: float | None = None
    ) -> FileUploadResponse:
        """Copy a local file into the sandbox, to `file_path`. Raises UploadTimeoutError, OSError."""
        path = Path(local_file_path)
        seconds = timeout or FILE_SECONDS
        return FileUploadResponse.from_wire(await self._gateway.upload(sandbox_id, file_path, path, path.name, seconds))

    async def upload_bytes(
        self, sandbox_id: str, file_path: str, file_bytes: bytes, filename: str, timeout: float | None = None
    ) -> FileUploadResponse:
        """Write a file in the sandbox. Raises UploadTimeoutError."""
        seconds = timeout or FILE_SECONDS
        return FileUploadResponse.from_wire(
            await self._gateway.upload(sandbox_id, file_path, file_bytes, filename, seconds)
        )

    async def download_file(
        self, sandbox_id: str, file_path: str, local_file_path: str | Path, timeout: float | None = None
    ) -> None:
        """Copy a file out of the sandbox. Raises SandboxFileNotFoundError, DownloadTimeoutError, OSError."""
        await self._gateway.download(sandbox_id, file_path, Path(local_file_path), timeout or FILE_SECONDS)

    async def read_file(
        self,
        sandbox_id: str,
        file_path: str,
        timeout: float | None = None,
        offset: int | None = None,
        length: int | None = None,
    ) -> ReadFileResponse:
        """A file's text, or a window of it in bytes; a negative offset counts from the end.

        Raises SandboxFileNotFoundError, SandboxFileTooLargeError.
        """
        answer = await self._gateway.read(sandbox_id, file_path, offset, length, timeout or READ_SECONDS)
        return ReadFileResponse.from_wire(answer)

    async def aclose(self) -> None:
        """End connections and renewals. The client can be used again."""
        await asyncio.to_thread(self.stop_renewals)
        await self._transport.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()
