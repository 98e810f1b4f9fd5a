"""Evaluations that are pushed: described, sent in batches (`evaluation_samples.py`), finalised, listed, changed, deleted."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from packaging.utils import canonicalize_name
from sqlalchemy import ColumnElement, delete, func, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import defer

from prime_hub.db.models import (
    Account,
    Environment,
    EvaluatedEnvironment,
    Evaluation,
    EvaluationPack,
    EvaluationSample,
    Version,
)
from prime_hub.db.session import Database
from prime_hub.db.types import now
from prime_hub.errors import Invalid, NotFound
from prime_hub.services.access import belongs_to, called, may_see, no_environment, owner_for
from prime_hub.services.blob_use import sweep
from prime_hub.services.blobs import BlobStore
from prime_hub.services.evaluation_access import (
    evaluation_for,
    evaluation_seen,
    evaluation_to_fill,
    may_change_evaluation,
    may_see_evaluation,
)
from prime_hub.services.evaluation_reading import shown
from prime_hub.services.evaluation_reports import summary_of
from prime_hub.services.names import canonical
from prime_hub.services.usage import Kind, Usage

METADATA_BYTES = 1024 * 1024
MOST_TAGS = 50
MOST_ENVIRONMENTS = 20


@dataclass(frozen=True)
class Named:
    """An environment as a request names it: by its id, or as `owner/name`."""

    id: str | None = None
    slug: str | None = None
    version: str | None = None


@dataclass(frozen=True)
class Description:
    """What a push says of an evaluation; what is None is left as it is, or has its usual value in a new one."""

    name: str | None = None
    environments: Sequence[Named] | None = None
    model_name: str | None = None
    framework: str | None = None
    task_type: str | None = None
    run_id: str | None = None
    tags: Sequence[str] | None = None
    metadata: Mapping[str, Any] | None = None
    metrics: Mapping[str, Any] | None = None
    public: bool | None = None


@dataclass(frozen=True)
class Of:
    """An environment that an evaluation is of, for somebody who may see it."""

    id: str
    owner: str
    name: str
    version: str | None

    @property
    def slug(self) -> str:
        """`owner/name`."""
        return f"{self.owner}/{self.name}"


@dataclass(frozen=True)
class Wanted:
    """Which evaluations to list, the newest first."""

    skip: int = 0
    limit: int = 20
    environment: str | None = None
    """`owner/name`, or the name alone."""
    team: str | None = None
    owner: str | None = None
    model: str | None = None
    mine_only: bool = False


@dataclass(frozen=True)
class Shown:
    """An evaluation with what somebody may know of it."""

    row: Evaluation
    environments: Sequence[Of] = field(default_factory=tuple)
    user: str | None = None
    """Who pushed it."""
    may_change: bool = False


class Evaluations:
    """Keeps evaluations."""

    def __init__(self, database: Database, blobs: BlobStore, usage: Usage) -> None:
        self._database = database
        self._blobs = blobs
        self._usage = usage

    async def create(
        self,
        account: Account,
        description: Description,
        team: str | None,
        also: Callable[[AsyncSession, Evaluation], Awaitable[None]] | None = None,
    ) -> Shown:
        """A new one, of the account's or of one of its teams'; `also` is done in the same transaction. Raises Invalid,
        NotFound, and what `also` does.
        """
        async with self._database.write() as session:
            owner = await owner_for(session, account, None, team)
            row = Evaluation(owner_id=owner.id, user_id=account.id, name="")
            row.owner = owner
            session.add(row)
            _describe(row, description)
            row.name = row.name or row.model_name or "evaluation"
            await session.flush()
            await self._link(session, account, row, description.environments or ())
            if also is not None:
                await also(session, row)
        return await self.one(account, row.id)

    async def describe(self, account: Account, evaluation_id: str, description: Description) -> Shown:
        """Describe it anew, before its samples are sent anew: those that are not sent again are gone when it is finalised."""
        async with self._database.write() as session:
            row = await evaluation_to_fill(session, account, evaluation_id)
            _describe(row, description)
            row.round += 1
            if description.environments is not None:
                await session.execute(delete(EvaluatedEnvironment).where(EvaluatedEnvironment.evaluation_id == row.id))
                await self._link(session, account, row, description.environments)
        return await self.one(account, evaluation_id)

    async def change(self, account: Account, evaluation_id: str, description: Description) -> Shown:
        """Change its name, tags or visibility, and nothing of what was measured."""
        async with self._database.write() as session:
            _describe(await evaluation_for(session, account, evaluation_id), description)
        return await self.one(account, evaluation_id)

    async def _link(
        self, session: AsyncSession, account: Account, row: Evaluation, environments: Sequence[Named]
    ) -> None:
        if len(environments) > MOST_ENVIRONMENTS:
            raise Invalid(f"An evaluation is of at most {MOST_ENVIRONMENTS} environments.")
        linked: set[str] = set()
        for named in environments:
            environment = await _environment(session, account, named)
            if environment.id in linked:
                continue
            linked.add(environment.id)
            number = named.version or _version_in(row.details)
            version = await _version(session, environment, number)
            session.add(
                EvaluatedEnvironment(
                    evaluation_id=row.id,
                    environment_id=environment.id,
                    version_id=version.id if version is not None else None,
                    version=version.version if version is not None else shown(number, 64) if number else None,
                )
            )

    async def one(self, account: Account | None, evaluation_id: str) -> Shown:
        """It, for somebody who may see it. Raises NotFound."""
        async with self._database.read() as session:
            row = await evaluation_seen(session, account, evaluation_id)
            of = await _environments(session, account, [row.id])
            user = await session.get(Account, row.user_id)
            may_change = account is not None and await may_change_evaluation(session, account, row)
            return Shown(row, of.get(row.id, ()), user.slug if user is not None else None, may_change)

    async def find(self, account: Account | None, wanted: Wanted) -> tuple[list[Shown], int]:
        """One page of them, without their summaries' details, and how many there are. Raises NotFound for a team that is
        not the account's.
        """
        async with self._database.read() as session:
            where = await _conditions(session, account, wanted)
            total = await session.scalar(select(func.count(Evaluation.id)).where(*where)) or 0
            query = (
                select(Evaluation)
                .where(*where)
                .order_by(Evaluation.created_at.desc(), Evaluation.id)
                .offset(wanted.skip)
                .limit(wanted.limit)
            )
            rows = (await session.scalars(query)).unique().all()
            of = await _environments(session, account, [row.id for row in rows])
            return [Shown(row, of.get(row.id, ())) for row in rows], total

    async def finalize(self, account: Account, evaluation_id: str, metrics: Mapping[str, Any] | None) -> Shown:
        """It is complete: what an earlier round had sent goes, and its summary is made. May be repeated."""
        await self._finalize(account, evaluation_id, Description(metrics=metrics), "COMPLETED", None)
        return await self.one(account, evaluation_id)

    async def finish_hosted(
        self, evaluation_id: str, description: Description, status: str, error_message: str | None
    ) -> None:
        """The run that the Hub has made of it has ended so; what it has recorded is summed up. Raises NotFound."""
        await self._finalize(None, evaluation_id, description, status, error_message)

    async def _finalize(
        self, account: Account | None, evaluation_id: str, description: Description, status: str, error: str | None
    ) -> None:
        async with self._database.write() as session:
            row = await evaluation_to_fill(session, account, evaluation_id)
            _describe(row, description)
            await _forget_earlier_rounds(session, row)
            unused = await drop_empty_packs(session, row)
        await sweep(self._database, self._blobs, unused)
        for _ in range(5):
            async with self._database.read() as session:
                before = await evaluation_to_fill(session, account, evaluation_id)
                summary = await summary_of(session, before)
            if await self._complete(account, evaluation_id, before.updated_at, summary, status, error):
                break

    async def _complete(
        self,
        account: Account | None,
        evaluation_id: str,
        seen: datetime,
        summary: dict[str, Any],
        status: str,
        error: str | None,
    ) -> bool:
        """Write the summary down, unless samples have come in since it was begun."""
        async with self._database.write() as session:
            row = await evaluation_to_fill(session, account, evaluation_id)
            if row.updated_at != seen:
                return False
            first = row.finalized_at is None
            row.summary, row.status, row.error_message = summary, status, error
            row.avg_reward = (summary["reward"] or {}).get("value")
            row.finalized_at = now()
            versions = await _counted(session, row) if first else []
        for version in versions:
            self._usage.count(version, Kind.EVALUATION)
        return True

    async def delete(self, account: Account, evaluation_id: str) -> None:
        """Delete it, with its samples and their bytes."""
        async with self._database.write() as session:
            row = await evaluation_for(session, account, evaluation_id)
            packs = EvaluationPack.evaluation_id == row.id
            keys = (await session.scalars(select(EvaluationPack.blob).where(packs))).all()
            for model in (EvaluationSample, EvaluationPack, EvaluatedEnvironment):
                await session.execute(delete(model).where(model.evaluation_id == row.id))
            await session.delete(row)
        await sweep(self._database, self._blobs, keys)


def _describe(row: Evaluation, description: Description) -> None:
    for field_name, most in (("name", 255), ("model_name", 255), ("framework", 64), ("task_type", 64), ("run_id", 128)):
        value = getattr(description, field_name)
        if value is not None:
            setattr(row, field_name, shown(value, most))
    if description.tags is not None:
        row.tags = list(dict.fromkeys(shown(tag, 60) for tag in description.tags))[:MOST_TAGS]
    if description.metadata is not None:
        row.details = _plain(description.metadata, "metadata")
    if description.metrics is not None:
        row.metrics = _plain(description.metrics, "metrics")
    if description.public is not None:
        row.visibility = "PUBLIC" if description.public else "PRIVATE"


def _plain(given: Mapping[str, Any], what: str) -> dict[str, Any]:
    try:
        text = json.dumps(given, allow_nan=False)
    except ValueError:
        raise Invalid(f"The {what} hold what JSON cannot tell again (NaN or an infinity); leave it out.") from None
    if len(text) > METADATA_BYTES:
        raise Invalid(f"The {what} are larger than {METADATA_BYTES} bytes; long texts belong into samples.")
    return dict(given)


def _version_in(metadata: Mapping[str, Any]) -> str | None:
    """The environment's version as a run's metadata.json tells it."""
    told = metadata.get("version_info")
    number = told.get("env_version") if isinstance(told, Mapping) else metadata.get("env_version")
    return number if isinstance(number, str) and number else None


async def _environment(session: AsyncSession, account: Account, named: Named) -> Environment:
    query = select(Environment).join(Account, Account.id == Environment.owner_id).where(may_see(account))
    if named.slug:
        owner, _, name = named.slug.partition("@")[0].rpartition("/")
        query = query.where(called(owner), Environment.normalized_name == str(canonicalize_name(name)))
        missing = no_environment(owner, name)
    else:
        query = query.where(Environment.id == (named.id or ""))
        missing = NotFound(f"There is no environment with the id {(named.id or '')[:80]} on this Hub.")
    found = (await session.scalars(query)).unique().first()
    if found is None:
        raise missing
    return found


async def _version(session: AsyncSession, environment: Environment, number: str | None) -> Version | None:
    wanted = canonical(number) if number else None
    if wanted is None:
        return None
    query = select(Version).options(defer(Version.readme), defer(Version.details))
    query = query.where(
        Version.environment_id == environment.id, Version.finalized_at.is_not(None), Version.canonical == wanted
    )
    return (await session.scalars(query)).unique().first()


async def _environments(session: AsyncSession, account: Account | None, ids: Sequence[str]) -> dict[str, list[Of]]:
    """Those that the account may see, by evaluation."""
    query = (
        select(EvaluatedEnvironment, Environment.name, Account.slug)
        .join(Environment, Environment.id == EvaluatedEnvironment.environment_id)
        .join(Account, Account.id == Environment.owner_id)
        .where(EvaluatedEnvironment.evaluation_id.in_(ids), may_see(account))
        .order_by(Account.slug, Environment.normalized_name)
    )
    found: dict[str, list[Of]] = {}
    for link, name, owner in (await session.execute(query)).all():
        found.setdefault(link.evaluation_id, []).append(Of(link.environment_id, owner, name, link.version))
    return found


async def _conditions(session: AsyncSession, account: Account | None, wanted: Wanted) -> list[ColumnElement[bool]]:
    where = [may_see_evaluation(account)]
    if wanted.team:
        if account is None:
            raise NotFound("There is no such team on this Hub that you belong to.", code="team_not_found")
        where.append(Evaluation.owner_id == (await owner_for(session, account, None, wanted.team)).id)
    if wanted.mine_only:
        where.append(belongs_to(Evaluation.owner_id, account) if account else Evaluation.id == "")
    if wanted.owner:
        where.append(Evaluation.owner_id.in_(select(Account.id).where(called(wanted.owner))))
    if wanted.model:
        where.append(Evaluation.model_name == wanted.model)
    if wanted.environment:
        owner, _, name = wanted.environment.partition("@")[0].rpartition("/")
        named = [Environment.normalized_name == str(canonicalize_name(name)), may_see(account)]
        if owner:
            named.append(called(owner))
        ids = select(Environment.id).join(Account, Account.id == Environment.owner_id).where(*named)
        of = select(EvaluatedEnvironment.evaluation_id).where(EvaluatedEnvironment.environment_id.in_(ids))
        where.append(Evaluation.id.in_(of))
    return where


async def _forget_earlier_rounds(session: AsyncSession, row: Evaluation) -> None:
    mine = EvaluationSample.evaluation_id == row.id
    newest = select(EvaluationSample.id).where(mine, EvaluationSample.round == row.round).limit(1)
    if (await session.scalars(newest)).first() is not None:
        await session.execute(delete(EvaluationSample).where(mine, EvaluationSample.round < row.round))
        row.updated_at = now()


async def drop_empty_packs(session: AsyncSession, row: Evaluation) -> Sequence[str]:
    """Remove packs of which no sample is left, and count what there is; the keys of bytes that may be unused then."""
    used = select(EvaluationSample.id).where(EvaluationSample.pack_id == EvaluationPack.id)
    empty = (EvaluationPack.evaluation_id == row.id) & ~used.exists()
    keys = (await session.scalars(select(EvaluationPack.blob).where(empty))).all()
    await session.execute(delete(EvaluationPack).where(empty))
    await count(session, row)
    return keys


async def count(session: AsyncSession, row: Evaluation) -> None:
    """Write down how much an evaluation holds."""
    samples = select(func.count(EvaluationSample.id)).where(EvaluationSample.evaluation_id == row.id)
    size = select(func.sum(EvaluationPack.size)).where(EvaluationPack.evaluation_id == row.id)
    row.num_samples = await session.scalar(samples) or 0
    row.num_bytes = int(await session.scalar(size) or 0)


async def _counted(session: AsyncSession, row: Evaluation) -> list[str]:
    """The versions that this evaluation counts for: the one that it names, else the newest."""
    query = select(EvaluatedEnvironment.version_id, Environment.latest_version_id).join(
        Environment, Environment.id == EvaluatedEnvironment.environment_id
    )
    found = (await session.execute(query.where(EvaluatedEnvironment.evaluation_id == row.id))).all()
    return [one for version, newest in found if (one := version or newest)]
