"""Evaluations: what was run, its samples, and the packs that hold them.

Revision ID: 0009
Revises: 0008
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def _moment(name: str, *, nullable: bool = False) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def _of(name: str, refers_to: str) -> sa.Column[str]:
    return sa.Column(name, sa.String(length=32), sa.ForeignKey(refers_to, ondelete="CASCADE"), nullable=False)


def upgrade() -> None:
    """Nothing was kept of evaluations before."""
    op.create_table(
        "evaluations",
        sa.Column("id", sa.String(length=32), primary_key=True),
        sa.Column("owner_id", sa.String(length=32), sa.ForeignKey("accounts.id"), nullable=False),
        sa.Column("user_id", sa.String(length=32), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("visibility", sa.String(length=8), nullable=False),
        sa.Column("status", sa.String(length=12), nullable=False),
        sa.Column("is_hosted", sa.Boolean(), nullable=False, server_default=sa.false()),
        sa.Column("error_message", sa.Text()),
        sa.Column("model_name", sa.String(length=255), nullable=False),
        sa.Column("framework", sa.String(length=64), nullable=False),
        sa.Column("task_type", sa.String(length=64)),
        sa.Column("run_id", sa.String(length=128)),
        sa.Column("tags", sa.JSON(), nullable=False),
        sa.Column("metadata", sa.JSON(), nullable=False),
        sa.Column("metrics", sa.JSON(), nullable=False),
        sa.Column("summary", sa.JSON()),
        sa.Column("round", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("num_samples", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("num_bytes", sa.BigInteger(), nullable=False, server_default="0"),
        sa.Column("avg_reward", sa.Float()),
        _moment("created_at"),
        _moment("updated_at"),
        _moment("finalized_at", nullable=True),
    )
    op.create_index("ix_evaluations_owner", "evaluations", ["owner_id", "created_at"])
    op.create_index("ix_evaluations_created", "evaluations", ["created_at"])
    op.create_table(
        "evaluated_environments",
        _of("evaluation_id", "evaluations.id"),
        sa.Column("environment_id", sa.String(length=32), nullable=False),
        sa.Column("version_id", sa.String(length=32)),
        sa.Column("version", sa.String(length=64)),
        sa.PrimaryKeyConstraint("evaluation_id", "environment_id"),
    )
    op.create_index("ix_evaluated_environments_environment", "evaluated_environments", ["environment_id"])
    _samples()


def _samples() -> None:
    op.create_table(
        "evaluation_packs",
        sa.Column("id", sa.String(length=32), primary_key=True),
        _of("evaluation_id", "evaluations.id"),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("round", sa.Integer(), nullable=False),
        sa.Column("blob", sa.String(length=255), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
    )
    op.create_index("ux_evaluation_packs_digest", "evaluation_packs", ["evaluation_id", "digest"], unique=True)
    op.create_index("ix_evaluation_packs_blob", "evaluation_packs", ["blob"])
    op.create_table(
        "evaluation_samples",
        sa.Column("id", sa.String(length=32), primary_key=True),
        _of("evaluation_id", "evaluations.id"),
        sa.Column("place", sa.String(length=100), nullable=False),
        sa.Column("example_id", sa.String(length=200), nullable=False),
        sa.Column("rollout_index", sa.BigInteger(), nullable=False),
        sa.Column("round", sa.Integer(), nullable=False),
        sa.Column("reward", sa.Float()),
        sa.Column("metrics", sa.JSON(), nullable=False),
        sa.Column("error", sa.String(length=100)),
        sa.Column("message", sa.String(length=300)),
        sa.Column("stop_condition", sa.String(length=100)),
        sa.Column("truncated", sa.Boolean(), nullable=False),
        sa.Column("turns", sa.Integer()),
        *(sa.Column(name, sa.Float()) for name in ("input_tokens", "output_tokens", "cost", "seconds")),
        *(sa.Column(name, sa.String(length=200), nullable=False) for name in ("prompt", "completion", "answer")),
        _of("pack_id", "evaluation_packs.id"),
        sa.Column("offset", sa.BigInteger(), nullable=False),
        sa.Column("length", sa.Integer(), nullable=False),
        sa.Column("size", sa.Integer(), nullable=False),
    )
    columns = ["evaluation_id", "place", "rollout_index"]
    op.create_index("ux_evaluation_samples_place", "evaluation_samples", columns, unique=True)
    op.create_index("ix_evaluation_samples_reward", "evaluation_samples", ["evaluation_id", "reward"])
    op.create_index("ix_evaluation_samples_pack", "evaluation_samples", ["pack_id"])


def downgrade() -> None:
    """Without evaluations."""
    for table in ("evaluation_samples", "evaluation_packs", "evaluated_environments", "evaluations"):
        op.drop_table(table)
