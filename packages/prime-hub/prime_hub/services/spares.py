"""Warm spares: started sandboxes that wait for somebody who asks for exactly what they are.

A spare is nobody's: it is on no list and in no quota, and only this process knows of it. It lives by a short lease, so it
ends with the Hub that keeps it; the next Hub ends what is left, except where several Hubs keep theirs on one host. One that was started with variables, which may be
secrets, is given to the account only that asked for the like.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from prime_hub.db.models import Sandbox
from prime_hub.db.types import new_id
from prime_hub.errors import HubError
from prime_hub.services.rounds import Rounds
from prime_hub.services.runner import Runner
from prime_hub.services.runner_client import RunnerClient
from prime_hub.services.starting import HOLD_SECONDS, RUNNER_STARTING, placement
from prime_hub.settings import Settings

LEASE_SECONDS = 60.0
ROUND_SECONDS = 15.0
STOP_SECONDS = 5.0
PAUSE_SECONDS = 60.0  # after one that could not be started
OF_LIFE = ("expires_at", "lease_seconds", "idle_seconds")

log = logging.getLogger("prime_hub.spares")


@dataclass
class _Shelf:
    """The spares of one kind of request. `told` is what the runner is told of each."""

    digest: str
    told: dict[str, Any]
    ready: list[str] = field(default_factory=list)
    starting: set[str] = field(default_factory=set)
    used_at: float = field(default_factory=time.monotonic)
    paused_until: float = 0.0

    def __len__(self) -> int:
        return len(self.ready) + len(self.starting)


class Spares:
    """All spares of this Hub."""

    def __init__(self, settings: Settings, runner: Runner) -> None:
        self._settings = settings
        self._runner = runner
        self._shelves: dict[str, _Shelf] = {}
        self._given: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._rounds = Rounds("spares", self.once, ROUND_SECONDS, at_once=False)

    def start(self) -> None:
        """Begin to look after them, in the background."""
        if self._settings.warm_spares > 0:
            self._rounds.start()

    async def stop(self) -> None:
        """End those that nobody has taken."""
        await self._rounds.stop()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        shelves, self._shelves = self._shelves, {}
        ends = [self._end(spare) for shelf in shelves.values() for spare in self._all(shelf)]
        with suppress(TimeoutError):  # their leases end those that are left
            async with asyncio.timeout(STOP_SECONDS):
                await asyncio.gather(*ends)

    def holds(self, sandbox_id: str) -> bool:
        """Whether it is a spare, or is being given to somebody."""
        return sandbox_id in self._given or any(
            sandbox_id in shelf.ready or sandbox_id in shelf.starting for shelf in self._shelves.values()
        )

    def uses(self, digest: str) -> bool:
        """Whether there are spares of that image."""
        return any(shelf.digest == digest for shelf in self._shelves.values())

    def count(self) -> int:
        """How many are ready."""
        return sum(len(shelf.ready) for shelf in self._shelves.values())

    async def take(self, row: Sandbox, environment: dict[str, str]) -> str | None:
        """The id of a spare that is what `row` asks for, which now lives as long as the row says; None without one.

        Call `given` once it is on record, or `give_back`.
        """
        if self._settings.warm_spares <= 0:
            return None
        shelf = self._shelves.get(_key(row, environment))
        while shelf is not None and shelf.ready:
            spare = shelf.ready.pop(0)
            self._given.add(spare)
            try:
                client = await self._runner.client(wait=0)
                life = placement(row)
                body = {name: life[name] for name in OF_LIFE}
                state = await client.call("POST", f"/sandboxes/{spare}/assign", body)
                if state["status"] == "running":
                    return spare
            except HubError as error:
                log.info("spare %s cannot be given: %s", spare, error.detail)
            self.give_back(spare)
        return None

    def given(self, spare: str) -> None:
        """It is somebody's sandbox now."""
        self._given.discard(spare)

    def give_back(self, spare: str) -> None:
        """Nobody has taken it after all; what may have been used is not used again."""
        self._begin(self._end(spare))

    def asked_for(self, row: Sandbox, environment: dict[str, str]) -> None:
        """The like of `row` is wanted: have spares of it, started in the background."""
        if self._settings.warm_spares <= 0:
            return
        told = {name: value for name, value in placement(row).items() if name not in OF_LIFE}
        shelf = self._shelves.setdefault(
            _key(row, environment), _Shelf(row.image_digest, {**told, "env": dict(environment)})
        )
        shelf.used_at = time.monotonic()
        self._fill(shelf)

    def _fill(self, shelf: _Shelf) -> None:
        if time.monotonic() < shelf.paused_until:
            return
        same = [other for other in self._shelves.values() if other.digest == shelf.digest]
        while sum(map(len, same)) < self._settings.warm_spares:
            self._start_one(shelf)
        # Of one image no more than the setting says; what was asked for last is worth most.
        if not len(shelf):
            oldest = min((other for other in same if other.ready), key=lambda other: other.used_at, default=None)
            if oldest is not None:
                self._begin(self._end(oldest.ready.pop()))
                self._start_one(shelf)

    def _start_one(self, shelf: _Shelf) -> None:
        spare = new_id()
        shelf.starting.add(spare)
        self._begin(self._start(shelf, spare))

    def _begin(self, work: Any) -> None:
        task = asyncio.create_task(work, name="spare")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _start(self, shelf: _Shelf, spare: str) -> None:
        state: dict[str, Any] = {"status": "failed"}
        try:
            client = await self._runner.client()
            state = await client.call(
                "POST",
                "/sandboxes",
                {"id": spare, **shelf.told, "lease_seconds": LEASE_SECONDS, "spare": True},
                timeout=60,
            )
            while state["status"] in RUNNER_STARTING:
                state = await client.hold(f"/sandboxes/{spare}", HOLD_SECONDS)
                if state["status"] in RUNNER_STARTING:
                    await client.call("POST", f"/sandboxes/{spare}/lease", {"lease_seconds": LEASE_SECONDS})
        except HubError as error:
            log.warning("a spare of %s could not be started: %s", shelf.digest, error.detail)
        finally:
            shelf.starting.discard(spare)
            if state["status"] != "running":
                shelf.paused_until = time.monotonic() + PAUSE_SECONDS
        if state["status"] == "running" and shelf in self._shelves.values():
            shelf.ready.append(spare)
        else:
            await self._end(spare)

    async def once(self) -> None:
        """One round: renew the leases of those that wait, forget those that ended, end those nobody asks for."""
        client = await self._runner.client(wait=0)
        for key, shelf in list(self._shelves.items()):
            if time.monotonic() - shelf.used_at > self._settings.spare_idle_seconds:
                del self._shelves[key]
                for spare in self._all(shelf):
                    await self._end(spare)
                continue
            for spare in list(shelf.ready):
                if not await self._renew(client, spare) and spare in shelf.ready:
                    shelf.ready.remove(spare)
            self._fill(shelf)

    async def _renew(self, client: RunnerClient, spare: str) -> bool:
        try:
            state = await client.call("POST", f"/sandboxes/{spare}/lease", {"lease_seconds": LEASE_SECONDS})
        except HubError as error:
            return error.status not in (404, 410)
        return state["status"] == "running"

    async def drop(self, digest: str) -> None:
        """End every spare of an image, which is about to be deleted."""
        for key, shelf in list(self._shelves.items()):
            if shelf.digest == digest:
                del self._shelves[key]
                for spare in self._all(shelf):
                    await self._end(spare)

    @staticmethod
    def _all(shelf: _Shelf) -> list[str]:
        spares = [*shelf.ready, *shelf.starting]
        shelf.ready.clear()
        return spares

    async def _end(self, spare: str) -> None:
        with suppress(HubError):  # its lease ends it
            client = await self._runner.client(wait=0)
            await client.call("DELETE", f"/sandboxes/{spare}", timeout=60)
        self._given.discard(spare)


def _key(row: Sandbox, environment: dict[str, str]) -> str:
    """What makes two requests the same for the sandbox that comes of them."""
    told = {name: value for name, value in placement(row).items() if name not in OF_LIFE}
    parts = [told, sorted(environment.items()), row.owner_id if environment else None]
    return json.dumps(parts, sort_keys=True)
