"""Evaluations that were pushed: what was run, its samples (one a rollout), and the packs of bytes that hold them whole."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, Boolean, Float, ForeignKey, Index, Integer, String, Text, false
from sqlalchemy.orm import Mapped, mapped_column, relationship

from prime_hub.db.base import Base
from prime_hub.db.people import Account
from prime_hub.db.types import new_id, now


class Evaluation(Base):
    """One evaluation of a model. `summary` is made of the samples when it is finalised (`services/evaluation_reports.py`)."""

    __tablename__ = "evaluations"
    __table_args__ = (
        Index("ix_evaluations_owner", "owner_id", "created_at"),
        Index("ix_evaluations_created", "created_at"),
    )

    id: Mapped[str] = mapped_column(String(32), primary_key=True, default=new_id)
    owner_id: Mapped[str] = mapped_column(ForeignKey("accounts.id"))
    user_id: Mapped[str] = mapped_column(String(32))
    """Who pushed it: the owner, or a member of the team that is."""
    name: Mapped[str] = mapped_column(String(255))
    visibility: Mapped[str] = mapped_column(String(8), default="PRIVATE")
    status: Mapped[str] = mapped_column(String(12), default="RUNNING")
    """PENDING | RUNNING | COMPLETED | FAILED | TIMEOUT | CANCELLED. One that is pushed is RUNNING until it is finalised."""
    is_hosted: Mapped[bool] = mapped_column(Boolean, default=False, server_default=false())
    error_message: Mapped[str | None] = mapped_column(Text)
    model_name: Mapped[str] = mapped_column(String(255), default="")
    framework: Mapped[str] = mapped_column(String(64), default="")
    task_type: Mapped[str | None] = mapped_column(String(64))
    run_id: Mapped[str | None] = mapped_column(String(128))
    tags: Mapped[list[str]] = mapped_column(default=list)
    details: Mapped[dict[str, Any]] = mapped_column("metadata", default=dict)
    metrics: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)
    """As its sender tells them."""
    summary: Mapped[dict[str, Any] | None] = mapped_column(JSON)
    round: Mapped[int] = mapped_column(Integer, default=0, server_default="0")
    """Goes up with every description anew (PUT): what an earlier round sent and the last one did not goes at its end."""
    num_samples: Mapped[int] = mapped_column(Integer, default=0, server_default="0")
    num_bytes: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")
    avg_reward: Mapped[float | None] = mapped_column(Float)
    """Of the summary, for sorting."""
    created_at: Mapped[datetime] = mapped_column(default=now)
    updated_at: Mapped[datetime] = mapped_column(default=now)
    finalized_at: Mapped[datetime | None]

    owner: Mapped[Account] = relationship(lazy="joined")


class EvaluatedEnvironment(Base):
    """Which environment, and which version where it is known, an evaluation is of.

    It stays when the environment is deleted: then nobody but its owner sees the evaluation any more, as nobody would
    otherwise know whether what it was of had been private.
    """

    __tablename__ = "evaluated_environments"
    __table_args__ = (Index("ix_evaluated_environments_environment", "environment_id"),)

    evaluation_id: Mapped[str] = mapped_column(ForeignKey("evaluations.id", ondelete="CASCADE"), primary_key=True)
    environment_id: Mapped[str] = mapped_column(String(32), primary_key=True)
    version_id: Mapped[str | None] = mapped_column(String(32))
    version: Mapped[str | None] = mapped_column(String(64))
    """The number, also of a version that was never published here."""


class EvaluationPack(Base):
    """The samples of one request, each compressed by itself, one after another in one blob.

    `digest` is of the request's samples: a request that is sent again is known by it.
    """

    __tablename__ = "evaluation_packs"
    __table_args__ = (
        Index("ux_evaluation_packs_digest", "evaluation_id", "digest", unique=True),
        Index("ix_evaluation_packs_blob", "blob"),
    )

    id: Mapped[str] = mapped_column(String(32), primary_key=True, default=new_id)
    evaluation_id: Mapped[str] = mapped_column(ForeignKey("evaluations.id", ondelete="CASCADE"))
    digest: Mapped[str] = mapped_column(String(64))
    round: Mapped[int] = mapped_column(Integer)
    blob: Mapped[str] = mapped_column(String(255))
    size: Mapped[int] = mapped_column(BigInteger)
    """Of the blob."""


class EvaluationSample(Base):
    """One rollout: what lists, filters and means need of it, and where all of it lies."""

    __tablename__ = "evaluation_samples"
    __table_args__ = (
        Index("ux_evaluation_samples_place", "evaluation_id", "place", "rollout_index", unique=True),
        Index("ix_evaluation_samples_reward", "evaluation_id", "reward"),
        Index("ix_evaluation_samples_pack", "pack_id"),
    )

    id: Mapped[str] = mapped_column(String(32), primary_key=True, default=new_id)
    evaluation_id: Mapped[str] = mapped_column(ForeignKey("evaluations.id", ondelete="CASCADE"))
    place: Mapped[str] = mapped_column(String(100))
    """Which example: sorts as the examples are counted."""
    example_id: Mapped[str] = mapped_column(String(200))
    """As it is shown."""
    rollout_index: Mapped[int] = mapped_column(BigInteger)
    round: Mapped[int] = mapped_column(Integer)
    reward: Mapped[float | None] = mapped_column(Float)
    """None: unscored."""
    metrics: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)
    error: Mapped[str | None] = mapped_column(String(100))
    message: Mapped[str | None] = mapped_column(String(300))
    stop_condition: Mapped[str | None] = mapped_column(String(100))
    truncated: Mapped[bool] = mapped_column(Boolean, default=False)
    turns: Mapped[int | None] = mapped_column(Integer)
    input_tokens: Mapped[float | None] = mapped_column(Float)
    output_tokens: Mapped[float | None] = mapped_column(Float)
    cost: Mapped[float | None] = mapped_column(Float)
    seconds: Mapped[float | None] = mapped_column(Float)
    prompt: Mapped[str] = mapped_column(String(200), default="")
    """The beginning of the last thing that the model was told at first."""
    completion: Mapped[str] = mapped_column(String(200), default="")
    """The beginning of the last thing that it said."""
    answer: Mapped[str] = mapped_column(String(200), default="")
    pack_id: Mapped[str] = mapped_column(ForeignKey("evaluation_packs.id", ondelete="CASCADE"))
    offset: Mapped[int] = mapped_column(BigInteger)
    length: Mapped[int] = mapped_column(Integer)
    size: Mapped[int] = mapped_column(Integer)
    """Before it was compressed."""
