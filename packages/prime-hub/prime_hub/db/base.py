"""The mapping's root, and what every table shares."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, text
from sqlalchemy.orm import DeclarativeBase

from prime_hub.db.types import UTCDateTime

FINALIZED = text("finalized_at IS NOT NULL")


class Base(DeclarativeBase):
    """The mapping's root."""

    type_annotation_map = {
        datetime: UTCDateTime(),
        dict[str, Any]: JSON(),
        list[str]: JSON(),
    }
