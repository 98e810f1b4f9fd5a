"""How much environments are used: source archives pulled, wheels installed, evaluations, by version and day (UTC).

A download counts when all of it has been sent, whoever asked and however often; nothing is kept of who it was.

To count costs a request no more than a number in memory. Numbers are added to the database in one transaction every few
seconds, when somebody reads the usage, and at the Hub's orderly end; a Hub that is killed loses those of the last seconds,
`EVERY_SECONDS` at most, and one whose database does not answer keeps them until it does.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from enum import StrEnum
from typing import Any

from sqlalchemy import BigInteger, Date, String, bindparam, case, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from prime_hub.db.models import Environment, UsageDay, Version
from prime_hub.db.session import Database
from prime_hub.db.types import now
from prime_hub.services.rounds import Rounds

EVERY_SECONDS = 5.0
LONGEST_DAYS = 365
SPANS = (7, 30)
"""Days of the totals, beside that of all time."""

log = logging.getLogger(__name__)


class Kind(StrEnum):
    """What is counted."""

    INSTALL = "install"
    """A wheel was downloaded, from its own address or through the owner's index."""
    PULL = "pull"
    """A source archive was downloaded."""
    EVALUATION = "evaluation"
    """A model was evaluated. Shown of environments that have any, since without a report a zero would tell nothing."""


Counts = Counter[Kind]


@dataclass(frozen=True)
class Report:
    """An environment's usage, or that of one of its versions."""

    kinds: Sequence[Kind]
    """Those there is something to tell of."""
    total: Counts
    """Of all time."""
    spans: Mapping[int, Counts]
    """Of the last so many days, today among them."""
    days: Mapping[date, Counts]
    """Every day that was asked for, the oldest first, also those without anything."""
    versions: Mapping[str, tuple[Counts, Counts]]
    """Of every version by its number, the newest first: on those days, and of all time."""


class Usage:
    """Counts in memory, writes now and then, and tells."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._counted: Counter[tuple[str, date, Kind]] = Counter()
        self._writing = asyncio.Lock()
        self._rounds = Rounds("usage", self.flush, EVERY_SECONDS, at_once=False)

    def start(self) -> None:
        """Begin to write, in the background."""
        self._rounds.start()

    async def stop(self) -> None:
        """End that, and write what there is."""
        await self._rounds.stop()
        await self.flush()

    def count(self, version_id: str, kind: Kind) -> None:
        """One more, today."""
        self._counted[version_id, now().date(), kind] += 1

    async def flush(self) -> None:
        """Write what has been counted so far; what cannot be written is kept for the next time."""
        # Whoever waits may go away in the middle, and must not leave it open whether the numbers were written.
        await asyncio.shield(self._flush())

    async def _flush(self) -> None:
        async with self._writing:
            counted, self._counted = self._counted, Counter()
            try:
                await self._write(counted)
            except Exception as error:
                self._counted.update(counted)
                log.warning(
                    "the usage of environments could not be written, and is kept: %s", str(error).partition("\n")[0]
                )

    async def _write(self, counted: Counter[tuple[str, date, Kind]]) -> None:
        if not counted:
            return
        rows = [
            {"of_version": version, "on_day": day, "of_kind": kind.value, "times": times}
            for (version, day, kind), times in counted.items()
        ]
        async with self._database.write() as session:
            connection = await session.connection()
            await connection.execute(_addition(connection.dialect.name), rows)

    async def installs(self, environment: Environment) -> int:
        """How often any of its versions was installed, as far as it has been written."""
        query = select(func.sum(UsageDay.count)).where(
            UsageDay.environment_id == environment.id, UsageDay.kind == Kind.INSTALL
        )
        async with self._database.read() as session:
            return int((await session.scalar(query)) or 0)

    async def of(self, environment: Environment, days: int, version: Version | None = None) -> Report:
        """The usage of an environment, or of one `version`, day by day for the last `days` days, today among them."""
        await self.flush()
        today = now().date()
        first = today - timedelta(days=days - 1)
        async with self._database.read() as session:
            by_version = await _by_version(session, environment, first)
            by_day = await _by_day(session, environment, version, min(first, today - timedelta(days=max(SPANS) - 1)))
        counted = [ever for number, (_, ever) in by_version.items() if version is None or number == version.version]
        known = {Kind.INSTALL, Kind.PULL}.union(*(ever for _, ever in by_version.values()))
        return Report(
            kinds=[kind for kind in Kind if kind in known],
            total=sum(counted, Counts()),
            spans={
                span: sum((one for day, one in by_day.items() if (today - day).days < span), Counts()) for span in SPANS
            },
            days={day: by_day.get(day, Counts()) for day in (first + timedelta(days=n) for n in range(days))},
            versions=by_version,
        )


async def _by_version(session: AsyncSession, environment: Environment, first: date) -> dict[str, tuple[Counts, Counts]]:
    """By number, newest first: since the day `first`, and ever."""
    lately = func.sum(case((UsageDay.day >= first, UsageDay.count), else_=0))
    query = (
        select(Version.version, UsageDay.kind, lately, func.sum(UsageDay.count))
        .outerjoin(UsageDay, UsageDay.version_id == Version.id)
        .where(Version.environment_id == environment.id, Version.finalized_at.is_not(None))
        .group_by(Version.id, UsageDay.kind)
        .order_by(Version.finalized_at.desc(), Version.id)
    )
    found: dict[str, tuple[Counts, Counts]] = {}
    for number, kind, within, ever in (await session.execute(query)).all():
        counts = found.setdefault(number, (Counts(), Counts()))
        if kind is not None:
            counts[0][Kind(kind)], counts[1][Kind(kind)] = int(within), int(ever)
    return found


async def _by_day(
    session: AsyncSession, environment: Environment, version: Version | None, first: date
) -> dict[date, Counts]:
    """By day, from `first` on; days without anything are not there."""
    query = select(UsageDay.day, UsageDay.kind, func.sum(UsageDay.count)).group_by(UsageDay.day, UsageDay.kind)
    query = query.where(UsageDay.environment_id == environment.id, UsageDay.day >= first)
    if version is not None:
        query = query.where(UsageDay.version_id == version.id)
    found: dict[date, Counts] = {}
    for day, kind, count in (await session.execute(query)).all():
        found.setdefault(day, Counts())[Kind(kind)] = int(count)
    return found


def _addition(dialect: str) -> Any:
    """The statement that adds to a count or begins one, unless the version has been deleted meanwhile."""
    if dialect == "postgresql":
        from sqlalchemy.dialects.postgresql import insert
    else:
        from sqlalchemy.dialects.sqlite import insert
    values = select(
        Version.environment_id,
        bindparam("on_day", type_=Date),
        Version.id,
        bindparam("of_kind", type_=String),
        bindparam("times", type_=BigInteger),
    ).where(Version.id == bindparam("of_version"))
    statement = insert(UsageDay).from_select(["environment_id", "day", "version_id", "kind", "count"], values)
    return statement.on_conflict_do_update(
        index_elements=["environment_id", "day", "version_id", "kind"],
        set_={"count": UsageDay.count + statement.excluded.count},
    )
