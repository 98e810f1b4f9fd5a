"""What this Hub has found out about published versions by checking them itself."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, Boolean, ForeignKey, Index, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from prime_hub.db.base import Base
from prime_hub.db.types import now


class VersionCheck(Base):
    """The check of a version; it goes with it. One row a version: asking again begins it anew, and what the last one found
    stays until the new one has found something.
    """

    __tablename__ = "checks"
    __table_args__ = (Index("ix_checks_state", "state", "asked_at"),)

    version_id: Mapped[str] = mapped_column(ForeignKey("versions.id", ondelete="CASCADE"), primary_key=True)
    user_id: Mapped[str] = mapped_column(String(32))
    """Who asked for it, or who published the version."""
    state: Mapped[str] = mapped_column(String(12), default="queued")
    """queued | running | done | failed (it could not be made)"""
    reason: Mapped[str | None] = mapped_column(Text)
    """Why it could not be made, a sentence; `log` is what was said then."""
    log: Mapped[str | None] = mapped_column(Text)
    progress: Mapped[str | None] = mapped_column(String(64))
    asked_at: Mapped[datetime] = mapped_column(default=now)
    admitted_at: Mapped[datetime | None]
    started_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]
    report: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True), deferred=True)
    """The report of the last one that was made (`prime_core.checks.report`), and of it:"""
    checked_at: Mapped[datetime | None]
    runtime: Mapped[str | None] = mapped_column(String(32))
    checker: Mapped[str | None] = mapped_column(String(64))
    problems: Mapped[int | None]
    advice: Mapped[int | None]
    partial: Mapped[bool | None] = mapped_column(Boolean)
    """Whether it could not be loaded or played, so that little is known of it."""
