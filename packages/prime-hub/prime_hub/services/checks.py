"""Checks of published versions: who asks, whose turn it is, what came of them. How one is made: `check_run`.

A check is what the Hub itself found. There is no way in for a report: no request carries one, and nothing that was pushed is
read as one.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import defer, undefer

from prime_core.checks.report import Report
from prime_hub.db.models import Account, Environment, Version, VersionCheck
from prime_hub.db.session import Database
from prime_hub.db.types import now, storable
from prime_hub.errors import NotFound, TooMany
from prime_hub.services.access import PUBLISH, environment_named, reaches, role_in
from prime_hub.services.check_run import CheckRuns, NotChecked, Subject
from prime_hub.services.fair import Turns
from prime_hub.services.jobs import Handler, Jobs, Retry
from prime_hub.services.managing import one_version
from prime_hub.services.runner_client import RunnerDown
from prime_hub.services.signals import Signals
from prime_hub.settings import Settings

CHECK = "check"
GOING = ("queued", "running")
LOOK_SECONDS = 20.0
LOG_CHARACTERS = 32_000
PLAYED = frozenset({"load-fails", "rollout-fails"})
"""The checks without which little is known of an environment: it was loaded, and it was played."""

log = logging.getLogger("prime_hub.checks")


@dataclass(frozen=True)
class Badge:
    """What a badge says, and in which colour (`good`, `advice`, `bad`, `none`)."""

    text: str
    colour: str


@dataclass(frozen=True)
class _Waiting:
    version_id: str
    owner_id: str


class Checks:
    """The checks of this Hub's versions, and the jobs of kind `check`."""

    def __init__(self, settings: Settings, database: Database, jobs: Jobs, signals: Signals, runs: CheckRuns) -> None:
        self._settings = settings
        self._database = database
        self._jobs = jobs
        self._signals = signals
        self._runs = runs
        self._turns = Turns()
        jobs.register(CHECK, Handler(self.run, self.give_up))

    async def ask(self, account: Account, owner: str, name: str, wanted: str) -> VersionCheck:
        """Begin the check of a version, or join the one that goes on. For those who may publish the environment.

        Raises NotFound, Forbidden, and TooMany when as many wait as this Hub lets wait.
        """
        async with self._database.write() as session:
            environment = await environment_named(session, account, owner, name, PUBLISH)
            if wanted == "latest" and environment.latest_version_id is not None:
                version = await session.get_one(Version, environment.latest_version_id)
            else:
                version = await one_version(session, environment, wanted)
            await self._enqueue(session, version.id, account.id)
        await self.turn()
        self._signals.send(f"check/{version.id}")
        return await self._row(version.id)

    async def published(self, account: Account, version: Version) -> None:
        """A version was published: check it, where the operator lets the Hub do that by itself and there is room."""
        if not self._settings.check_published:
            return
        try:
            async with self._database.write() as session:
                if await session.get(VersionCheck, version.id) is None:
                    await self._enqueue(session, version.id, account.id)
        except TooMany as error:
            log.warning("version %s is not checked: %s", version.id, error.detail)
            return
        await self.turn()

    async def _enqueue(self, session: AsyncSession, version_id: str, user_id: str) -> None:
        row = await session.get(VersionCheck, version_id)
        if row is not None and row.state in GOING:
            return
        waiting = await session.scalar(select(func.count()).where(VersionCheck.state == "queued"))
        if (waiting or 0) >= self._settings.waiting_checks:
            raise TooMany(f"{waiting} checks wait on this Hub already; ask again in a while.")
        if row is None:
            row = VersionCheck(version_id=version_id)
            session.add(row)
        row.user_id, row.state, row.asked_at = user_id, "queued", now()
        row.reason = row.log = row.progress = row.admitted_at = row.started_at = row.ended_at = None

    async def turn(self) -> None:
        """There may be room for others: one of an owner at a time, and so many in all."""
        async with self._database.write() as session:
            query = (
                select(VersionCheck.version_id, Environment.owner_id, VersionCheck.admitted_at)
                .join(Version, Version.id == VersionCheck.version_id)
                .join(Environment, Environment.id == Version.environment_id)
                .where(VersionCheck.state.in_(GOING))
                .order_by(VersionCheck.asked_at, VersionCheck.version_id)
            )
            rows = [(row[0], row[1], row[2]) for row in await session.execute(query)]
            busy = {owner_id for _, owner_id, admitted in rows if admitted is not None}
            room = self._settings.checks_at_once - sum(admitted is not None for _, _, admitted in rows)

            def fits(one: _Waiting) -> bool:
                if one.owner_id in busy:
                    return False
                busy.add(one.owner_id)
                return True

            waiting = [_Waiting(version_id, owner_id) for version_id, owner_id, admitted in rows if admitted is None]
            taken = self._turns.take(waiting, fits, room)
            for one in taken:
                (await session.get_one(VersionCheck, one.version_id)).admitted_at = now()
                self._jobs.enqueue(session, CHECK, one.version_id)
        if taken:
            self._jobs.wake()

    async def run(self, version_id: str, attempt: int) -> None:
        """One attempt at a check. Raises Retry when the runner goes away."""
        subject = await self._begun(version_id)
        if subject is None:
            await self.turn()
            return
        work = asyncio.create_task(self._runs.run(subject, lambda text: self._progress(version_id, text)))
        try:
            report = await self._watched(version_id, work)
        except RunnerDown as error:
            raise Retry(str(error)) from error
        except NotChecked as error:
            await self._failed(version_id, str(error), error.log)
        else:
            if report is not None:
                await self._done(version_id, report)
        finally:
            if not work.done():
                work.cancel()
                with suppress(asyncio.CancelledError, Exception):
                    await work
        await self.turn()

    async def _begun(self, version_id: str) -> Subject | None:
        """What is checked; None when it is not there any more, or not to be checked."""
        async with self._database.write() as session:
            row = await session.get(VersionCheck, version_id)
            version = await session.get(Version, version_id)
            if row is None or version is None or row.state not in GOING:
                return None
            environment = await session.get_one(Environment, version.environment_id)
            account = await session.get(Account, row.user_id)
            role = None if account is None else await role_in(session, account, environment.owner_id)
            if account is None or not reaches(role, PUBLISH):
                row.state, row.ended_at = "failed", now()
                row.reason = "Who asked for this check may not publish the environment any more; ask for it anew."
                return None
            row.state, row.started_at, row.progress = "running", now(), None
            publisher = account if version.publisher_id is None else await session.get(Account, version.publisher_id)
        self._signals.send(f"check/{version_id}")
        return Subject(account, publisher or account, environment, version)

    async def _watched(self, version_id: str, work: asyncio.Task[Report]) -> Report | None:
        """The report; None, and the work ended, once the version is gone."""
        work.add_done_callback(lambda _: self._signals.send(f"check/{version_id}"))

        async def there() -> bool:
            async with self._database.read() as session:
                found = await session.scalar(select(Version.id).where(Version.id == version_id))
            return found is not None

        while not work.done():
            if not await self._signals.until(
                f"check/{version_id}", LOOK_SECONDS, there, lambda found: not found or work.done()
            ):
                return None
            if self._signals.closed:  # the Hub stops, and then nobody is made to wait
                await asyncio.wait({work})
        return work.result()

    async def _progress(self, version_id: str, text: str) -> None:
        async with self._database.write() as session:
            row = await session.get(VersionCheck, version_id)
            if row is not None:
                row.progress = storable(text[:64])
        self._signals.send(f"check/{version_id}")

    async def _done(self, version_id: str, report: Report) -> None:
        counts = report.counts
        async with self._database.write() as session:
            row = await session.get(VersionCheck, version_id)
            if row is None:
                return
            row.state, row.ended_at, row.progress = "done", now(), None
            row.checked_at, row.runtime, row.checker = row.ended_at, self._runs.runtime, report.checker[:64]
            row.report, row.problems, row.advice = report.as_dict(), counts["fail"], counts["warn"]
            row.partial = not report.ids("pass", "warn", "fail") >= PLAYED
        self._signals.send(f"check/{version_id}")

    async def _failed(self, version_id: str, reason: str, said: str) -> None:
        async with self._database.write() as session:
            row = await session.get(VersionCheck, version_id)
            if row is not None:
                row.state, row.ended_at, row.progress = "failed", now(), None
                row.reason, row.log = storable(reason), storable(said[-LOG_CHARACTERS:]) or None
        self._signals.send(f"check/{version_id}")

    async def give_up(self, version_id: str, reason: str) -> None:
        """Record that it will not be tried again."""
        await self._failed(version_id, reason, "")
        await self.turn()

    async def of(self, version: Version, wait: float = 0.0, report: bool = False) -> VersionCheck | None:
        """The check of a version that the caller may see; None when nobody has asked for one. With `wait`, once it has
        changed or after that many seconds; with `report`, what was found as well.
        """
        first = await self._find(version.id, report)
        if first is None or wait <= 0 or first.state not in GOING:
            return first
        was = (first.state, first.progress)
        return await self._signals.until(
            f"check/{version.id}",
            wait,
            lambda: self._find(version.id, report),
            lambda found: found is None or (found.state, found.progress) != was,
        )

    async def badges(self, version_ids: Collection[str | None]) -> dict[str | None, Badge]:
        """The badges of those versions that were checked, by their ids."""
        query = select(VersionCheck).where(
            VersionCheck.version_id.in_(version_ids), VersionCheck.checked_at.is_not(None)
        )
        query = query.options(defer(VersionCheck.log), defer(VersionCheck.reason))
        async with self._database.read() as session:
            return {row.version_id: badge(row) for row in await session.scalars(query)}

    async def _find(self, version_id: str, report: bool) -> VersionCheck | None:
        query = select(VersionCheck).where(VersionCheck.version_id == version_id)
        if report:
            query = query.options(undefer(VersionCheck.report))
        async with self._database.read() as session:
            return (await session.scalars(query)).first()

    async def _row(self, version_id: str) -> VersionCheck:
        found = await self._find(version_id, False)
        if found is None:
            raise NotFound("The version was deleted in this very moment.")
        return found

    async def may_ask(self, account: Account | None, environment: Environment) -> bool:
        """Whether the account may have it checked."""
        if account is None:
            return False
        async with self._database.read() as session:
            return reaches(await role_in(session, account, environment.owner_id), PUBLISH)


def badge(row: VersionCheck | None) -> Badge:
    """What is known of a version, in two or three words: of the last check that came to an end."""
    if row is None or row.checked_at is None:
        return Badge("not checked", "none")
    if row.problems:
        return Badge(f"{row.problems} problem{'' if row.problems == 1 else 's'}", "bad")
    if row.partial:
        return Badge("partly checked", "none")
    return Badge("checked", "advice" if row.advice else "good")
