"""Browsers that are signed in. The cookie's secret is known to the browser alone; a hash of it is kept here."""

from __future__ import annotations

import secrets
from datetime import timedelta

from sqlalchemy import ColumnElement, delete, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from prime_hub.db.models import Account, BrowserSession
from prime_hub.db.session import Database
from prime_hub.db.types import now
from prime_hub.errors import NotFound
from prime_hub.services.tokens import hash_of

IDLE = timedelta(days=14)
"""Without a page for so long it ends."""
LONGEST = timedelta(days=90)
LINK = timedelta(seconds=60)
USE_STEP = timedelta(minutes=5)
MOST_SESSIONS = 50
LINK_PURPOSE = "sign-in link\0"


class Sessions:
    """The browser sessions of all accounts."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(self, account: Account, agent: str) -> str:
        """A new session; the secret for its cookie. An account's oldest ones end when there are too many."""
        secret = secrets.token_urlsafe(32)
        await self._add(account, hash_of(secret), agent, IDLE)
        return secret

    async def find(self, secret: str) -> BrowserSession | None:
        """The session whose cookie this is, and which goes on by being used; None when it has ended."""
        async with self._database.read() as session:
            row = (
                await session.scalars(select(BrowserSession).where(_living(), BrowserSession.hash == hash_of(secret)))
            ).first()
        if row is not None and now() - row.last_used_at > USE_STEP:
            expires = min(now() + IDLE, row.created_at + LONGEST)
            async with self._database.write() as session:
                query = update(BrowserSession).where(BrowserSession.id == row.id)
                await session.execute(query.values(last_used_at=now(), expires_at=expires))
        return row

    async def all(self, account: Account) -> list[BrowserSession]:
        """The account's sessions, the latest used first."""
        query = select(BrowserSession).where(_living(), BrowserSession.account_id == account.id)
        query = query.order_by(BrowserSession.last_used_at.desc())
        async with self._database.read() as session:
            return list((await session.scalars(query)).unique())

    async def end(self, account: Account, session_id: str) -> None:
        """End one. Raises NotFound for one that is not the account's."""
        async with self._database.write() as session:
            row = await session.get(BrowserSession, session_id)
            if row is None or row.account_id != account.id:
                raise NotFound("That browser is not signed in any more.")
            await session.delete(row)

    async def end_all(self, account_id: str, but: str | None = None) -> None:
        """End all of an account's, but the one with the id `but`."""
        async with self._database.write() as session:
            await session.execute(
                delete(BrowserSession).where(BrowserSession.account_id == account_id, BrowserSession.id != (but or ""))
            )

    async def link(self, account: Account) -> str:
        """A code that signs one browser in to the account, once, within a minute."""
        code = secrets.token_urlsafe(32)
        await self._add(account, hash_of(LINK_PURPOSE + code), "sign-in link", LINK)
        return code

    async def redeem(self, code: str, agent: str) -> str | None:
        """The secret for a cookie, in exchange for a code; None for one that was used, has run out or never was."""
        secret, moment = secrets.token_urlsafe(32), now()
        query = update(BrowserSession).where(
            BrowserSession.hash == hash_of(LINK_PURPOSE + code), BrowserSession.expires_at > moment
        )
        values = {"hash": hash_of(secret), "agent": _agent(agent), "created_at": moment, "last_used_at": moment}
        async with self._database.write() as session:
            done = await session.execute(query.values(**values, expires_at=moment + IDLE).returning(BrowserSession.id))
            return secret if done.scalar_one_or_none() is not None else None

    async def _add(self, account: Account, hashed: str, agent: str, lives: timedelta) -> None:
        row = BrowserSession(account_id=account.id, hash=hashed, agent=_agent(agent), expires_at=now() + lives)
        async with self._database.write() as session:
            await session.execute(delete(BrowserSession).where(BrowserSession.expires_at <= now()))
            await _drop_oldest(session, account)
            session.add(row)


def _living() -> ColumnElement[bool]:
    return BrowserSession.expires_at > now()


def _agent(text: str) -> str:
    return "".join(sign if sign.isprintable() else "?" for sign in text)[:200]


async def _drop_oldest(session: AsyncSession, account: Account) -> None:
    query = select(BrowserSession.id).where(BrowserSession.account_id == account.id)
    surplus = (
        await session.scalars(query.order_by(BrowserSession.last_used_at.desc()).offset(MOST_SESSIONS - 1))
    ).all()
    if surplus:
        await session.execute(delete(BrowserSession).where(BrowserSession.id.in_(surplus)))
