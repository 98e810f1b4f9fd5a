"""Bringing the table of sandboxes and the runner together, at every start of either and every few seconds."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress

from sqlalchemy import select

from prime_hub.db.models import Sandbox
from prime_hub.db.session import Database
from prime_hub.errors import HubError
from prime_hub.services.rounds import Rounds
from prime_hub.services.runner import Runner
from prime_hub.services.sandboxes import LIVE, Sandboxes, lost_state

SWEEP_SECONDS = 3.0
RUNNER_LIVE = ("starting", "running")

log = logging.getLogger("prime_hub.sweep")


class Sweep:
    """Settles what has ended, starts what was only recorded, ends what nobody has on record."""

    def __init__(self, database: Database, sandboxes: Sandboxes, runner: Runner) -> None:
        self._database = database
        self._sandboxes = sandboxes
        self._runner = runner
        self._rounds = Rounds("sweep", self._when_ready, SWEEP_SECONDS, at_once=False)
        self._lock = asyncio.Lock()

    def start(self) -> None:
        """Begin, in the background."""
        self._runner.on_ready.append(self.once)
        self._rounds.start()

    async def stop(self) -> None:
        """End it."""
        await self._rounds.stop()

    async def _when_ready(self) -> None:
        if self._runner.state == "ready":
            await self.once()

    async def once(self) -> None:
        """One comparison. Raises HubError when the runner is away."""
        async with self._lock:
            client = await self._runner.client(wait=0)
            # The table first: a sandbox that is recorded after this look cannot be taken for lost or for nobody's.
            async with self._database.read() as session:
                rows = (await session.scalars(select(Sandbox).where(Sandbox.status.in_(LIVE)))).unique().all()
            states = {state["id"]: state for state in (await client.call("GET", "/sandboxes"))["sandboxes"]}
            for row in rows:
                state = states.get(row.id)
                if self._sandboxes.is_starting(row.id):
                    continue
                if row.status == "PENDING":
                    self._sandboxes.begin(row.id)
                elif state is None:
                    await self._sandboxes.apply(row.id, lost_state())
                elif state["status"] not in RUNNER_LIVE or (state["status"] == "running") != (row.status == "RUNNING"):
                    await self._sandboxes.settle(client, row.id, state)
            known = {row.id for row in rows}
            for sandbox_id, state in states.items():
                if state["status"] in RUNNER_LIVE and sandbox_id not in known and not await self._wanted(sandbox_id):
                    log.warning("sandbox %s runs without being on record; ending it", sandbox_id)
                    with suppress(HubError):
                        await client.call("DELETE", f"/sandboxes/{sandbox_id}", timeout=60)

    async def _wanted(self, sandbox_id: str) -> bool:
        async with self._database.read() as session:
            row = await session.get(Sandbox, sandbox_id)
        return row is not None and row.status in LIVE
