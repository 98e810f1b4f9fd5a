"""Bringing recorded sandboxes to the runner, and recording what the runner says of them."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import select

from prime_hub.db.models import Build, Sandbox
from prime_hub.db.session import Database
from prime_hub.db.types import now, storable
from prime_hub.errors import HubError, NotFound, Unavailable
from prime_hub.services.given import Giving
from prime_hub.services.images import ENDED
from prime_hub.services.queue import LIVE, QUEUED, Queue
from prime_hub.services.runner import Runner
from prime_hub.services.runner_client import RunnerClient
from prime_hub.services.signals import Signals

HOLD_SECONDS = 20.0
LOG_BYTES = 64 * 1024
RUNNER_STARTING = ("queued", "starting")

log = logging.getLogger("prime_hub.sandboxes")


class Starter:
    """Starts what has had its turn, and gives the next its turn when there is room again."""

    def __init__(self, database: Database, signals: Signals, runner: Runner, queue: Queue, giving: Giving) -> None:
        self._database = database
        self._giving = giving
        self._signals = signals
        self._runner = runner
        self._queue = queue
        self._starting: dict[str, asyncio.Task[None]] = {}
        self._turning: asyncio.Task[None] | None = None
        self._again = False

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
        tasks = [*self._starting.values(), *([self._turning] if self._turning else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def turn(self) -> None:
        """There may be room for others: look, in the background."""
        self._again = True
        if self._turning is None or self._turning.done():
            self._turning = asyncio.create_task(self._turn(), name="turns of sandboxes")

    async def _turn(self) -> None:
        while self._again:
            self._again = False
            try:
                if await self._queue.any():
                    async with self._database.write() as session:
                        admitted = await self._queue.admit(session)
                    for sandbox_id in admitted:
                        self.begin(sandbox_id)
            except Exception:
                log.exception("the queue of sandboxes could not be looked at")  # the sweep looks again

    async def _start(self, sandbox_id: str) -> None:
        try:
            async with self._database.read() as session:
                row = await session.get(Sandbox, sandbox_id)
            if row is None or row.status not in LIVE:
                return
            client = await self._runner.client()
            body = {"id": row.id, **placement(row), "env": {**await self._given(row), **(row.environment or {})}}
            state = await client.call("POST", "/sandboxes", body, timeout=60)
            while True:
                if not await self.settle(client, sandbox_id, state):
                    # Deleted meanwhile: what has just been started must not live on.
                    await client.call("DELETE", f"/sandboxes/{sandbox_id}", timeout=60)
                    return
                if state["status"] not in RUNNER_STARTING:
                    return
                state = await client.hold(f"/sandboxes/{sandbox_id}", HOLD_SECONDS)
        except Unavailable as error:
            log.warning("sandbox %s: %s", sandbox_id, error)  # the sweep tries again
        except HubError as error:
            kind = (error.code or "START_FAILED").upper()
            if kind == "SANDBOX_NOT_FOUND":
                await self.apply(sandbox_id, lost_state())
                return
            await self.fail(sandbox_id, "IMAGE_PULL_FAILED" if kind == "IMAGE_NOT_FOUND" else kind, error.detail)
        except Exception:
            log.exception("sandbox %s could not be started", sandbox_id)
            await self.fail(sandbox_id, "START_FAILED", "The Hub failed to start the sandbox; its log says why.")

    async def _given(self, row: Sandbox) -> dict[str, str]:
        """The secrets and variables of the environment it was asked for with."""
        named = row.request.get("of_environment")
        return await self._giving.still(row.owner_id, named["id"], row.image_digest) if named else {}

    async def fail(self, sandbox_id: str, kind: str, message: str) -> None:
        """Record that it will not start."""
        await self.apply(sandbox_id, {"status": "failed", "error_type": kind, "error": message})

    async def apply(self, sandbox_id: str, state: dict[str, Any], last_log: str | None = None) -> bool:
        """Record what a runner says. Returns False when the sandbox has been deleted meanwhile."""
        status, kind = status_of(state)
        async with self._database.write() as session:
            row = await session.get(Sandbox, sandbox_id)
            if row is None or row.deleted_at is not None:
                return False
            if row.status in LIVE:
                row.status, row.updated_at, row.environment = status, now(), None
                if state.get("started_at"):
                    row.started_at = datetime.fromtimestamp(state["started_at"], UTC)
                if status in LIVE:
                    row.placed_at, row.lease_until = row.placed_at or now(), None
                else:
                    row.terminated_at = now()
                    row.exit_code = state.get("exit_code")
                    row.error_type, row.error_message = kind, storable(state.get("error"))
            if last_log is not None:
                row.last_log = last_log
        self._signals.send(f"sandbox/{sandbox_id}")
        self.turn()
        return True

    async def settle(self, client: RunnerClient, sandbox_id: str, state: dict[str, Any]) -> bool:
        """`apply`, and with an end the last of the log, which outlives the runner's copy."""
        if status_of(state)[0] in LIVE:
            return await self.apply(sandbox_id, state)
        return await self.apply(sandbox_id, state, await self.last_log(client, sandbox_id))

    async def last_log(self, client: RunnerClient, sandbox_id: str) -> str | None:
        """The end of what it has written, None when the runner cannot say."""
        with suppress(HubError):
            found = await client.call("GET", f"/sandboxes/{sandbox_id}/logs", params={"tail": LOG_BYTES})
            return str(found.get("logs") or "").replace("\0", "")  # which Postgres does not take
        return None

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
        if status_of(state)[0] not in LIVE:  # the usual look finds it running and writes nothing
            await self.settle(client, sandbox_id, state)

    async def fetched(self, build_id: str | None = None) -> None:
        """Queue what waited for the image of a fetch that is over, or end it; of any fetch without `build_id`."""
        waiting = select(Sandbox.id, Build).join(Build, Build.id == Sandbox.build_id)
        waiting = waiting.where(QUEUED, Sandbox.image_digest == "", Build.status.in_(ENDED))
        if build_id is not None:
            waiting = waiting.where(Build.id == build_id)
        async with self._database.read() as session:
            found = [(sandbox, build) for sandbox, build in (await session.execute(waiting)).unique()]
        for sandbox_id, build in found:
            if build.image is None:
                await self.fail(sandbox_id, "IMAGE_PULL_FAILED", build.error or "The image could not be fetched.")
                continue
            async with self._database.write() as session:
                row = await session.get(Sandbox, sandbox_id)
                if row is not None and row.status == "PENDING":
                    row.image_digest, row.updated_at = build.image.digest, now()
            self._signals.send(f"sandbox/{sandbox_id}")
        if found:
            self.turn()


def placement(row: Sandbox) -> dict[str, Any]:
    """What the runner is told of a sandbox, without its variables."""
    asked = row.request
    told = ("start_command", "port", "lease_seconds", "idle_seconds", "limits", "egress")
    return {
        "digest": row.image_digest,
        **{name: asked.get(name) for name in told},
        "expires_at": row.expires_at.timestamp(),
    }


def lost_state() -> dict[str, Any]:
    """What is recorded of a sandbox that its runner no longer knows."""
    message = "The sandbox is gone: its runner was restarted and did not find it alive."
    return {"status": "lost", "error_type": "LOST", "error": message}


def status_of(state: dict[str, Any]) -> tuple[str, str | None]:
    """A runner's state in the words of the sandbox protocol: (status, error type)."""
    status, kind = state["status"], state.get("error_type")
    if status == "exited":
        return ("TERMINATED" if state.get("exit_code") == 0 else "ERROR"), kind or "EXITED"
    simple = {
        "queued": "PENDING",
        "starting": "PROVISIONING",
        "running": "RUNNING",
        "deleted": "TERMINATED",
        "expired": "TIMEOUT",
        "lost": "ERROR",
        "failed": "ERROR",
    }
    return simple.get(status, "ERROR"), "TIMEOUT" if status == "expired" and not kind else kind
