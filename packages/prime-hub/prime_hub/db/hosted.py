"""Evaluations that this Hub runs itself: what was asked for, whose turn it is, and the log."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, Float, ForeignKey, Index, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from prime_hub.db.base import Base
from prime_hub.db.types import now


class HostedRun(Base):
    """The run of a hosted evaluation, whose status is the evaluation's; it goes with it."""

    __tablename__ = "hosted_runs"
    __table_args__ = (Index("ix_hosted_runs_ended", "ended_at", "asked_at"),)

    evaluation_id: Mapped[str] = mapped_column(ForeignKey("evaluations.id", ondelete="CASCADE"), primary_key=True)
    user_id: Mapped[str] = mapped_column(String(32))
    """Who asked for it."""
    environment_id: Mapped[str] = mapped_column(String(32))
    version_id: Mapped[str] = mapped_column(String(32))
    config: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)
    """As `services/hosted_config.py` has read it."""
    seconds: Mapped[float] = mapped_column(Float)
    """How long it may play."""
    asked_at: Mapped[datetime] = mapped_column(default=now)
    admitted_at: Mapped[datetime | None]
    started_at: Mapped[datetime | None]
    """When it began to play the first time."""
    cancelled_at: Mapped[datetime | None]
    """When somebody asked for its end."""
    ended_at: Mapped[datetime | None]
    log: Mapped[str | None] = mapped_column(Text, deferred=True)
