"""Durable jobs: rows with a lease.

A worker takes a due row (queued, or running with a lease that has run out) and holds it by renewing the lease. Owner
and attempt are the fence: a worker that was thought dead and comes back can change nothing any more. Whatever dies, the
row is due again when its lease ends; a row that has been tried `max_attempts` times is given up.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import and_, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from prime_hub.db.models import Job
from prime_hub.db.session import Database
from prime_hub.db.types import now, storable

LEASE = timedelta(seconds=30)
LOOK_SECONDS = 5.0
AT_ONCE = 8

log = logging.getLogger("prime_hub.jobs")


class Retry(Exception):
    """What a job needs is away for a moment; the job goes back to the queue."""


@dataclass(frozen=True)
class Handler:
    """How jobs of one kind are done. `run` gets the subject and the attempt; `give_up` the subject and the reason."""

    run: Callable[[str, int], Awaitable[None]]
    give_up: Callable[[str, str], Awaitable[None]]


class Jobs:
    """The queue and this process's worker."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._handlers: dict[str, Handler] = {}
        self._owner = secrets.token_hex(8)
        self._wake = asyncio.Event()
        self._running: set[asyncio.Task[None]] = set()
        self._task: asyncio.Task[None] | None = None

    def register(self, kind: str, handler: Handler) -> None:
        """Say how jobs of this kind are done."""
        self._handlers[kind] = handler

    def enqueue(self, session: AsyncSession, kind: str, subject: str) -> None:
        """Add a job in the caller's transaction; call `wake` once that is committed."""
        session.add(Job(kind=kind, subject=subject))

    def wake(self) -> None:
        """There may be something to do."""
        self._wake.set()

    async def start(self, alone: bool) -> None:
        """Begin to work. `alone`: no other process works on this queue, so every lease that is left is a dead one's."""
        if alone:
            async with self._database.write() as session:
                await session.execute(update(Job).where(Job.state == "running").values(lease_until=now()))
        self._task = asyncio.create_task(self._work(), name="jobs")

    async def stop(self) -> None:
        """Stop working; what was under way is due again at once, for whoever comes next."""
        if self._task is None:
            return
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task
        for task in list(self._running):
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        async with self._database.write() as session:
            mine = (Job.state == "running") & (Job.lease_owner == self._owner)
            await session.execute(update(Job).where(mine).values(lease_until=now()))

    async def _work(self) -> None:
        while True:
            self._wake.clear()
            try:
                while len(self._running) < AT_ONCE:
                    job = await self._claim()
                    if job is None:
                        break
                    task = asyncio.create_task(self._run(job), name=f"job {job.kind} {job.subject}")
                    self._running.add(task)
                    task.add_done_callback(self._done)
            except Exception:
                log.exception("looking for jobs failed")
            with suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), LOOK_SECONDS)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._wake.set()

    async def _claim(self) -> Job | None:
        due = or_(Job.state == "queued", and_(Job.state == "running", Job.lease_until < now()))
        query = select(Job).where(due, Job.kind.in_(self._handlers)).order_by(Job.created_at).limit(1)
        async with self._database.write() as session:
            job = (await session.scalars(query.with_for_update(skip_locked=True))).first()
            if job is None:
                return None
            job.state, job.lease_owner, job.lease_until = "running", self._owner, now() + LEASE
            job.attempt += 1
            return job

    async def _run(self, job: Job) -> None:
        handler = self._handlers[job.kind]
        if job.attempt > job.max_attempts:
            reason = f"It was begun {job.max_attempts} times and interrupted each time."
            await handler.give_up(job.subject, reason)
            await self._finish(job, "failed", reason)
            return
        work = asyncio.ensure_future(handler.run(job.subject, job.attempt))
        keeper = asyncio.create_task(self._keep(job, work))
        try:
            await work
        except Retry as reason:
            await self._finish(job, "queued", str(reason))
        except asyncio.CancelledError:
            work.cancel()
            raise
        except Exception as error:
            log.exception("job %s %s failed", job.kind, job.subject)
            reason = f"{type(error).__name__}: {error}"
            await handler.give_up(job.subject, f"The Hub failed on it ({reason}); its log says more.")
            await self._finish(job, "failed", reason)
        else:
            await self._finish(job, "done", None)
        finally:
            keeper.cancel()

    async def _keep(self, job: Job, work: asyncio.Future[None]) -> None:
        while not work.done():
            await asyncio.sleep(LEASE.total_seconds() / 3)
            try:
                if not await self._fenced(job, lease_until=now() + LEASE):
                    log.warning("job %s %s was taken over by another worker", job.kind, job.subject)
                    work.cancel()
            except Exception:
                log.exception("the lease of job %s %s could not be renewed", job.kind, job.subject)

    async def _finish(self, job: Job, state: str, error: str | None) -> None:
        ended = None if state == "queued" else now()
        await self._fenced(
            job, state=state, error=storable(error), lease_owner=None, lease_until=None, finished_at=ended
        )

    async def _fenced(self, job: Job, **values: object) -> bool:
        """Change the row if it is still this worker's attempt; whether it was."""
        mine = (
            (Job.id == job.id)
            & (Job.state == "running")
            & (Job.lease_owner == self._owner)
            & (Job.attempt == job.attempt)
        )
        async with self._database.write() as session:
            changed = await session.scalars(update(Job).where(mine).values(**values).returning(Job.id))
            return changed.first() is not None
