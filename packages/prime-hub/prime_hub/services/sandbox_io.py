"""What happens inside a running sandbox: commands, files, ports."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import asdict
from typing import Any

import httpx
from sqlalchemy import delete, select
from sqlalchemy.orm import defer

from prime_hub.db.models import Account, Exposure, Sandbox
from prime_hub.db.session import Database
from prime_hub.errors import BadGateway, Conflict, HubError, Invalid, NotFound, TooLarge
from prime_hub.runner.runtimes.values import Egress
from prime_hub.services.access import belongs_to
from prime_hub.services.limits import require_outward
from prime_hub.services.runner import Runner
from prime_hub.services.runner_client import RunnerClient, RunnerDown
from prime_hub.services.sandboxes import LIVE, Sandboxes, terminated
from prime_hub.settings import Settings

FILE_SECONDS = 300.0
HOLD_SECONDS = 20.0
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

    async def open(self, sandbox_id: str, method: str, path: str, **options: Any) -> httpx.Response:
        """One of the runner's routes beneath a running sandbox, its answer still to be read and to be closed; options
        as in `RunnerClient.open`.
        """
        client = await self._running(sandbox_id)
        try:
            return await client.open(method, f"/sandboxes/{sandbox_id}/{path}", **options)
        except HubError as error:
            raise await self._noticed(sandbox_id, error) from None

    async def ask(self, sandbox_id: str, method: str, path: str, **options: Any) -> bytes:
        """The same for an answer that is small."""
        answer = await self.open(sandbox_id, method, path, **options)
        try:
            return await answer.aread()
        except httpx.TransportError as error:
            raise RunnerDown("The Hub's runner went away in the middle of its answer; try again.") from error
        finally:
            await answer.aclose()

    async def execute(
        self,
        sandbox_id: str,
        command: str,
        working_dir: str | None,
        env: dict[str, str],
        seconds: float,
        user: str | None = None,
    ) -> dict[str, Any]:
        """Run a shell command: `{stdout, stderr, exit_code}`. Raises RequestTimeout after `seconds`."""
        client = await self._running(sandbox_id)
        body = {"command": command, "working_dir": working_dir, "env": env, "timeout": seconds, "user": user}
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
        found = await self._reached(sandbox_id, port)
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

    async def _reached(self, sandbox_id: str, port: int) -> dict[str, Any]:
        client = await self._running(sandbox_id)
        try:
            return await client.call("POST", f"/sandboxes/{sandbox_id}/expose", {"port": port}, timeout=30)
        except HubError as error:
            raise await self._noticed(sandbox_id, error) from None

    async def reach(self, sandbox_id: str, port: int) -> tuple[str, int]:
        """Host and port at which this machine reaches a port of the sandbox now. Raises Invalid."""
        found = await self._reached(sandbox_id, port)
        return str(found["host"]), int(found["port"])

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

    async def exposures(self, account: Account, sandbox_id: str | None) -> list[tuple[Exposure, Sandbox]]:
        """The ports that are open, of one sandbox or of all live ones of the account and its teams, each with its sandbox."""
        query = select(Exposure, Sandbox).join(Sandbox, Sandbox.id == Exposure.sandbox_id)
        query = query.where(belongs_to(Sandbox.owner_id, account), Sandbox.status.in_(LIVE))
        query = query.options(defer(Sandbox.last_log), defer(Sandbox.environment)).order_by(Exposure.created_at)
        if sandbox_id is not None:
            await self._sandboxes.row(account, sandbox_id)
            query = query.where(Exposure.sandbox_id == sandbox_id)
        async with self._database.read() as session:
            return [(exposure, sandbox) for exposure, sandbox in (await session.execute(query)).unique()]

    async def unexpose(self, account: Account, sandbox_id: str, exposure_id: str) -> None:
        """Take the exposure off the list. Raises NotFound."""
        await self._sandboxes.row(account, sandbox_id)
        mine = (Exposure.id == exposure_id) & (Exposure.sandbox_id == sandbox_id)
        async with self._database.write() as session:
            if (await session.scalars(delete(Exposure).where(mine).returning(Exposure.id))).first() is None:
                raise NotFound(f"Sandbox {sandbox_id} has no exposure {exposure_id}.")

    async def require_egress(self) -> None:
        """Raises Invalid where the runtime cannot hold a sandbox to where it may connect to."""
        await self._runner.client()
        if "egress" not in (self._runner.info.get("enforces") or ()):
            raise Invalid(
                f"This Hub's runtime ({self._runner.runtime}) does not restrict where a sandbox connects to; create it "
                "without rules for its network, or use a Hub whose runtime is bubblewrap or docker."
            )

    async def set_egress(self, account: Account, sandbox_id: str, egress: Egress) -> Sandbox:
        """Change where it may connect to, waiting for its start; the record. Raises NotFound, Invalid."""
        row = await self._sandboxes.row(account, sandbox_id)
        await require_outward(account, egress, row.team_id is not None)
        await self._sandboxes.get(account, sandbox_id, HOLD_SECONDS)
        await self._sandboxes.changeable(account, sandbox_id)  # also after the wait
        client = await self._running(sandbox_id)
        try:
            await client.call("POST", f"/sandboxes/{sandbox_id}/egress", asdict(egress), timeout=30)
        except HubError as error:
            raise await self._noticed(sandbox_id, error) from None
        async with self._database.write() as session:
            row = await session.get_one(Sandbox, sandbox_id)
            generation = int(row.request.get("egress_generation") or 1) + 1
            row.request = {**row.request, "egress": asdict(egress), "egress_generation": generation}
        return row
