"""Passwords, teams, browser sessions, logins by challenge; yanked versions, forks, stars, secrets and variables.

Revision ID: 0003
Revises: 0002
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

MOMENT = sa.DateTime(timezone=True)
ACCOUNT = "accounts.id"
ENVIRONMENT = "environments.id"
MADE = ("sandboxes", "builds", "images", "image_tags")  # by a user, for the user or for a team
SAME_KEY = "ux_sandboxes_idempotency"


def _id(name: str, refers_to: str | None = None, *, nullable: bool = False) -> sa.Column[str]:
    keys = [sa.ForeignKey(refers_to)] if refers_to else []
    return sa.Column(name, sa.String(length=32), *keys, nullable=nullable)


def upgrade() -> None:
    """Numbers that were published before are used, too."""
    op.add_column("accounts", sa.Column("about", sa.Text(), nullable=False, server_default=""))
    op.add_column("accounts", sa.Column("password", sa.String(length=255), nullable=True))
    op.add_column("tokens", sa.Column("hint", sa.String(length=16), nullable=False, server_default=""))
    op.add_column("tokens", sa.Column("scopes", sa.JSON(), nullable=True))
    op.add_column("tokens", sa.Column("limits", sa.JSON(), nullable=True))
    op.add_column("tokens", sa.Column("expires_at", MOMENT, nullable=True))
    op.add_column("sandboxes", _id("token_id", nullable=True))
    op.create_index("ix_sandboxes_token_id", "sandboxes", ["token_id"])
    for table in MADE:
        op.add_column(table, _id("user_id", nullable=True))
        op.execute(f"UPDATE {table} SET user_id = owner_id")
    op.drop_index(SAME_KEY, "sandboxes")
    op.create_index(SAME_KEY, "sandboxes", ["user_id", "owner_id", "idempotency_key"], unique=True)
    op.add_column("environments", sa.Column("forked_from", sa.JSON(), nullable=True))
    op.add_column("environments", sa.Column("stars", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("versions", sa.Column("yanked_at", MOMENT, nullable=True))
    op.add_column("versions", sa.Column("yanked_reason", sa.Text(), nullable=True))
    op.add_column("versions", _id("publisher_id", nullable=True))
    op.execute(
        "UPDATE versions SET publisher_id = "
        "(SELECT owner_id FROM environments WHERE environments.id = versions.environment_id)"
    )
    _people()
    _belongings()
    op.execute(
        "INSERT INTO used_numbers (owner_id, normalized_name, canonical, content_hash, used_at) "
        "SELECT environments.owner_id, environments.normalized_name, versions.canonical, versions.content_hash, "
        "versions.finalized_at FROM versions JOIN environments ON environments.id = versions.environment_id "
        "WHERE versions.finalized_at IS NOT NULL"
    )


def _people() -> None:
    op.create_table(
        "former_slugs",
        sa.Column("slug", sa.String(length=64), nullable=False),
        _id("account_id", ACCOUNT),
        sa.Column("left_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("slug"),
    )
    op.create_index("ix_former_slugs_account_id", "former_slugs", ["account_id"])
    op.create_table(
        "members",
        _id("team_id", ACCOUNT),
        _id("account_id", ACCOUNT),
        sa.Column("role", sa.String(length=8), nullable=False),
        sa.Column("joined_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("team_id", "account_id"),
    )
    op.create_index("ix_members_account_id", "members", ["account_id"])
    op.create_table(
        "browser_sessions",
        _id("id"),
        _id("account_id", ACCOUNT),
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.Column("agent", sa.String(length=200), nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("last_used_at", MOMENT, nullable=False),
        sa.Column("expires_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("hash"),
    )
    op.create_index("ix_browser_sessions_account_id", "browser_sessions", ["account_id"])
    op.create_table(
        "challenges",
        sa.Column("code", sa.String(length=64), nullable=False),
        sa.Column("status_hash", sa.String(length=64), nullable=False),
        sa.Column("public_key", sa.Text(), nullable=False),
        sa.Column("agent", sa.String(length=200), nullable=False),
        sa.Column("address", sa.String(length=64), nullable=False),
        sa.Column("limits", sa.JSON(), nullable=True),
        sa.Column("state", sa.String(length=8), nullable=False),
        _id("account_id", ACCOUNT, nullable=True),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("expires_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("code"),
    )


def _belongings() -> None:
    op.create_table(
        "core_metadata",
        sa.Column("wheel_sha256", sa.String(length=64), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("wheel_sha256"),
    )
    op.create_table(
        "used_numbers",
        _id("owner_id", ACCOUNT),
        sa.Column("normalized_name", sa.String(length=128), nullable=False),
        sa.Column("canonical", sa.String(length=64), nullable=False),
        sa.Column("content_hash", sa.String(length=64), nullable=False),
        sa.Column("used_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("owner_id", "normalized_name", "canonical"),
    )
    op.create_table(
        "stars",
        _id("account_id", ACCOUNT),
        _id("environment_id", ENVIRONMENT),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("account_id", "environment_id"),
    )
    op.create_index("ix_stars_environment_id", "stars", ["environment_id"])
    op.create_table(
        "secrets",
        _id("id"),
        _id("owner_id", ACCOUNT),
        _id("environment_id", ENVIRONMENT, nullable=True),
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("updated_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    of_account = sa.text("environment_id IS NULL")
    op.create_index(
        "ux_secrets_account",
        "secrets",
        ["owner_id", "name"],
        unique=True,
        sqlite_where=of_account,
        postgresql_where=of_account,
    )
    op.create_index("ux_secrets_environment", "secrets", ["environment_id", "name"], unique=True)
    op.create_table(
        "secret_links",
        _id("environment_id", ENVIRONMENT),
        _id("secret_id", "secrets.id"),
        sa.PrimaryKeyConstraint("environment_id", "secret_id"),
    )
    op.create_index("ix_secret_links_secret_id", "secret_links", ["secret_id"])
    op.create_table(
        "variables",
        _id("id"),
        _id("environment_id", ENVIRONMENT),
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("updated_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ux_variables_name", "variables", ["environment_id", "name"], unique=True)


def downgrade() -> None:
    """Without what an earlier Hub does not know."""
    for table in (
        *("variables", "secret_links", "secrets", "stars", "used_numbers", "challenges", "browser_sessions", "members"),
        *("former_slugs", "core_metadata"),
    ):
        op.drop_table(table)
    op.drop_index("ix_sandboxes_token_id", "sandboxes")
    # Its index was for each owner; what two members of a team called the same stays, without its key.
    op.execute("UPDATE sandboxes SET idempotency_key = NULL WHERE user_id <> owner_id")
    op.drop_index(SAME_KEY, "sandboxes")
    op.create_index(SAME_KEY, "sandboxes", ["owner_id", "idempotency_key"], unique=True)
    for table, names in {
        **dict.fromkeys(MADE, ("user_id",)),
        "sandboxes": ("token_id", "user_id"),
        "versions": ("publisher_id", "yanked_reason", "yanked_at"),
        "environments": ("stars", "forked_from"),
        "tokens": ("expires_at", "limits", "scopes", "hint"),
        "accounts": ("password", "about"),
    }.items():
        for name in names:
            op.drop_column(table, name)
