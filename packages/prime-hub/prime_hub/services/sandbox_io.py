"""What happens inside a running sandbox: commands, files, ports."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from sqlalchemy import delete, select

from prime_hub.db.models import Account, Exposure, Sandbox
from prime_hub.db.session import Database
from prime_hub.errors import BadGateway, Conflict, HubError, NotFound, TooLarge
from prime_hub.services.runner import Runner
from prime_hub.services.runner_client import RunnerClient
from prime_hub.services.sandboxes import LIVE, Sandboxes, terminated
from prime_hub.settings import Settings

FILE_SECONDS = 300.0
MAX_EXEC_SECONDS = 24 * 3600.0


class SandboxIO:
    """Operations inside one sandbox. Each raises BadGateway, Conflict or Gone: not there, not yet running, no more."""

    def __init__(self, settings: Settings, database: Database, sandboxes: Sandboxes, runner: Runner) -> None:
        self._settings = settings
        self._database = database
        self._sandboxes = sandboxes
        self._runner = runner

    async def _running(self, sandbox_id: str) -> RunnerClient:
        async with self._database.read() as session:
            row = await session.get(Sandbox, sandbox_id)
        if row is None or row.deleted_at is not None:
            raise BadGateway(f"There is no sandbox {sandbox_id}.", code="sandbox_not_found")
        if row.status == "RUNNING":
            return await self._runner.client()
        if row.status in LIVE:
            raise Conflict(f"Sandbox {sandbox_id} is not running yet ({row.status}).", code="sandbox_not_running")
        raise terminated(row)

    async def _noticed(self, sandbox_id: str, error: HubError) -> HubError:
        """A refusal that says that the sandbox has ended updates the record at once."""
        if error.code not in ("sandbox_not_found", "sandbox_terminated"):
            return error
        await self._sandboxes.refresh(sandbox_id)
        async with self._database.read() as session:
            row = await session.get(Sandbox, sandbox_id)
        return terminated(row) if row is not None and row.status not in LIVE else error

    async def execute(
        self, sandbox_id: str, command: str, working_dir: str | None, env: dict[str, str], seconds: float
    ) -> dict[str, Any]:
        """Run a shell command: `{stdout, stderr, exit_code}`. Raises RequestTimeout after `seconds`."""
        client = await self._running(sandbox_id)
        body = {"command": command, "working_dir": working_dir, "env": env, "timeout": seconds}
        try:
            return await client.call("POST", f"/sandboxes/{sandbox_id}/exec", body, timeout=seconds + 15)
        except HubError as error:
            raise await self._noticed(sandbox_id, error) from None

    async def write(self, sandbox_id: str, path: str, chunks: AsyncIterator[bytes]) -> int:
        """Put a file into the sandbox, its folder made where missing; the bytes written. Raises TooLarge."""
        client = await self._running(sandbox_id)
        size = 0
        too_large = TooLarge(f"The file is larger than the {self._settings.max_file_bytes} bytes this Hub moves.")

        async def counted() -> AsyncIterator[bytes]:
            nonlocal size
            async for chunk in chunks:
                size += len(chunk)
                if size > self._settings.max_file_bytes:
                    raise too_large
                yield chunk

        try:
            await client.put_file(sandbox_id, path, counted(), FILE_SECONDS)
        except HubError as error:
            raise await self._noticed(sandbox_id, error) from None
        return size

    async def read(
        self, sandbox_id: str, path: str, offset: int = 0, length: int | None = None
    ) -> tuple[int, int, AsyncIterator[bytes]]:
        """(the file's size, the window's start, its bytes). A negative offset counts from the end. Raises NotFound."""
        client = await self._running(sandbox_id)
        try:
            return await client.get_file(sandbox_id, path, offset, length, FILE_SECONDS)
        except HubError as error:
            raise await self._noticed(sandbox_id, error) from None

    async def expose(
        self, account: Account, sandbox_id: str, port: int, name: str | None, protocol: str
    ) -> tuple[Exposure, str | None]:
        """Make a port reachable on this machine, and say at which unix socket of it its server may be reached as well.
        The same port again gives the same exposure.
        """
        await self._sandboxes.row(account, sandbox_id)
        client = await self._running(sandbox_id)
        try:
            found = await client.call("POST", f"/sandboxes/{sandbox_id}/expose", {"port": port}, timeout=30)
        except HubError as error:
            raise await self._noticed(sandbox_id, error) from None
        async with self._database.write() as session:
            query = select(Exposure).where(Exposure.sandbox_id == sandbox_id, Exposure.port == port)
            exposure = (await session.scalars(query)).first()
            if exposure is None:
                exposure = Exposure(sandbox_id=sandbox_id, port=port)
                session.add(exposure)
            exposure.name, exposure.protocol = name or exposure.name, protocol
            exposure.host, exposure.external_port = str(found["host"]), int(found["port"])
            await session.flush()
        return exposure, found.get("unix_socket")

    async def usage(self, account: Account, sandbox_id: str) -> dict[str, Any]:
        """What its processes use now, `{processes, memory_bytes, cpu_seconds}`."""
        await self._sandboxes.row(account, sandbox_id)
        client = await self._running(sandbox_id)
        try:
            return await client.call("GET", f"/sandboxes/{sandbox_id}/usage", timeout=30)
        except HubError as error:
            raise await self._noticed(sandbox_id, error) from None

    async def capacity(self) -> dict[str, Any]:
        """What the sandboxes' machine has, `{cpus, memory_bytes, memory_available_bytes, sandboxes}`: all that run are
        counted, whoever's they are.
        """
        return await (await self._runner.client()).call("GET", "/capacity")

    async def listening(self, account: Account, sandbox_id: str) -> dict[str, Any]:
        """Where its processes listen, `{addresses: [{host, port, host_port}], host_rewritten}`, in its own numbers."""
        await self._sandboxes.row(account, sandbox_id)
        client = await self._running(sandbox_id)
        try:
            return await client.call("GET", f"/sandboxes/{sandbox_id}/listen", timeout=30)
        except HubError as error:
            raise await self._noticed(sandbox_id, error) from None

    async def exposures(self, account: Account, sandbox_id: str | None) -> list[Exposure]:
        """The ports that are open, of one sandbox or of all live ones of the account."""
        query = select(Exposure).join(Sandbox, Sandbox.id == Exposure.sandbox_id)
        query = query.where(Sandbox.owner_id == account.id, Sandbox.status.in_(LIVE)).order_by(Exposure.created_at)
        if sandbox_id is not None:
            await self._sandboxes.row(account, sandbox_id)
            query = query.where(Exposure.sandbox_id == sandbox_id)
        async with self._database.read() as session:
            return list((await session.scalars(query)).all())

    async def unexpose(self, account: Account, sandbox_id: str, exposure_id: str) -> None:
        """Take the exposure off the list. Raises NotFound."""
        await self._sandboxes.row(account, sandbox_id)
        mine = (Exposure.id == exposure_id) & (Exposure.sandbox_id == sandbox_id)
        async with self._database.write() as session:
            if (await session.scalars(delete(Exposure).where(mine).returning(Exposure.id))).first() is None:
                raise NotFound(f"Sandbox {sandbox_id} has no exposure {exposure_id}.")
