"""Checks of published versions, made by the Hub itself.

Revision ID: 0008
Revises: 0007
"""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def _when(name: str, *, nullable: bool = True) -> sa.Column[datetime]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def upgrade() -> None:
    """No version has been checked yet."""
    op.create_table(
        "checks",
        sa.Column("version_id", sa.String(32), sa.ForeignKey("versions.id", ondelete="CASCADE"), nullable=False),
        sa.Column("user_id", sa.String(32), nullable=False),
        sa.Column("state", sa.String(12), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("log", sa.Text(), nullable=True),
        sa.Column("progress", sa.String(64), nullable=True),
        _when("asked_at", nullable=False),
        _when("admitted_at"),
        _when("started_at"),
        _when("ended_at"),
        sa.Column("report", sa.JSON(), nullable=True),
        _when("checked_at"),
        sa.Column("runtime", sa.String(32), nullable=True),
        sa.Column("checker", sa.String(64), nullable=True),
        sa.Column("problems", sa.Integer(), nullable=True),
        sa.Column("advice", sa.Integer(), nullable=True),
        sa.Column("partial", sa.Boolean(), nullable=True),
        sa.PrimaryKeyConstraint("version_id"),
    )
    op.create_index("ix_checks_state", "checks", ["state", "asked_at"])


def downgrade() -> None:
    """Without what was found."""
    op.drop_table("checks")
