"""What is made of samples: an evaluation's summary, an environment's leaderboard, two evaluations side by side."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from prime_evals.comparison import Comparison, compare_runs
from prime_evals.estimates import number
from prime_evals.summaries import Summary
from prime_hub.db.models import Account, Environment, EvaluatedEnvironment, Evaluation, EvaluationSample
from prime_hub.db.session import Database
from prime_hub.services.evaluation_access import evaluation_seen, may_see_evaluation

AT_ONCE = 2_000
"""Rows that are read together; between them others have their turn."""
CUT = ("FAILED", "TIMEOUT", "CANCELLED")
"""Runs of the Hub that have not come to their end: what they have played says less than a whole one."""
NEWEST = 500
"""Evaluations that an environment's page is made of."""


@dataclass(frozen=True)
class Standing:
    """One model on one version of an environment: its newest evaluation, and how many there are."""

    model: str
    version: str | None
    newest: Evaluation
    owner: str
    evaluations: int

    @property
    def reward(self) -> dict[str, Any] | None:
        """The mean with its interval."""
        return (self.newest.summary or {}).get("reward")


@dataclass(frozen=True)
class Board:
    """An environment's evaluations: standings with the best first, and each evaluation, the newest first."""

    standings: Sequence[Standing]
    evaluations: Sequence[tuple[Evaluation, str | None]]


class Reports:
    """Reads, and tells."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def board(self, account: Account | None, environment: Environment) -> Board:
        """Finished evaluations of an environment that the account may see, up to the newest 500."""
        query = (
            select(Evaluation, EvaluatedEnvironment.version)
            .join(EvaluatedEnvironment, EvaluatedEnvironment.evaluation_id == Evaluation.id)
            .where(
                EvaluatedEnvironment.environment_id == environment.id,
                Evaluation.finalized_at.is_not(None),
                Evaluation.status.not_in(CUT),
                may_see_evaluation(account),
            )
            .order_by(Evaluation.created_at.desc(), Evaluation.id)
            .limit(NEWEST)
        )
        async with self._database.read() as session:
            rows = [(row[0], row[1]) for row in (await session.execute(query)).unique()]
        groups: dict[tuple[str, str | None], list[Evaluation]] = {}
        for row, version in rows:
            groups.setdefault((row.model_name, version), []).append(row)
        standings = [
            Standing(model, version, found[0], found[0].owner.slug, len(found))
            for (model, version), found in groups.items()
        ]
        standings.sort(key=lambda one: -(one.newest.avg_reward if one.newest.avg_reward is not None else float("-inf")))
        return Board(standings, rows)

    async def compare(
        self, account: Account | None, before: str, after: str
    ) -> tuple[Evaluation, Evaluation, Comparison, dict[str, str]]:
        """Two evaluations that the account may see, their comparison by place, and the places' examples as they are shown.
        Raises NotFound.
        """
        shown: dict[str, str] = {}
        async with self._database.read() as session:
            first = await evaluation_seen(session, account, before)
            second = await evaluation_seen(session, account, after)
            groups = [await _groups(session, row, shown) for row in (first, second)]
        found = await asyncio.to_thread(compare_runs, groups[0], groups[1], threshold_of(second))
        return first, second, found, shown


def threshold_of(row: Evaluation) -> float:
    """From which reward on a rollout has passed: as the run's metadata says, else 0.5."""
    found = number(row.details.get("pass_threshold"))
    return 0.5 if found is None else found


async def _groups(session: AsyncSession, row: Evaluation, shown: dict[str, str]) -> dict[str, list[float]]:
    query = (
        select(EvaluationSample.place, EvaluationSample.example_id, EvaluationSample.reward)
        .where(EvaluationSample.evaluation_id == row.id, EvaluationSample.reward.is_not(None))
        .order_by(EvaluationSample.place, EvaluationSample.rollout_index)
    )
    groups: dict[str, list[float]] = {}
    async for part in (await session.stream(query.execution_options(yield_per=AT_ONCE))).partitions():
        for place, example, reward in part:
            if reward is not None:
                groups.setdefault(place, []).append(reward)
            shown.setdefault(place, example)
    return groups


async def summary_of(session: AsyncSession, row: Evaluation) -> dict[str, Any]:
    """The summary of all samples of an evaluation."""
    sample = EvaluationSample
    columns = (
        *(sample.place, sample.reward, sample.metrics, sample.error, sample.message, sample.stop_condition),
        *(sample.truncated, sample.input_tokens, sample.output_tokens, sample.cost, sample.seconds, sample.turns),
    )
    query = select(*columns).where(sample.evaluation_id == row.id).order_by(sample.place, sample.rollout_index)
    summary = Summary(threshold_of(row))
    async for part in (await session.stream(query.execution_options(yield_per=AT_ONCE))).partitions():
        for place, reward, metrics, error, message, stop, truncated, tokens, said, cost, seconds, turns in part:
            summary.add(
                place,
                reward,
                metrics=metrics,
                error=error,
                sentence=message,
                stop=stop,
                truncated=truncated,
                amounts={
                    "input_tokens": tokens,
                    "output_tokens": said,
                    "cost": cost,
                    "seconds": seconds,
                    "turns": turns,
                },
            )
        await asyncio.sleep(0)
    return await asyncio.to_thread(summary.told)
