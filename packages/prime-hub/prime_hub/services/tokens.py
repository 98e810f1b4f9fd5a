"""API tokens: what programs show to say whose they are. Shown once, kept as a hash, revocable."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from prime_hub.db.models import Account, Token
from prime_hub.db.session import Database
from prime_hub.db.types import now
from prime_hub.errors import Conflict, Forbidden, Invalid, NotFound, Unauthorized
from prime_hub.services.scopes import checked, require_within

TOKEN_PREFIX = "prime_"
HINT_CHARACTERS = 4
MOST_TOKENS = 200
LAST_USE_STEP = timedelta(minutes=5)


@dataclass(frozen=True)
class Caller:
    """Who asks, and by which token: what its scopes allow is checked where the request comes in."""

    account: Account
    token: Token


def hash_of(token: str) -> str:
    """What is kept of a token."""
    # A token is 256 random bits, so a plain hash cannot be reversed by guessing; no salt, to find it by its hash.
    return hashlib.sha256(token.encode()).hexdigest()


def new_token(
    account_id: str,
    name: str,
    scopes: Mapping[str, Any] | None = None,
    expires_at: datetime | None = None,
    limits: Mapping[str, Any] | None = None,
) -> tuple[str, Token]:
    """A token as its owner gets it, once, and the row that is kept. Raises Invalid for scopes that there are not."""
    token = TOKEN_PREFIX + secrets.token_urlsafe(32)
    row = Token(
        account_id=account_id,
        name=name.strip()[:200] or "token",
        hash=hash_of(token),
        hint=token[-HINT_CHARACTERS:],
        scopes=checked(scopes),
        limits=dict(limits) if limits else None,
        expires_at=expires_at,
    )
    return token, row


class Tokens:
    """The tokens of all accounts."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.on_revoke: list[Callable[[], Awaitable[None]]] = []

    async def caller(self, token: str) -> Caller:
        """Whom `token` speaks for. Raises Unauthorized."""
        async with self._database.read() as session:
            row = (await session.scalars(select(Token).where(Token.hash == hash_of(token)))).first()
        if row is None:
            raise Unauthorized("This Hub does not know the API key; log in again with 'prime login'.")
        if row.revoked_at is not None:
            raise Unauthorized("This API key was revoked; log in again with 'prime login'.")
        if row.expires_at is not None and row.expires_at <= now():
            raise Unauthorized("This API key has run out; log in again with 'prime login'.")
        if row.last_used_at is None or now() - row.last_used_at > LAST_USE_STEP:
            async with self._database.write() as session:
                fresh = await session.get(Token, row.id)
                if fresh is not None:
                    fresh.last_used_at = now()
        return Caller(row.account, row)

    async def create(
        self,
        account: Account,
        name: str,
        scopes: Mapping[str, Any] | None = None,
        days: int | None = None,
        limits: Mapping[str, Any] | None = None,
        by: Token | None = None,
    ) -> tuple[str, Token]:
        """A new token, which is told only now, and its row. Raises Invalid, Conflict when there are too many.

        One that is made `by` another gets no more than that one has (Forbidden), and ends with it.
        """
        if days is not None and not 1 <= days <= 3660:
            raise Invalid("An API key lives for 1 to 3660 days, or without an end.")
        expires = None if days is None else now() + timedelta(days=days)
        if by is not None:
            if by.limits:
                raise Forbidden("This API key has limits, and makes no key that has not.")
            require_within(by.scopes, scopes)
            expires = min((one for one in (expires, by.expires_at) if one is not None), default=None)
        token, row = new_token(account.id, name, scopes, expires, limits)
        async with self._database.write() as session:
            if len(await self._living(session, account)) >= MOST_TOKENS:
                raise Conflict(f"{account.slug} has {MOST_TOKENS} API keys; revoke one that is not used any more.")
            session.add(row)
        return token, row

    async def all(self, account: Account) -> list[Token]:
        """The account's tokens that hold, newest first."""
        async with self._database.read() as session:
            return await self._living(session, account)

    async def _living(self, session: AsyncSession, account: Account) -> list[Token]:
        query = select(Token).where(Token.account_id == account.id, Token.revoked_at.is_(None))
        rows = (await session.scalars(query.order_by(Token.created_at.desc()))).unique().all()
        return [row for row in rows if row.expires_at is None or row.expires_at > now()]

    async def revoke(self, account: Account, token_id: str) -> None:
        """End a token; idempotent. Raises NotFound for one that is not the account's."""
        async with self._database.write() as session:
            row = await session.get(Token, token_id)
            if row is None or row.account_id != account.id:
                raise NotFound(f"{account.slug} has no API key with the id {token_id[:40]}.")
            if row.revoked_at is None:
                row.revoked_at = now()
        for follow in self.on_revoke:
            await follow()
