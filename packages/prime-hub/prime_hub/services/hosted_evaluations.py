"""Hosted evaluations: who asks, whose turn it is, what is kept of the run, how it is ended. How one is made: `hosted_run`.

The evaluation's status is the run's: PENDING until it plays, RUNNING, and then COMPLETED, FAILED, TIMEOUT or CANCELLED. What
was recorded until then stays, and is summed up however the run has ended.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import undefer

from prime_hub.db.models import Account, Environment, Evaluation, HostedRun, Version
from prime_hub.db.session import Database
from prime_hub.db.types import now, storable
from prime_hub.errors import Forbidden, HubError, Invalid, NotFound, TooMany
from prime_hub.services.access import PUBLISH, environment_for, reaches, role_in
from prime_hub.services.evaluation_access import evaluation_for, evaluation_seen
from prime_hub.services.evaluation_samples import EvaluationSamples
from prime_hub.services.evaluations import Description, Evaluations, Named, Shown
from prime_hub.services.fair import Turns
from prime_hub.services.hosted_config import read_config, told
from prime_hub.services.hosted_run import HostedRuns, NotPlayed, Task
from prime_hub.services.jobs import Handler, Jobs, Retry
from prime_hub.services.model_endpoints import Endpoints
from prime_hub.services.runner_client import RunnerDown
from prime_hub.services.signals import Signals
from prime_hub.settings import Settings

EVALUATION = "evaluation"
GOING = ("PENDING", "RUNNING")
LOOK_SECONDS = 20.0
LOG_CHARACTERS = 256 * 1024
LOG_SECONDS = 2.0
MOST_AT_ONCE = 20

log = logging.getLogger("prime_hub.evaluations")


@dataclass(frozen=True)
class Asked:
    """What a run is asked for with."""

    environments: Sequence[str]
    """Their ids: one evaluation each, of the newest version."""
    model: str
    config: Mapping[str, Any]
    name: str | None = None
    team: str | None = None
    public: bool = False


@dataclass(frozen=True)
class _Waiting:
    evaluation_id: str
    owner_id: str


@dataclass(frozen=True)
class _Begun:
    task: Task
    log: str


class HostedEvaluations:
    """The runs of this Hub, and the jobs of kind `evaluation`."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        jobs: Jobs,
        signals: Signals,
        evaluations: Evaluations,
        samples: EvaluationSamples,
        runs: HostedRuns,
        endpoints: Endpoints,
    ) -> None:
        self._settings = settings
        self._database = database
        self._jobs = jobs
        self._signals = signals
        self._evaluations = evaluations
        self._samples = samples
        self._runs = runs
        self._endpoints = endpoints
        self._turns = Turns()
        jobs.register(EVALUATION, Handler(self.run, self.give_up))

    async def ask(self, account: Account, asked: Asked) -> list[Shown]:
        """Have evaluations run, for those who may publish their environments. Raises NotFound, Forbidden, Invalid,
        TooMany, Unavailable.
        """
        config = read_config(asked.config)
        if not asked.environments or len(asked.environments) > MOST_AT_ONCE:
            raise Invalid(
                f"Name the environments of the run by their ids (environment_ids), 1 to {MOST_AT_ONCE} of them."
            )
        minutes = config.get("timeout_minutes")
        seconds = (
            self._settings.hosted_seconds if minutes is None else min(60.0 * minutes, self._settings.hosted_seconds)
        )
        # All are looked at before one is made.
        versions = {one: await self._newest(account, one) for one in asked.environments}
        made = []
        for environment_id, version in versions.items():

            async def also(session: AsyncSession, row: Evaluation, environment_id: str = environment_id) -> None:
                environment = await environment_for(session, account, environment_id, PUBLISH)
                if environment.latest_version_id is None:
                    raise NotFound(f"The environment {environment.name} has no version to run.")
                newest = await session.get_one(Version, environment.latest_version_id)
                await asyncio.to_thread(self._endpoints.of, row.model_name, (account, row.owner))
                waiting = select(func.count()).where(HostedRun.ended_at.is_(None), HostedRun.admitted_at.is_(None))
                if (count := await session.scalar(waiting) or 0) >= self._settings.waiting_hosted:
                    raise TooMany(f"{count} evaluations wait on this Hub already; ask again in a while.")
                row.status, row.is_hosted = "PENDING", True
                row.name = row.name if asked.name else f"{environment.name} · {row.model_name}"
                session.add(
                    HostedRun(
                        evaluation_id=row.id,
                        user_id=account.id,
                        environment_id=environment.id,
                        version_id=newest.id,
                        config=config,
                        seconds=seconds,
                    )
                )

            description = Description(
                name=asked.name,
                environments=[Named(environment_id, None, version)],
                model_name=asked.model,
                framework="verifiers",
                metadata=told(config),
                public=asked.public,
            )
            made.append(await self._evaluations.create(account, description, asked.team, also))
        await self.turn()
        return made

    async def _newest(self, account: Account, environment_id: str) -> str | None:
        async with self._database.read() as session:
            environment = await environment_for(session, account, environment_id, PUBLISH)
            found = await session.get(Version, environment.latest_version_id or "")
            return None if found is None else found.version

    async def logs(self, account: Account | None, evaluation_id: str) -> str:
        """What the run has said, its end where it is long: for its owner, or all of the team that it is of. Raises
        NotFound, Forbidden, Invalid.
        """
        async with self._database.read() as session:
            row = await evaluation_seen(session, account, evaluation_id)
            if account is None or await role_in(session, account, row.owner_id) is None:
                raise Forbidden(f"The log of evaluation {evaluation_id} is for {row.owner.slug} only.")
            query = select(HostedRun).options(undefer(HostedRun.log)).where(HostedRun.evaluation_id == row.id)
            run = (await session.scalars(query)).first()
            if run is None:
                raise _not_hosted(evaluation_id)
            return run.log or ""

    async def log_for(self, account: Account | None, evaluation_id: str) -> str | None:
        """The same for a page; None for those whom the log is not for."""
        try:
            return await self.logs(account, evaluation_id)
        except (Forbidden, Invalid, NotFound):
            return None

    async def cancel(self, account: Account, evaluation_id: str) -> str:
        """Have a run end, and what is being played be finished; a sentence on what happens. May be repeated. Raises
        NotFound, Forbidden, Invalid.
        """
        async with self._database.write() as session:
            row = await evaluation_for(session, account, evaluation_id)
            run = await session.get(HostedRun, evaluation_id)
            if run is None:
                raise _not_hosted(evaluation_id)
            if run.ended_at is not None or row.status not in GOING:
                return f"Evaluation {evaluation_id} has ended already: it is {row.status}."
            run.cancelled_at = run.cancelled_at or now()
            waiting = run.admitted_at is None
            if waiting:
                run.ended_at, row.status = now(), "CANCELLED"
                row.error_message = "It was cancelled before it began."
        self._signals.send(f"evaluation/{evaluation_id}")
        if waiting:
            return f"Evaluation {evaluation_id} is cancelled; it had not begun."
        return f"Evaluation {evaluation_id} is ending: what is being played is finished and kept."

    async def turn(self) -> None:
        """There may be room for others."""
        async with self._database.write() as session:
            query = (
                select(HostedRun.evaluation_id, Evaluation.owner_id, HostedRun.admitted_at)
                .join(Evaluation, Evaluation.id == HostedRun.evaluation_id)
                .where(HostedRun.ended_at.is_(None))
                .order_by(HostedRun.asked_at, HostedRun.evaluation_id)
            )
            rows = [(row[0], row[1], row[2]) for row in await session.execute(query)]
            room = self._settings.hosted_at_once - sum(admitted is not None for _, _, admitted in rows)
            waiting = [_Waiting(one, owner) for one, owner, admitted in rows if admitted is None]
            taken = self._turns.take(waiting, lambda _: True, room)
            for one in taken:
                (await session.get_one(HostedRun, one.evaluation_id)).admitted_at = now()
                self._jobs.enqueue(session, EVALUATION, one.evaluation_id)
        if taken:
            self._jobs.wake()

    async def run(self, evaluation_id: str, attempt: int) -> None:
        """One attempt at a run. Raises Retry when the runner goes away."""
        begun = await self._begun(evaluation_id)
        if begun is not None:
            keeping = _Keeping(self, evaluation_id, begun.log)
            if attempt > 1:
                await keeping.log("The Hub was interrupted in the middle of this run, which begins anew.\n")
            await self._made(evaluation_id, begun.task, keeping)
        await self.turn()

    async def _made(self, evaluation_id: str, task: Task, keeping: _Keeping) -> None:
        stop = asyncio.Event()
        work = asyncio.create_task(self._runs.run(task, keeping, stop))
        try:
            if not await self._watched(evaluation_id, work, stop):
                return  # deleted, and nobody asks what came of it
            work.result()
        except RunnerDown as error:
            await keeping.flush()
            raise Retry(str(error)) from error
        except TimeoutError:
            how, why = "TIMEOUT", f"It took longer than {task.seconds / 60:g} minutes, and was ended."
        except NotPlayed as error:
            how, why = "FAILED", str(error)
        else:
            how, why = "COMPLETED", None
        finally:
            if not work.done():
                work.cancel()
                with suppress(asyncio.CancelledError, Exception):
                    await work
        if stop.is_set():
            how, why = "CANCELLED", "It was cancelled."
        await keeping.flush()
        await self._end(evaluation_id, how, why, keeping.told)

    async def _watched(self, evaluation_id: str, work: asyncio.Task[None], stop: asyncio.Event) -> bool:
        """Until it is done; False once the evaluation is gone. `stop` is set when it is cancelled."""
        topic = f"evaluation/{evaluation_id}"
        work.add_done_callback(lambda _: self._signals.send(topic))

        async def look() -> tuple[bool, bool]:
            async with self._database.read() as session:
                run = await session.get(HostedRun, evaluation_id)
                return run is not None, run is not None and run.cancelled_at is not None

        while not work.done():
            there, cancelled = await self._signals.until(
                topic,
                LOOK_SECONDS,
                look,
                lambda found: not found[0] or (found[1] and not stop.is_set()) or work.done(),
            )
            if not there:
                return False
            if cancelled:
                stop.set()
            if self._signals.closed:  # the Hub stops, and then nobody is made to wait
                await asyncio.wait({work})
        return True

    async def _begun(self, evaluation_id: str) -> _Begun | None:
        """What is played; None when it is not to be any more."""
        async with self._database.write() as session:
            query = select(HostedRun).options(undefer(HostedRun.log)).where(HostedRun.evaluation_id == evaluation_id)
            run = (await session.scalars(query)).first()
            row = await session.get(Evaluation, evaluation_id)
            if run is None or row is None or run.ended_at is not None:
                return None
            if row.status not in GOING:  # the Hub was killed between the two
                run.ended_at = now()
                return None
            account = await session.get(Account, run.user_id)
            environment = await session.get(Environment, run.environment_id)
            version = await session.get(Version, run.version_id)
            why = None
            if environment is None or version is None:
                why = "The version that was to run was deleted."
            elif account is None or not reaches(await role_in(session, account, environment.owner_id), PUBLISH):
                why = "Who asked for this run may not publish the environment any more; ask for it anew."
            if why is not None or account is None or environment is None or version is None:
                run.ended_at, row.status, row.error_message = now(), "FAILED", why
                return None
            publisher = account if version.publisher_id is None else await session.get(Account, version.publisher_id)
            task = Task(
                account, row.owner, publisher or account, environment, version, row.model_name, run.config, run.seconds
            )
            return _Begun(task, run.log or "")

    async def _end(self, evaluation_id: str, status: str, why: str | None, metadata: Mapping[str, Any]) -> None:
        """Write down how it has ended, and sum up what there is."""
        async with self._database.read() as session:
            row = await session.get(Evaluation, evaluation_id)
        if row is None:
            return
        if row.num_samples or status == "COMPLETED":
            metrics = {
                name.removeprefix("avg_"): value
                for name, value in metadata.items()
                if name.startswith("avg_") and value is not None
            }
            about = {name: value for name, value in metadata.items() if not name.startswith("avg_")}
            description = Description(metadata={**row.details, **about}, metrics=metrics or None)
            try:
                await self._evaluations.finish_hosted(evaluation_id, description, status, why)
            except NotFound:
                return
            except Invalid as error:  # the metadata, which are the code's word
                await self._evaluations.finish_hosted(evaluation_id, Description(), status, why or error.detail)
        async with self._database.write() as session:
            row, run = await session.get(Evaluation, evaluation_id), await session.get(HostedRun, evaluation_id)
            if row is not None and run is not None:
                row.status, row.error_message, run.ended_at = status, storable(why), now()
        self._signals.send(f"evaluation/{evaluation_id}")

    async def give_up(self, evaluation_id: str, reason: str) -> None:
        """Record that it will not be tried again."""
        await self._end(evaluation_id, "FAILED", reason, {})
        await self.turn()

    async def write_log(self, evaluation_id: str, text: str) -> None:
        """Keep this as the log of a run."""
        async with self._database.write() as session:
            run = await session.get(HostedRun, evaluation_id)
            if run is not None:
                run.log = storable(text)
        self._signals.send(f"evaluation/{evaluation_id}")

    async def take(self, evaluation_id: str, body: bytes) -> None:
        """Keep these rollouts of a run. Raises HubError."""
        await self._samples.take(None, evaluation_id, body)

    async def mark_started(self, evaluation_id: str) -> None:
        """It plays now."""
        async with self._database.write() as session:
            row, run = await session.get(Evaluation, evaluation_id), await session.get(HostedRun, evaluation_id)
            if row is not None and run is not None:
                row.status, run.started_at = "RUNNING", run.started_at or now()
        self._signals.send(f"evaluation/{evaluation_id}")


class _Keeping:
    """Where the results of one attempt go."""

    def __init__(self, service: HostedEvaluations, evaluation_id: str, text: str) -> None:
        self._service, self._id, self._text = service, evaluation_id, text
        self._written = text
        self._at = 0.0
        self._later: asyncio.Task[None] | None = None
        self.told: dict[str, Any] = {}

    async def started(self) -> None:
        await self._service.mark_started(self._id)

    async def rows(self, body: bytes) -> None:
        await self._service.take(self._id, body)

    async def log(self, text: str) -> None:
        self._text = (self._text + text)[-LOG_CHARACTERS:]
        if self._later is None or self._later.done():
            self._later = asyncio.create_task(self._soon(), name=f"log of {self._id}")

    async def _soon(self) -> None:
        await asyncio.sleep(max(0.0, self._at + LOG_SECONDS - time.monotonic()))
        await self._write()

    async def about(self, metadata: dict[str, Any]) -> None:
        self.told = metadata

    async def flush(self) -> None:
        """Write down what was not yet."""
        if self._later is not None:
            self._later.cancel()
            with suppress(asyncio.CancelledError):
                await self._later
        await self._write()

    async def _write(self) -> None:
        if self._text == self._written:
            return
        self._at, self._written = time.monotonic(), self._text
        with suppress(HubError):
            await self._service.write_log(self._id, self._text.encode("utf-8", "replace").decode())


def _not_hosted(evaluation_id: str) -> Invalid:
    return Invalid(
        f"Evaluation {evaluation_id} was pushed, and not run by this Hub: it has no log and nothing to cancel."
    )
