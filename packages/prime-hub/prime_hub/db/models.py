"""Every table of the Hub.

An account is a user or (later) a team; environments, images and sandboxes belong to one. A version is visible when
`finalized_at` is set, and its number is then taken for good.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, Boolean, ForeignKey, Index, Integer, String, Text, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from prime_hub.db.types import UTCDateTime, new_id, now

FINALIZED = text("finalized_at IS NOT NULL")


class Base(DeclarativeBase):
    """The mapping's root."""

    type_annotation_map = {
        datetime: UTCDateTime(),
        dict[str, Any]: JSON(),
        list[str]: JSON(),
    }


class Meta(Base):
    """What this Hub knows of itself (`hub_id`)."""

    __tablename__ = "meta"

    key: Mapped[str] = mapped_column(String(64), primary_key=True)
    value: Mapped[str] = mapped_column(Text)


class Account(Base):
    """A user (kind `user`) or a team (kind `team`)."""

    __tablename__ = "accounts"

    id: Mapped[str] = mapped_column(String(32), primary_key=True, default=new_id)
    kind: Mapped[str] = mapped_column(String(8), default="user")
    slug: Mapped[str] = mapped_column(String(64), unique=True)
    name: Mapped[str] = mapped_column(String(200), default="")
    email: Mapped[str | None] = mapped_column(String(320))
    local: Mapped[bool] = mapped_column(Boolean, default=False)
    """Made on this machine by its operator, so trusted to run code where the runtime does not isolate."""
    created_at: Mapped[datetime] = mapped_column(default=now)


class Token(Base):
    """An API token. Only its hash is kept."""

    __tablename__ = "tokens"

    id: Mapped[str] = mapped_column(String(32), primary_key=True, default=new_id)
    account_id: Mapped[str] = mapped_column(ForeignKey("accounts.id"), index=True)
    name: Mapped[str] = mapped_column(String(200))
    hash: Mapped[str] = mapped_column(String(64), unique=True)
    created_at: Mapped[datetime] = mapped_column(default=now)
    last_used_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]

    account: Mapped[Account] = relationship(lazy="joined")


class Environment(Base):
    """A named environment of one account.

    `latest_version_id` is null until a version is finalised; until then nobody sees the environment.
    """

    __tablename__ = "environments"
    __table_args__ = (
        Index("ux_environments_owner_name", "owner_id", "normalized_name", unique=True),
        Index("ix_environments_updated", "updated_at"),
    )

    id: Mapped[str] = mapped_column(String(32), primary_key=True, default=new_id)
    owner_id: Mapped[str] = mapped_column(ForeignKey("accounts.id"))
    name: Mapped[str] = mapped_column(String(128))
    normalized_name: Mapped[str] = mapped_column(String(128))
    visibility: Mapped[str] = mapped_column(String(8), default="PUBLIC")
    description: Mapped[str] = mapped_column(Text, default="")
    tags: Mapped[list[str]] = mapped_column(default=list)
    latest_version_id: Mapped[str | None] = mapped_column(String(32))
    created_at: Mapped[datetime] = mapped_column(default=now)
    updated_at: Mapped[datetime] = mapped_column(default=now)

    owner: Mapped[Account] = relationship(lazy="joined")


class EnvironmentTag(Base):
    """One tag of an environment's newest version, for search and facets."""

    __tablename__ = "environment_tags"
    __table_args__ = (Index("ix_environment_tags_tag", "tag"),)

    environment_id: Mapped[str] = mapped_column(ForeignKey("environments.id"), primary_key=True)
    tag: Mapped[str] = mapped_column(String(64), primary_key=True)


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
    created_at: Mapped[datetime] = mapped_column(default=now)
    finalized_at: Mapped[datetime | None]

    wheel: Mapped[Wheel | None] = relationship(lazy="joined")


class Job(Base):
    """Durable work: a row with a lease. See `services/jobs.py` for the rules."""

    __tablename__ = "jobs"
    __table_args__ = (Index("ix_jobs_due", "state", "lease_until"),)

    id: Mapped[str] = mapped_column(String(32), primary_key=True, default=new_id)
    kind: Mapped[str] = mapped_column(String(32))
    subject: Mapped[str] = mapped_column(String(32), index=True)
    state: Mapped[str] = mapped_column(String(12), default="queued")
    """queued | running | done | failed"""
    attempt: Mapped[int] = mapped_column(Integer, default=0)
    max_attempts: Mapped[int] = mapped_column(Integer, default=3)
    lease_owner: Mapped[str | None] = mapped_column(String(64))
    lease_until: Mapped[datetime | None]
    error: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(default=now)
    finished_at: Mapped[datetime | None]


class Build(Base):
    """One request to build an image."""

    __tablename__ = "builds"
    __table_args__ = (Index("ix_builds_name", "owner_id", "name", "tag"),)

    id: Mapped[str] = mapped_column(String(32), primary_key=True, default=new_id)
    owner_id: Mapped[str] = mapped_column(ForeignKey("accounts.id"))
    name: Mapped[str] = mapped_column(String(128))
    tag: Mapped[str] = mapped_column(String(128))
    visibility: Mapped[str] = mapped_column(String(8), default="PRIVATE")
    status: Mapped[str] = mapped_column(String(12), default="UPLOADING")
    """PENDING | UPLOADING | BUILDING | COMPLETED | FAILED | CANCELLED"""
    error: Mapped[str | None] = mapped_column(Text)
    dockerfile: Mapped[str] = mapped_column(String(1024), default="Dockerfile")
    build_args: Mapped[dict[str, Any]] = mapped_column(default=dict)
    port: Mapped[int | None]
    no_cache: Mapped[bool] = mapped_column(Boolean, default=False)
    recipe: Mapped[str | None] = mapped_column(String(64))
    """Hash of all that the result depends on, where the client says what its context is; null: never cached."""
    context_digest: Mapped[str | None] = mapped_column(String(80))
    context_blob: Mapped[str | None] = mapped_column(String(255))
    host: Mapped[str | None] = mapped_column(String(128))
    runner_build: Mapped[str | None] = mapped_column(String(64))
    """The runner's name for the attempt under way."""
    image_id: Mapped[str | None] = mapped_column(ForeignKey("images.id"))
    log_blob: Mapped[str | None] = mapped_column(String(255))
    created_at: Mapped[datetime] = mapped_column(default=now)
    started_at: Mapped[datetime | None]
    completed_at: Mapped[datetime | None]

    owner: Mapped[Account] = relationship(lazy="joined")
    image: Mapped[Image | None] = relationship(lazy="joined")


class Image(Base):
    """A built image of one account on one host, by digest."""

    __tablename__ = "images"
    __table_args__ = (Index("ux_images_digest", "owner_id", "digest", "runtime", "host", unique=True),)

    id: Mapped[str] = mapped_column(String(32), primary_key=True, default=new_id)
    owner_id: Mapped[str] = mapped_column(ForeignKey("accounts.id"))
    digest: Mapped[str] = mapped_column(String(80), index=True)
    recipe: Mapped[str | None] = mapped_column(String(64), index=True)
    runtime: Mapped[str] = mapped_column(String(32))
    host: Mapped[str] = mapped_column(String(128))
    size: Mapped[int] = mapped_column(BigInteger, default=0)
    config: Mapped[dict[str, Any]] = mapped_column(default=dict)
    created_at: Mapped[datetime] = mapped_column(default=now)

    owner: Mapped[Account] = relationship(lazy="joined")


class ImageTag(Base):
    """A name that points at an image; it moves with every build."""

    __tablename__ = "image_tags"
    __table_args__ = (Index("ux_image_tags_name", "owner_id", "name", "tag", unique=True),)

    id: Mapped[str] = mapped_column(String(32), primary_key=True, default=new_id)
    owner_id: Mapped[str] = mapped_column(ForeignKey("accounts.id"))
    name: Mapped[str] = mapped_column(String(128))
    tag: Mapped[str] = mapped_column(String(128))
    image_id: Mapped[str] = mapped_column(ForeignKey("images.id"))
    build_id: Mapped[str | None] = mapped_column(ForeignKey("builds.id"))
    visibility: Mapped[str] = mapped_column(String(8), default="PRIVATE")
    created_at: Mapped[datetime] = mapped_column(default=now)
    pushed_at: Mapped[datetime] = mapped_column(default=now)

    owner: Mapped[Account] = relationship(lazy="joined")
    image: Mapped[Image] = relationship(lazy="joined")


class Sandbox(Base):
    """A sandbox and how it ended.

    The row is its own durable job: the sweep starts what is PENDING and settles what has gone.
    """

    __tablename__ = "sandboxes"
    __table_args__ = (
        Index("ux_sandboxes_idempotency", "owner_id", "idempotency_key", unique=True),
        Index("ix_sandboxes_owner", "owner_id", "created_at"),
        Index("ix_sandboxes_status", "status"),
    )

    id: Mapped[str] = mapped_column(String(32), primary_key=True, default=new_id)
    owner_id: Mapped[str] = mapped_column(ForeignKey("accounts.id"))
    idempotency_key: Mapped[str | None] = mapped_column(String(200))
    name: Mapped[str] = mapped_column(String(200))
    docker_image: Mapped[str] = mapped_column(String(512))
    image_digest: Mapped[str] = mapped_column(String(80))
    request: Mapped[dict[str, Any]] = mapped_column(default=dict)
    """What was asked for (limits, labels, start command, …), without environment variables and secrets."""
    environment: Mapped[dict[str, Any] | None] = mapped_column(JSON)
    """The variables, only until the runner has them."""
    status: Mapped[str] = mapped_column(String(16), default="PENDING")
    """PENDING | PROVISIONING | RUNNING | ERROR | TERMINATED | TIMEOUT"""
    host: Mapped[str | None] = mapped_column(String(128))
    exit_code: Mapped[int | None]
    error_type: Mapped[str | None] = mapped_column(String(64))
    error_message: Mapped[str | None] = mapped_column(Text)
    last_log: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(default=now)
    updated_at: Mapped[datetime] = mapped_column(default=now)
    started_at: Mapped[datetime | None]
    expires_at: Mapped[datetime]
    terminated_at: Mapped[datetime | None]
    deleted_at: Mapped[datetime | None]

    owner: Mapped[Account] = relationship(lazy="joined")


class Exposure(Base):
    """A port of a sandbox that can be reached from outside it."""

    __tablename__ = "exposures"

    id: Mapped[str] = mapped_column(String(32), primary_key=True, default=new_id)
    sandbox_id: Mapped[str] = mapped_column(ForeignKey("sandboxes.id"), index=True)
    port: Mapped[int]
    name: Mapped[str | None] = mapped_column(String(200))
    protocol: Mapped[str] = mapped_column(String(8), default="HTTP")
    host: Mapped[str] = mapped_column(String(128))
    external_port: Mapped[int]
    created_at: Mapped[datetime] = mapped_column(default=now)
