"""How much environments are used: counts, and nothing of who it was."""

from __future__ import annotations

from datetime import date

from sqlalchemy import BigInteger, Date, ForeignKey, String
from sqlalchemy.orm import Mapped, mapped_column

from prime_hub.db.base import Base


class UsageDay(Base):
    """How often something was done with a version on one day. It goes with its version, and with its environment."""

    __tablename__ = "usage_days"

    environment_id: Mapped[str] = mapped_column(ForeignKey("environments.id", ondelete="CASCADE"), primary_key=True)
    day: Mapped[date] = mapped_column(Date, primary_key=True)
    """In UTC."""
    version_id: Mapped[str] = mapped_column(ForeignKey("versions.id", ondelete="CASCADE"), primary_key=True, index=True)
    kind: Mapped[str] = mapped_column(String(12), primary_key=True)
    """pull | install | evaluation"""
    count: Mapped[int] = mapped_column(BigInteger)
