"""Who there is: accounts, teams, and all by which one shows who one is."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, Boolean, ForeignKey, String, Text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from prime_hub.db.base import Base
from prime_hub.db.types import new_id, now


class Account(Base):
    """A user (kind `user`) or a team (kind `team`)."""

    __tablename__ = "accounts"

    id: Mapped[str] = mapped_column(String(32), primary_key=True, default=new_id)
    kind: Mapped[str] = mapped_column(String(8), default="user")
    """user | team | closed (a team that has ended; its name is not given again)"""
    slug: Mapped[str] = mapped_column(String(64), unique=True)
    name: Mapped[str] = mapped_column(String(200), default="")
    email: Mapped[str | None] = mapped_column(String(320))
    about: Mapped[str] = mapped_column(Text, default="", server_default="")
    password: Mapped[str | None] = mapped_column(String(255))
    """argon2id with its salt; null: nobody signs in to it by a password."""
    local: Mapped[bool] = mapped_column(Boolean, default=False)
    """Made on this machine by its operator, so trusted to run code where the runtime does not isolate."""
    created_at: Mapped[datetime] = mapped_column(default=now)

    @property
    def team_id(self) -> str | None:
        """Its id where it is a team; None for a user."""
        return self.id if self.kind == "team" else None


class FormerSlug(Base):
    """A name that an account had once. Nobody else gets it, so nobody publishes under it in the other's stead."""

    __tablename__ = "former_slugs"

    slug: Mapped[str] = mapped_column(String(64), primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("accounts.id"), index=True)
    left_at: Mapped[datetime] = mapped_column(default=now)


class Member(Base):
    """An account's place in a team."""

    __tablename__ = "members"

    team_id: Mapped[str] = mapped_column(ForeignKey("accounts.id"), primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("accounts.id"), primary_key=True, index=True)
    role: Mapped[str] = mapped_column(String(8), default="member")
    """owner | admin | member"""
    joined_at: Mapped[datetime] = mapped_column(default=now)

    team: Mapped[Account] = relationship(lazy="joined", foreign_keys=[team_id])
    account: Mapped[Account] = relationship(lazy="joined", foreign_keys=[account_id])


class Token(Base):
    """An API token. Only its hash is kept."""

    __tablename__ = "tokens"

    id: Mapped[str] = mapped_column(String(32), primary_key=True, default=new_id)
    account_id: Mapped[str] = mapped_column(ForeignKey("accounts.id"), index=True)
    name: Mapped[str] = mapped_column(String(200))
    hash: Mapped[str] = mapped_column(String(64), unique=True)
    hint: Mapped[str] = mapped_column(String(16), default="", server_default="")
    """The last characters of the token, by which its owner knows it in a list."""
    scopes: Mapped[dict[str, Any] | None] = mapped_column(JSON)
    """`{area: "read" | "write"}`; null: all that its account may do."""
    limits: Mapped[dict[str, Any] | None] = mapped_column(JSON)
    """What a login asked for (`maxConcurrentSandboxes`, …)."""
    expires_at: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(default=now)
    last_used_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]

    account: Mapped[Account] = relationship(lazy="joined")


class BrowserSession(Base):
    """A browser that is signed in. Only the hash of what its cookie says is kept."""

    __tablename__ = "browser_sessions"

    id: Mapped[str] = mapped_column(String(32), primary_key=True, default=new_id)
    account_id: Mapped[str] = mapped_column(ForeignKey("accounts.id"), index=True)
    hash: Mapped[str] = mapped_column(String(64), unique=True)
    agent: Mapped[str] = mapped_column(String(200), default="")
    created_at: Mapped[datetime] = mapped_column(default=now)
    last_used_at: Mapped[datetime] = mapped_column(default=now)
    expires_at: Mapped[datetime]

    account: Mapped[Account] = relationship(lazy="joined")


class Challenge(Base):
    """A login that a program asked for and a person approves in a browser (hub.md §2.1)."""

    __tablename__ = "challenges"

    code: Mapped[str] = mapped_column(String(64), primary_key=True)
    status_hash: Mapped[str] = mapped_column(String(64))
    """Hash of the token with which the program asks how it stands."""
    public_key: Mapped[str] = mapped_column(Text)
    """PEM; the key goes back encrypted with it."""
    agent: Mapped[str] = mapped_column(String(200), default="")
    address: Mapped[str] = mapped_column(String(64), default="")
    """Where the program asked from, for the person to recognise."""
    limits: Mapped[dict[str, Any] | None] = mapped_column(JSON)
    state: Mapped[str] = mapped_column(String(8), default="open")
    """open | approved | denied | fetched"""
    account_id: Mapped[str | None] = mapped_column(ForeignKey("accounts.id"))
    """Who approved it. The API key is made when it is fetched, so none lies about."""
    created_at: Mapped[datetime] = mapped_column(default=now)
    expires_at: Mapped[datetime]
