"""Images by kind, builds from registries, and the queues of sandboxes and builds.

Revision ID: 0002
Revises: 0001
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

RUNTIMES_OF_VENVS = "('process', 'bubblewrap')"


def upgrade() -> None:
    """What an earlier Hub runs and builds goes on: it has had its turn, and its runner has it."""
    op.execute("ALTER TABLE images RENAME COLUMN runtime TO kind")
    op.execute(f"UPDATE images SET kind = 'venv' WHERE kind IN {RUNTIMES_OF_VENVS}")
    moment = sa.DateTime(timezone=True)
    op.add_column("builds", sa.Column("kind", sa.String(length=8), nullable=False, server_default="build"))
    op.add_column("builds", sa.Column("sets_visibility", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column("builds", sa.Column("source", sa.String(length=512), nullable=True))
    op.add_column("builds", sa.Column("admitted_at", moment, nullable=True))
    op.create_index("ix_builds_status", "builds", ["status"], unique=False)
    op.execute("UPDATE builds SET admitted_at = created_at WHERE status <> 'UPLOADING'")
    op.add_column("sandboxes", sa.Column("build_id", sa.String(length=32), nullable=True))
    op.add_column("sandboxes", sa.Column("cpus", sa.Float(), nullable=True))
    op.add_column("sandboxes", sa.Column("memory_bytes", sa.BigInteger(), nullable=True))
    for name in ("admitted_at", "placed_at", "lease_until"):
        op.add_column("sandboxes", sa.Column(name, moment, nullable=True))
    op.create_index("ix_sandboxes_build_id", "sandboxes", ["build_id"], unique=False)
    op.execute("UPDATE sandboxes SET admitted_at = created_at WHERE status <> 'PENDING'")
    op.execute("UPDATE sandboxes SET placed_at = created_at WHERE status <> 'PENDING'")


def downgrade() -> None:
    """The columns that an earlier Hub does not know."""
    op.execute("UPDATE images SET kind = 'process' WHERE kind = 'venv'")
    op.execute("ALTER TABLE images RENAME COLUMN kind TO runtime")
    op.drop_index("ix_sandboxes_build_id", "sandboxes")
    op.drop_index("ix_builds_status", "builds")
    for name in ("lease_until", "placed_at", "admitted_at", "memory_bytes", "cpus", "build_id"):
        op.drop_column("sandboxes", name)
    for name in ("admitted_at", "source", "sets_visibility", "kind"):
        op.drop_column("builds", name)
