"""The queue of sandboxes: who may start now, by the quotas of accounts and the room of the Hub.

Nothing is refused for want of room. A row that waits is PENDING without `admitted_at`; one that has had its turn counts
for its account until it ends. All of it is in the table, so a Hub that is started again goes on where it was.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import case, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from prime_hub.db.models import Sandbox
from prime_hub.db.session import Database
from prime_hub.db.types import now
from prime_hub.services.fair import Turns
from prime_hub.settings import Settings

WAITING = ("PENDING", "PROVISIONING")
LIVE = (*WAITING, "RUNNING")
LOOKED_AT = 64  # of one account's waiting sandboxes at once

QUEUED = (Sandbox.status == "PENDING") & Sandbox.admitted_at.is_(None)
_READY = QUEUED & (Sandbox.image_digest != "")


@dataclass
class Use:
    """What has had its turn and has not ended: of an account, or of all."""

    sandboxes: int = 0
    starting: int = 0
    cpus: float = 0.0
    memory_bytes: int = 0

    def add(self, other: Use) -> None:
        """Count more."""
        self.sandboxes += other.sandboxes
        self.starting += other.starting
        self.cpus += other.cpus
        self.memory_bytes += other.memory_bytes


@dataclass(frozen=True)
class _Wanted:
    id: str
    owner_id: str
    cpus: float | None
    memory_bytes: int | None

    @property
    def use(self) -> Use:
        return Use(1, 1, self.cpus or 0.0, self.memory_bytes or 0)


class Queue:
    """Decides and records whose turn it is."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self._settings = settings
        self._database = database
        self._turns = Turns()

    async def admit(self, session: AsyncSession) -> list[str]:
        """Give their turn to as many as there is room for, in the caller's write transaction; their ids."""
        waiting = await self._waiting(session)
        if not waiting:
            return []
        if session.bind is not None and session.bind.dialect.name == "postgresql":
            await session.execute(select(func.pg_advisory_xact_lock(8377)))  # the Hubs of one database count in turn
        uses = await self._uses(session)
        total = _total(uses)

        def fits(wanted: _Wanted) -> bool:
            mine = uses.setdefault(wanted.owner_id, Use())
            if self._obstacle(mine, total, wanted.use) is not None:
                return False
            mine.add(wanted.use)
            total.add(wanted.use)
            return True

        room = self._settings.starts_at_once - total.starting
        taken = self._turns.take(waiting, fits, room)
        for wanted in taken:
            row = await session.get_one(Sandbox, wanted.id)
            row.admitted_at = turn = now()
            # Its time runs from its turn on; until now it was how long it would wait.
            if seconds := row.request.get("timeout_seconds"):
                row.expires_at = turn + timedelta(seconds=seconds)
        return [wanted.id for wanted in taken]

    async def any(self) -> bool:
        """Whether one waits that could have its turn."""
        async with self._database.read() as session:
            return (await session.scalars(select(Sandbox.id).where(_READY).limit(1))).first() is not None

    async def _waiting(self, session: AsyncSession) -> list[_Wanted]:
        place = func.row_number().over(partition_by=Sandbox.owner_id, order_by=(Sandbox.created_at, Sandbox.id))
        columns = (Sandbox.id, Sandbox.owner_id, Sandbox.cpus, Sandbox.memory_bytes, Sandbox.created_at)
        numbered = select(*columns, place.label("place")).where(_READY).subquery()
        found = numbered.c
        query = select(found.id, found.owner_id, found.cpus, found.memory_bytes).where(found.place <= LOOKED_AT)
        return [_Wanted(*row) for row in await session.execute(query.order_by(found.created_at, found.id))]

    async def _uses(self, session: AsyncSession) -> dict[str, Use]:
        starting = case((Sandbox.status == "RUNNING", 0), else_=1)
        sums = (func.count(Sandbox.id), func.sum(starting), func.sum(Sandbox.cpus), func.sum(Sandbox.memory_bytes))
        # Without quotas only those that are starting matter, which are few.
        states = LIVE if self._limited else WAITING
        counted = Sandbox.status.in_(states) & Sandbox.admitted_at.is_not(None)
        query = select(Sandbox.owner_id, *sums).where(counted).group_by(Sandbox.owner_id)
        return {
            owner: Use(int(count), int(starts or 0), float(cpus or 0), int(memory or 0))
            for owner, count, starts, cpus, memory in await session.execute(query)
        }

    @property
    def _limited(self) -> bool:
        most = self._settings
        return bool(most.max_sandboxes or most.account_sandboxes or most.account_cpus or most.account_memory_bytes)

    async def has_room(self, session: AsyncSession, row: Sandbox) -> bool:
        """Whether that one, which is not in the table yet, would not wait."""
        if (await session.scalars(select(Sandbox.id).where(_READY).limit(1))).first() is not None:
            return False
        uses = await self._uses(session)
        wanted = Use(1, 1, row.cpus or 0.0, row.memory_bytes or 0)
        return self._obstacle(uses.get(row.owner_id, Use()), _total(uses), wanted) is None

    def _obstacle(self, mine: Use, total: Use, wanted: Use, whose: str = "Your account") -> str | None:
        """Why it has to wait, the first half of a sentence."""
        most = self._settings
        if most.account_sandboxes and mine.sandboxes + wanted.sandboxes > most.account_sandboxes:
            return f"{whose} has {mine.sandboxes} of at most {most.account_sandboxes} sandboxes"
        if most.account_cpus and mine.cpus + wanted.cpus > most.account_cpus:
            return f"{whose}'s sandboxes have {mine.cpus:g} of at most {most.account_cpus:g} processors"
        if most.account_memory_bytes and mine.memory_bytes + wanted.memory_bytes > most.account_memory_bytes:
            have, limit = mine.memory_bytes / 1024**3, most.account_memory_bytes / 1024**3
            return f"{whose}'s sandboxes have {have:.3g} of at most {limit:.3g} GiB of memory"
        if most.max_sandboxes and total.sandboxes + wanted.sandboxes > most.max_sandboxes:
            return f"This Hub runs {total.sandboxes} of at most {most.max_sandboxes} sandboxes"
        return None

    async def explain(self, rows: Iterable[Sandbox]) -> None:
        """Set `pending_reason` of those that wait."""
        queued = []
        for row in rows:
            if row.status != "PENDING":
                continue
            if row.admitted_at is not None:
                row.pending_reason = "It has been given to its runner, which starts a few at a time."
            elif not row.image_digest:
                row.pending_reason = f"Its image {row.docker_image} is being fetched."
            else:
                queued.append(row)
        if not queued:
            return
        async with self._database.read() as session:
            uses = await self._uses(session)
            total = _total(uses)
            places: dict[str, list[str]] = {}
            for row in queued:
                if row.owner_id not in places:
                    query = select(Sandbox.id).where(_READY, Sandbox.owner_id == row.owner_id)
                    order = (Sandbox.created_at, Sandbox.id)
                    places[row.owner_id] = list(await session.scalars(query.order_by(*order)))
        for row in queued:
            mine = places[row.owner_id]
            before = mine.index(row.id) if row.id in mine else 0
            wanted = Use(1, 1, row.cpus or 0.0, row.memory_bytes or 0)
            whose = "The team" if row.team_id else "Your account"
            why = self._obstacle(uses.get(row.owner_id, Use()), total, wanted, whose)
            why = why or f"{total.starting} other sandboxes are being started"
            ours = "the team's" if row.team_id else "yours"
            row.pending_reason = f"{why}, and {before} of {ours} are before this one; it starts when its turn comes."


def _total(uses: dict[str, Use]) -> Use:
    total = Use()
    for use in uses.values():
        total.add(use)
    return total
