"""Every table of the Hub.

An account is a user or a team; environments, images and sandboxes belong to one. A version is visible when
`finalized_at` is set, and its number is then taken for good.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, Boolean, Float, ForeignKey, Index, Integer, String, Text, false
from sqlalchemy.orm import Mapped, mapped_column, relationship

from prime_hub.db.base import Base
from prime_hub.db.checks import VersionCheck
from prime_hub.db.documents import SearchDocument
from prime_hub.db.evaluations import EvaluatedEnvironment, Evaluation, EvaluationPack, EvaluationSample
from prime_hub.db.hosted import HostedRun
from prime_hub.db.people import Account, BrowserSession, Challenge, FormerSlug, Member, Token
from prime_hub.db.published import (
    CoreMetadata,
    Environment,
    Secret,
    SecretLink,
    Star,
    UsedNumber,
    Variable,
    Version,
    Wheel,
)
from prime_hub.db.types import new_id, now
from prime_hub.db.usage import UsageDay

__all__ = [
    "Account",
    "Base",
    "BrowserSession",
    "Build",
    "Challenge",
    "CoreMetadata",
    "Environment",
    "EvaluatedEnvironment",
    "Evaluation",
    "EvaluationPack",
    "EvaluationSample",
    "Exposure",
    "FormerSlug",
    "HostedRun",
    "Image",
    "ImageTag",
    "Job",
    "Member",
    "Meta",
    "Sandbox",
    "SearchDocument",
    "Secret",
    "SecretLink",
    "Star",
    "Token",
    "UsageDay",
    "UsedNumber",
    "Variable",
    "Version",
    "VersionCheck",
    "Wheel",
]


class Meta(Base):
    """What this Hub knows of itself (`hub_id`)."""

    __tablename__ = "meta"

    key: Mapped[str] = mapped_column(String(64), primary_key=True)
    value: Mapped[str] = mapped_column(Text)


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
    """One request for an image: built from a context, or fetched from a registry (`source`).

    A fetched one is either named (`kind` copy) or there for the sandboxes that asked for it (`kind` fetch), which have
    its digest and no name of it.
    """

    __tablename__ = "builds"
    __table_args__ = (
        Index("ix_builds_name", "owner_id", "name", "tag"),
        Index("ix_builds_status", "status"),
    )

    id: Mapped[str] = mapped_column(String(32), primary_key=True, default=new_id)
    owner_id: Mapped[str] = mapped_column(ForeignKey("accounts.id"))
    user_id: Mapped[str] = mapped_column(String(32), nullable=True)
    """Who asked for it: the owner, or a member of the team that is."""
    name: Mapped[str] = mapped_column(String(128))
    tag: Mapped[str] = mapped_column(String(128))
    visibility: Mapped[str] = mapped_column(String(8), default="PRIVATE")
    sets_visibility: Mapped[bool] = mapped_column(Boolean, default=False, server_default=false())
    """Whether it was asked for; else a tag that is there keeps its own."""
    kind: Mapped[str] = mapped_column(String(8), default="build", server_default="build")
    """build | copy | fetch"""
    source: Mapped[str | None] = mapped_column(String(512))
    """The reference in a registry."""
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
    admitted_at: Mapped[datetime | None]
    """When its turn came: from then on it is a job."""
    started_at: Mapped[datetime | None]
    completed_at: Mapped[datetime | None]

    owner: Mapped[Account] = relationship(lazy="joined")
    image: Mapped[Image | None] = relationship(lazy="joined")


class Image(Base):
    """A built image of one account on one host, by digest."""

    __tablename__ = "images"
    __table_args__ = (Index("ux_images_digest", "owner_id", "digest", "kind", "host", unique=True),)

    id: Mapped[str] = mapped_column(String(32), primary_key=True, default=new_id)
    owner_id: Mapped[str] = mapped_column(ForeignKey("accounts.id"))
    user_id: Mapped[str] = mapped_column(String(32), nullable=True)
    """Who had it built first."""
    digest: Mapped[str] = mapped_column(String(80), index=True)
    recipe: Mapped[str | None] = mapped_column(String(64), index=True)
    kind: Mapped[str] = mapped_column(String(32))
    """venv | oci: what runtimes can use it."""
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
    user_id: Mapped[str] = mapped_column(String(32), nullable=True)
    """Who gave it first; in a team it is theirs to change, beside those who manage."""
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
        Index("ux_sandboxes_idempotency", "user_id", "owner_id", "idempotency_key", unique=True),
        Index("ix_sandboxes_owner", "owner_id", "created_at"),
        Index("ix_sandboxes_status", "status"),
    )

    id: Mapped[str] = mapped_column(String(32), primary_key=True, default=new_id)
    owner_id: Mapped[str] = mapped_column(ForeignKey("accounts.id"))
    """Whose it is, and in whose quota: the user's own, or a team's."""
    user_id: Mapped[str] = mapped_column(String(32), nullable=True)
    """Who made it."""
    idempotency_key: Mapped[str | None] = mapped_column(String(200))
    token_id: Mapped[str | None] = mapped_column(String(32), index=True)
    """The API key that made it, where that key has limits."""
    name: Mapped[str] = mapped_column(String(200))
    docker_image: Mapped[str] = mapped_column(String(512))
    image_digest: Mapped[str] = mapped_column(String(80), default="")
    """Empty while the image is being fetched (`build_id`)."""
    build_id: Mapped[str | None] = mapped_column(String(32), index=True)
    request: Mapped[dict[str, Any]] = mapped_column(default=dict)
    """What was asked for (limits, labels, start command, …), without environment variables and secrets."""
    environment: Mapped[dict[str, Any] | None] = mapped_column(JSON)
    """The variables, only until the runner has them."""
    status: Mapped[str] = mapped_column(String(16), default="PENDING")
    """PENDING | PROVISIONING | RUNNING | ERROR | TERMINATED | TIMEOUT"""
    cpus: Mapped[float | None] = mapped_column(Float)
    memory_bytes: Mapped[int | None] = mapped_column(BigInteger)
    """What it counts for in its account's quota."""
    host: Mapped[str | None] = mapped_column(String(128))
    exit_code: Mapped[int | None]
    error_type: Mapped[str | None] = mapped_column(String(64))
    error_message: Mapped[str | None] = mapped_column(Text)
    last_log: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(default=now)
    updated_at: Mapped[datetime] = mapped_column(default=now)
    admitted_at: Mapped[datetime | None]
    """When its turn came; until then it waits in the Hub's queue."""
    placed_at: Mapped[datetime | None]
    """When a runner took it, who then has all that is needed to start it."""
    lease_until: Mapped[datetime | None]
    """The client's lease while no runner keeps it."""
    started_at: Mapped[datetime | None]
    expires_at: Mapped[datetime]
    terminated_at: Mapped[datetime | None]
    deleted_at: Mapped[datetime | None]

    owner: Mapped[Account] = relationship(lazy="joined")

    @property
    def team_id(self) -> str | None:
        """The team whose it is; None for a user's own."""
        return self.owner_id if self.owner_id != self.user_id else None

    @property
    def pending_reason(self) -> str | None:
        """Why it has not started yet, a sentence; told where `Queue.explain` has looked."""
        return self.__dict__.get("_pending_reason")

    @pending_reason.setter
    def pending_reason(self, sentence: str | None) -> None:
        self.__dict__["_pending_reason"] = sentence


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
