"""Where the pages of evaluations read from: an interface, and the Hub's database behind it.

The other one behind it is `prime_hub.viewing.folders`: runs as they lie in folders, without a Hub. What a page shows is the
same for both, so nothing here knows of pages, and no page knows of rows of a database.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol
from urllib.parse import quote

from prime_evals.comparison import Comparison
from prime_hub.db.models import Account
from prime_hub.hub import Hub
from prime_hub.services.evaluation_reports import threshold_of
from prime_hub.services.evaluation_samples import Listed
from prime_hub.services.evaluations import Shown, Wanted


@dataclass(frozen=True)
class Place:
    """An environment that an evaluation is of. `href`: its page, where there is one."""

    slug: str
    version: str | None = None
    href: str = ""


@dataclass(frozen=True, kw_only=True)
class Card:
    """An evaluation. `status` is one of the protocol's words; `finished`: it has numbers that others may be compared to."""

    id: str
    name: str
    model: str
    at: datetime
    status: str
    samples: int
    summary: Mapping[str, Any] | None
    """None: it is not made yet."""
    owner: str = ""
    folder: str = ""
    """Where it lies, of a run that no Hub has."""
    environments: Sequence[Place] = ()
    private: bool = False
    finished: bool = True
    waiting: bool = False
    """The numbers are being made; ask again."""
    user: str | None = None
    may_change: bool = False
    run_id: str = ""
    framework: str = ""
    task: str = ""
    tags: Sequence[str] = ()
    details: Mapping[str, Any] = field(default_factory=dict)
    told: Mapping[str, Any] = field(default_factory=dict)
    """Metrics as the run told them."""
    hosted: bool = False
    """The Hub runs it itself."""
    error_message: str = ""


class Rollout(Protocol):
    """What a list tells of a rollout."""

    @property
    def id(self) -> str: ...
    @property
    def example_id(self) -> str: ...
    @property
    def rollout_index(self) -> int: ...
    @property
    def reward(self) -> float | None: ...
    @property
    def metrics(self) -> Mapping[str, Any]: ...
    @property
    def error(self) -> str | None: ...
    @property
    def message(self) -> str | None: ...
    @property
    def stop_condition(self) -> str | None: ...
    @property
    def truncated(self) -> bool: ...
    @property
    def turns(self) -> int | None: ...
    @property
    def output_tokens(self) -> float | None: ...
    @property
    def cost(self) -> float | None: ...
    @property
    def seconds(self) -> float | None: ...
    @property
    def prompt(self) -> str: ...
    @property
    def completion(self) -> str: ...


@dataclass(frozen=True)
class Opened:
    """One rollout: all of it as JSON, and the ids of those beside it."""

    row: Rollout
    data: bytes
    before: str | None
    after: str | None


@dataclass(frozen=True)
class Compared:
    """Two evaluations, what changed by the places of examples, and each place as it is shown."""

    before: Card
    after: Card
    found: Comparison
    shown: Mapping[str, str]
    threshold: float


class Shelf(Protocol):
    """Evaluations as one visitor may see them. Everything raises NotFound for what is not there for them."""

    mine: str | None
    """The owner's name that is the visitor's own."""

    async def find(self, wanted: Wanted) -> tuple[Sequence[Card], int]:
        """Some of them, the newest first, and how many there are."""

    async def one(self, evaluation_id: str) -> Card:
        """One."""

    async def rollouts(self, evaluation_id: str, listed: Listed) -> tuple[Sequence[Rollout], int]:
        """A page of its rollouts, and how many there are. Raises Invalid."""

    async def rollout(self, evaluation_id: str, rollout_id: str) -> Opened:
        """One rollout."""

    async def compare(self, first: str, second: str) -> Compared:
        """The second beside the first."""

    async def log(self, evaluation_id: str) -> str | None:
        """What a run of the Hub's own has written; None where there is none, or not for this visitor."""


class DatabaseShelf:
    """A Hub's evaluations, for an account (None: anybody)."""

    def __init__(self, hub: Hub, account: Account | None, changing: bool) -> None:
        self._hub, self._account, self._changing = hub, account, changing
        self.mine = account.slug if account is not None else None

    async def find(self, wanted: Wanted) -> tuple[Sequence[Card], int]:
        found, total = await self._hub.evaluations.find(self._account, wanted)
        return [card_of(one) for one in found], total

    async def one(self, evaluation_id: str) -> Card:
        return card_of(await self._hub.evaluations.one(self._account, evaluation_id), self._changing)

    async def rollouts(self, evaluation_id: str, listed: Listed) -> tuple[Sequence[Rollout], int]:
        _, rows, total = await self._hub.evaluation_samples.rows(self._account, evaluation_id, listed)
        return rows, total

    async def rollout(self, evaluation_id: str, rollout_id: str) -> Opened:
        _, row, data = await self._hub.evaluation_samples.one(self._account, evaluation_id, rollout_id)
        before, after = await self._hub.evaluation_samples.beside(row)
        return Opened(row, data, before.id if before else None, after.id if after else None)

    async def compare(self, first: str, second: str) -> Compared:
        before, after, found, shown = await self._hub.reports.compare(self._account, first, second)
        ones = [await self._hub.evaluations.one(self._account, row.id) for row in (before, after)]
        return Compared(card_of(ones[0]), card_of(ones[1]), found, shown, threshold_of(after))

    async def log(self, evaluation_id: str) -> str | None:
        return await self._hub.hosted_evaluations.log_for(self._account, evaluation_id)


def card_of(one: Shown, changing: bool = False) -> Card:
    """An evaluation of the database. `changing`: whether who may change it is somebody who can, here."""
    row = one.row
    places = [
        Place(of.slug, of.version, f"/dashboard/environments/{quote(of.owner)}/{quote(of.name)}")
        for of in one.environments
    ]
    return Card(
        id=row.id,
        name=row.name,
        model=row.model_name,
        at=row.created_at,
        status=row.status,
        samples=row.num_samples,
        summary=row.summary,
        owner=row.owner.slug,
        environments=places,
        private=row.visibility == "PRIVATE",
        finished=row.finalized_at is not None,
        user=one.user,
        may_change=one.may_change and changing,
        run_id=row.run_id or "",
        framework=row.framework,
        task=row.task_type or "",
        tags=row.tags,
        details=row.details,
        told=row.metrics,
        hosted=row.is_hosted,
        error_message=row.error_message or "",
    )
