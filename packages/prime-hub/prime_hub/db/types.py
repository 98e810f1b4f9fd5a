"""Column types that behave the same on SQLite and Postgres."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import DateTime
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator


def now() -> datetime:
    """This moment, in UTC, aware."""
    return datetime.now(UTC)


def new_id() -> str:
    """A fresh identifier: 24 lower-case characters, unguessable, safe in a path."""
    return secrets.token_hex(12)


def storable(text: str | None) -> str | None:
    """What a program has said, as a database can keep it: Postgres takes no NUL character."""
    return None if text is None else text.replace("\0", "")


class UTCDateTime(TypeDecorator[datetime]):
    """An aware datetime in UTC. SQLite forgets the zone, so it is put back on the way out."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a datetime without a time zone may not be stored")
        return value.astimezone(UTC)

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
