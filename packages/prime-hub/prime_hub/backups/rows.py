"""Rows of any of the Hub's tables as lines of JSON, and back, the same on both databases."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Iterable
from datetime import date, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    Column,
    Date,
    DateTime,
    LargeBinary,
    Table,
    TypeDecorator,
    column,
    delete,
    func,
    insert,
    select,
    table,
    text,
)
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql.expression import TableClause

from prime_hub.db.base import Base
from prime_hub.db.models import Meta
from prime_hub.db.session import Database

AT_ONCE = 500


def tables() -> list[Table]:
    """All tables, each after those that it refers to."""
    return Base.metadata.sorted_tables


def blob_columns(one: Table) -> list[str]:
    """The columns that hold keys of blobs."""
    return [found.name for found in one.columns if found.name == "blob" or found.name.endswith("_blob")]


async def read(connection: AsyncConnection, one: Table) -> AsyncIterator[dict[str, Any]]:
    """Every row, a few at a time in memory."""
    rows = await connection.stream(select(one).order_by(*one.primary_key.columns))
    async for row in rows.mappings():
        yield dict(row)


def line(row: dict[str, Any]) -> bytes:
    """A row as a line of JSON."""
    return json.dumps({name: _plain(value) for name, value in row.items()}, ensure_ascii=False).encode() + b"\n"


def _plain(value: Any) -> Any:
    if isinstance(value, (datetime, date)):
        return value.isoformat()
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return value


def row_of(one: Table, content: bytes) -> dict[str, Any]:
    """The row that `line` has written. Raises ValueError, KeyError."""
    found = json.loads(content)
    return {known.name: _value(known, found[known.name]) for known in one.columns}


def _value(known: Column[Any], value: Any) -> Any:
    if value is None or isinstance(known.type, JSON):
        return value
    kind = known.type.impl_instance if isinstance(known.type, TypeDecorator) else known.type
    if isinstance(kind, LargeBinary):
        return base64.b64decode(value)
    if isinstance(kind, DateTime):
        return datetime.fromisoformat(value)
    return date.fromisoformat(value) if isinstance(kind, Date) else value


async def write(connection: AsyncConnection, one: Table, rows: AsyncIterator[dict[str, Any]]) -> int:
    """Insert them; how many."""
    count, some, into = 0, [], insert(_insertable(one))
    async for row in rows:
        some.append(row)
        if len(some) == AT_ONCE:
            await connection.execute(into, some)
            count, some = count + len(some), []
    if some:
        await connection.execute(into, some)
    return count + len(some)


def _insertable(one: Table) -> TableClause:
    """The table without its defaults, and so that a JSON that is missing stays missing."""
    kinds = {
        known.name: JSON(none_as_null=True) if isinstance(known.type, JSON) and known.nullable else known.type
        for known in one.columns
    }
    return table(one.name, *(column(name, kind) for name, kind in kinds.items()))


async def counts(connection: AsyncConnection) -> dict[str, int]:
    """How many rows each table has."""
    return {one.name: (await connection.scalar(select(func.count()).select_from(one))) or 0 for one in tables()}


async def load(
    database: Database, source: Iterable[tuple[Table, AsyncIterator[dict[str, Any]]]], marks: dict[str, str]
) -> dict[str, int]:
    """All rows in one transaction, so either all are there or none; how many of each table. `marks` are put into what the
    Hub knows of itself.
    """
    written: dict[str, int] = {}
    async with database.write() as session:
        connection = await session.connection()
        await connection.execute(delete(Meta))
        for one, rows in source:
            written[one.name] = await write(connection, one, rows)
            await _continue_numbers(connection, one)
        for key, value in marks.items():
            await session.merge(Meta(key=key, value=value))
    return written


async def _continue_numbers(connection: AsyncConnection, one: Table) -> None:
    """Postgres counts on from where it was itself, not from what was inserted."""
    numbered = one.autoincrement_column
    if connection.dialect.name != "postgresql" or numbered is None:
        return
    highest = f"(SELECT max({numbered.name}) FROM {one.name})"
    await connection.execute(
        text(f"SELECT setval(pg_get_serial_sequence('{one.name}', '{numbered.name}'), coalesce({highest}, 1))")
    )
