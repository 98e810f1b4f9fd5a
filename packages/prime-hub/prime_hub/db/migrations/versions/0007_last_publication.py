"""`environments.updated_at` is when something was published last; it was also when a version was yanked or deleted.

Revision ID: 0007
Revises: 0006
"""

from __future__ import annotations

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """By the versions that are there. The search's documents, which are in this order, are written anew at the start."""
    last = "SELECT max(finalized_at) FROM versions WHERE environment_id = environments.id AND finalized_at IS NOT NULL"
    op.execute(f"UPDATE environments SET updated_at = ({last}) WHERE latest_version_id IS NOT NULL")
    op.execute("DELETE FROM meta WHERE key = 'search'")


def downgrade() -> None:
    """The moments of earlier Hubs are not kept."""
