"""Sandboxes as the Hub's records: asked for, started by a runner, looked at, ended."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import defer

from prime_hub.db.models import Account, Sandbox
from prime_hub.db.session import Database
from prime_hub.db.types import new_id, now
from prime_hub.errors import Gone, HubError, Invalid, NotFound
from prime_hub.services.images import Images
from prime_hub.services.runner import Runner
from prime_hub.services.runner_client import RunnerClient, RunnerDown
from prime_hub.services.signals import Signals
from prime_hub.settings import Settings

WAITING = ("PENDING", "PROVISIONING")
LIVE = (*WAITING, "RUNNING")
STATUSES = (*LIVE, "ERROR", "TERMINATED", "TIMEOUT")
HOLD_SECONDS = 20.0
LOG_BYTES = 64 * 1024

log = logging.getLogger("prime_hub.sandboxes")


@dataclass(frozen=True)
class SandboxRequest:
    """What a client asks for. Times in seconds; `timeout_seconds` None is as long as this Hub allows.

    `shown` is what is only recorded and given back (limits, labels, …); it must hold no secret.
    """

    name: str
    docker_image: str
    image_digest: str | None = None
    start_command: str | list[str] | None = None
    environment: dict[str, str] = field(default_factory=dict)
    port: int | None = None
    timeout_seconds: float | None = None
    idle_seconds: float | None = None
    lease_seconds: float | None = None
    idempotency_key: str | None = None
    shown: dict[str, Any] = field(default_factory=dict)


class Sandboxes:
    """The records, and the work of bringing a runner and them together."""

    def __init__(
        self, settings: Settings, database: Database, images: Images, signals: Signals, runner: Runner
    ) -> None:
        self._settings = settings
        self._database = database
        self._images = images
        self._signals = signals
        self._runner = runner
        self._starting: dict[str, asyncio.Task[None]] = {}

    async def create(self, account: Account, wanted: SandboxRequest) -> Sandbox:
        """Record a sandbox and begin to start it. The same idempotency key gives the same sandbox.

        Raises NotFound for an image that is not there, Forbidden for one that may not run here.
        """
        if wanted.idempotency_key:
            found = await self._by_key(account, wanted.idempotency_key)
            if found is not None:
                return found
        await self._runner.client()  # the runtime decides whose images may run
        digest = await self._images.runnable(account, wanted.docker_image, wanted.image_digest)
        allowed = self._settings.max_sandbox_seconds
        seconds = min(wanted.timeout_seconds or allowed, allowed)
        idle = wanted.idle_seconds or (None if wanted.lease_seconds else self._settings.idle_seconds)
        request = {
            **wanted.shown,
            "start_command": wanted.start_command,
            "port": wanted.port,
            "idle_seconds": idle,
            "lease_seconds": wanted.lease_seconds,
        }
        sandbox = Sandbox(
            id=new_id(),
            owner_id=account.id,
            idempotency_key=wanted.idempotency_key,
            name=wanted.name,
            docker_image=wanted.docker_image,
            image_digest=digest,
            request=request,
            environment=wanted.environment,
            host=self._runner.host,
            expires_at=now() + timedelta(seconds=seconds),
        )
        try:
            async with self._database.write() as session:
                session.add(sandbox)
        except IntegrityError:
            found = await self._by_key(account, wanted.idempotency_key or "")
            if found is None:
                raise
            return found
        self.begin(sandbox.id)
        return sandbox

    async def _by_key(self, account: Account, key: str) -> Sandbox | None:
        query = select(Sandbox).where(Sandbox.owner_id == account.id, Sandbox.idempotency_key == key)
        async with self._database.read() as session:
            return (await session.scalars(query)).unique().first()

    def begin(self, sandbox_id: str) -> None:
        """Start what is recorded, in the background, unless that is under way."""
        if sandbox_id not in self._starting:
            task = asyncio.create_task(self._start(sandbox_id), name=f"start sandbox {sandbox_id}")
            self._starting[sandbox_id] = task
            task.add_done_callback(lambda _: self._starting.pop(sandbox_id, None))

    def is_starting(self, sandbox_id: str) -> bool:
        """Whether this process is bringing it up."""
        return sandbox_id in self._starting

    async def stop(self) -> None:
        """Leave what is starting to the runner; the next Hub sees what became of it."""
        tasks = list(self._starting.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _start(self, sandbox_id: str) -> None:
        try:
            async with self._database.read() as session:
                row = await session.get_one(Sandbox, sandbox_id)
            client = await self._runner.client()
            body = {
                "id": row.id,
                "digest": row.image_digest,
                "start_command": row.request.get("start_command"),
                "env": row.environment or {},
                "port": row.request.get("port"),
                "lease_seconds": row.request.get("lease_seconds"),
                "idle_seconds": row.request.get("idle_seconds"),
                "expires_at": row.expires_at.timestamp(),
            }
            state = await client.call("POST", "/sandboxes", body, timeout=60)
            while True:
                if not await self.settle(client, sandbox_id, state):
                    # Deleted meanwhile: what has just been started must not live on.
                    await client.call("DELETE", f"/sandboxes/{sandbox_id}", timeout=60)
                    return
                if state["status"] != "starting":
                    return
                state = await client.hold(f"/sandboxes/{sandbox_id}", HOLD_SECONDS)
        except RunnerDown as error:
            log.warning("sandbox %s: %s", sandbox_id, error)  # the sweep tries again
        except HubError as error:
            kind = (error.code or "START_FAILED").upper()
            await self._fail(sandbox_id, "IMAGE_PULL_FAILED" if kind == "IMAGE_NOT_FOUND" else kind, error.detail)
        except Exception:
            log.exception("sandbox %s could not be started", sandbox_id)
            await self._fail(sandbox_id, "START_FAILED", "The Hub failed to start the sandbox; its log says why.")

    async def _fail(self, sandbox_id: str, kind: str, message: str) -> None:
        await self.apply(sandbox_id, {"status": "failed", "error_type": kind, "error": message})

    async def apply(self, sandbox_id: str, state: dict[str, Any], last_log: str | None = None) -> bool:
        """Record what a runner says. Returns False when the sandbox has been deleted meanwhile."""
        status, kind = _status(state)
        async with self._database.write() as session:
            row = await session.get(Sandbox, sandbox_id)
            if row is None or row.deleted_at is not None:
                return False
            if row.status in LIVE:
                row.status, row.updated_at, row.environment = status, now(), None
                if state.get("started_at"):
                    row.started_at = datetime.fromtimestamp(state["started_at"], UTC)
                if status not in LIVE:
                    row.terminated_at = now()
                    row.exit_code = state.get("exit_code")
                    row.error_type, row.error_message = kind, state.get("error")
            if last_log is not None:
                row.last_log = last_log
        self._signals.send(f"sandbox/{sandbox_id}")
        return True

    async def row(self, account: Account, sandbox_id: str) -> Sandbox:
        """The record as it is. Raises NotFound, also for somebody else's."""
        async with self._database.read() as session:
            row = await session.get(Sandbox, sandbox_id)
        if row is None or row.owner_id != account.id:
            raise NotFound(f"{account.slug} has no sandbox {sandbox_id}.", code="sandbox_not_found")
        return row

    async def get(self, account: Account, sandbox_id: str, wait: float = 0.0) -> Sandbox:
        """The sandbox as it is now; with `wait`, once it has started or failed, or after that many seconds."""
        row = await self.row(account, sandbox_id)
        if wait > 0 and row.status in WAITING:
            row = await self._signals.until(
                f"sandbox/{sandbox_id}",
                wait,
                lambda: self.row(account, sandbox_id),
                lambda found: found.status not in WAITING,
            )
        if row.status == "RUNNING":
            await self.refresh(sandbox_id)
            row = await self.row(account, sandbox_id)
        return row

    async def refresh(self, sandbox_id: str) -> None:
        """Ask the runner about one live sandbox. A runner that is away leaves the record as it is."""
        try:
            client = await self._runner.client(wait=0)
            state = await client.call("GET", f"/sandboxes/{sandbox_id}")
        except NotFound:
            await self.apply(sandbox_id, lost_state())
            return
        except HubError:
            return
        if _status(state)[0] not in LIVE:  # the usual look finds it running and writes nothing
            await self.settle(client, sandbox_id, state)

    async def settle(self, client: RunnerClient, sandbox_id: str, state: dict[str, Any]) -> bool:
        """`apply`, and with an end the last of the log, which outlives the runner's copy."""
        if _status(state)[0] in LIVE:
            return await self.apply(sandbox_id, state)
        try:
            found = await client.call("GET", f"/sandboxes/{sandbox_id}/logs", params={"tail": LOG_BYTES})
            last_log = str(found.get("logs") or "")
        except HubError:
            last_log = None
        return await self.apply(sandbox_id, state, last_log)

    async def find(
        self,
        account: Account,
        *,
        status: str | None = None,
        labels: Sequence[str] = (),
        active: bool | None = None,
        limit: int = 50,
        offset: int = 0,
    ) -> tuple[list[Sandbox], int]:
        """The account's sandboxes, newest first, and how many there are. Raises Invalid for a status there is not."""
        conditions = [Sandbox.owner_id == account.id]
        if status:
            if status.upper() not in STATUSES:
                raise Invalid(f"'{status}' is not a status; use one of {', '.join(STATUSES)}.")
            conditions.append(Sandbox.status == status.upper())
        if active:
            conditions.append(Sandbox.status.in_(LIVE))
        query = select(Sandbox).where(*conditions).order_by(Sandbox.created_at.desc())
        async with self._database.read() as session:
            if labels:
                # Compared here: the two databases ask a JSON column in two ways. Without the logs, 64 KiB each.
                light = query.options(defer(Sandbox.last_log), defer(Sandbox.environment))
                rows = (await session.scalars(light)).unique().all()
                rows = [row for row in rows if set(labels) <= set(row.request.get("labels") or ())]
                return rows[offset : offset + limit], len(rows)
            total = (await session.scalar(select(func.count(Sandbox.id)).where(*conditions))) or 0
            rows = (await session.scalars(query.limit(limit).offset(offset))).unique().all()
            return list(rows), total

    async def delete(self, account: Account, sandbox_id: str) -> None:
        """End it, and return when nothing of it runs any more. Raises NotFound when it has been deleted before."""
        row = await self.row(account, sandbox_id)
        if row.deleted_at is not None:
            raise NotFound(f"Sandbox {sandbox_id} has been deleted already.", code="sandbox_not_found")
        last_log = row.last_log
        try:
            client = await self._runner.client(wait=5)
            if last_log is None:
                found = await client.call("GET", f"/sandboxes/{sandbox_id}/logs", params={"tail": LOG_BYTES})
                last_log = str(found.get("logs") or "")
        except (NotFound, Gone):
            pass
        except HubError as error:
            log.warning("sandbox %s: %s", sandbox_id, error)
        # First the record: whoever is starting it sees that it is unwanted, and the sweep ends what this call cannot.
        async with self._database.write() as session:
            row = await session.get_one(Sandbox, sandbox_id)
            row.deleted_at, row.environment, row.last_log = now(), None, last_log
            if row.status in LIVE:
                row.status, row.terminated_at, row.updated_at = "TERMINATED", now(), now()
        self._signals.send(f"sandbox/{sandbox_id}")
        try:
            client = await self._runner.client(wait=5)
            await client.call("DELETE", f"/sandboxes/{sandbox_id}", timeout=60)
        except (NotFound, Gone):
            pass
        except HubError as error:
            log.warning("sandbox %s is ended later: %s", sandbox_id, error)

    async def logs(self, row: Sandbox) -> str:
        """What it has written, the end of it (64 KiB)."""
        if row.status in LIVE and row.last_log is None:
            try:
                client = await self._runner.client(wait=5)
                found = await client.call("GET", f"/sandboxes/{row.id}/logs", params={"tail": LOG_BYTES})
                return str(found.get("logs") or "")
            except (NotFound, Gone):
                return ""
        return row.last_log or ""

    async def renew(self, account: Account, sandbox_id: str, lease_seconds: float) -> datetime:
        """Give the lease this many seconds from now; when the sandbox ends then. Raises NotFound, Gone."""
        row = await self.row(account, sandbox_id)
        if row.status not in LIVE:
            raise terminated(row)
        client = await self._runner.client()
        state = await client.call("POST", f"/sandboxes/{sandbox_id}/lease", {"lease_seconds": lease_seconds})
        return datetime.fromtimestamp(state["expires_at"], UTC)


def terminated(row: Sandbox) -> Gone:
    """The refusal for a sandbox that has ended, with how."""
    how = f": {row.error_message}" if row.error_message else "."
    return Gone(f"Sandbox {row.id} has ended ({row.status}){how}", code="sandbox_terminated")


def lost_state() -> dict[str, Any]:
    """What is recorded of a sandbox that its runner no longer knows."""
    message = "The sandbox is gone: its runner was restarted and did not find it alive."
    return {"status": "lost", "error_type": "LOST", "error": message}


def _status(state: dict[str, Any]) -> tuple[str, str | None]:
    """A runner's state in the words of the sandbox protocol: (status, error type)."""
    status, kind = state["status"], state.get("error_type")
    if status == "exited":
        return ("TERMINATED" if state.get("exit_code") == 0 else "ERROR"), kind or "EXITED"
    simple = {
        "starting": "PROVISIONING",
        "running": "RUNNING",
        "deleted": "TERMINATED",
        "expired": "TIMEOUT",
        "lost": "ERROR",
        "failed": "ERROR",
    }
    return simple.get(status, "ERROR"), "TIMEOUT" if status == "expired" and not kind else kind
