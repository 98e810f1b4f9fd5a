"""Usage of environments: counts by day, version and kind.

Revision ID: 0005
Revises: 0004
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def _of(name: str, refers_to: str) -> sa.Column[str]:
    return sa.Column(name, sa.String(length=32), sa.ForeignKey(refers_to, ondelete="CASCADE"), nullable=False)


def upgrade() -> None:
    """What was done before is not known, so it begins with nothing."""
    op.create_table(
        "usage_days",
        _of("environment_id", "environments.id"),
        sa.Column("day", sa.Date(), nullable=False),
        _of("version_id", "versions.id"),
        sa.Column("kind", sa.String(length=12), nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("environment_id", "day", "version_id", "kind"),
    )
    op.create_index("ix_usage_days_version_id", "usage_days", ["version_id"])


def downgrade() -> None:
    """Without the counts."""
    op.drop_table("usage_days")
