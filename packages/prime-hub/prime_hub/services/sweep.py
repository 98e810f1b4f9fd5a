"""Bringing the table of sandboxes and the runner together, at every start of either and every few seconds."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from datetime import timedelta
from typing import Any

from sqlalchemy import or_, select

from prime_hub.db.models import Sandbox
from prime_hub.db.session import Database
from prime_hub.db.types import now
from prime_hub.errors import HubError
from prime_hub.services.hosted import Hosted
from prime_hub.services.images import Images
from prime_hub.services.queue import LIVE
from prime_hub.services.rounds import Rounds
from prime_hub.services.runner import Runner
from prime_hub.services.runner_client import RunnerClient
from prime_hub.services.spares import Spares
from prime_hub.services.starting import RUNNER_STARTING, Starter, lost_state

SWEEP_SECONDS = 3.0
ENDED_AT_ONCE = 8
RUNNER_LIVE = (*RUNNER_STARTING, "running")

log = logging.getLogger("prime_hub.sweep")


class Sweep:
    """Settles what has ended, starts what was only recorded, ends what nobody has on record."""

    def __init__(
        self,
        database: Database,
        runner: Runner,
        images: Images,
        starter: Starter,
        spares: Spares,
        hosted: Hosted,
        alone: bool = True,
    ) -> None:
        self._alone = alone
        self._database = database
        self._runner = runner
        self._images = images
        self._starter = starter
        self._spares = spares
        self._hosted = hosted
        self._rounds = Rounds("sweep", self._round, SWEEP_SECONDS, at_once=False)
        self._lock = asyncio.Lock()
        self._ending: dict[str, asyncio.Task[None]] = {}

    async def start(self) -> None:
        """Begin, in the background."""
        await self._renew_waiting()
        self._runner.on_ready.append(self.once)
        self._rounds.start()

    async def stop(self) -> None:
        """End it."""
        await self._rounds.stop()
        for task in list(self._ending.values()):
            task.cancel()
        await asyncio.gather(*self._ending.values(), return_exceptions=True)

    async def _renew_waiting(self) -> None:
        """While there was no Hub nobody could renew a lease with it."""
        waiting = select(Sandbox).where(Sandbox.status.in_(LIVE), Sandbox.placed_at.is_(None))
        async with self._database.write() as session:
            for row in (await session.scalars(waiting.where(Sandbox.lease_until.is_not(None)))).unique():
                row.lease_until = now() + timedelta(seconds=row.request.get("lease_seconds") or 0)

    async def _round(self) -> None:
        await self._expire_waiting()
        await self._starter.fetched()
        await self._images.turn()
        if self._runner.state == "ready":
            await self.once()

    async def _expire_waiting(self) -> None:
        """End those whose time was over before a runner had them; those a runner has are ended by it."""
        moment = now()
        over = or_(Sandbox.lease_until < moment, Sandbox.expires_at < moment)
        query = select(Sandbox.id, Sandbox.lease_until).where(
            Sandbox.status == "PENDING", Sandbox.placed_at.is_(None), over
        )
        async with self._database.read() as session:
            found = (await session.execute(query)).tuples().all()
        for sandbox_id, lease_until in found:
            if self._starter.is_starting(sandbox_id):
                continue  # a runner may have it already
            lapsed = lease_until is not None and lease_until < moment
            words = "its lease was not renewed" if lapsed else "its time was over"
            state = {"status": "expired", "error": f"The sandbox was ended while it waited for its turn: {words}."}
            await self._starter.apply(sandbox_id, state)

    async def once(self) -> None:
        """One comparison. Raises HubError when the runner is away."""
        async with self._lock:
            client = await self._runner.client(wait=0)
            # The table first: a sandbox that is recorded after this look cannot be taken for lost or for nobody's.
            async with self._database.read() as session:
                rows = (await session.scalars(select(Sandbox).where(Sandbox.status.in_(LIVE)))).unique().all()
            states = {state["id"]: state for state in (await client.call("GET", "/sandboxes"))["sandboxes"]}
            for row in rows:
                if not self._starter.is_starting(row.id):
                    await self._compare(client, row, states.get(row.id))
            known = {row.id for row in rows}
            for sandbox_id, state in states.items():
                if not self._alone and state.get("spare"):
                    continue  # another Hub's of this host; its lease ends it when that Hub has gone
                if state["status"] in RUNNER_LIVE and sandbox_id not in known and not await self._wanted(sandbox_id):
                    self._end(client, sandbox_id)
            self._starter.turn()

    async def _compare(self, client: RunnerClient, row: Sandbox, state: dict[str, Any] | None) -> None:
        if row.placed_at is None:
            if row.admitted_at is not None:
                self._starter.begin(row.id)
        elif state is None:
            await self._starter.apply(row.id, lost_state())
        elif state["status"] in RUNNER_STARTING:
            self._starter.begin(row.id)  # which waits for it
        elif state["status"] != "running" or row.status != "RUNNING":
            await self._starter.settle(client, row.id, state)

    def _end(self, client: RunnerClient, sandbox_id: str) -> None:
        """End what nobody has on record; the others need not wait for that."""
        if sandbox_id in self._ending or len(self._ending) >= ENDED_AT_ONCE:
            return
        log.warning("sandbox %s runs without being on record; ending it", sandbox_id)

        async def ending() -> None:
            with suppress(HubError):
                await client.call("DELETE", f"/sandboxes/{sandbox_id}", timeout=60)

        task = asyncio.create_task(ending(), name=f"end sandbox {sandbox_id}")
        self._ending[sandbox_id] = task
        task.add_done_callback(lambda _: self._ending.pop(sandbox_id, None))

    async def _wanted(self, sandbox_id: str) -> bool:
        # In this order: a spare that is being given to somebody is on record before it is no spare any more.
        if self._hosted.holds(sandbox_id) or self._spares.holds(sandbox_id):
            return True
        async with self._database.read() as session:
            row = await session.get(Sandbox, sandbox_id)
        return row is not None and row.status in LIVE
