"""What is published: environments, their versions and files, and what belongs to them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, ForeignKey, Index, LargeBinary, String, Text, text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from prime_hub.db.base import FINALIZED, Base
from prime_hub.db.people import Account
from prime_hub.db.types import new_id, now

OF_ACCOUNT = text("environment_id IS NULL")


class Environment(Base):
    """A named environment of one account.

    `latest_version_id` is null until a version is finalised; until then nobody sees the environment.
    """

    __tablename__ = "environments"
    __table_args__ = (
        Index("ux_environments_owner_name", "owner_id", "normalized_name", unique=True),
        Index("ix_environments_updated", "updated_at"),
        Index("ix_environments_name", "normalized_name"),
        Index("ix_environments_created", "created_at"),
        Index("ix_environments_stars", "stars"),
    )

    id: Mapped[str] = mapped_column(String(32), primary_key=True, default=new_id)
    owner_id: Mapped[str] = mapped_column(ForeignKey("accounts.id"))
    name: Mapped[str] = mapped_column(String(128))
    normalized_name: Mapped[str] = mapped_column(String(128))
    visibility: Mapped[str] = mapped_column(String(8), default="PUBLIC")
    description: Mapped[str] = mapped_column(Text, default="")
    tags: Mapped[list[str]] = mapped_column(default=list)
    latest_version_id: Mapped[str | None] = mapped_column(String(32))
    forked_from: Mapped[dict[str, Any] | None] = mapped_column(JSON)
    """`{"owner", "name", "version", "environment_id", "public"}` of what it was forked from, as it was then."""
    stars: Mapped[int] = mapped_column(default=0, server_default="0")
    """How many there are in `stars`, kept beside them for sorting."""
    created_at: Mapped[datetime] = mapped_column(default=now)
    updated_at: Mapped[datetime] = mapped_column(default=now)

    owner: Mapped[Account] = relationship(lazy="joined")


class Wheel(Base):
    """An uploaded wheel, one row for each (environment, content hash, sha256): two pushes never share an upload."""

    __tablename__ = "wheels"
    __table_args__ = (Index("ux_wheels_content", "environment_id", "content_hash", "sha256", unique=True),)

    id: Mapped[str] = mapped_column(String(32), primary_key=True, default=new_id)
    environment_id: Mapped[str] = mapped_column(ForeignKey("environments.id"))
    content_hash: Mapped[str] = mapped_column(String(64))
    filename: Mapped[str] = mapped_column(String(255))
    sha256: Mapped[str] = mapped_column(String(64))
    size: Mapped[int] = mapped_column(BigInteger)
    version: Mapped[str] = mapped_column(String(64))
    details: Mapped[dict[str, Any]] = mapped_column("metadata", default=dict)
    blob: Mapped[str | None] = mapped_column(String(255))
    created_at: Mapped[datetime] = mapped_column(default=now)
    finalized_at: Mapped[datetime | None]


class CoreMetadata(Base):
    """What a wheel says of itself: its METADATA file, byte for byte. Read from the wheel when it is first asked for."""

    __tablename__ = "core_metadata"

    wheel_sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    """Of the wheel, so that all who have the same wheel share it."""
    sha256: Mapped[str] = mapped_column(String(64))
    content: Mapped[bytes] = mapped_column(LargeBinary, deferred=True)


class Version(Base):
    """A version of an environment: source archive, wheel, README and metadata; immutable once finalised."""

    __tablename__ = "versions"
    __table_args__ = (
        Index("ux_versions_content", "environment_id", "content_hash", "sha256", unique=True),
        Index(
            "ux_versions_number",
            "environment_id",
            "canonical",
            unique=True,
            sqlite_where=FINALIZED,
            postgresql_where=FINALIZED,
        ),
    )

    id: Mapped[str] = mapped_column(String(32), primary_key=True, default=new_id)
    environment_id: Mapped[str] = mapped_column(ForeignKey("environments.id"))
    version: Mapped[str] = mapped_column(String(64))
    canonical: Mapped[str] = mapped_column(String(64))
    """The number without its spelling: 0.1 and 0.1.0 are one version (PEP 440)."""
    content_hash: Mapped[str] = mapped_column(String(64), index=True)
    filename: Mapped[str] = mapped_column(String(255))
    sha256: Mapped[str] = mapped_column(String(64))
    size: Mapped[int] = mapped_column(BigInteger, default=0)
    blob: Mapped[str | None] = mapped_column(String(255))
    wheel_id: Mapped[str | None] = mapped_column(ForeignKey("wheels.id"))
    details: Mapped[dict[str, Any]] = mapped_column("metadata", default=dict)
    readme: Mapped[str | None] = mapped_column(Text)
    image: Mapped[str | None] = mapped_column(String(255))
    image_digest: Mapped[str | None] = mapped_column(String(80), index=True)
    publisher_id: Mapped[str | None] = mapped_column(String(32))
    """Who pushed it: an account, also where the environment is a team's."""
    yanked_at: Mapped[datetime | None]
    yanked_reason: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(default=now)
    finalized_at: Mapped[datetime | None]

    wheel: Mapped[Wheel | None] = relationship(lazy="joined")


class UsedNumber(Base):
    """A version number that was published once, and is never given again: also when its version, or all of the
    environment, has been deleted, or has gone to another owner.
    """

    __tablename__ = "used_numbers"

    owner_id: Mapped[str] = mapped_column(ForeignKey("accounts.id"), primary_key=True)
    normalized_name: Mapped[str] = mapped_column(String(128), primary_key=True)
    canonical: Mapped[str] = mapped_column(String(64), primary_key=True)
    content_hash: Mapped[str] = mapped_column(String(64))
    used_at: Mapped[datetime] = mapped_column(default=now)


class Star(Base):
    """An account's liking of an environment."""

    __tablename__ = "stars"

    account_id: Mapped[str] = mapped_column(ForeignKey("accounts.id"), primary_key=True)
    environment_id: Mapped[str] = mapped_column(ForeignKey("environments.id"), primary_key=True, index=True)
    created_at: Mapped[datetime] = mapped_column(default=now)


class Secret(Base):
    """A secret of an account, or of one environment. The value is sealed (`services/vault.py`) and never shown again."""

    __tablename__ = "secrets"
    __table_args__ = (
        Index(
            "ux_secrets_account",
            "owner_id",
            "name",
            unique=True,
            sqlite_where=OF_ACCOUNT,
            postgresql_where=OF_ACCOUNT,
        ),
        Index("ux_secrets_environment", "environment_id", "name", unique=True),
    )

    id: Mapped[str] = mapped_column(String(32), primary_key=True, default=new_id)
    owner_id: Mapped[str] = mapped_column(ForeignKey("accounts.id"))
    environment_id: Mapped[str | None] = mapped_column(ForeignKey("environments.id"))
    """Null: the account's own, which environments may be linked to."""
    name: Mapped[str] = mapped_column(String(128))
    value: Mapped[str] = mapped_column(Text)
    description: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(default=now)
    updated_at: Mapped[datetime] = mapped_column(default=now)


class SecretLink(Base):
    """An account's secret that one of its environments gets, too."""

    __tablename__ = "secret_links"

    environment_id: Mapped[str] = mapped_column(ForeignKey("environments.id"), primary_key=True)
    secret_id: Mapped[str] = mapped_column(ForeignKey("secrets.id"), primary_key=True, index=True)


class Variable(Base):
    """A variable of an environment, which is no secret."""

    __tablename__ = "variables"
    __table_args__ = (Index("ux_variables_name", "environment_id", "name", unique=True),)

    id: Mapped[str] = mapped_column(String(32), primary_key=True, default=new_id)
    environment_id: Mapped[str] = mapped_column(ForeignKey("environments.id"))
    name: Mapped[str] = mapped_column(String(128))
    value: Mapped[str] = mapped_column(Text)
    description: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(default=now)
    updated_at: Mapped[datetime] = mapped_column(default=now)
