"""The records of many sandboxes at once, and waiting for the first of them that has started."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import defer

from prime_hub.db.models import Account, Sandbox
from prime_hub.db.session import Database
from prime_hub.services.access import belongs_to
from prime_hub.services.queue import WAITING
from prime_hub.services.sandboxes import Sandboxes
from prime_hub.services.signals import Signals

LOOKS_AT_ONCE = 8


class Statuses:
    """Looks at sandboxes of one account and its teams."""

    def __init__(self, database: Database, sandboxes: Sandboxes, signals: Signals) -> None:
        self._database = database
        self._sandboxes = sandboxes
        self._signals = signals

    async def of(self, account: Account, sandbox_ids: Sequence[str], wait: float) -> dict[str, Sandbox]:
        """The sandboxes by id, those that there are. While all of them are starting, for `wait` seconds at most, it
        waits for one that no longer is.
        """
        ids = list(dict.fromkeys(sandbox_ids))

        async def look() -> dict[str, Sandbox]:
            return await self._rows(account, ids)

        def changed(rows: dict[str, Sandbox]) -> bool:
            return len(rows) < len(ids) or any(row.status not in WAITING for row in rows.values())

        rows = await look()
        if wait > 0 and rows and not changed(rows):
            rows = await self._signals.until([f"sandbox/{name}" for name in ids], wait, look, changed)
        running = [row.id for row in rows.values() if row.status == "RUNNING"]
        if running:
            places = asyncio.Semaphore(LOOKS_AT_ONCE)

            async def refresh(sandbox_id: str) -> None:
                async with places:
                    await self._sandboxes.refresh(sandbox_id)

            await asyncio.gather(*(refresh(name) for name in running))
            rows = await look()
        return rows

    async def _rows(self, account: Account, ids: Sequence[str]) -> dict[str, Sandbox]:
        query = select(Sandbox).where(belongs_to(Sandbox.owner_id, account), Sandbox.id.in_(ids))
        query = query.options(defer(Sandbox.last_log), defer(Sandbox.environment))
        async with self._database.read() as session:
            return {row.id: row for row in (await session.scalars(query)).unique()}
