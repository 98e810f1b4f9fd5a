"""Backup, restore, and the move from one database and store to others."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from sqlalchemy import Table, select
from sqlalchemy.ext.asyncio import AsyncConnection

from prime_hub.backups import rows
from prime_hub.backups.file import Reader, written
from prime_hub.backups.places import SHORT_LIVED, Place, Progress, megabytes, say
from prime_hub.db.models import Meta
from prime_hub.errors import Conflict
from prime_hub.services.blob_use import HELD
from prime_hub.services.keys import KEY_MARK, key_mark, the_key

OF_KEY = (
    "Secrets are in it as the Hub keeps them, sealed. The key that opens them is not: keep {where} as well, somewhere else, and "
    "give it to the restored Hub. Images are not in it either; they are built again from what is published."
)


async def backup(place: Place, path: Path) -> str:
    """Write a backup while Hubs go on; what to tell about it. Raises Conflict, Invalid."""
    changed: list[str] = []
    with written(path) as out:
        async with place.holding_blobs(), place.snapshot() as connection:
            count, wanted = {}, set()
            for one in rows.tables():
                held = _Rows(connection, one)
                await out.add(f"rows/{one.name}.jsonl", held.lines(), packed=True)
                count[one.name] = held.count
                wanted |= held.blobs
            there = await place.keys()
            progress = Progress("backed up", len(there), sum(there.values()))
            total = 0
            for key in sorted(there):
                try:
                    size = await out.add(f"blobs/{key}", place.blobs.get(key))
                except FileNotFoundError:  # gone since it was listed
                    there.pop(key)
                    continue
                total += size
                progress.step(size)
                if key.startswith("sha256/") and out.sha256(f"blobs/{key}") != key.rpartition("/")[2]:
                    changed.append(key)
            mark = await _mark(place, connection)
        missing = sorted(key for key in wanted - there.keys() if not key.startswith(SHORT_LIVED))
        out.finish({"tables": count, "blobs": [len(there), total], "missing": missing, "key_mark": mark})
    if missing:
        say(f"Warning: {len(missing)} files that the database names are not in the storage, {missing[0]} first.")
    if changed:
        say(f"Warning: {len(changed)} files in the storage are not what they were stored as, {changed[0]} first.")
    return f"{path}: {sum(count.values())} rows, {len(there)} files, {megabytes(total)}. {OF_KEY.format(where=_key_place(place))}"


class _Rows:
    """A table's rows as they are written, counted, and the blobs that they name."""

    def __init__(self, connection: AsyncConnection, one: Table) -> None:
        self._connection, self._table = connection, one
        self.count = 0
        self.blobs: set[str] = set()

    async def plain(self) -> AsyncIterator[dict[str, Any]]:
        """As they are, without the marks of backups under way."""
        naming = rows.blob_columns(self._table)
        async for row in rows.read(self._connection, self._table):
            if self._table.name == "meta" and row["key"].startswith(HELD):
                continue
            self.count += 1
            self.blobs |= {row[name] for name in naming if row[name]}
            yield row

    async def lines(self) -> AsyncIterator[bytes]:
        """As lines of JSON."""
        async for row in self.plain():
            yield rows.line(row)


async def restore(path: Path, place: Place) -> str:
    """Fill an empty Hub; what to tell about it. A damaged file is refused before anything is written, and one that was stopped
    in the middle may be restored again: the rows come last, in one transaction. Raises Conflict, Invalid.
    """
    found = Reader(path)
    found.check()
    await place.prepare_empty()
    progress = Progress("restored", len(found.blobs), sum(size for size, _ in found.blobs.values()))
    for key, (size, sha256) in found.blobs.items():
        stored = await place.blobs.put(key, found.blob(key), size, "blob")
        if (stored.size, stored.sha256) != (size, sha256):
            await place.blobs.delete(key)
            raise Conflict(f"The file {key} did not arrive in {place.name} as it was; run the command again.")
        progress.step(size)
    mark = str(found.manifest["key_mark"])
    loaded = await rows.load(place.database, ((one, found.rows(one)) for one in rows.tables()), _marks(place, mark))
    _same(loaded, found.manifest["tables"])
    return f"{sum(loaded.values())} rows and {len(found.blobs)} files are in {place.name}. {_of_key(place, mark)}"


async def move(source: Place, target: Place) -> str:
    """Copy all to an empty database and store, which may be done again after it was stopped: files that are there already are
    not sent twice, and the rows come last, in one transaction. `source` stays as it is; no Hub may use it meanwhile.
    """
    await target.prepare_empty()
    async with source.snapshot() as connection:
        there, known = await source.keys(), await target.keys()
        progress = Progress("copied", len(there), sum(there.values()))
        for key, size in sorted(there.items()):
            if known.get(key) != size:
                await target.put(key, size, None, source.blobs)
            progress.step(size)
        held = [_Rows(connection, one) for one in rows.tables()]
        mark = await _mark(source, connection)
        tables = zip(rows.tables(), held, strict=True)
        loaded = await rows.load(target.database, ((one, some.plain()) for one, some in tables), _marks(target, mark))
        expected = {one.name: some.count for one, some in zip(rows.tables(), held, strict=True)}
    _same(loaded, expected)
    arrived = await target.keys()
    lost = [key for key, size in there.items() if arrived.get(key) != size]
    if lost:
        raise Conflict(f"{len(lost)} files are not in {target.name}, {lost[0]} first; run the command again.")
    what = f"{sum(loaded.values())} rows and {len(there)} files ({megabytes(sum(there.values()))}) are in {target.name}"
    return (
        f"{what}, counted and compared. Start it with PRIME_HUB_DATABASE_URL and PRIME_HUB_BLOBS set. Its secrets are sealed with the "
        f"key in {_key_place(source)}: a Hub with another data folder needs PRIME_HUB_SECRET_KEY set to what is in it."
    )


async def _mark(place: Place, connection: AsyncConnection) -> str:
    """The mark of the key with which its secrets are sealed: that of the database's Hubs, else of the data folder's own."""
    known = await connection.scalar(select(Meta.value).where(Meta.key == KEY_MARK))
    return str(known) if known else key_mark(the_key(place.settings))


def _marks(place: Place, mark: str) -> dict[str, str]:
    """Where several Hubs may come, one with another key is refused."""
    return {KEY_MARK: mark} if place.settings.database_url is not None else {}


def _same(loaded: dict[str, int], expected: dict[str, int]) -> None:
    wrong = [name for name in expected if loaded.get(name) != expected[name]]
    if wrong:
        raise Conflict(f"The table {wrong[0]} has {loaded.get(wrong[0])} rows, not {expected[wrong[0]]} as before.")


def _key_place(place: Place) -> str:
    if place.settings.secret_key is None and place.settings.secret_key_file.exists():
        return str(place.settings.secret_key_file)
    return "the PRIME_HUB_SECRET_KEY of its Hubs"


def _of_key(place: Place, mark: str) -> str:
    """What is left to do about the key."""
    known = place.settings.secret_key is not None or place.settings.secret_key_file.exists()
    if known and key_mark(the_key(place.settings)) == mark:
        return "It has the key of its secrets."
    return (
        "Its secrets are sealed with the first Hub's key: before you start it, copy that Hub's secret.key to "
        f"{place.settings.secret_key_file}, or set PRIME_HUB_SECRET_KEY to what is in it, for each Hub."
    )
