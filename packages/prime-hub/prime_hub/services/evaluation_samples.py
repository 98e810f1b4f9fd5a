"""The samples of an evaluation: taken in batches, in any order and several at once, and read again page by page.

A batch becomes one pack, a blob in which each sample is compressed by itself, so that one is read without the others. The
rows have what lists and means need. A sample is known by its example and rollout index: sent again, it takes the place of
the former. One without an index is the next of its example in this round. A request that is sent again is known by its digest.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from prime_hub.db.models import Account, Evaluation, EvaluationPack, EvaluationSample
from prime_hub.db.session import Database
from prime_hub.db.types import new_id, now
from prime_hub.errors import Invalid, NotFound, TooLarge
from prime_hub.services.blobs import PART, BlobStore, content_key
from prime_hub.services.evaluation_access import evaluation_seen, evaluation_to_fill
from prime_hub.services.evaluation_reading import Sample, open_sample, read_batch
from prime_hub.services.evaluation_reports import threshold_of
from prime_hub.services.evaluations import count

MIB = 1024 * 1024
BATCH_BYTES = 32 * MIB
"""Of one request: 25 MiB of samples, as the official client counts them, and what is around them."""
MOST_SAMPLES = 250_000
MOST_BYTES = 4 * 1024 * MIB
"""Of one evaluation, compressed."""
PAGE_BYTES = 48 * MIB
"""Of the samples of one answer."""
AT_WORK = asyncio.Semaphore(2)
"""Batches that are taken apart at the same time: each takes some times its size of memory."""

SORTS: dict[str, Any] = {
    "example": EvaluationSample.place,
    "reward": EvaluationSample.reward,
    "turns": EvaluationSample.turns,
    "tokens": EvaluationSample.output_tokens,
    "seconds": EvaluationSample.seconds,
    "cost": EvaluationSample.cost,
}
OUTCOMES = ("passed", "failed", "error", "unscored", "truncated")


@dataclass(frozen=True)
class Listed:
    """Which samples, in which order. `page` counts from 1."""

    page: int = 1
    limit: int = 50
    sort: str = "example"
    descending: bool = False
    outcome: str | None = None
    error: str | None = None
    """Its type."""
    example: str | None = None
    """As it is shown."""


class EvaluationSamples:
    """Takes samples and tells of them."""

    def __init__(self, database: Database, blobs: BlobStore) -> None:
        self._database = database
        self._blobs = blobs

    async def take(self, account: Account | None, evaluation_id: str, body: bytes | bytearray) -> tuple[int, int]:
        """Store a batch; how many samples it had, and how many the evaluation has now. `account` None: the Hub's own run.

        Raises NotFound, Forbidden, Conflict, Invalid, TooLarge, StorageFull.
        """
        async with self._database.read() as session:
            await evaluation_to_fill(session, account, evaluation_id)
        async with AT_WORK:
            samples, digest = await asyncio.to_thread(read_batch, body)
            del body
            if not samples:
                async with self._database.read() as session:
                    return 0, (await evaluation_to_fill(session, account, evaluation_id)).num_samples
            staging = f"staging/evaluation-{evaluation_id}-{new_id()}"
            data = [sample.data for sample in samples]
            stored = await self._blobs.put(staging, _parts(data), MOST_BYTES, "batch of samples")
            try:
                return await self._store(account, evaluation_id, samples, digest, staging, stored.sha256, stored.size)
            finally:
                await self._blobs.delete(staging)

    async def _store(
        self,
        account: Account | None,
        evaluation_id: str,
        samples: Sequence[Sample],
        digest: str,
        staging: str,
        sha256: str,
        size: int,
    ) -> tuple[int, int]:
        async with self._database.write() as session:
            row = await evaluation_to_fill(session, account, evaluation_id)
            query = select(EvaluationPack).where(
                EvaluationPack.evaluation_id == row.id, EvaluationPack.digest == digest
            )
            known = pack = (await session.scalars(query)).first()
            if pack is not None and pack.round == row.round:
                return len(samples), row.num_samples
            if pack is None:
                pack = EvaluationPack(
                    id=new_id(), evaluation_id=row.id, digest=digest, blob=content_key(sha256), size=size
                )
                session.add(pack)
            pack.round = row.round
            await session.flush()
            await _insert(session, await _rows(session, row, pack, samples))
            await count(session, row)
            if row.num_samples > MOST_SAMPLES or row.num_bytes > MOST_BYTES:
                raise TooLarge(
                    f"An evaluation of this Hub holds at most {MOST_SAMPLES:,} samples and {MOST_BYTES // MIB} MiB of them; "
                    "push the rest as another one."
                )
            # The summary that there is goes on being shown until the next one is made.
            row.status, row.updated_at = "RUNNING", now()
            if known is None:
                await self._blobs.move(staging, pack.blob)
            return len(samples), row.num_samples

    async def rows(
        self, account: Account | None, evaluation_id: str, listed: Listed
    ) -> tuple[Evaluation, Sequence[EvaluationSample], int]:
        """One page of rows, and how many there are. Raises NotFound, Invalid."""
        async with self._database.read() as session:
            row = await evaluation_seen(session, account, evaluation_id)
            where = [EvaluationSample.evaluation_id == row.id, *_filters(row, listed)]
            total = await session.scalar(select(func.count(EvaluationSample.id)).where(*where)) or 0
            query = select(EvaluationSample).where(*where).order_by(*_order(listed))
            query = query.offset((listed.page - 1) * listed.limit).limit(listed.limit)
            return row, (await session.scalars(query)).all(), total

    async def whole(self, rows: Sequence[EvaluationSample]) -> list[bytes]:
        """The JSON of each. Raises TooLarge for more than one answer holds."""
        if (size := sum(row.size for row in rows)) > PAGE_BYTES:
            raise TooLarge(
                f"These {len(rows)} samples are {size // MIB} MiB; ask for fewer at once with limit, at most "
                f"{max(1, len(rows) * PAGE_BYTES // size)}."
            )
        packs = {row.pack_id for row in rows}
        async with self._database.read() as session:
            query = select(EvaluationPack.id, EvaluationPack.blob).where(EvaluationPack.id.in_(packs))
            blobs = {found[0]: found[1] for found in await session.execute(query)}
        data: dict[str, bytes] = {}
        for pack in packs & blobs.keys():
            mine = [row for row in rows if row.pack_id == pack]
            try:
                found = await self._blobs.ranges(blobs[pack], [(row.offset, row.length) for row in mine])
            except FileNotFoundError:  # sent anew, or deleted, since
                continue
            data |= {row.id: part for row, part in zip(mine, found, strict=True)}
        missing = [row for row in rows if row.id not in data]
        if missing:
            raise NotFound("Some of these samples were sent anew or deleted while they were read; ask again.")
        return await asyncio.to_thread(lambda: [open_sample(data[row.id]) for row in rows])

    async def one(
        self, account: Account | None, evaluation_id: str, sample_id: str
    ) -> tuple[Evaluation, EvaluationSample, bytes]:
        """A sample and its JSON. Raises NotFound."""
        async with self._database.read() as session:
            row = await evaluation_seen(session, account, evaluation_id)
            found = await session.get(EvaluationSample, sample_id)
        if found is None or found.evaluation_id != row.id:
            raise NotFound(f"Evaluation {evaluation_id} has no sample {sample_id[:80]}.", code="sample_not_found")
        return row, found, (await self.whole([found]))[0]

    async def beside(self, sample: EvaluationSample) -> tuple[EvaluationSample | None, EvaluationSample | None]:
        """The ones before and after it, as examples are counted."""
        mine, place = EvaluationSample.evaluation_id == sample.evaluation_id, EvaluationSample.place
        index = EvaluationSample.rollout_index
        before = (place < sample.place) | ((place == sample.place) & (index < sample.rollout_index))
        after = (place > sample.place) | ((place == sample.place) & (index > sample.rollout_index))
        down = select(EvaluationSample).where(mine, before).order_by(place.desc(), index.desc()).limit(1)
        up = select(EvaluationSample).where(mine, after).order_by(place, index).limit(1)
        async with self._database.read() as session:
            return (await session.scalars(down)).first(), (await session.scalars(up)).first()


async def _parts(data: Sequence[bytes]) -> AsyncIterator[bytes]:
    part = bytearray()
    for one in data:
        part += one
        if len(part) >= PART:
            yield bytes(part)
            part.clear()
    yield bytes(part)


async def _rows(
    session: AsyncSession, row: Evaluation, pack: EvaluationPack, samples: Sequence[Sample]
) -> list[dict[str, Any]]:
    """The rows of a batch: those without an index take the next one of their example that this round has not taken."""
    taken = await _taken(session, row, {sample.place for sample in samples if sample.rollout_index is None})
    for sample in samples:
        if sample.rollout_index is not None and sample.place in taken:
            taken[sample.place].add(sample.rollout_index)
    found: dict[tuple[str, int], dict[str, Any]] = {}
    offset = 0
    next_free: Counter[str] = Counter()
    for sample in samples:
        index = sample.rollout_index
        if index is None:
            index = next_free[sample.place]
            while index in taken[sample.place]:
                index += 1
            next_free[sample.place] = index + 1
        found[sample.place, index] = {
            "id": new_id(),
            "evaluation_id": row.id,
            "place": sample.place,
            "rollout_index": index,
            "round": row.round,
            **sample.values,
            "pack_id": pack.id,
            "offset": offset,
            "length": len(sample.data),
            "size": sample.size,
        }
        offset += len(sample.data)
    return list(found.values())


async def _taken(session: AsyncSession, row: Evaluation, places: set[str]) -> dict[str, set[int]]:
    taken: dict[str, set[int]] = {place: set() for place in places}
    order = sorted(places)
    for start in range(0, len(order), 500):
        query = select(EvaluationSample.place, EvaluationSample.rollout_index).where(
            EvaluationSample.evaluation_id == row.id,
            EvaluationSample.round == row.round,
            EvaluationSample.place.in_(order[start : start + 500]),
        )
        for place, index in (await session.execute(query)).all():
            taken[place].add(index)
    return taken


async def _insert(session: AsyncSession, rows: list[dict[str, Any]]) -> None:
    connection = await session.connection()
    if connection.dialect.name == "postgresql":
        from sqlalchemy.dialects.postgresql import insert
    else:
        from sqlalchemy.dialects.sqlite import insert
    statement = insert(EvaluationSample)
    names = [name for name in rows[0] if name not in ("id", "evaluation_id", "place", "rollout_index")]
    statement = statement.on_conflict_do_update(
        index_elements=["evaluation_id", "place", "rollout_index"],
        set_={name: getattr(statement.excluded, name) for name in names},
    )
    await connection.execute(statement, rows)


def _filters(row: Evaluation, listed: Listed) -> list[ColumnElement[bool]]:
    sample, where = EvaluationSample, []
    outcomes: Mapping[str, ColumnElement[bool]] = {
        "passed": sample.reward >= threshold_of(row),
        "failed": sample.reward < threshold_of(row),
        "error": sample.error.is_not(None),
        "unscored": sample.reward.is_(None),
        "truncated": sample.truncated.is_(True),
    }
    if listed.outcome:
        if listed.outcome not in outcomes:
            raise Invalid(f"'{listed.outcome}' is no outcome of a rollout; use {', '.join(OUTCOMES)}.")
        where.append(outcomes[listed.outcome])
    if listed.error:
        where.append(sample.error == listed.error)
    if listed.example:
        where.append(sample.example_id == listed.example)
    return where


def _order(listed: Listed) -> list[Any]:
    if listed.sort not in SORTS:
        raise Invalid(f"This Hub cannot sort samples by '{listed.sort}'; use {', '.join(SORTS)}.")
    column = SORTS[listed.sort]
    order: list[Any] = [column.desc() if listed.descending else column.asc()]
    if listed.sort != "example":
        order = [column.is_(None), *order, EvaluationSample.place]
    index = EvaluationSample.rollout_index
    return [*order, index.desc() if listed.descending and listed.sort == "example" else index.asc()]
